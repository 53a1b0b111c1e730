//! What a refusal is about: what the policy expected, beside what was seen. It holds no
//! command and no line to copy, so it may stand where an impostor could write too.

use serde::Serialize;

use super::rules::Rules;
use super::rules::image::OsImage;
use crate::base::hex::Hex;
use crate::base::tcb::Level;
use crate::refusals::Rejected;
use crate::refusals::compose::ComposeRejected;
use crate::refusals::deployment::DeploymentRejected;
use crate::refusals::gpu::GpuRejected;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is compared.
    pub what: String,
    /// By the policy, or by what else it has to agree with.
    pub expected: String,
    /// In the evidence.
    pub seen: String,
}

/// The values of a list that are named.
const MAX_NAMED: usize = 4;

/// The hex digits of a measurement that tell it from others: 64 bits.
const SHORT: usize = 16;

impl Difference {
    pub(crate) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            expected: expected.into(),
            seen: seen.into(),
        }
    }
}

/// Enough of a digest to tell it from another by eye.
pub(crate) fn short(hex: &str) -> String {
    match hex.get(..SHORT) {
        Some(start) if hex.len() > SHORT.saturating_add(8) => format!("{start}..."),
        _ => hex.to_owned(),
    }
}

/// Some of a list, and how many more there are.
pub(crate) fn some(values: impl IntoIterator<Item = String>) -> String {
    let mut values = values.into_iter();
    let named: Vec<_> = values.by_ref().take(MAX_NAMED).collect();
    match (named.is_empty(), values.count()) {
        (true, _) => "nothing".to_owned(),
        (_, 0) => named.join(", or "),
        (_, more) => format!("{}, or one of {more} more", named.join(", or ")),
    }
}

/// Values of a row that no row has; all of them if each is of some row, but not of one.
fn differing<'a>(
    values: impl Iterator<Item = (&'a str, Vec<(String, &'a str)>, &'a str)>,
) -> Vec<Difference> {
    let all = values.map(|(what, rows, seen)| {
        let is_known = rows.iter().any(|(value, _)| value == seen);
        let named = rows
            .iter()
            .map(|(value, name)| format!("{} ({name})", short(value)));
        (is_known, Difference::new(what, some(named), short(seen)))
    });
    let (known, other): (Vec<_>, Vec<_>) = all.partition(|(is_known, _)| *is_known);
    let shown = if other.is_empty() { known } else { other };
    shown
        .into_iter()
        .map(|(_, difference)| difference)
        .collect()
}

/// Each register of an image beside those of the images that the policy names.
fn image(rules: &Rules, seen: [&str; 4]) -> Vec<Difference> {
    type Of = fn(&OsImage) -> String;
    let registers: [(&str, Of); 4] = [
        ("firmware (MRTD)", |row| row.mrtd.to_string()),
        ("kernel (RTMR1)", |row| row.rtmr1.to_string()),
        ("command line and initrd (RTMR2)", |row| {
            row.rtmr2.to_string()
        }),
        ("files of the release (os-image-hash)", |row| {
            row.os_image_hash.to_string()
        }),
    ];
    let registers = registers.into_iter().zip(seen);
    differing(registers.map(|((what, of), seen)| {
        let rows = rules.os_images.iter();
        let rows: Vec<_> = rows.map(|row| (of(row), row.name.as_str())).collect();
        (what, rows, seen)
    }))
}

fn tables(rules: &Rules, seen: [&str; 3]) -> Vec<Difference> {
    type Of = fn(&super::rules::Machine) -> Hex<48>;
    let parts: [(&str, Of); 3] = [
        ("loader of the ACPI tables", |row| row.acpi_loader),
        ("root pointer of the ACPI tables", |row| row.acpi_rsdp),
        ("ACPI tables", |row| row.acpi_tables),
    ];
    let parts = parts.into_iter().zip(seen);
    differing(parts.map(|((what, of), seen)| {
        let rows = rules.machines.iter();
        let rows: Vec<_> = rows
            .map(|row| (of(row).to_string(), row.name.as_str()))
            .collect();
        (what, rows, seen)
    }))
}

fn tcb(rules: &Rules, what: &str, level: &Level) -> Vec<Difference> {
    let accepted = rules.tcb.accept.iter().map(ToString::to_string);
    let named = rules.tcb.accept_advisories.iter().map(|row| {
        let ids: Vec<_> = row.advisories.iter().map(String::as_str).collect();
        format!(
            "{} with {} until {}",
            row.status,
            ids.join(" and "),
            row.exception.until
        )
    });
    vec![Difference::new(
        format!("patch level of {what}"),
        some(accepted.chain(named)),
        level.to_string(),
    )]
}

fn pin(rules: &Rules, what: &str) -> String {
    let pins = &rules.pins;
    let texts = |values: &mut dyn Iterator<Item = String>| some(values.map(|text| short(&text)));
    match what {
        "mr_kms" => texts(&mut pins.mr_kms.iter().map(ToString::to_string)),
        "mrseam" => texts(&mut pins.mrseam.iter().map(ToString::to_string)),
        "instance_ids" => texts(&mut pins.instance_ids.iter().map(|id| id.as_str().to_owned())),
        "ppids" => texts(&mut pins.ppids.iter().map(ToString::to_string)),
        "piids" => texts(&mut pins.piids.iter().map(ToString::to_string)),
        "fmspcs" => texts(&mut pins.fmspcs.iter().map(ToString::to_string)),
        "rtmr0" => texts(&mut pins.rtmr0.iter().map(ToString::to_string)),
        "compose_hashes" => texts(&mut pins.compose_hashes.iter().map(ToString::to_string)),
        _ => texts(&mut pins.signing_keys.iter().cloned()),
    }
}

/// What of the machine a pin compares.
pub(crate) fn pinned(what: &str) -> &'static str {
    match what {
        "mr_kms" => "key management services that were contacted (pins.mr_kms)",
        "mrseam" => "Intel's TDX module (pins.mrseam)",
        "instance_ids" => "instance (pins.instance_ids)",
        "ppids" => "processor (pins.ppids)",
        "piids" => "platform instance (pins.piids)",
        "fmspcs" => "processor family (pins.fmspcs)",
        "rtmr0" => "firmware configuration and machine tables (pins.rtmr0)",
        "compose_hashes" => "application description (pins.compose_hashes)",
        _ => "signing key (pins.signing_keys)",
    }
}

impl Rules {
    /// What differs, where the refusal compares something.
    pub(crate) fn differences(&self, rejected: &Rejected) -> Vec<Difference> {
        let one = |what: &str, expected: &str, seen: &str| {
            vec![Difference::new(what, short(expected), short(seen))]
        };
        match rejected {
            Rejected::OsImage {
                mrtd,
                rtmr1,
                rtmr2,
                os_image_hash,
                ..
            } => image(self, [mrtd, rtmr1, rtmr2, os_image_hash]),
            Rejected::Acpi {
                loader,
                rsdp,
                tables: seen,
                ..
            } => tables(self, [loader, rsdp, seen]),
            Rejected::Firmware { event, got, .. } => {
                let expected = self.firmwares.iter().flat_map(|row| {
                    let of = row.digests();
                    let events = of.events().map(|(name, digest)| (name, Hex(*digest)));
                    let named = events.into_iter().filter(|(name, _)| name == event);
                    named
                        .map(|(_, digest)| format!("{} ({})", short(&digest.to_string()), row.name))
                        .collect::<Vec<_>>()
                });
                vec![Difference::new(
                    format!("firmware configuration ({event})"),
                    some(expected),
                    short(got),
                )]
            }
            Rejected::TdHob { got, expected, .. } => one("memory map", expected, got),
            Rejected::TcbPlatform { level, .. } => tcb(self, "the platform", level),
            Rejected::TcbModule { level, .. } => tcb(self, "the TDX module", level),
            Rejected::TcbQe { level, .. } => tcb(self, "the quoting enclave", level),
            Rejected::TcbEvaluation { got, min } => one(
                "edition of Intel's rules",
                &format!("{min} or later"),
                &got.to_string(),
            ),
            Rejected::TdDebug { attributes } => one(
                "attributes of the virtual machine",
                "no debugging",
                attributes,
            ),
            Rejected::TdAttributes { got, .. } => vec![Difference::new(
                "attributes of the virtual machine",
                some(self.td.attributes.iter().map(ToString::to_string)),
                got,
            )],
            Rejected::Xfam { got, .. } => vec![Difference::new(
                "CPU features",
                some(self.td.xfam.iter().map(ToString::to_string)),
                got,
            )],
            Rejected::KmsRoot { got, .. } => {
                let roots = self.identities.iter().flat_map(|row| {
                    let own = row.kms_root.iter().map(|key| key.as_str());
                    let epochs = row.kms_roots.iter().map(|epoch| epoch.key.as_str());
                    let all = own
                        .chain(epochs)
                        .map(|key| format!("{} ({})", point(key), row.name));
                    all.collect::<Vec<_>>()
                });
                vec![Difference::new(
                    "root key of the key management service",
                    some(roots),
                    point(got),
                )]
            }
            Rejected::AppId { got } => vec![Difference::new(
                "application",
                some(
                    self.identities
                        .iter()
                        .map(|row| format!("{} ({})", row.app_id, row.name)),
                ),
                got,
            )],
            Rejected::Pin { what, got, .. } => {
                vec![Difference::new(pinned(what), pin(self, what), short(got))]
            }
            Rejected::Finding {
                topic,
                severity,
                detail,
            } => {
                let expected = format!("no finding {topic} of this severity");
                vec![Difference::new(
                    format!("finding {topic} ({severity})"),
                    expected,
                    detail,
                )]
            }
            Rejected::BelowLevel { axis, got, least } => one(
                &format!("level of {axis}"),
                &format!("{least} at least"),
                got,
            ),
            Rejected::Model { got, expected } => one("model", expected, got),
            Rejected::SpkiMismatch { live, attested } => one(
                "TLS key",
                &format!("{} (of this connection)", short(live)),
                attested,
            ),
            Rejected::Nonce { sent, got } => one("nonce", sent, got),
            Rejected::ReportData { expected, got } => {
                one("keys that the quote binds", expected, got)
            }
            Rejected::ComposeHash { got, expected } => {
                one("application description", expected, got)
            }
            Rejected::MrConfigId { got, expected } => one("MRCONFIGID", expected, got),
            Rejected::RtmrReplay {
                register,
                replayed,
                quoted,
            } => one(&format!("RTMR{register}"), quoted, replayed),
            Rejected::AppIdDisagrees { rtmr3, signed } => one("application", signed, rtmr3),
            Rejected::AppCertQuote {
                register,
                got,
                expected,
            } => one(register, expected, got),
            Rejected::Gpu(inner) => self.of_gpus(inner),
            Rejected::Deployment(inner) => self.of_deployment(inner),
            Rejected::Compose(ComposeRejected::Digest {
                file,
                service,
                image,
                ..
            }) => {
                let allowed = self.deployment.files.digests.iter().flatten();
                vec![Difference::new(
                    format!("image of service {service} in {file}"),
                    some(allowed.map(|digest| short(&digest.to_string()))),
                    image,
                )]
            }
            _ => Vec::new(),
        }
    }

    fn of_gpus(&self, rejected: &GpuRejected) -> Vec<Difference> {
        let one =
            |what: String, expected: &str, seen: &str| vec![Difference::new(what, expected, seen)];
        match rejected {
            GpuRejected::Count { got, expected, .. } => one(
                "number of GPUs".to_owned(),
                &expected.to_string(),
                &got.to_string(),
            ),
            GpuRejected::Mode {
                gpu,
                what,
                got,
                expected,
            } => one(format!("{what} of GPU {gpu}"), expected, got),
            GpuRejected::Device { gpu, got, .. } => one(
                format!("device of GPU {gpu}"),
                &some(self.gpu.devices.iter().map(ToString::to_string)),
                got,
            ),
            GpuRejected::Measurement {
                gpu,
                id,
                index,
                got,
            } => one(
                format!("measurement {index} of GPU {gpu}"),
                &format!("a value of the policy's tables for {id}"),
                &short(got),
            ),
            GpuRejected::NoTable { gpu, id } => one(
                format!("version of GPU {gpu}"),
                &some(self.gpu.measurements.iter().map(|table| table.id.clone())),
                id.trim_matches('"'),
            ),
            GpuRejected::Nonce { gpu, got, expected } => one(
                format!("nonce that GPU {gpu} signed"),
                &short(expected),
                &short(got),
            ),
            _ => Vec::new(),
        }
    }

    fn of_deployment(&self, rejected: &DeploymentRejected) -> Vec<Difference> {
        let one =
            |what: &str, expected: &str, seen: &str| vec![Difference::new(what, expected, seen)];
        match rejected {
            DeploymentRejected::Commit { file, got, .. } => one(
                &format!("commit of {file}"),
                &some(self.deployment.commits.iter().map(ToString::to_string)),
                got,
            ),
            DeploymentRejected::Tag { file, got } => {
                one(&format!("tag of {file}"), "a release such as v1.2.3", got)
            }
            DeploymentRejected::TagUnknown { file, got, .. } => {
                one(&format!("tag of {file}"), "a tag of its repository", got)
            }
            DeploymentRejected::TagMoved {
                file,
                tag,
                got,
                expected,
            } => one(&format!("commit of {file} at {tag}"), expected, got),
            DeploymentRejected::Level { got, least, detail } => one(
                "what was started",
                &format!("{least} at least"),
                &format!("{got}: {detail}"),
            ),
            _ => Vec::new(),
        }
    }
}

/// A key on P-256 without what is the same of all of them, and shortened.
pub(crate) fn point(hex: &str) -> String {
    let start = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
    let point = hex.strip_prefix(start).unwrap_or(hex);
    short(point)
}
