//! What a list of a policy admits: each value, how it is called, and until when.

use std::collections::BTreeMap;

use super::super::difference::{point, short};
use super::super::rules::Rules;
use super::super::rules::accepted::ValueRule;
use super::super::rules::gpu::MeasurementTable;
use crate::base::exception::{Day, Exception};

/// Values that are admitted: how each is called, and until when.
pub(super) type Admitted = BTreeMap<String, (String, Option<Day>)>;

pub(super) fn plain(values: impl Iterator<Item = String>) -> Admitted {
    values
        .map(|value| (value.clone(), (short(&value), None)))
        .collect()
}

fn until(exception: Option<&Exception>) -> Option<Day> {
    exception.map(|exception| exception.until)
}

/// The later end of rows that are equal but for it: without an end is latest.
fn insert(admitted: &mut Admitted, key: String, name: String, day: Option<Day>) {
    let known = admitted.entry(key).or_insert((name, day));
    known.1 = match (known.1, day) {
        (Some(old), Some(new)) => Some(old.max(new)),
        _ => None,
    };
}

pub(super) fn tcb(rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    for row in &rules.tcb.accept_advisories {
        let part = row
            .component
            .map_or("any part", |component| component.as_str());
        let ids: Vec<_> = row.advisories.iter().map(String::as_str).collect();
        let ids = if ids.is_empty() {
            "no advisory".to_owned()
        } else {
            ids.join(" and ")
        };
        let name = format!("{} of {part} with {ids}", row.status);
        insert(&mut admitted, name.clone(), name, Some(row.exception.until));
    }
    admitted
}

pub(super) fn identities(rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    for row in &rules.identities {
        let end = until(row.exception.as_ref());
        let app = row.app_id.to_string();
        let mut add = |key: &str, from: Option<Day>, day: Option<Day>| {
            let from = from.map_or(String::new(), |from| format!(" from {from}"));
            let name = format!(
                "the application {} under the KMS root {} ({}){from}",
                short(&app),
                point(key),
                row.name
            );
            let day = match (day, end) {
                (Some(day), Some(end)) => Some(day.min(end)),
                (day, end) => day.or(end),
            };
            insert(&mut admitted, format!("{app} {key}{from}"), name, day);
        };
        if let Some(key) = &row.kms_root {
            add(key.as_str(), None, None);
        }
        for epoch in &row.kms_roots {
            add(epoch.key.as_str(), epoch.from, epoch.until);
        }
    }
    admitted
}

pub(super) fn images(rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    for row in &rules.os_images {
        for (form, mrtd, rtmr1) in row.all_forms() {
            let key = format!("{mrtd} {rtmr1} {} {}", row.rtmr2, row.os_image_hash);
            let name = format!(
                "the OS image {} (os-image-hash {}){form}",
                row.name,
                short(&row.os_image_hash.to_string())
            );
            insert(&mut admitted, key, name, row.last_day());
        }
    }
    admitted
}

pub(super) fn firmwares(rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    for row in &rules.firmwares {
        let of = row.digests();
        let key: Vec<_> = of
            .events()
            .iter()
            .map(|(_, digest)| hex::encode(digest))
            .collect();
        insert(
            &mut admitted,
            key.join(" "),
            format!("the firmware {}", row.name),
            None,
        );
    }
    admitted
}

pub(super) fn machines(rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    for row in &rules.machines {
        let places = row.places.map(|places| format!(", {places} places"));
        let places = places.unwrap_or_default();
        let key = format!(
            "{} {} {}{places}",
            row.acpi_loader, row.acpi_rsdp, row.acpi_tables
        );
        let name = format!(
            "the machine shape {} (tables {}{places})",
            row.name,
            short(&row.acpi_tables.to_string())
        );
        insert(&mut admitted, key, name, until(row.exception.as_ref()));
    }
    admitted
}

/// The values of a list, and those that are accepted beside them for a while.
pub(super) fn values(rule: ValueRule, rules: &Rules) -> Admitted {
    let pins = &rules.pins;
    let mut admitted = match rule {
        ValueRule::MrSeam => plain(pins.mrseam.iter().map(ToString::to_string)),
        ValueRule::Rtmr0 => plain(pins.rtmr0.iter().map(ToString::to_string)),
        ValueRule::ComposeHash => plain(pins.compose_hashes.iter().map(ToString::to_string)),
        ValueRule::InstanceId => plain(pins.instance_ids.iter().map(|id| id.as_str().to_owned())),
        ValueRule::Ppid => plain(pins.ppids.iter().map(ToString::to_string)),
        ValueRule::Piid => plain(pins.piids.iter().map(ToString::to_string)),
        ValueRule::Fmspc => plain(pins.fmspcs.iter().map(ToString::to_string)),
        ValueRule::SigningKey => plain(pins.signing_keys.iter().cloned()),
        ValueRule::GpuDevice => plain(rules.gpu.devices.iter().map(ToString::to_string)),
        ValueRule::Commit => plain(rules.deployment.commits.iter().map(ToString::to_string)),
        ValueRule::ServiceImage => {
            let digests = rules.deployment.files.digests.iter().flatten();
            plain(digests.map(ToString::to_string))
        }
        ValueRule::GpuVersion | ValueRule::Finding => Admitted::new(),
    };
    for row in rules.accepted.iter().filter(|row| row.rule == rule) {
        let end = Some(row.exception.until);
        insert(&mut admitted, row.value.clone(), short(&row.value), end);
    }
    admitted
}

/// The versions of a kind that GPUs may have, each with what its table allows.
pub(super) fn versions(kind: &str, rules: &Rules) -> Admitted {
    let mut admitted = Admitted::new();
    let tables = rules.gpu.measurements.iter();
    for table in tables.filter(|table| table.id.starts_with(kind)) {
        let MeasurementTable { id, allowed, .. } = table;
        let name = format!("{id}, by a table of {} measurements", allowed.len());
        insert(&mut admitted, format!("{id} {allowed:?}"), name, None);
    }
    if admitted.is_empty() {
        return admitted;
    }
    for row in &rules.accepted {
        if row.rule == ValueRule::GpuVersion && row.value.starts_with(kind) {
            let name = format!("{}, without a table", row.value);
            let end = Some(row.exception.until);
            insert(&mut admitted, row.value.clone(), name, end);
        }
    }
    admitted
}
