//! Copies that a report makes of what is measured. Nothing rests on them, so one that
//! differs refuses no machine. It is a finding, because it misleads a reader of the copy.

use crate::base::finding::{Finding, Severity};
use crate::base::text::{hex_bytes, quoted, shown_hex};
use crate::dstack::event_log::BootEvents;
use crate::intel::quote::MeasuredTd;
use crate::near::evidence::{Copied, Measured, Repeated};

/// Each copy that differs from what is measured; of what nobody measured, none.
pub(crate) fn findings(
    repeated: &Repeated,
    td: &MeasuredTd,
    boot: Option<&BootEvents>,
) -> Vec<Finding> {
    let mut findings: Vec<_> = repeated
        .copies
        .iter()
        .filter_map(|copied| differs(copied, td, boot))
        .collect();
    if let Some(got) = &repeated.event_log {
        findings.push(finding(
            Severity::Warning,
            format!(
                "info.tcb_info.event_log differs from event_log, which replays to the registers: {got}"
            ),
        ));
    }
    if let (Some(own), Some(other)) = (&repeated.device_id, &repeated.other_device_id) {
        findings.push(finding(
            Severity::Warning,
            format!(
                "info.tcb_info.device_id is {}, info.device_id is {}; nobody measures either",
                quoted(other),
                quoted(own)
            ),
        ));
    }
    findings
}

fn differs(copied: &Copied, td: &MeasuredTd, boot: Option<&BootEvents>) -> Option<Finding> {
    let boot = |payload: fn(&BootEvents) -> &[u8]| boot.map(payload);
    let (measured, by): (&[u8], _) = match copied.of {
        Measured::Mrtd => (&td.mrtd, "the quote's MRTD"),
        Measured::Rtmr(index) => (td.rtmr.get(index)?, "the quote's register"),
        Measured::AppId => (boot(|boot| &boot.app_id)?, "the app-id event"),
        Measured::ComposeHash => (boot(|boot| &boot.compose_hash)?, "the compose-hash event"),
        Measured::InstanceId => (boot(|boot| &boot.instance_id)?, "the instance-id event"),
        Measured::OsImageHash => (boot(|boot| &boot.os_image_hash)?, "the os-image-hash event"),
        Measured::KeyProvider => (boot(|boot| &boot.key_provider)?, "the key-provider event"),
    };
    let (same, measured) = if copied.of == Measured::KeyProvider {
        let text = String::from_utf8_lossy(measured);
        (copied.text.as_bytes() == measured, quoted(&text))
    } else {
        let same = hex_bytes(&copied.text).as_deref() == Some(measured);
        (same, shown_hex(measured))
    };
    let severity = match copied.of {
        // The host's own number of its image, which dstack 0.6.0 and its KMS count
        // differently on honest machines.
        Measured::OsImageHash => Severity::Notice,
        _ => Severity::Warning,
    };
    (!same).then(|| {
        finding(
            severity,
            format!(
                "{} is {}, measured is {measured} ({by})",
                copied.field,
                quoted(&copied.text)
            ),
        )
    })
}

fn finding(severity: Severity, detail: String) -> Finding {
    Finding::new(severity, "copy_differs", detail)
}
