//! What the certificates of a GPU state about it: its kind, its number, and the
//! firmware that its key was derived from.

use x509_cert::der::asn1::{ObjectIdentifier, OctetStringRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc5912::ID_SHA_384;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::certificate::{EndEntity, Issuer};
use super::report::{Architecture, Pdi};
use crate::base::text::{quoted, shown_hex};
use crate::refusals::gpu::GpuRejected;

/// DICE: the firmware and the device key that a key was derived from. The identifier is
/// TCG's; Blackwell GPUs use another one below it.
const OID_FWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
/// DMTF: manufacturer, product and number of a device (DSP0274).
const OID_DEVICE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.412.274.1");

/// The first byte of a device certificate's serial number: the kind of device.
const GPU: u8 = 0x41;
const SWITCH: u8 = 0x50;
const PDI_LEN: usize = 8;

/// The name of an unknown chip in its device certificate. Refuses NVIDIA's switches,
/// which have certificates under the same root.
pub(super) fn unknown_chip(gpu: usize, device: &Issuer) -> Result<String, GpuRejected> {
    match device.serial.as_slice() {
        [kind, number @ ..] if *kind != SWITCH && number.len() == PDI_LEN => {
            let name = device.common_name.split(' ').next().unwrap_or_default();
            Ok(quoted(name))
        }
        _ => Err(serial(
            gpu,
            device,
            "a byte other than 50 (switches), and eight bytes",
        )),
    }
}

/// The leaf has to name the architecture of its device.
pub(super) fn agrees(
    gpu: usize,
    leaf: &EndEntity,
    architecture: Architecture,
) -> Result<(), GpuRejected> {
    let refuse = |field, got: &str| GpuRejected::Architecture {
        gpu,
        field,
        got: quoted(got),
        expected: architecture.chip(),
    };
    if Architecture::of_name(&leaf.common_name) != Some(architecture) {
        return Err(refuse(
            "the name in the firmware's certificate",
            &leaf.common_name,
        ));
    }
    let named = device_name(leaf).unwrap_or_default();
    let belongs = named
        .strip_prefix("NVIDIA:")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(chip, number)| chip == architecture.chip() && !number.is_empty());
    if !belongs {
        return Err(refuse(
            "the device named by the firmware's certificate",
            &named,
        ));
    }
    Ok(())
}

/// `NVIDIA:GH100:<number>`.
fn device_name(leaf: &EndEntity) -> Option<String> {
    let names = SubjectAltName::from_der(leaf.extension(SubjectAltName::OID)?).ok()?;
    let [GeneralName::OtherName(name)] = names.0.as_slice() else {
        return None;
    };
    let text = std::str::from_utf8(name.value.value()).ok()?;
    (name.type_id == OID_DEVICE).then(|| text.to_owned())
}

/// The device's number: its certificate's serial number after the byte for its kind.
pub(super) fn pdi(gpu: usize, device: &Issuer) -> Result<Pdi, GpuRejected> {
    match device.serial.split_first() {
        Some((&GPU, number)) => number.try_into().ok().map(Pdi),
        _ => None,
    }
    .ok_or_else(|| serial(gpu, device, "41 and eight bytes, as GPUs have"))
}

fn serial(gpu: usize, device: &Issuer, expected: &'static str) -> GpuRejected {
    GpuRejected::Architecture {
        gpu,
        field: "the serial number of the device's certificate",
        got: shown_hex(&device.serial),
        expected,
    }
}

/// The firmware and the device key that the leaf's key was derived from.
pub(super) struct Origin {
    pub(super) device_spki: Vec<u8>,
    pub(super) fwid: [u8; 48],
}

impl Origin {
    /// `SEQUENCE { version 1, SubjectPublicKeyInfo, SEQUENCE { hash, OCTET STRING } }`
    pub(super) fn read(leaf: &EndEntity) -> Option<Self> {
        let mut reader = SliceReader::new(leaf.extension(OID_FWID)?).ok()?;
        let (version, device_spki, algorithm, fwid) = reader
            .sequence(|outer| {
                let version: u8 = outer.decode()?;
                let spki: SubjectPublicKeyInfoRef<'_> = outer.decode()?;
                let spki = spki.to_der()?;
                let (algorithm, fwid) = outer.sequence(|inner| {
                    let algorithm: ObjectIdentifier = inner.decode()?;
                    let fwid: &OctetStringRef = inner.decode()?;
                    Ok::<_, x509_cert::der::Error>((algorithm, fwid.as_bytes()))
                })?;
                Ok::<_, x509_cert::der::Error>((version, spki, algorithm, fwid))
            })
            .ok()?;
        reader.finish().ok()?;
        (version == 1 && algorithm == ID_SHA_384).then_some(())?;
        Some(Self {
            device_spki,
            fwid: fwid.try_into().ok()?,
        })
    }
}
