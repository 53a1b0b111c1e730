//! Tamperings that are signed afterwards with the right keys: what no signature
//! catches. Numbers are those of the project's list of GPU tamperings.

use attest::{Architecture, Stated, Topology};
use fake_tee::Signer;
use fake_tee::gpu::{GpuKeys, GpuPki, GpuSpec, field};
use fake_tee::rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyUsagePurpose, SanType,
    date_time_ymd,
};

use super::{Change, blob, code, forged, spec};
use crate::support::NONCE;

/// Each changes the second of three GPUs.
const REFUSED: &[(&str, &str, Change)] = &[
    ("1 nonce", "rejected_gpu_nonce", |g| {
        g.message.push(|m| m.nonce[31] ^= 1)
    }),
    ("2 request version", "evidence_gpu_header", |g| {
        g.message.push(|m| m.request[0] = 0x12)
    }),
    ("2 request code", "evidence_gpu_header", |g| {
        g.message.push(|m| m.request[1] = 0xe1)
    }),
    ("2 no signature wanted", "evidence_gpu_header", |g| {
        g.message.push(|m| m.request[2] = 0)
    }),
    ("2 one block wanted", "evidence_gpu_header", |g| {
        g.message.push(|m| m.request[3] = 1)
    }),
    ("2 slot", "evidence_gpu_header", |g| {
        g.message.push(|m| m.slot = 1)
    }),
    ("3 response version", "evidence_gpu_header", |g| {
        g.message.push(|m| m.response[0] = 0x10)
    }),
    ("3 response code", "evidence_gpu_header", |g| {
        g.message.push(|m| m.response[1] = 0x7f)
    }),
    ("3 response parameter", "evidence_gpu_header", |g| {
        g.message.push(|m| m.response[2] = 1)
    }),
    ("3 response slot", "evidence_gpu_header", |g| {
        g.message.push(|m| m.response[3] = 1)
    }),
    ("4 63 blocks stated", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.block_count = 63)
    }),
    ("4 63 blocks", "evidence_gpu_blocks", |g| {
        g.message.push(|m| {
            m.block_count = 63;
            m.blocks.pop();
        })
    }),
    ("4 a block more than stated", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks.push(m.blocks[63].clone()))
    }),
    ("5 record length + 1", "evidence_gpu_structure", |g| {
        g.message.push(|m| m.record_len = Some(64 * 55 + 1))
    }),
    ("5 record length ffffff", "evidence_gpu_structure", |g| {
        g.message.push(|m| m.record_len = Some(0xff_ffff))
    }),
    ("7 index twice", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks[10].index = 10)
    }),
    ("7 two blocks swapped", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks.swap(10, 11))
    }),
    ("8 another format", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks[5].specification = 2)
    }),
    ("8 another type", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks[5].kind = 0x81)
    }),
    ("8 value size 47", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks[5].value_size = 47)
    }),
    ("8 sizes of a shorter digest", "evidence_gpu_blocks", |g| {
        g.message
            .push(|m| (m.blocks[5].size, m.blocks[5].value_size) = (50, 47))
    }),
    ("9 block size ffff", "evidence_gpu_blocks", |g| {
        g.message.push(|m| m.blocks[5].size = 0xffff)
    }),
    ("11 field length - 1", "evidence_gpu_structure", |g| {
        g.message.push(|m| {
            let len: usize = m.fields.iter().map(|(_, data)| data.len() + 4).sum();
            m.fields_len = Some(len as u16 - 1);
        })
    }),
    ("11 field length ffff", "evidence_gpu_structure", |g| {
        g.message.push(|m| m.fields_len = Some(0xffff))
    }),
    ("12 a field leads outside", "evidence_gpu_opaque", |g| {
        g.signed.push(|bytes| {
            // The last field's size: two bytes before its 144 bytes of data.
            let at = bytes.len() - 146;
            bytes[at] += 1;
        })
    }),
    ("13 a type twice", "evidence_gpu_opaque", |g| {
        g.message.push(|m| m.fields.push(m.fields[5].clone()))
    }),
    ("14 no driver", "evidence_gpu_opaque", |g| {
        g.message
            .push(|m| m.fields.retain(|(kind, _)| *kind != field::DRIVER))
    }),
    ("14 a driver of words", "evidence_gpu_opaque", |g| {
        g.message
            .push(|m| *m.field(field::DRIVER) = b"latest\0".to_vec())
    }),
    ("15 NVDEC neither on nor off", "evidence_gpu_opaque", |g| {
        g.message.push(|m| *m.field(field::NVDEC0) = vec![0])
    }),
    ("16 reported FWID", "rejected_gpu_fwid", |g| {
        g.message.push(|m| m.field(field::FWID)[0] ^= 1)
    }),
    ("17 Protected PCIe off", "rejected_gpu_topology", |g| {
        g.message
            .push(|m| *m.field(field::PROTECTED_PCIE) = vec![0x55])
    }),
    ("17 a switch", "rejected_gpu_topology", |g| {
        g.message.push(|m| m.field(field::SWITCHES)[16] ^= 1)
    }),
    (
        "17 switches that lead nowhere",
        "rejected_gpu_topology",
        |g| g.message.push(|m| m.field(field::SWITCHES).fill(0)),
    ),
    ("30 leaf name", "rejected_gpu_architecture", |g| {
        g.leaf.push(|leaf| {
            leaf.distinguished_name
                .push(DnType::CommonName, "GB100 A01 GSP FMC LF");
        })
    }),
    (
        "30 a switch in place of a GPU",
        "rejected_gpu_architecture",
        |g| {
            g.chip = "LS_10".to_owned();
            g.kind = 0x50;
        },
    ),
    ("30 a switch's number", "rejected_gpu_architecture", |g| {
        g.kind = 0x50
    }),
    ("31 FWID of the certificate", "rejected_gpu_fwid", |g| {
        let mut spoilt = g.fwid;
        spoilt[47] ^= 1;
        let genuine = std::mem::replace(&mut g.fwid, spoilt);
        g.message
            .push(move |m| *m.field(field::FWID) = genuine.to_vec());
    }),
    ("31 no FWID in the certificate", "rejected_gpu_chain", |g| {
        g.leaf.push(|leaf| leaf.custom_extensions.clear())
    }),
    (
        "31 FWID twice in the certificate",
        "rejected_gpu_chain",
        |g| {
            g.leaf.push(|leaf| {
                leaf.custom_extensions
                    .push(leaf.custom_extensions[0].clone())
            })
        },
    ),
    ("32 SAN of another chip", "rejected_gpu_architecture", |g| {
        g.leaf.push(|leaf| {
            let oid = vec![1, 3, 6, 1, 4, 1, 412, 274, 1];
            leaf.subject_alt_names = vec![SanType::OtherName((oid, "NVIDIA:GB100:1".into()))];
        })
    }),
    (
        "32 SAN without a number",
        "rejected_gpu_architecture",
        |g| {
            g.leaf.push(|leaf| {
                let oid = vec![1, 3, 6, 1, 4, 1, 412, 274, 1];
                leaf.subject_alt_names = vec![SanType::OtherName((oid, "NVIDIA:GH100:".into()))];
            })
        },
    ),
    ("32 SAN of another type", "rejected_gpu_architecture", |g| {
        g.leaf.push(|leaf| {
            let oid = vec![1, 3, 6, 1, 4, 1, 412, 274, 2];
            leaf.subject_alt_names = vec![SanType::OtherName((oid, "NVIDIA:GH100:1".into()))];
        })
    }),
    ("32 no SAN", "rejected_gpu_architecture", |g| {
        g.leaf.push(|leaf| leaf.subject_alt_names.clear())
    }),
    ("33 leaf expired", "rejected_gpu_chain", |g| {
        g.leaf
            .push(|leaf| leaf.not_after = date_time_ymd(2026, 11, 21))
    }),
    ("33 leaf not yet valid", "rejected_gpu_chain", |g| {
        g.leaf
            .push(|leaf| leaf.not_before = date_time_ymd(2026, 11, 23))
    }),
    ("33 provisioner expired", "rejected_gpu_chain", |g| {
        g.provisioner
            .push(|ca| ca.not_after = date_time_ymd(2026, 11, 21))
    }),
    ("38 attacker leaf", "rejected_gpu_chain", |g| {
        g.leaf_signer = Signer::Stranger
    }),
    (
        "38 leaf of another device's key",
        "rejected_gpu_dice",
        |g| g.leaf_origin = Some(GpuKeys::generate().unwrap().device.spki_der()),
    ),
    (
        "the leaf does not name its issuer's key",
        "rejected_gpu_chain",
        |g| {
            g.leaf
                .push(|leaf| leaf.use_authority_key_identifier_extension = false)
        },
    ),
    ("31 another layout of the FWID", "rejected_gpu_chain", |g| {
        // SEQUENCE with two bytes of length, INTEGER 1.
        g.leaf.push(|leaf| edit_fwid(leaf, |value| value[5] = 2))
    }),
    ("31 another hash", "rejected_gpu_chain", |g| {
        g.leaf.push(|leaf| {
            edit_fwid(leaf, |value| {
                // The object identifier ends before the 50 bytes of the digest.
                let at = value.len() - 51;
                value[at] = 1;
            })
        })
    }),
    ("31 bytes after the FWID", "rejected_gpu_chain", |g| {
        g.leaf.push(|leaf| edit_fwid(leaf, |value| value.push(0)))
    }),
    ("the leaf is a CA", "rejected_gpu_chain", |g| {
        g.leaf
            .push(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }),
    ("the leaf may not sign", "rejected_gpu_chain", |g| {
        g.leaf
            .push(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement])
    }),
    (
        "the leaf may sign certificates",
        "rejected_gpu_chain",
        |g| {
            g.leaf
                .push(|leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign))
        },
    ),
    ("the device is no CA", "rejected_gpu_chain", |g| {
        g.device.push(|device| device.is_ca = IsCa::ExplicitNoCa)
    }),
    ("the device may not sign", "rejected_gpu_chain", |g| {
        g.device
            .push(|device| device.key_usages = vec![KeyUsagePurpose::CrlSign])
    }),
    ("a length of chains", "rejected_gpu_chain", |g| {
        g.provisioner
            .push(|ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))
    }),
    ("an unknown critical extension", "rejected_gpu_chain", |g| {
        g.leaf.push(|leaf| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(true);
            leaf.custom_extensions.push(extension);
        })
    }),
    (
        "an unknown critical extension above",
        "rejected_gpu_chain",
        |g| {
            g.family.push(|ca| {
                let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                extension.set_criticality(true);
                ca.custom_extensions.push(extension);
            })
        },
    ),
];

/// Another value in the extension that names firmware and device.
fn edit_fwid(leaf: &mut CertificateParams, edit: fn(&mut Vec<u8>)) {
    let mut value = leaf.custom_extensions[0].content().to_vec();
    edit(&mut value);
    let oid = [2, 23, 133, 5, 4, 1];
    leaf.custom_extensions = vec![CustomExtension::from_oid_content(&oid, value)];
}

#[test]
fn each_change_is_refused_by_its_own_check() {
    for (name, expected, change) in REFUSED {
        let outcome = forged(|spec| change(&mut spec.gpus[1]));
        assert_eq!(code(&outcome), *expected, "{name}: {outcome:?}");
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("GPU 1"), "{name}: {message}");
    }
}

#[test]
fn a_machine_that_nobody_touched_verifies() {
    let report = forged(|_| {}).unwrap();
    assert_eq!(report.gpus().len(), 3);
    let Topology::SameSwitches(switches) = report.topology() else {
        panic!("{:?}", report.topology());
    };
    assert_eq!(switches.len(), 4);
    for gpu in report.gpus() {
        assert_eq!(gpu.architecture, Architecture::Hopper);
        assert_eq!(gpu.reported_fwid, Stated::Value(gpu.fwid));
        assert_eq!(gpu.measurements.len(), 64);
        assert_eq!(gpu.driver_rim_id(), "NV_GPU_DRIVER_GH100_570.172.08");
    }
}

/// What the GPU may say otherwise: it is reported, not judged.
#[test]
fn what_no_rule_is_about_is_reported() {
    let untouched = forged(|_| {}).unwrap();
    let cases: [(&str, Change); 3] = [
        ("6 measurement", |g| {
            g.message.push(|m| m.blocks[7].value[0] ^= 1)
        }),
        ("10 responder nonce", |g| {
            g.message.push(|m| m.responder_nonce[0] ^= 1)
        }),
        ("15 NVDEC on", |g| {
            g.message.push(|m| *m.field(field::NVDEC0) = vec![0xaa])
        }),
    ];
    for (name, change) in cases {
        let report = forged(|spec| change(&mut spec.gpus[1])).expect(name);
        let [before, after] = [&untouched, &report].map(|report| &report.gpus()[1]);
        assert_eq!(
            before.record_sha384 != after.record_sha384,
            name.starts_with('6')
        );
        assert_eq!(
            before.measurements[7] != after.measurements[7],
            name.starts_with('6')
        );
        assert_eq!(
            after.nvdec0,
            Stated::Value(name.starts_with("15")),
            "{name}"
        );
    }
}

#[test]
fn another_number_of_certificates_is_refused() {
    let cases: [(&str, Change); 5] = [
        ("23 root missing", |g| g.chain.push(|c| drop(c.pop()))),
        ("24 provisioner missing", |g| {
            g.chain.push(|c| drop(c.remove(2)))
        }),
        ("25 leaf missing", |g| g.chain.push(|c| drop(c.remove(0)))),
        ("26 root twice", |g| g.chain.push(|c| c.push(c[4].clone()))),
        ("no certificate", |g| g.chain.push(Vec::clear)),
    ];
    for (name, change) in cases {
        let outcome = forged(|spec| change(&mut spec.gpus[1]));
        assert_eq!(code(&outcome), "rejected_gpu_chain_length", "{name}");
    }
}

/// 24: a certificate between must not be left out, nor the root take its place.
#[test]
fn a_chain_of_five_with_a_gap_is_refused() {
    let outcome = forged(|spec| {
        spec.gpus[1].chain.push(|chain| {
            chain.remove(2);
            chain.push(chain[3].clone());
        });
    });
    assert_eq!(code(&outcome), "rejected_gpu_chain");
    // A device in the leaf's place is a CA, and none that signs evidence.
    let outcome = forged(|spec| {
        spec.gpus[1].chain.push(|chain| {
            chain.remove(0);
            chain.push(chain[3].clone());
        });
    });
    assert_eq!(code(&outcome), "rejected_gpu_chain");
}

/// 29: a certificate of the right key under another name.
#[test]
fn an_issuer_of_another_name_is_refused() {
    let certificates = |spec: &GpuSpec| {
        let payload = serde_json::from_str(&spec.forge(&NONCE).unwrap()).unwrap();
        String::from_utf8(blob(&payload, 1, "certificate")).unwrap()
    };
    let end = "-----END CERTIFICATE-----\n";
    let mut renamed = spec();
    renamed.gpus[1].device.push(|device| {
        device
            .distinguished_name
            .push(DnType::OrganizationName, "Somebody");
    });
    let renamed = certificates(&renamed);
    let device = renamed.split_inclusive(end).nth(1).unwrap().to_owned();
    let outcome = forged(|spec| {
        spec.gpus[1].pem.push(move |pem| {
            let text = String::from_utf8(pem.clone()).unwrap();
            let mut chain: Vec<_> = text.split_inclusive(end).collect();
            chain[1] = &device;
            // The rest is that of this forgery: the provisioner has the same key and name.
            *pem = chain.concat().into_bytes();
        });
    });
    assert_eq!(code(&outcome), "rejected_gpu_chain");
    let said = outcome.unwrap_err().to_string();
    assert!(
        said.contains("the firmware's certificate of GPU 1: it names another issuer"),
        "{said}"
    );
}

#[test]
fn another_pki_is_refused_with_and_without_the_trusted_root() {
    let other = |spec: &mut GpuSpec| spec.pki = GpuPki::other().unwrap();
    assert_eq!(code(&forged(other)), "rejected_gpu_root", "36");
    let outcome = forged(|spec| {
        other(spec);
        for gpu in &mut spec.gpus {
            let root = GpuPki::shared().unwrap().root_der().to_vec();
            gpu.chain.push(move |chain| chain[4] = root.clone());
        }
    });
    assert_eq!(code(&outcome), "rejected_gpu_chain", "37");
}
