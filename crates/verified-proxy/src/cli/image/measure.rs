//! `verified-proxy image measure`: what a guest that boots these files measures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attest::image::{FileList, ImageError, KernelHeader, KnownImage, Measured, known_by_hash};
use attest::{ComputedRtmr0, VmConfig};
use serde_json::{Value, json};

use super::{NO_PROOF, files};
use crate::cli::print;
use crate::cli::read_files::{self, Failure};

/// Compute MRTD, RTMR1 and RTMR2 from the files of a release, and print the row for a policy
///
/// Exit codes: 0 measured, 1 the files contradict themselves or what is known of the image, or
/// RTMR0 of the machine cannot be computed, 2 wrong usage, 3 something could not be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of an unpacked release, with sha256sum.txt, ovmf.fd, bzImage,
    /// initramfs.cpio.gz and metadata.json
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// A machine's shape as its host states it (vm_config of a report, JSON), to compute RTMR0
    /// and its events too
    #[arg(long, value_name = "FILE")]
    vm_config: Option<PathBuf>,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let list = files::list(&args.folder)?;
    let shape = args.vm_config.as_deref().map(shape).transpose()?;
    let list = match FileList::read(&list) {
        Ok(list) => list,
        Err(error) => return Err(refused(&error)),
    };
    let contents = files::listed(&args.folder, &list)?;
    let by_name: BTreeMap<&str, &[u8]> = contents
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    let measured = match list.measure(&by_name) {
        Ok(measured) => measured,
        Err(error @ ImageError::Absent { .. }) => {
            return Err(Failure::Unreadable(sentence(&error)));
        }
        Err(error) => return Err(refused(&error)),
    };
    let shown = Shown {
        known: known_by_hash(&measured.os_image_hash()),
        shape: shape.map(|shape| Machine::of(&measured, &shape)),
        measured: &measured,
    };
    print(&if args.json {
        shown.as_json()
    } else {
        shown.as_text()
    })?;
    match shown.contradiction() {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(Failure::Refused(why)),
    }
}

fn sentence(error: &ImageError) -> String {
    format!("{error}\nhint: {}", error.remedy())
}

/// The files were read, and cannot be measured.
fn refused(error: &ImageError) -> Failure {
    Failure::Refused(sentence(error))
}

/// A shape, as text and as read.
struct Shape {
    text: String,
    config: VmConfig,
}

fn shape(path: &Path) -> Result<Shape, Failure> {
    let unreadable = |why: &str| Failure::Unreadable(format!("{}: {why}", path.display()));
    let text = String::from_utf8(read_files::read(path)?).map_err(|_| unreadable("not UTF-8"))?;
    // A report has it as a text within its JSON.
    let text = serde_json::from_str::<String>(&text).unwrap_or(text);
    let config = VmConfig::read(&text).ok_or_else(|| {
        Failure::Usage(format!(
            "{}: expected a JSON object with cpu_count, memory_size and what else a machine's vm_config states\nhint: take it out of a report with: jq -r .info.vm_config report.json",
            path.display()
        ))
    })?;
    Ok(Shape { text, config })
}

/// What depends on the machine.
struct Machine {
    /// Where its memory is known: RTMR1 with it, or why there is none.
    rtmr1: Option<(u64, Result<[u8; 48], String>)>,
    rtmr0: Result<ComputedRtmr0, String>,
}

impl Machine {
    fn of(measured: &Measured<'_>, shape: &Shape) -> Self {
        Self {
            rtmr1: shape.config.memory_size().map(|memory| {
                let rtmr1 = measured.rtmr1_with(memory);
                (memory, rtmr1.map_err(|error| error.to_string()))
            }),
            rtmr0: measured.rtmr0(&shape.text),
        }
    }
}

struct Shown<'a> {
    measured: &'a Measured<'a>,
    known: Option<&'static KnownImage>,
    shape: Option<Machine>,
}

impl Shown<'_> {
    /// The name of the row.
    fn name(&self) -> String {
        match self.known {
            Some(image) => image.name.clone(),
            None => {
                // The version is text of the files: other characters are not copied into a name.
                let version = &self.measured.metadata().version;
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
                let plain: String = version.chars().filter(|c| is_plain(*c)).take(32).collect();
                format!("unlisted {plain}")
            }
        }
    }

    /// What the files contradict.
    fn contradiction(&self) -> Option<String> {
        if let Some(image) = self.known
            && let Some(register) = image.differs_from(self.measured)
        {
            return Some(format!(
                "{register} is not the one that is known of {}: this program or its table is wrong; report it",
                image.name
            ));
        }
        if self.measured.kernel_header() == KernelHeader::NotAsStated {
            return Some("metadata.json says that the kernel's header is normalised, and QEMU would rewrite it for 2816 MiB of memory: RTMR1 depends on QEMU's version".to_owned());
        }
        let rtmr0 = self.shape.as_ref().map(|machine| machine.rtmr0.as_ref());
        let why = rtmr0?.err()?;
        Some(format!("RTMR0 of the machine is not computed: {why}"))
    }

    /// What this program's table says about the hash.
    fn standing(&self) -> String {
        match self.known {
            None => "its hash is not in this program's table of images".to_owned(),
            Some(image) => {
                let mut words = "its hash is in this program's table of images".to_owned();
                if let Some(why) = &image.refuse {
                    let _ = write!(words, ", which says: accept it nowhere, {why}");
                } else if image.registers.is_none() {
                    words.push_str(", which has no registers of it");
                } else if image.differs_from(self.measured).is_none() {
                    words.push_str(", which has the same registers");
                }
                words
            }
        }
    }

    fn as_text(&self) -> String {
        let measured = self.measured;
        let metadata = measured.metadata();
        let mut text = format!("{}: {}\n", self.name(), self.standing());
        let mut line = |what: &str, value: &str| {
            line!(text, "{what:24} {value}");
        };
        let kind = if metadata.is_dev {
            "DEVELOPMENT: whoever runs it can log in"
        } else {
            "production"
        };
        line("version", &format!("\"{}\", {kind}", metadata.version));
        let commit = metadata.git_revision.as_deref();
        line(
            "commit",
            &commit.map_or("not stated".to_owned(), |commit| format!("\"{commit}\"")),
        );
        line("firmware", &metadata.ovmf_variant.to_string());
        line("kernel header", header(measured.kernel_header()));
        line("files checked", &measured.checked().join(", "));
        if !measured.not_given().is_empty() {
            line("files not given", &measured.not_given().join(", "));
        }
        line("os_image_hash", &hex::encode(measured.os_image_hash()));
        line(
            "MRTD, QEMU 9.0 and later",
            &hex::encode(measured.mrtd().single_pass),
        );
        line("MRTD, QEMU 8", &hex::encode(measured.mrtd().two_pass));
        line("RTMR1, 2816 MiB and more", &hex::encode(measured.rtmr1()));
        line("RTMR1, unpatched", &hex::encode(measured.rtmr1_unpatched()));
        line("RTMR2", &hex::encode(measured.rtmr2()));
        line("CFV, event 1 of RTMR0", &hex::encode(measured.cfv_digest()));
        if let Some(machine) = &self.shape {
            if let Some((memory, rtmr1)) = &machine.rtmr1 {
                let rtmr1 = match rtmr1 {
                    Ok(rtmr1) => hex::encode(rtmr1),
                    Err(why) => format!("not computed: {why}"),
                };
                line(&format!("RTMR1, {} MiB", memory >> 20), &rtmr1);
            }
            match &machine.rtmr0 {
                Ok(rtmr0) => {
                    line("RTMR0", &hex::encode(rtmr0.register));
                    for (name, digest) in &rtmr0.events {
                        line(&format!("  {name}"), &hex::encode(digest));
                    }
                }
                Err(why) => line("RTMR0", &format!("not recomputable: {why}")),
            }
        }
        text + "\n" + &self.row()
    }

    /// The row for a policy, with what a person has to know before copying it.
    fn row(&self) -> String {
        let mut text = format!(
            "# {NO_PROOF}: anyone can make files, a list of them, and its hash.\n\
             # Check where these files come from, and that a second party confirms the hash.\n\
             # For 2816 MiB of memory or more.\n"
        );
        if self.measured.metadata().is_dev {
            text.push_str(
                "# This is a development image: whoever runs it can log in and read everything.\n",
            );
        }
        if let Some(why) = self.known.and_then(|image| image.refuse.as_ref()) {
            line!(text, "# Do not accept this image: {why}.");
        }
        let row = self.measured.policy_row(&self.name());
        if self.measured.kernel_header() == KernelHeader::NotAsStated {
            text.push_str("# The files contradict themselves, so this row cannot be used:\n");
            let lines = row.lines().map(|line| format!("# {line}\n"));
            return text + &lines.collect::<String>();
        }
        text + &row
    }

    fn as_json(&self) -> String {
        let measured = self.measured;
        let metadata = measured.metadata();
        let json = json!({
            "name": self.known.map(|image| image.name.as_str()),
            "known": self.known.is_some(),
            "refuse": self.known.and_then(|image| image.refuse.as_deref()),
            "contradiction": self.contradiction(),
            "version": metadata.version,
            "git_revision": metadata.git_revision,
            "is_dev": metadata.is_dev,
            "ovmf_variant": metadata.ovmf_variant.to_string(),
            "kernel_header": match measured.kernel_header() {
                KernelHeader::Rewritten => "rewritten",
                KernelHeader::Normalized => "normalized",
                KernelHeader::NotAsStated => "not_as_stated",
            },
            "checked": measured.checked(),
            "not_given": measured.not_given(),
            "os_image_hash": hex::encode(measured.os_image_hash()),
            "mrtd": hex::encode(measured.mrtd().single_pass),
            "mrtd_two_pass": hex::encode(measured.mrtd().two_pass),
            "rtmr1": hex::encode(measured.rtmr1()),
            "rtmr1_unpatched": hex::encode(measured.rtmr1_unpatched()),
            "rtmr2": hex::encode(measured.rtmr2()),
            "cfv": hex::encode(measured.cfv_digest()),
            "policy_row": self.row(),
            "machine": self.shape.as_ref().map(machine_json),
        });
        format!("{json:#}\n")
    }
}

fn machine_json(machine: &Machine) -> Value {
    let rtmr1 = machine.rtmr1.as_ref();
    let (rtmr0, events, why) = match &machine.rtmr0 {
        Ok(rtmr0) => {
            let events = rtmr0.events.iter();
            let events = events
                .map(|(name, digest)| json!({ "event": name, "digest": hex::encode(digest) }));
            let register = hex::encode(rtmr0.register);
            (Some(register), Some(events.collect::<Vec<_>>()), None)
        }
        Err(why) => (None, None, Some(why)),
    };
    json!({
        "memory_size": rtmr1.map(|(memory, _)| memory),
        "rtmr1": rtmr1.and_then(|(_, rtmr1)| rtmr1.as_ref().ok()).map(hex::encode),
        "rtmr0": rtmr0,
        "rtmr0_events": events,
        "rtmr0_not_recomputable": why,
    })
}

fn header(header: KernelHeader) -> &'static str {
    match header {
        KernelHeader::Rewritten => "rewritten by QEMU up to 10.1; unpatched from 10.2 on",
        KernelHeader::Normalized => "normalised: the same under every version of QEMU",
        KernelHeader::NotAsStated => "NOT normalised, though metadata.json says so",
    }
}
