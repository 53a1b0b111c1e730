//! What Intel certified about a platform: the SGX extension of its PCK certificate.

use crate::encode::{der, der_integer, der_octets, der_sequence};
use crate::hash::label;

/// What the SGX extension of the PCK certificate says about the platform.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the names are those of the PCK certificate profile"
)]
pub struct Platform {
    pub ppid: [u8; 16],
    pub cpu_svn: [u8; 16],
    /// The sixteen SGX TCB components; the same numbers as `cpu_svn` on real hosts.
    pub sgx_tcb_components: [u8; 16],
    pub pce_svn: u16,
    pub pce_id: [u8; 2],
    pub fmspc: [u8; 6],
    /// 0 standard, 1 scalable, 2 scalable with integrity.
    pub sgx_type: u8,
    pub platform_instance_id: Option<[u8; 16]>,
    pub dynamic_platform: bool,
    pub cached_keys: bool,
    pub smt_enabled: bool,
}

impl Platform {
    pub(crate) fn new() -> Self {
        let svn = [7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        Self {
            ppid: label("ppid"),
            cpu_svn: svn,
            sgx_tcb_components: svn,
            pce_svn: 11,
            pce_id: [0, 0],
            fmspc: [0xfa, 0x4e, 0x6f, 0, 0, 0],
            sgx_type: 1,
            platform_instance_id: Some(label("platform instance id")),
            // All three are set on every real host seen.
            dynamic_platform: true,
            cached_keys: true,
            smt_enabled: true,
        }
    }

    /// The SGX extension's value.
    pub(crate) fn sgx_extension(&self) -> Vec<u8> {
        let boolean = |value: bool| der(0x01, &[if value { 0xff } else { 0 }]);
        let mut tcb: Vec<Vec<u8>> = (1u8..)
            .zip(self.sgx_tcb_components)
            .map(|(i, svn)| sgx_entry(&[2, i], der_integer(u16::from(svn))))
            .collect();
        tcb.push(sgx_entry(&[2, 17], der_integer(self.pce_svn)));
        tcb.push(sgx_entry(&[2, 18], der_octets(&self.cpu_svn)));
        let mut parts = vec![
            sgx_entry(&[1], der_octets(&self.ppid)),
            sgx_entry(&[2], der_sequence(&tcb)),
            sgx_entry(&[3], der_octets(&self.pce_id)),
            sgx_entry(&[4], der_octets(&self.fmspc)),
            sgx_entry(&[5], der(0x0a, &[self.sgx_type])),
        ];
        if let Some(id) = self.platform_instance_id {
            parts.push(sgx_entry(&[6], der_octets(&id)));
        }
        parts.push(sgx_entry(
            &[7],
            der_sequence(&[
                sgx_entry(&[7, 1], boolean(self.dynamic_platform)),
                sgx_entry(&[7, 2], boolean(self.cached_keys)),
                sgx_entry(&[7, 3], boolean(self.smt_enabled)),
            ]),
        ));
        der_sequence(&parts)
    }
}

/// `SEQUENCE { OID 1.2.840.113741.1.13.1.<arcs>, value }`; all arcs are below 128.
fn sgx_entry(arcs: &[u8], value: Vec<u8>) -> Vec<u8> {
    let mut oid = vec![0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    oid.extend_from_slice(arcs);
    der_sequence(&[der(0x06, &oid), value])
}
