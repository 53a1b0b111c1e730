//! Tamperings by name, for a program that plays a backend: each changes one thing,
//! before it is signed wherever that makes sense.

use crate::compose_file::commit;
use crate::event_log::Event;
use crate::hash::{label, label256, label384};
use crate::kms::Kms;
use crate::spec::Spec;
use crate::{Error, QuoteFormat};

/// One named tampering.
#[derive(Debug, Clone, Copy)]
pub struct Tampering {
    /// What `--tamper` takes.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    change: fn(&mut Spec) -> Result<(), Error>,
}

impl Tampering {
    /// Finds one by name.
    pub fn named(name: &str) -> Result<Self, Error> {
        TAMPERINGS
            .iter()
            .find(|tampering| tampering.name == name)
            .copied()
            .ok_or_else(|| Error::UnknownTampering(name.to_owned()))
    }

    /// Applies it to a valid machine.
    pub fn apply(&self, spec: &mut Spec) -> Result<(), Error> {
        (self.change)(spec)
    }
}

macro_rules! tamperings {
    ($($name:literal, $about:literal, |$spec:ident| $body:expr;)*) => {
        /// All of them; the first is none.
        pub const TAMPERINGS: &[Tampering] = &[$(Tampering {
            name: $name,
            about: $about,
            change: |$spec| {
                $body;
                Ok(())
            },
        }),*];
    };
}

tamperings! {
    "none", "a valid backend",
        |_spec| {};
    "quote-signature", "one bit of the quote's signature flipped",
        |spec| spec.hooks.signed_quote.push(|quote| quote.signature[20] ^= 1);
    "report-data", "the quote binds another value, signed",
        |spec| spec.hooks.td_report.push(|td| td.report_data[0] ^= 1);
    "other-nonce", "a genuine report for somebody else's nonce",
        |spec| spec.hooks.challenge.push(|challenge| challenge.nonce = label256("another nonce"));
    "no-tls-fingerprint", "the fingerprint left out, report data padded",
        |spec| spec.include_tls_fingerprint = false;
    "other-spki", "a genuine report for another TLS key",
        |spec| spec.hooks.challenge.push(|challenge| challenge.spki_sha256 = label256("another key"));
    "debug-td", "a TD that its host can read",
        |spec| spec.td.td_attributes[0] |= 1;
    "other-os-image", "another firmware (MRTD), all else alike",
        |spec| spec.td.mr_td = label384("another firmware");
    "other-kernel", "another kernel (RTMR1)",
        |spec| spec.boot.kernel = label384("another kernel");
    "other-app-id", "another app of the same KMS",
        |spec| spec.app.app_id = label::<20>("another app id").to_vec();
    "other-kms-root", "the app's certificates and key provider from another KMS",
        |spec| spec.kms = Kms::other()?;
    "no-app-cert", "info.app_cert left out",
        |spec| spec.hooks.report.push(|report| {
            for path in ["/info", "/all_attestations/0/info"] {
                if let Some(info) = report.pointer_mut(path).and_then(|info| info.as_object_mut()) {
                    info.remove("app_cert");
                }
            }
        });
    "rtmr3-event-payload", "a payload of RTMR3 exchanged, its digest kept",
        |spec| spec.hooks.events_after.push(|events| {
            if let Some(event) = events.iter_mut().find(|event| event.event == "instance-id") {
                event.event_payload = label::<20>("another instance").to_vec();
            }
        });
    "event-added", "an event that was never measured",
        |spec| spec.hooks.events_after.push(|events| {
            events.push(Event::runtime("app-id", b"never measured", Default::default()));
        });
    "compose-text", "app_compose with one more space",
        |spec| spec.hooks.report.push(|report| {
            if let Some(serde_json::Value::String(text)) =
                report.pointer_mut("/info/tcb_info/app_compose")
            {
                text.push(' ');
            }
        });
    "tcb-out-of-date", "a platform with known holes",
        |spec| spec.tcb_info.set_platform_status("OutOfDate", &["FAKE-SA-00002"]);
    "tcb-revoked", "a platform whose keys leaked",
        |spec| spec.tcb_info.set_platform_status("Revoked", &["FAKE-SA-00009"]);
    "collateral-expired", "TCB info of last month",
        |spec| {
            let now = spec.now;
            spec.tcb_info.set_validity(now.saturating_sub(40 * 86_400), now.saturating_sub(10 * 86_400));
        };
    "pck-revoked", "the platform's certificate is on the CRL",
        |spec| spec.crls.pck.revoked.push(spec.certs.pck.serial.clone());
    "sgx-quote", "an SGX enclave in a TD's place",
        |spec| spec.quote.format = QuoteFormat::SgxV4;
    "wrong-model", "a report that names another model",
        |spec| spec.model_name = "fake/another-model".to_owned();
    "acpi", "ACPI tables of an unknown machine shape, properly measured",
        |spec| spec.boot.acpi_tables = Some(label384("other ACPI tables"));
    "memory-size", "vm_config claims more memory than was measured",
        |spec| spec.hooks.report.push(|report| {
            if let Some(serde_json::Value::String(text)) = report.pointer_mut("/info/vm_config") {
                *text = text.replace("\"memory_size\":", "\"memory_size\":1");
            }
        });
    "tag-unknown", "a release that its repository does not have",
        |spec| if let Some(manager) = &mut spec.compose_manager {
            manager.tags.push(|tags| tags.truncate(1));
        };
    "tag-moved", "a release that is another commit in its repository",
        |spec| if let Some(manager) = &mut spec.compose_manager {
            manager.tags.push(|tags| {
                for tag in tags {
                    tag.commit = commit("elsewhere");
                }
            });
        };
    "no-evidence", "a report without a quote",
        |spec| spec.hooks.report.push(|report| {
            if let Some(report) = report.as_object_mut() {
                report.remove("intel_quote");
            }
        });
    "garbage", "no JSON at all",
        |spec| spec.hooks.report_bytes.push(|bytes| *bytes = b"<html>502 Bad Gateway</html>".to_vec());
}
