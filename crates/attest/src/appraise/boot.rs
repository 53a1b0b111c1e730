//! Step 6: the measured boot, as far as it explains itself.
//!
//! A policy that looks at software demands the whole of it. Under one that looks at
//! none, a machine need not be a guest of dstack's: what is missing or unknown is not
//! proved. What contradicts a register of the quote refuses under each.

use super::Run;
use crate::base::finding::{Finding, Severity};
use crate::base::text::{shown, shown_hex};
use crate::compose::listed;
use crate::dstack::event_log::{self, BootEvents, Event};
use crate::dstack::mr_config::{self, MrConfig};
use crate::dstack::rtmr0::Rtmr0;
use crate::intel::quote::MeasuredTd;
use crate::near::copies;
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;

/// The names of unknown events that a line repeats.
const SHOWN_EVENTS: usize = 12;

/// What RTMR3 says is worth what the software is that wrote it.
const BY_ANY_SOFTWARE: &str = "recorded by software that the policy does not verify";

impl Run<'_> {
    /// Everything that a policy which looks at software demands of it. A stripped log
    /// has no events of RTMR0.
    pub(super) fn boot(
        &mut self,
        td: &MeasuredTd,
    ) -> Result<(BootEvents, Option<Rtmr0>), Rejected> {
        let evidence = self.request.evidence;
        let events = evidence.events.as_deref().map_err(Clone::clone)?;
        self.replay(events, td)?;
        self.begin(CheckId::BootEvents);
        let boot = BootEvents::read(events)?;
        let rtmr0 = if event_log::is_stripped(events) {
            None
        } else {
            Some(Rtmr0::read(events)?)
        };
        self.pass(later(&boot));
        // Only software that the policy names gets past this step: its remarks are
        // its own, whatever they mean.
        if let Some(names) = unknown(&boot) {
            self.finding(
                Severity::Warning,
                "boot_event_unknown",
                format!("the operating system recorded boot events that this version does not know: {names}"),
            );
        }
        let text = evidence.app_compose.as_deref().map_err(Clone::clone)?;
        match self.compose(td, text, &boot)? {
            (hash, MrConfig::Same) => self.pass(hash),
            // The identity certificate's quote is compared with this register too.
            (hash, MrConfig::Unset) => {
                self.pass(format!("{hash}, by RTMR3 alone"));
                self.finding(
                    Severity::Notice,
                    "mr_config_id_unset",
                    "the host launched the virtual machine without binding it to an application (mr_config_id is zero); only RTMR3 names an application".to_owned(),
                );
            }
            (_, MrConfig::Newer(form)) => return Err(Rejected::MrConfigIdVersion { form }),
        }
        self.measured(td, Some(&boot));
        Ok((boot, rtmr0))
    }

    /// What there is of it under a policy that looks at no software.
    pub(super) fn boot_of_any_software(
        &mut self,
        td: &MeasuredTd,
    ) -> Result<Option<BootEvents>, Rejected> {
        let boot = self.boot_events_of_any_software(td)?;
        self.begin(CheckId::Compose);
        match (&boot, &self.request.evidence.app_compose) {
            (None, _) => self.report.not_proved(
                CheckId::Compose,
                "no boot event names an application description",
            ),
            (Some(_), Err(missing)) => self
                .report
                .not_proved(CheckId::Compose, missing.to_string()),
            (Some(boot), Ok(text)) => match self.compose(td, text, boot)? {
                (hash, MrConfig::Same) => self.pass(format!("{hash}, {BY_ANY_SOFTWARE}")),
                (_, MrConfig::Unset) => self.report.not_proved(
                    CheckId::Compose,
                    format!("mr_config_id is zero, and RTMR3 was {BY_ANY_SOFTWARE}"),
                ),
                (_, MrConfig::Newer(form)) => self.report.not_proved(
                    CheckId::Compose,
                    Rejected::MrConfigIdVersion { form }.to_string(),
                ),
            },
        }
        self.measured(td, boot.as_ref());
        Ok(boot)
    }

    fn boot_events_of_any_software(
        &mut self,
        td: &MeasuredTd,
    ) -> Result<Option<BootEvents>, Rejected> {
        let events = match &self.request.evidence.events {
            Ok(events) => events,
            Err(missing) => {
                for check in [CheckId::Rtmrs, CheckId::BootEvents] {
                    self.report.not_proved(check, missing.to_string());
                }
                return Ok(None);
            }
        };
        self.replay(events, td)?;
        self.begin(CheckId::BootEvents);
        let boot = match BootEvents::read(events) {
            Ok(boot) => boot,
            Err(other) => {
                self.report
                    .not_proved(CheckId::BootEvents, other.to_string());
                return Ok(None);
            }
        };
        match unknown(&boot) {
            None => self.pass(format!("{}; {BY_ANY_SOFTWARE}", later(&boot))),
            Some(names) => self.report.not_proved(
                CheckId::BootEvents,
                format!("events that are not known here: {names}"),
            ),
        }
        Ok(Some(boot))
    }

    fn replay(&mut self, events: &[Event], td: &MeasuredTd) -> Result<(), Rejected> {
        self.begin(CheckId::Rtmrs);
        event_log::replay(events, td)?;
        if event_log::is_stripped(events) {
            self.report.not_proved(
                CheckId::Rtmrs,
                "RTMR3 replays; the log leaves out the events of RTMR0, RTMR1 and RTMR2",
            );
        } else {
            self.pass(format!("{} events", events.len()));
        }
        Ok(())
    }

    fn compose(
        &mut self,
        td: &MeasuredTd,
        text: &str,
        boot: &BootEvents,
    ) -> Result<(String, MrConfig), Rejected> {
        self.begin(CheckId::Compose);
        let hash = event_log::compose_hash(text, boot)?;
        let config = mr_config::read(&td.mr_config_id, &hash, boot)?;
        Ok((hex::encode(hash), config))
    }

    fn finding(&mut self, severity: Severity, topic: &'static str, detail: String) {
        self.report
            .findings
            .push(Finding::new(severity, topic, detail));
    }

    /// The facts, and the copies that differ from them.
    fn measured(&mut self, td: &MeasuredTd, boot: Option<&BootEvents>) {
        let evidence = self.request.evidence;
        let is_named = !self.request.policy.hardware_only();
        let report = &mut self.report;
        report.fact("mrtd", hex::encode(td.mrtd));
        for (name, value) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"]
            .into_iter()
            .zip(td.rtmr)
        {
            report.fact(name, hex::encode(value));
        }
        for (name, unmeasured, value) in boot.map(noted).into_iter().flatten() {
            report.fact(if is_named { name } else { unmeasured }, value);
        }
        if let Ok(Some(config)) = &evidence.vm {
            report.fact("machine_unmeasured", shown(&config.to_string()));
        }
        if let Some(device_id) = &evidence.repeated.device_id {
            report.fact("device_id_unmeasured", shown(device_id));
        }
        report.fact("signing_key", evidence.signing_key.to_string());
        report.fact("model_name", shown(&evidence.model_name));
        report
            .findings
            .extend(copies::findings(&evidence.repeated, td, boot));
    }
}

fn later(boot: &BootEvents) -> String {
    format!("{} later events ignored", boot.later)
}

fn unknown(boot: &BootEvents) -> Option<String> {
    let names = boot.unknown.iter().map(String::as_str);
    (!boot.unknown.is_empty()).then(|| listed(names, SHOWN_EVENTS))
}

/// What RTMR3 says, each under its name and under the one that it has where nobody
/// looked at the software that wrote it.
fn noted(boot: &BootEvents) -> Vec<(&'static str, &'static str, String)> {
    let all = |payloads: &[Vec<u8>]| {
        let all: Vec<_> = payloads.iter().map(|payload| shown_hex(payload)).collect();
        shown(&all.join(" "))
    };
    let words = |payload: &Option<Vec<u8>>| {
        let payload = payload.as_deref().unwrap_or_default();
        shown(&String::from_utf8_lossy(payload))
    };
    let gpu_policy = boot.gpu_policy_hash.as_deref().unwrap_or_default();
    let mut noted = vec![
        (
            "os_image_hash",
            "os_image_hash_unmeasured",
            hex::encode(boot.os_image_hash),
        ),
        (
            "compose_hash",
            "compose_hash_unmeasured",
            shown_hex(&boot.compose_hash),
        ),
        ("app_id", "app_id_unmeasured", hex::encode(boot.app_id)),
        (
            "instance_id",
            "instance_id_unmeasured",
            shown_hex(&boot.instance_id),
        ),
        ("mr_kms", "mr_kms_unmeasured", all(&boot.mr_kms)),
        (
            "init_script_hashes",
            "init_script_hashes_unmeasured",
            all(&boot.init_script_hashes),
        ),
        (
            "gpu_policy_hash",
            "gpu_policy_hash_unmeasured",
            shown_hex(gpu_policy),
        ),
        (
            "gpu_attestation",
            "gpu_attestation_unmeasured",
            words(&boot.gpu_attestation),
        ),
        (
            "storage_encrypted",
            "storage_encrypted_unmeasured",
            words(&boot.storage_encrypted),
        ),
    ];
    // An instance without an id is a fact of its own; the rest was not noted.
    noted.retain(|(name, _, value)| *name == "instance_id" || !value.is_empty());
    noted
}
