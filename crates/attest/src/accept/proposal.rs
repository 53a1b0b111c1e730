//! Which row would accept what was refused, and what a person should know of it.

use std::collections::BTreeSet;

use super::{Acceptance, NotAcceptable, Terms};
use crate::base::advisories;
use crate::base::exception::{Day, Exception};
use crate::base::finding::{IMAGE_ADVISORY, LEFT_OUT, UNREADABLE};
use crate::base::hex::{Hex, HexText};
use crate::base::identifiers::UnixTime;
use crate::base::tcb::{AcceptTcb, Component, Level, TcbStatus};
use crate::base::text::hex_array;
use crate::dstack::app_cert;
use crate::dstack::event_log::BootEvents;
use crate::dstack::machine::{self, Shape};
use crate::near::evidence::Evidence;
use crate::policy::Policy;
use crate::policy::difference::{pinned, point};
use crate::policy::known::Known;
use crate::policy::row::Row;
use crate::policy::rules::accepted::{AcceptedValue, ValueRule};
use crate::policy::rules::image::{OsImage, SeenImage};
use crate::policy::rules::{Identity, Machine, RootEpoch};
use crate::refusals::Rejected;
use crate::refusals::compose::ComposeRejected;
use crate::refusals::deployment::DeploymentRejected;
use crate::refusals::gpu::GpuRejected;

/// A row, and what a person should know of it.
pub(super) struct Proposal {
    pub(super) rule: String,
    pub(super) what: String,
    pub(super) known_from: String,
    pub(super) meaning: String,
    pub(super) weakens: String,
    pub(super) row: Row,
}

/// The rule that a refusal belongs to, where a row can accept it: two refusals are one
/// change if they are of one rule.
pub(super) fn rule(rejected: &Rejected) -> Option<String> {
    Some(match rejected {
        Rejected::OsImage { .. } => "os_image".to_owned(),
        Rejected::Acpi { .. } => "machine".to_owned(),
        Rejected::TcbPlatform { .. } => "tcb.accept_advisories (platform)".to_owned(),
        Rejected::TcbModule { .. } => "tcb.accept_advisories (module)".to_owned(),
        Rejected::TcbQe { .. } => "tcb.accept_advisories (qe)".to_owned(),
        Rejected::KmsRoot { .. } => "identity (KMS root)".to_owned(),
        Rejected::AppId { .. } => "identity (app id)".to_owned(),
        Rejected::Pin { what, .. } => format!("pins.{what}"),
        Rejected::Finding { topic, .. } => format!("findings.refuse ({topic})"),
        Rejected::Gpu(GpuRejected::Device { .. }) => ValueRule::GpuDevice.to_string(),
        Rejected::Gpu(GpuRejected::NoTable { .. }) => ValueRule::GpuVersion.to_string(),
        Rejected::Deployment(DeploymentRejected::Commit { .. }) => ValueRule::Commit.to_string(),
        Rejected::Compose(ComposeRejected::Digest { .. }) => ValueRule::ServiceImage.to_string(),
        _ => return None,
    })
}

pub(super) fn proposal(
    rejected: &Rejected,
    policy: &Policy,
    terms: &Terms,
    known: &Known,
    evidence: &Evidence,
    exception: &Exception,
    now: UnixTime,
) -> Result<Proposal, NotAcceptable> {
    if let Acceptance::Never { why, instead } = rejected.explanation().acceptance() {
        let code = rejected.code();
        return Err(NotAcceptable::new(
            rejected,
            format!("{code} is never accepted: {why}"),
            instead,
        ));
    }
    let of_code = || {
        let remedy = rejected.explanation().remedy;
        NotAcceptable::new(rejected, format!("no row accepts it: {rejected}"), remedy)
    };
    let name = format!("accepted on {}", Day::of(now));
    match rejected {
        Rejected::OsImage {
            mrtd,
            rtmr1,
            rtmr2,
            os_image_hash,
            ..
        } => {
            let read = (|| {
                Some(SeenImage {
                    mrtd: Hex(hex_array(mrtd)?),
                    rtmr1: Hex(hex_array(rtmr1)?),
                    rtmr2: Hex(hex_array(rtmr2)?),
                    os_image_hash: Hex(hex_array(os_image_hash)?),
                })
            })();
            image(rejected, read.ok_or_else(of_code)?, known, exception)
        }
        Rejected::Acpi {
            loader,
            rsdp,
            tables,
            ..
        } => {
            let read = (|| {
                Some(Machine {
                    name,
                    acpi_loader: Hex(hex_array(loader)?),
                    acpi_rsdp: Hex(hex_array(rsdp)?),
                    acpi_tables: Hex(hex_array(tables)?),
                    places: None,
                    exception: Some(exception.clone()),
                })
            })();
            machine_row(rejected, read.ok_or_else(of_code)?, evidence)
        }
        Rejected::TcbPlatform { level, .. } => tcb(rejected, Component::Platform, level, exception),
        Rejected::TcbModule { level, .. } => tcb(rejected, Component::Module, level, exception),
        Rejected::TcbQe { level, .. } => tcb(rejected, Component::Qe, level, exception),
        Rejected::KmsRoot { .. } => root(rejected, policy, terms, evidence, exception, name),
        Rejected::AppId { got } => {
            let root = app_cert::stated_root(stated(evidence)).ok_or_else(of_code)?;
            let expected = expected(
                rejected,
                terms.expect_app_id.as_deref(),
                "--expect-app-id",
                got,
            )?;
            // The policy may end the root key before the new row ends.
            let identities = policy.rules().identities.iter();
            let epochs: BTreeSet<_> = identities
                .flat_map(|own| &own.kms_roots)
                .filter(|epoch| epoch.key.0 == root)
                .cloned()
                .collect();
            Ok(Proposal {
                what: "the application that the key management service signed for".to_owned(),
                known_from: "the id that you typed (--expect-app-id)".to_owned(),
                meaning: "Another application has other keys, and whoever operates it decides what runs in the machine and could read your prompts. This program cannot know whose it is: it only saw that it is the one that you named.".to_owned(),
                weakens: "A little: machines of this application are accepted besides, under the key management service that the policy names already, for as long as it names it.".to_owned(),
                row: Row::Identity(Identity {
                    name,
                    operator: None,
                    app_id: Hex(hex_array(&expected).ok_or_else(of_code)?),
                    kms_root: epochs.is_empty().then_some(HexText(root)),
                    kms_roots: epochs,
                    exception: Some(exception.clone()),
                }),
                rule: rule(rejected).unwrap_or_default(),
            })
        }
        _ => value(rejected, exception).ok_or_else(of_code),
    }
}

fn image(
    rejected: &Rejected,
    seen: SeenImage,
    known: &Known,
    exception: &Exception,
) -> Result<Proposal, NotAcceptable> {
    let Some(image) = known.image(&seen) else {
        return Err(NotAcceptable::new(
            rejected,
            "the OS image is in no table of this program: anybody's image would look like this",
            "Get the files of the release from where its makers publish them, and measure them with `verified-proxy image measure DIR`: it prints their registers, to be compared with these, and the row for a policy.",
        ));
    };
    Ok(Proposal {
        what: "the OS image: firmware, kernel and root file system of the machine".to_owned(),
        known_from: format!("{}: {}", image.name, image.source),
        meaning: format!(
            "The machine booted {}, which this program knows and your policy does not name. The image decides everything that runs in the machine: whoever built it could read your prompts. Firmware, kernel, command line with initrd and the hash of the release are all those of this program's table, so it is no other image. {}",
            image.name,
            match image.weaknesses.as_slice() {
                [] => "This program knows of no weakness of it.".to_owned(),
                known => format!("Known weaknesses of it: {}.", known.join("; ")),
            }
        ),
        weakens: "A little: one more image is accepted, with any weakness that it has. No rule is switched off. The boot level is accepted-by-you, which is below named.".to_owned(),
        row: Row::Image(OsImage::excepted(image.name.clone(), seen, exception.clone())),
        rule: rule(rejected).unwrap_or_default(),
    })
}

fn machine_row(
    rejected: &Rejected,
    seen: Machine,
    evidence: &Evidence,
) -> Result<Proposal, NotAcceptable> {
    let config = evidence.vm_config.as_deref().unwrap_or_default();
    let stated = Shape::read(config).ok();
    let explaining = stated.filter(|shape| machine::digests(shape) == seen.digests());
    let Some(shape) = explaining.map(|shape| shape.to_string()) else {
        return Err(NotAcceptable::new(
            rejected,
            "the machine's own description (vm_config) does not give these ACPI tables, or this program cannot recompute them: tables can hold code that the host chose",
            "Ask the backend's operator, over another channel than this connection, for the tables of this machine.",
        ));
    };
    Ok(Proposal {
        what: "the ACPI tables: which devices and memory the host shows to the machine".to_owned(),
        known_from: format!("recomputed from the machine's own description: {shape}"),
        meaning: format!(
            "The machine has another shape than those that your policy names ({shape}). The tables can hold code that the machine's system runs, but these are exactly the ones that QEMU makes for this shape, so they hold none that the host wrote."
        ),
        weakens: "Hardly: machines of this one shape are accepted besides. No rule is switched off. The boot level is accepted-by-you, which is below named.".to_owned(),
        row: Row::Machine(Machine {
            name: shape,
            ..seen
        }),
        rule: rule(rejected).unwrap_or_default(),
    })
}

fn tcb(
    rejected: &Rejected,
    component: Component,
    level: &Level,
    exception: &Exception,
) -> Result<Proposal, NotAcceptable> {
    if level.status == TcbStatus::Revoked {
        return Err(NotAcceptable::new(
            rejected,
            "the level is Revoked: keys of machines like this are in other hands, so anybody could have signed the evidence",
            "Do not use this backend.",
        ));
    }
    let part = match component {
        Component::Platform => "the platform (processor, microcode and firmware)",
        Component::Module => "Intel's TDX module",
        Component::Qe => "the enclave that signs quotes",
    };
    let which = match level.advisories.as_slice() {
        [] => "Intel names no advisory for this level.".to_owned(),
        ids => format!(
            "It lacks fixes for {} advisories: {}.{}",
            ids.len(),
            ids.join(", "),
            advisories::explained_all(ids)
        ),
    };
    Ok(Proposal {
        what: format!("the patch level of {part}"),
        known_from: "Intel's signed TCB info".to_owned(),
        meaning: format!(
            "Security updates are missing on the machine: its owner may be able to read your prompts. {which}"
        ),
        weakens: format!(
            "Yes: the protection against the machine's owner is weaker by these advisories, on every machine that this policy is used for. Another advisory, another status and another part than {part} are refused as before; the hardware level is outdated, which is below current."
        ),
        row: Row::Tcb(AcceptTcb {
            component: Some(component),
            status: level.status,
            advisories: level.advisories.iter().cloned().collect(),
            exception: exception.clone(),
        }),
        rule: rule(rejected).unwrap_or_default(),
    })
}

fn stated(evidence: &Evidence) -> Option<&str> {
    evidence.app_cert.as_ref().ok()?.as_deref()
}

/// What the user got elsewhere, if it is what was seen.
fn expected(
    rejected: &Rejected,
    typed: Option<&str>,
    option: &str,
    seen: &str,
) -> Result<String, NotAcceptable> {
    let instead = format!(
        "Get the value from the backend's operator, over another channel than this connection, and give it with {option} HEX."
    );
    let Some(typed) = typed else {
        let why = format!(
            "{} is not accepted from evidence: whoever has these keys can show any value",
            rejected.code()
        );
        return Err(NotAcceptable::new(rejected, why, instead));
    };
    let typed = typed
        .strip_prefix("0x")
        .unwrap_or(typed)
        .to_ascii_lowercase();
    if typed != seen {
        let why = format!(
            "{option} is {}, and the machine shows {}: this is not what you were told to expect",
            point(&typed),
            point(seen)
        );
        let instead =
            "Do not use this backend; ask its operator, over another channel than this connection.";
        return Err(NotAcceptable::new(rejected, why, instead));
    }
    Ok(typed)
}

fn root(
    rejected: &Rejected,
    policy: &Policy,
    terms: &Terms,
    evidence: &Evidence,
    exception: &Exception,
    name: String,
) -> Result<Proposal, NotAcceptable> {
    let seen = app_cert::stated_root(stated(evidence)).unwrap_or_default();
    let typed = expected(
        rejected,
        terms.expect_root.as_deref(),
        "--expect-root",
        &seen,
    )?;
    // An application id is worth what the KMS is that signs for it. So the row names one
    // that the policy names, and another one is a second change.
    let events = evidence.events.as_deref().ok();
    let boot = events.and_then(|events| BootEvents::read(events).ok());
    let identities = policy.rules().identities.iter();
    let of_app = |identity: &&Identity| {
        let seen = boot.as_ref();
        seen.is_some_and(|boot| boot.app_id == identity.app_id.0)
    };
    let Some(identity) = identities.clone().find(of_app) else {
        return Err(NotAcceptable::new(
            rejected,
            "the verdict fails in more than one rule: the root key of the key management service is another one, and so is the application",
            "One change at a time is accepted. Ask the backend's operator, over another channel than this connection, what changed.",
        ));
    };
    Ok(Proposal {
        what: "the root key of the key management service that gives the machine its keys".to_owned(),
        known_from: "the key that you typed (--expect-root)".to_owned(),
        meaning: "Whoever has this root key decides which machines get the application's keys, and could read your prompts. This program cannot know whose key it is: it only saw that it is the one that you typed.".to_owned(),
        weakens: "Yes, if the key is not whose you think: whoever holds it can sign for any machine. The application is accepted under this root key besides the ones that the policy names.".to_owned(),
        row: Row::Identity(Identity {
            name,
            operator: identity.operator.clone(),
            app_id: identity.app_id,
            kms_root: None,
            kms_roots: BTreeSet::from([RootEpoch {
                key: HexText(typed),
                from: None,
                until: Some(exception.until),
            }]),
            exception: Some(exception.clone()),
        }),
        rule: rule(rejected).unwrap_or_default(),
    })
}

/// A plain value of a list, or a finding.
fn value(rejected: &Rejected, exception: &Exception) -> Option<Proposal> {
    let one_more = "A little: this one value is accepted besides those that the policy names. No rule is switched off.";
    let (rule_of, text, what, meaning, weakens) = match rejected {
        Rejected::Pin { what, got, .. } => {
            let names = ValueRule::ALL.iter();
            let mut of_pin = names.filter(|rule| rule.as_str().strip_prefix("pins.") == Some(what));
            let (rule, meaning) = (*of_pin.next()?, pin_means(what));
            let subject = pinned(what);
            (
                rule,
                got.clone(),
                format!("a value that your policy pins: {subject}"),
                meaning,
                one_more,
            )
        }
        Rejected::Finding { topic, detail, .. } if !is_cut(topic, detail) => (
            ValueRule::Finding,
            format!("{topic}: {detail}"),
            format!("a finding that your policy refuses: {topic}"),
            "Read the finding: it is what you accept. It stays in each report, and one with other words is refused as before.",
            "Yes, by what the finding says. The rule holds for every other finding.",
        ),
        Rejected::Gpu(GpuRejected::Device { got, .. }) => (
            ValueRule::GpuDevice,
            got.clone(),
            "a GPU that your policy does not name".to_owned(),
            "The GPU is genuine, signed by NVIDIA's key for it, and another one than before: it, or the machine, was exchanged.",
            one_more,
        ),
        Rejected::Gpu(GpuRejected::NoTable { id, .. }) => (
            ValueRule::GpuVersion,
            id.trim_matches('"').to_owned(),
            "a version of the GPU's driver or VBIOS that your policy has no reference values for"
                .to_owned(),
            "The GPU is genuine and signed this version, as after an update. Its measurements are compared with nothing.",
            "Yes: GPUs of this version are not compared with reference values, so the gpu level is genuine and not measured. Versions that have a table are compared as before.",
        ),
        Rejected::Deployment(DeploymentRejected::Commit { got, .. }) => (
            ValueRule::Commit,
            got.clone(),
            "a commit of compose files that your policy does not name".to_owned(),
            "Programs were started from files of this commit, and could read your prompts. Review the commit before you accept it: this program saw its number only.",
            one_more,
        ),
        Rejected::Compose(ComposeRejected::Digest { image, .. }) => (
            ValueRule::ServiceImage,
            image.trim_matches('"').rsplit_once('@')?.1.to_owned(),
            "an image of a container that your policy does not name".to_owned(),
            "The program is on the way of your prompts and could read them. Review the image before you accept it: this program saw its digest only.",
            one_more,
        ),
        _ => return None,
    };
    Some(Proposal {
        rule: rule(rejected)?,
        what,
        known_from: "the evidence alone: this program knows nothing else of this value".to_owned(),
        meaning: meaning.to_owned(),
        weakens: weakens.to_owned(),
        row: Row::Value(AcceptedValue {
            rule: rule_of,
            value: text,
            exception: exception.clone(),
        }),
    })
}

/// A finding whose words were cut could be another one with the same beginning. Those of
/// images are the policy's own words, and begin with what tells them apart.
fn is_cut(topic: &str, detail: &str) -> bool {
    // Lists end so where names are left out.
    let is_shortened = detail.ends_with(" more") || detail.contains(" more;");
    ((detail.contains("...") || is_shortened) && topic != IMAGE_ADVISORY)
        || [LEFT_OUT, UNREADABLE].contains(&topic)
}

fn pin_means(what: &str) -> &'static str {
    match what {
        "mrseam" => {
            "Intel's TDX module is another one than you pinned: an update looks like this. The processor measured it, and its patch level is one that your policy accepts."
        }
        "rtmr0" => {
            "Firmware configuration or machine tables differ from what you pinned: an update, another memory size or another shape looks like this. Each of their events is accepted by your policy."
        }
        "compose_hashes" => {
            "The description of what the machine starts is another one than you pinned, and decides who can read your prompts. An update by the operator looks like this."
        }
        "instance_ids" => "It is another instance of the application than you pinned.",
        "fmspcs" => {
            "The processor is of another family than you pinned; it is Intel's, and at a patch level that your policy accepts."
        }
        "signing_keys" => {
            "The machine signs answers with another key than you pinned. The evidence binds this key to this machine; an update or a new instance looks like this."
        }
        _ => "It is another machine than you pinned: genuine, and Intel's, but other hardware.",
    }
}
