//! The report's `compose_manager_attestation`, read once and bounded.
//!
//! As in [`evidence`](crate::near::evidence), reading proves nothing.

use serde_json::value::RawValue;

use super::actions::Action;
use super::canonical::{self, CanonicalForm, Hashes, Members};
use crate::base::identifiers::LogDigest;
use crate::base::json::{self, BadMember};
use crate::base::text::{hex_array, hex_bytes, quoted};
use crate::dstack::event_log::Event;
use crate::near::evidence::{self, MAX_QUOTE_BYTES};
use crate::refusals::deployment::DeploymentRejected;

/// Recorded logs have 26 actions of six weeks; such a pace fills this in 18 years.
const MAX_ACTIONS: usize = 4096;

const BLOCK: &str = "compose_manager_attestation";

/// The block, typed.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) actions: Vec<Action>,
    members: Vec<Members<'a>>,
    pub(crate) actions_hash: [u8; 32],
    /// As they stand there: compared as texts, as the report's own nonce is.
    pub(crate) nonce: String,
    pub(crate) nonce_source: String,
    pub(crate) quote: Vec<u8>,
    pub(crate) report_data: Copied<[u8; 64]>,
    pub(crate) events: Copied<Vec<Event>>,
    pub(crate) vm_config: Copied<String>,
}

/// What the quote or the report says better. It proves nothing, so a copy that differs,
/// or cannot be read, is told and refuses nothing.
#[derive(Debug)]
pub(crate) enum Copied<T> {
    Absent,
    Unreadable,
    Value(T),
}

impl<T> Copied<T> {
    fn read(raw: Option<&RawValue>, read: impl FnOnce(&RawValue) -> Option<T>) -> Self {
        match raw {
            None => Self::Absent,
            Some(raw) => read(raw).map_or(Self::Unreadable, Self::Value),
        }
    }

    /// True if it says something else than `original`, where that is known.
    pub(crate) fn differs(&self, original: Option<&T>) -> bool
    where
        T: PartialEq,
    {
        match (self, original) {
            (Self::Absent, _) | (Self::Value(_), None) => false,
            (Self::Unreadable, _) => true,
            (Self::Value(copy), Some(original)) => copy != original,
        }
    }
}

impl<'a> Block<'a> {
    /// `text` is a piece of a report that was [`json::check`]ed.
    pub(crate) fn read(text: &'a str) -> Result<Self, DeploymentRejected> {
        let block: json::Members<'_, DeploymentRejected> = json::checked_object(text)
            .map_err(|got| DeploymentRejected::bad(BLOCK, "an object", got))?;
        let raw = block.required("actions")?.get();
        let members = Members::list(raw)
            .map_err(|got| DeploymentRejected::bad("actions", "a list of actions", got))?;
        let actions = actions(&members)?;
        let quote = block.string("quote")?;
        if quote.len() > MAX_QUOTE_BYTES.saturating_mul(2) {
            return Err(DeploymentRejected::QuoteFormat {
                detail: format!("{} hex digits", quote.len()),
            });
        }
        let stated = block.string("actions_hash")?;
        let actions_hash =
            hex_array(&stated).ok_or_else(|| bad("actions_hash", "64 hex digits", &stated))?;
        let nonce = block.string("nonce")?.into_owned();
        let nonce_source = block.string("nonce_source")?;
        Ok(Self {
            actions,
            members,
            actions_hash,
            nonce,
            nonce_source: nonce_source.into_owned(),
            quote: hex_bytes(&quote).ok_or_else(|| bad("quote", "hex", &quote))?,
            report_data: Copied::read(block.get("report_data"), |raw| hex_array(&json::text(raw)?)),
            events: Copied::read(block.get("event_log"), |raw| {
                evidence::events("event_log", Some(raw)).ok()
            }),
            vm_config: Copied::read(block.get("vm_config"), |raw| json::value(raw)),
        })
    }

    /// The form in which the actions have the stated hash, and the digest of each
    /// beginning of them.
    pub(crate) fn hashed(&self) -> Result<(CanonicalForm, Vec<LogDigest>), DeploymentRejected> {
        let Hashes { sorted, chain } = Hashes::of(&self.members);
        if self.actions_hash == sorted {
            return Ok((CanonicalForm::SortedKeys, chain));
        }
        let declared = canonical::declared(&self.members);
        if self.actions_hash == declared {
            return Ok((CanonicalForm::DeclaredOrder, chain));
        }
        Err(DeploymentRejected::ActionsHash {
            stated: hex::encode(self.actions_hash),
            sorted: hex::encode(sorted),
            declared: hex::encode(declared),
        })
    }
}

fn actions(members: &[Members<'_>]) -> Result<Vec<Action>, DeploymentRejected> {
    if members.len() > MAX_ACTIONS {
        return Err(DeploymentRejected::TooManyActions {
            count: members.len(),
            max: MAX_ACTIONS,
        });
    }
    let actions = members.iter().enumerate();
    actions
        .map(|(index, members)| Action::read(index, members))
        .collect()
}

impl BadMember for DeploymentRejected {
    fn missing(path: &str) -> Self {
        let field = path.to_owned();
        Self::MissingField { field }
    }

    fn bad(path: &str, expected: &'static str, got: String) -> Self {
        let field = path.to_owned();
        Self::BadField {
            field,
            expected,
            got,
        }
    }
}

fn bad(field: &str, expected: &'static str, got: &str) -> DeploymentRejected {
    DeploymentRejected::bad(field, expected, quoted(got))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reading is total also where the text was not checked before.
    fn read(text: &str) {
        if let Ok(block) = Block::read(text) {
            assert!(block.actions.len() <= MAX_ACTIONS);
            let _ = block.hashed();
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
