//! Step 7: what the policy expects of image, machine and identity.

use super::Run;
use crate::base::finding::{Finding, IMAGE_ADVISORY, Severity};
use crate::base::identifiers::UnixTime;
use crate::base::levels::{BootLevel, IdentityLevel};
use crate::base::text::{quoted, shown, shown_hex};
use crate::dstack::app_cert::AppChain;
use crate::dstack::event_log::{BootEvents, KeyProvider};
use crate::dstack::rtmr0::Rtmr0;
use crate::intel::quote::{MeasuredTd, VerifiedQuote};
use crate::policy::{ImageDecision, ImageRow, Row, SeenImage, ValueRule};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;

impl Run<'_> {
    pub(super) fn software_is_not_looked_at(&mut self) {
        let checks = [
            CheckId::OsImage,
            CheckId::Firmware,
            CheckId::TdHob,
            CheckId::Acpi,
            CheckId::Kms,
            CheckId::AppId,
            CheckId::KeyProvider,
        ];
        self.all_not_proved(checks, "the policy is hardware only: any software passes");
    }

    /// The expected image, on a machine of a known shape.
    pub(super) fn software(
        &mut self,
        td: &MeasuredTd,
        boot: &BootEvents,
        rtmr0: Option<&Rtmr0>,
    ) -> Result<(), Rejected> {
        let rules = self.rules();
        self.begin(CheckId::OsImage);
        let [_, rtmr1, rtmr2, _] = td.rtmr;
        let image = SeenImage::new(td.mrtd, rtmr1, rtmr2, boot.os_image_hash);
        let now = self.request.now;
        let ImageRow {
            row,
            forms,
            warned,
            refuse_from,
        } = match rules.os_image(&image, now) {
            ImageDecision::Accepted(row) => row,
            ImageDecision::Withdrawn { name, since } => {
                return Err(Rejected::OsImageWithdrawn {
                    name: shown(name),
                    since,
                });
            }
            ImageDecision::Unknown => {
                return Err(Rejected::OsImage {
                    mrtd: image.mrtd.to_string(),
                    rtmr1: image.rtmr1.to_string(),
                    rtmr2: image.rtmr2.to_string(),
                    os_image_hash: image.os_image_hash.to_string(),
                    allowed: rules.os_images.len(),
                });
            }
        };
        self.reached.boot = BootLevel::Named;
        self.report.named.image = Some(shown(row.name));
        self.workload.image.clone_from(&self.report.named.image);
        self.row(row);
        if let Some(day) = refuse_from {
            self.exceptions_end = self.exceptions_end.min(day.start());
        }
        if let Some(since) = warned {
            let end = refuse_from.map(|day| format!(", and refuses it from {day} on"));
            self.report.findings.push(Finding::new(
                Severity::Warning,
                "image_to_be_replaced",
                format!(
                    "the policy warns of {} since {since}{}",
                    shown(row.name),
                    end.unwrap_or_default()
                ),
            ));
        }
        let of_image = rules.image_advisories.iter();
        let of_image = of_image.filter(|advisory| advisory.concerns(row.name));
        self.report.findings.extend(of_image.map(|advisory| {
            let detail = shown(&format!("{}: {advisory}", row.name));
            Finding::new(advisory.severity, IMAGE_ADVISORY, detail)
        }));

        self.machine(td, rtmr0, forms)
    }

    /// A row of the policy that holds, for good or for a while.
    pub(super) fn row(&mut self, row: Row<'_>) {
        let name = shown(row.name);
        match row.exception {
            None => self.pass(name),
            Some(exception) => {
                self.reached.boot = BootLevel::AcceptedByYou;
                let words = self.excepted(exception, |named| &mut named.boot_until);
                self.pass(format!("{name}, {words}"));
            }
        }
    }

    /// What the KMS signed decides; RTMR3 has to agree.
    pub(super) fn identity(
        &mut self,
        td: &MeasuredTd,
        boot: &BootEvents,
    ) -> Result<UnixTime, Rejected> {
        let request = self.request;
        if self.rules().least.identity == IdentityLevel::Any {
            self.all_not_proved(
                [CheckId::Kms, CheckId::AppId, CheckId::KeyProvider],
                "the policy accepts any identity (least.identity = \"any\")",
            );
            return Ok(UnixTime(u64::MAX));
        }
        self.begin(CheckId::Kms);
        let identity = AppChain::read(request.evidence.app_cert.clone()?.as_deref())?;
        let rules = self.rules();
        let admit = |root: &str, app_id: &[u8]| rules.admit_identity(root, app_id, request.now);
        let (admitted, issued) =
            identity.verify(admit, td, &boot.rtmr3_since_ready, request.now)?;
        let operator = admitted.operator.map(str::to_owned);
        let exception = admitted.exception.cloned();
        let admitted_until = admitted.until;
        self.pass("certificate of the expected KMS, issued for these registers");
        self.workload.booted = issued.booted;
        self.workload.kms_root = Some(identity.kms_root.clone());
        if let Some(booted) = issued.booted {
            let words = format!("{booted}, by the identity certificate");
            self.report.fact("booted", words);
        }

        self.begin(CheckId::AppId);
        if identity.app_id != boot.app_id {
            return Err(Rejected::AppIdDisagrees {
                rtmr3: hex::encode(boot.app_id),
                signed: shown_hex(&identity.app_id),
            });
        }
        self.pass(hex::encode(&identity.app_id));

        self.begin(CheckId::KeyProvider);
        let got = String::from_utf8_lossy(&boot.key_provider);
        if !KeyProvider::read(&boot.key_provider).is_some_and(|own| own.is_kms(&identity.kms_root))
        {
            return Err(Rejected::KeyProvider {
                got: quoted(&got),
                expected: format!("name \"kms\", id {}", identity.kms_root),
            });
        }
        self.pass("the same KMS");
        self.reached.identity = IdentityLevel::Expected;
        self.report.named.operator = operator;
        if let Some(exception) = &exception {
            self.accepted_by_you("identity", exception);
            self.report.named.identity_until = Some(exception.until.to_string());
        }
        Ok(issued.valid_until.min(admitted_until))
    }

    pub(super) fn pins(
        &mut self,
        quote: &VerifiedQuote,
        boot: Option<&BootEvents>,
    ) -> Result<(), Rejected> {
        self.begin(CheckId::Pins);
        let pins = &self.rules().pins;
        let td = quote.td();
        let [rtmr0, ..] = td.rtmr;
        let evidence = self.request.evidence;
        let texts = |set: &mut dyn Iterator<Item = String>| set.collect::<Vec<_>>();
        let noted = |payload: fn(&BootEvents) -> &Vec<u8>| -> Vec<_> {
            boot.map(payload).iter().map(hex::encode).collect()
        };
        let mr_kms = boot.iter().flat_map(|boot| &boot.mr_kms);
        let pinned = [
            (
                "mr_kms",
                texts(&mut pins.mr_kms.iter().map(ToString::to_string)),
                mr_kms.map(hex::encode).collect(),
            ),
            (
                "mrseam",
                texts(&mut pins.mrseam.iter().map(ToString::to_string)),
                vec![hex::encode(td.mr_seam)],
            ),
            (
                "instance_ids",
                texts(&mut pins.instance_ids.iter().map(|id| id.as_str().to_owned())),
                noted(|boot| &boot.instance_id),
            ),
            (
                "ppids",
                texts(&mut pins.ppids.iter().map(ToString::to_string)),
                vec![hex::encode(quote.ppid())],
            ),
            (
                "piids",
                texts(&mut pins.piids.iter().map(ToString::to_string)),
                quote.piid().iter().map(hex::encode).collect(),
            ),
            (
                "fmspcs",
                texts(&mut pins.fmspcs.iter().map(ToString::to_string)),
                vec![quote.fmspc().to_string()],
            ),
            (
                "rtmr0",
                texts(&mut pins.rtmr0.iter().map(ToString::to_string)),
                vec![hex::encode(rtmr0)],
            ),
            (
                "compose_hashes",
                texts(&mut pins.compose_hashes.iter().map(ToString::to_string)),
                noted(|boot| &boot.compose_hash),
            ),
            (
                "signing_keys",
                texts(&mut pins.signing_keys.iter().cloned()),
                vec![evidence.signing_key.to_string()],
            ),
        ];
        let mut compared = Vec::new();
        let mut values = Vec::new();
        for (what, allowed, seen) in pinned {
            if allowed.is_empty() {
                continue;
            }
            // An absent value (no mr-kms event, a PCK certificate without a PIID)
            // satisfies no pin.
            let bad = match seen.iter().find(|value| !allowed.contains(value)) {
                Some(value) => Some(value.clone()),
                None if seen.is_empty() => Some("absent".to_owned()),
                None => None,
            };
            if let Some(got) = bad {
                return Err(Rejected::Pin {
                    what,
                    allowed: allowed.len(),
                    accept: pin_line(what, &got),
                    got: shown(&got),
                });
            }
            compared.push(what);
            let rule = ValueRule::ALL.iter();
            let mut rule = rule.filter(|rule| rule.as_str().strip_prefix("pins.") == Some(what));
            values.extend(
                rule.next()
                    .into_iter()
                    .flat_map(|rule| seen.iter().map(|value| (*rule, value.clone()))),
            );
        }
        for (rule, value) in &values {
            self.accepted_values(*rule, std::iter::once(value.as_str()));
        }
        if compared.is_empty() {
            self.report
                .not_proved(CheckId::Pins, "the policy pins none");
        } else {
            self.pass(compared.join(", "));
        }
        Ok(())
    }
}

/// The policy line that would accept a pinned value; none for a value that no
/// policy could hold.
fn pin_line(what: &str, value: &str) -> String {
    let digits = value.rsplit(':').next().unwrap_or_default();
    let is_plain =
        (1..=128).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if is_plain {
        format!("pins.{what} = [\"{value}\"]")
    } else {
        String::new()
    }
}
