//! The report's `compose_manager_attestation`, read once and bounded.
//!
//! As in [`evidence`](crate::evidence), reading proves nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DeploymentRejected;
use super::actions::Action;
use super::canonical::{Hashes, Members};
use crate::event_log::Event;
use crate::evidence::{self, MAX_QUOTE_BYTES};
use crate::text::{hex_array, hex_bytes, quoted, shown};
use crate::{Rejected, json};

/// Recorded logs have 26 actions of six weeks; such a pace fills this in 18 years.
const MAX_ACTIONS: usize = 4096;

const BLOCK: &str = "compose_manager_attestation";

/// The block, typed.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) actions: Vec<Action>,
    pub(crate) hashes: Hashes,
    pub(crate) actions_hash: [u8; 32],
    /// As they stand there: compared as texts, as the report's own nonce is.
    pub(crate) nonce: String,
    pub(crate) nonce_source: String,
    pub(crate) quote: Vec<u8>,
    pub(crate) report_data: [u8; 64],
    pub(crate) events: Option<Vec<Event>>,
    pub(crate) vm_config: Option<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    actions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    actions_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    nonce: Option<&'a RawValue>,
    #[serde(borrow, default)]
    nonce_source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quote: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    report_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    vm_config: Option<&'a RawValue>,
}

impl Block {
    /// `text` is a piece of a report that was [`json::check`]ed.
    pub(crate) fn read(text: &str) -> Result<Self, DeploymentRejected> {
        let wire: Wire<'_> =
            json::checked_object(text).map_err(|detail| DeploymentRejected::BadField {
                field: BLOCK,
                expected: "an object",
                got: detail,
            })?;
        let (actions, hashes) = actions(wire.actions)?;
        let quote = string("quote", wire.quote)?;
        if quote.len() > MAX_QUOTE_BYTES.saturating_mul(2) {
            return Err(DeploymentRejected::QuoteFormat {
                detail: format!("{} hex digits", quote.len()),
            });
        }
        let report_data = string("report_data", wire.report_data)?;
        let actions_hash = string("actions_hash", wire.actions_hash)?;
        Ok(Self {
            actions,
            hashes,
            actions_hash: hex_array(&actions_hash)
                .ok_or_else(|| bad("actions_hash", "64 hex digits", &actions_hash))?,
            nonce: string("nonce", wire.nonce)?.into_owned(),
            nonce_source: string("nonce_source", wire.nonce_source)?.into_owned(),
            quote: hex_bytes(&quote).ok_or_else(|| bad("quote", "hex", &quote))?,
            report_data: hex_array(&report_data)
                .ok_or_else(|| bad("report_data", "128 hex digits", &report_data))?,
            events: match present(wire.event_log) {
                None => None,
                log => Some(evidence::events("event_log", log).map_err(bad_events)?),
            },
            vm_config: match present(wire.vm_config) {
                None => None,
                text => Some(string("vm_config", text)?.into_owned()),
            },
        })
    }
}

fn actions(raw: Option<&RawValue>) -> Result<(Vec<Action>, Hashes), DeploymentRejected> {
    let raw = required("actions", raw)?;
    let list: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| bad("actions", "a list of actions", raw.get()))?;
    if list.len() > MAX_ACTIONS {
        return Err(DeploymentRejected::TooManyActions {
            count: list.len(),
            max: MAX_ACTIONS,
        });
    }
    let members = list
        .iter()
        .map(|raw| Members::read(raw).map_err(|_| bad("actions", "a list of objects", raw.get())))
        .collect::<Result<Vec<_>, _>>()?;
    let actions = members
        .iter()
        .enumerate()
        .map(|(index, members)| Action::read(index, members))
        .collect::<Result<Vec<_>, _>>()?;
    let hashes =
        Hashes::of(&members).map_err(|detail| bad("actions", "a list of actions", &detail))?;
    Ok((actions, hashes))
}

fn required<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<&'a RawValue, DeploymentRejected> {
    present(raw).ok_or(DeploymentRejected::MissingField { field })
}

fn string<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, DeploymentRejected> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let raw = required(field, raw)?.get();
    serde_json::from_str::<Text<'a>>(raw)
        .map(|text| text.0)
        .map_err(|_| bad(field, "a string", raw))
}

/// `null` is absence.
fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn bad(field: &'static str, expected: &'static str, got: &str) -> DeploymentRejected {
    DeploymentRejected::BadField {
        field,
        expected,
        got: quoted(got),
    }
}

/// The messages of evidence are bounded and escaped already.
fn bad_events(rejected: Rejected) -> DeploymentRejected {
    DeploymentRejected::BadField {
        field: "event_log",
        expected: "the event log of the machine",
        got: shown(&rejected.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reading is total also where the text was not checked before.
    fn read(text: &str) {
        if let Ok(block) = Block::read(text) {
            assert!(block.actions.len() <= MAX_ACTIONS);
            assert_eq!(
                block.hashes.chain.len().saturating_sub(1),
                block.actions.len()
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), action in "\\PC*") {
            read(&text);
            read(&format!("{{\"actions\":[{action}]}}"));
            read(&format!("{{\"actions\":[{{\"action\":{action}}}]}}"));
            read(&format!("{{\"actions\":[{{\"action\":{text:?}}}]}}"));
        }
    }
}
