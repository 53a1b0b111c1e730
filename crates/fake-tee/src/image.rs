//! Releases of a guest image, made by rule, and what a guest that boots them measures.
//!
//! Nothing here reads a file: firmware and kernel are described, then written, and the
//! registers follow from the description. A reader of the files is tested by another way
//! to the same values.

mod firmware;
mod kernel;
pub mod malformed;

use serde_json::{Value, json};

pub use self::firmware::{Firmware, Section};
pub use self::kernel::Kernel;
use crate::event_log::{Event, replay};
use crate::hash::{sha256, sha384};
use crate::spec::Spec;

/// Bytes that look like none: SHA-256(seed || number) for 0, 1, and so on.
pub fn filler(seed: &str, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 32);
    let mut number = 0_u64;
    while out.len() < length {
        out.extend(sha256(&[seed.as_bytes(), &number.to_le_bytes()].concat()));
        number += 1;
    }
    out.truncate(length);
    out
}

/// A release: what its files are made of.
#[derive(Debug, Clone)]
pub struct Image {
    /// Becomes `ovmf.fd`.
    pub firmware: Firmware,
    /// Becomes `bzImage`.
    pub kernel: Kernel,
    /// `initramfs.cpio.gz`.
    pub initrd: Vec<u8>,
    /// `metadata.json`.
    pub metadata: Vec<(String, Value)>,
    /// Files that are listed besides, as dstack 0.6 does.
    pub others: Vec<(String, Vec<u8>)>,
}

/// What a guest measures of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what is measured")]
pub struct Registers {
    pub mrtd_single_pass: [u8; 48],
    pub mrtd_two_pass: [u8; 48],
    pub cfv: [u8; 48],
    /// The kernel as QEMU up to 10.1 hands it over.
    pub kernel: [u8; 48],
    /// The kernel as it is in the file.
    pub kernel_unpatched: [u8; 48],
    pub command_line: [u8; 48],
    pub initrd: [u8; 48],
    pub rtmr1: [u8; 48],
    pub rtmr1_unpatched: [u8; 48],
    pub rtmr2: [u8; 48],
    pub os_image_hash: [u8; 32],
}

impl Image {
    /// Some 40 KB in the shape of dstack's releases of 0.5.11.
    pub fn small() -> Self {
        Self {
            firmware: Firmware::small(),
            kernel: Kernel::small(),
            initrd: filler("initrd", 5000),
            metadata: metadata(),
            others: Vec::new(),
        }
    }

    /// The same in the shape of 0.6: more files, and a kernel whose header is as QEMU
    /// would write it.
    pub fn small_0_6() -> Self {
        let mut image = Self::small();
        image.kernel = image.kernel.normalized(image.initrd.len());
        image.set("version", "0.6.6");
        image.set("kernel_header_normalized", true);
        image.others = ["tdx", "snp", "gcp", "aws"]
            .map(|tee| {
                let name = format!("measurement.{tee}.cbor");
                let content = filler(&name, 384);
                (name, content)
            })
            .to_vec();
        image
    }

    /// Sets a member of the metadata; `null` takes it away.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.metadata.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.metadata.push((name.to_owned(), value)),
        }
        self.metadata.retain(|(_, value)| !value.is_null());
    }

    /// The command line.
    pub fn cmdline(&self) -> &str {
        let mut members = self.metadata.iter();
        let found = members.find(|(name, _)| name == "cmdline");
        found
            .and_then(|(_, value)| value.as_str())
            .unwrap_or_default()
    }

    /// `metadata.json`, as dstack's script writes it.
    pub fn metadata_json(&self) -> Vec<u8> {
        let lines: Vec<_> = self
            .metadata
            .iter()
            .map(|(name, value)| format!("    {}: {value}", Value::from(name.as_str())))
            .collect();
        format!("{{\n{}\n}}", lines.join(",\n")).into_bytes()
    }

    /// Every file but the list, by name, in the list's order.
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![
            ("ovmf.fd".to_owned(), self.firmware.bytes()),
            ("bzImage".to_owned(), self.kernel.bytes()),
            ("initramfs.cpio.gz".to_owned(), self.initrd.clone()),
            ("metadata.json".to_owned(), self.metadata_json()),
        ];
        files.extend(self.others.iter().cloned());
        files
    }

    /// The list of the files.
    pub fn list(&self) -> Vec<u8> {
        list(&self.contents())
    }

    /// What a guest with this much memory measures.
    pub fn registers(&self, memory: u64) -> Registers {
        let kernel = sha384(&self.kernel.measured(Some((memory, self.initrd.len()))));
        let kernel_unpatched = sha384(&self.kernel.measured(None));
        let mut text: Vec<u8> = Vec::new();
        for unit in format!("{} initrd=initrd\0", self.cmdline()).encode_utf16() {
            text.extend(unit.to_le_bytes());
        }
        let command_line = sha384(&text);
        let initrd = sha384(&self.initrd);
        let registers = |kernel| boot_registers(kernel, command_line, initrd);
        let [_, rtmr1, rtmr2, _] = registers(kernel);
        let [_, rtmr1_unpatched, ..] = registers(kernel_unpatched);
        Registers {
            mrtd_single_pass: self.firmware.mrtd(false),
            mrtd_two_pass: self.firmware.mrtd(true),
            cfv: self.firmware.cfv(),
            kernel,
            kernel_unpatched,
            command_line,
            initrd,
            rtmr1,
            rtmr1_unpatched,
            rtmr2,
            os_image_hash: sha256(&self.list()),
        }
    }

    /// Lets a machine boot this image; its memory decides, so it is set before.
    pub fn boot(&self, spec: &mut Spec) {
        let registers = self.registers(spec.vm_config.memory_size);
        spec.td.mr_td = registers.mrtd_single_pass;
        spec.boot.cfv = registers.cfv;
        spec.boot.kernel = registers.kernel;
        spec.boot.command_line = registers.command_line;
        spec.boot.initrd = registers.initrd;
        spec.app.os_image_hash = registers.os_image_hash;
        spec.vm_config.os_image_hash = hex::encode(registers.os_image_hash);
    }
}

/// `sha256sum` of these files.
pub fn list(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let lines = files
        .iter()
        .map(|(name, content)| format!("{}  {name}\n", hex::encode(sha256(content))));
    lines.collect::<String>().into_bytes()
}

/// The registers after what a guest boots through.
fn boot_registers(kernel: [u8; 48], command_line: [u8; 48], initrd: [u8; 48]) -> [[u8; 48]; 4] {
    let event = |register, digest| Event::boot(register, 0, digest, b"");
    replay(&[
        event(1, kernel),
        event(1, sha384(b"Calling EFI Application from Boot Option")),
        event(1, sha384(&[0; 4])),
        event(2, command_line),
        event(2, initrd),
        event(1, sha384(b"Exit Boot Services Invocation")),
        event(1, sha384(b"Exit Boot Services Returned with Success")),
    ])
}

/// That of a release of dstack, but for the root file system.
fn metadata() -> Vec<(String, Value)> {
    let cmdline = format!(
        "console=ttyS0 init=/init panic=1 net.ifnames=0 biosdevname=0 mce=off oops=panic pci=noearly pci=nommconf random.trust_cpu=y random.trust_bootloader=n tsc=reliable no-kvmclock dstack.rootfs_hash={} dstack.rootfs_size=123456789",
        "ab".repeat(32)
    );
    [
        ("bios", json!("ovmf.fd")),
        ("kernel", json!("bzImage")),
        ("cmdline", json!(cmdline)),
        ("initrd", json!("initramfs.cpio.gz")),
        ("rootfs", json!("rootfs.img.verity")),
        ("version", json!("0.5.11")),
        ("git_revision", json!("0".repeat(40))),
        ("shared_ro", json!(true)),
        ("is_dev", json!(false)),
        ("ovmf_variant", json!("pre202505")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
