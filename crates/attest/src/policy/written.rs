//! The other direction: a policy that accepts what was seen, for review.

use std::collections::BTreeSet;
use std::fmt;

use super::rules::image::SeenImage;
use crate::base::hex::Hex;
use crate::base::identifiers::{Fmspc, UnixTime};
use crate::compose::FileRules;
use crate::dstack::machine::AcpiDigests;
use crate::dstack::rtmr0::Firmware;
use crate::near::evidence::SigningKey;

/// Measured values of one report, as a policy would name them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) attributes: Hex<8>,
    pub(crate) xfam: Hex<8>,
    pub(crate) os_image: SeenImage,
    pub(crate) firmware: Firmware,
    pub(crate) acpi: AcpiDigests,
    pub(crate) app_id: [u8; 20],
    /// `info.app_cert`, which is read only when a policy is written.
    pub(crate) app_cert: Option<String>,
    pub(crate) mr_seam: Hex<48>,
    pub(crate) rtmr0: Hex<48>,
    pub(crate) compose_hash: Hex<32>,
    pub(crate) instance_id: Vec<u8>,
    pub(crate) ppid: Vec<u8>,
    pub(crate) piid: Option<[u8; 16]>,
    pub(crate) fmspc: Fmspc,
    pub(crate) signing_key: SigningKey,
}

/// The row of an image.
fn image_row(seen: &SeenImage) -> String {
    format!(
        "os_image = [{{ name = \"reviewed\", mrtd = \"{}\", rtmr1 = \"{}\", rtmr2 = \"{}\", os_image_hash = \"{}\" }}]",
        seen.mrtd, seen.rtmr1, seen.rtmr2, seen.os_image_hash
    )
}

/// The row of an application under a KMS.
fn identity_row(app_id: &[u8], kms_root: &str) -> String {
    format!(
        "identity = [{{ name = \"reviewed\", app_id = \"{}\", kms_root = \"{kms_root}\" }}]",
        ::hex::encode(app_id)
    )
}

/// The row of a firmware.
fn firmware_row(seen: &Firmware) -> String {
    let fields: Vec<_> = seen
        .events()
        .iter()
        .map(|(name, digest)| format!("{name} = \"{}\"", ::hex::encode(digest)))
        .collect();
    format!(
        "firmware = [{{ name = \"reviewed\", {} }}]",
        fields.join(", ")
    )
}

/// The row of a machine's tables.
fn machine_row(seen: &AcpiDigests) -> String {
    format!(
        "machine = [{{ name = \"reviewed\", acpi_loader = \"{}\", acpi_rsdp = \"{}\", acpi_tables = \"{}\" }}]",
        ::hex::encode(seen.loader),
        ::hex::encode(seen.rsdp),
        ::hex::encode(seen.tables)
    )
}

impl Seen {
    /// A policy that accepts what was seen, with a word on each line, for review.
    pub(crate) fn to_policy_toml(&self, at: UnixTime) -> String {
        let day = at.to_string();
        let day = day.split('T').next().unwrap_or("1970-01-01");
        let files = FileRules::default();
        format!(
            r#"# Written from one report, judged at {at}. It accepts what that report
# showed; nothing here says that this is what it should be. Before you use it,
# ask the backend's operator which values are theirs, and delete this paragraph.

name = "reviewed"
date = "{day}"
software = "expected"
acpi = "require"

# The OS image: firmware (MRTD), kernel (RTMR1), command line and initrd (RTMR2).
{os_image}

# Firmware configuration, as RTMR0 measured it.
{firmware}

# The machine's shape: ACPI tables that the host handed over.
{machine}

# The application, and the root key of the KMS that its certificate names.
{identity}

td.attributes = ["{attributes}"]
td.xfam = ["{xfam}"]

# Intel's judgements that are fine. Others need tcb.accept_advisories.
tcb.accept = ["UpToDate", "SWHardeningNeeded"]

# Programs that deployed compose files may start, as the policy "near" has them.
deployment.repositories.fronts = [{fronts}]
deployment.repositories.proxies = [{proxies}]
deployment.repositories.engines = [{engines}]
deployment.repositories.helpers = [{helpers}]
deployment.repositories.gpu_helpers = [{gpu_helpers}]
deployment.read_only_paths = [{read_only_paths}]

# These change with honest updates or differ between honest machines: pin them
# only if you want to be stopped by every change.
# pins.mrseam = ["{mr_seam}"]
# pins.rtmr0 = ["{rtmr0}"]
# pins.compose_hashes = ["{compose_hash}"]
# pins.instance_ids = ["{instance_id}"]
# pins.ppids = ["{ppid}"]
{piid}# pins.fmspcs = ["{fmspc}"]
# pins.signing_keys = ["{signing_key}"]
"#,
            os_image = image_row(&self.os_image),
            firmware = firmware_row(&self.firmware),
            machine = machine_row(&self.acpi),
            identity = match crate::dstack::app_cert::stated_root(self.app_cert.as_deref()) {
                Some(root) => identity_row(&self.app_id, &root),
                None => "# The report has no certificate of a KMS: there is no identity to accept."
                    .to_owned(),
            },
            attributes = self.attributes,
            xfam = self.xfam,
            fronts = list(&files.fronts),
            proxies = list(&files.proxies),
            engines = list(&files.engines),
            helpers = list(&files.helpers),
            gpu_helpers = list(&files.gpu_helpers),
            read_only_paths = list(&files.read_only_paths),
            mr_seam = self.mr_seam,
            rtmr0 = self.rtmr0,
            compose_hash = self.compose_hash,
            instance_id = ::hex::encode(&self.instance_id),
            ppid = ::hex::encode(&self.ppid),
            piid = self.piid.map_or(String::new(), |piid| format!(
                "# pins.piids = [\"{}\"]\n",
                ::hex::encode(piid)
            )),
            fmspc = self.fmspc,
            signing_key = self.signing_key,
        )
    }
}

/// Names without quotes in them, as TOML writes a list's content.
fn list(names: &BTreeSet<impl fmt::Display>) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}
