//! Tamperings that are signed afterwards with the right keys: what no signature
//! catches. Numbers are those of the project's list of GPU tamperings.

use std::sync::Arc;

use attest::{Architecture, Severity, Stated, Topology};
use fake_tee::Signer;
use fake_tee::gpu::{Gpu, GpuKeys, GpuPki, GpuSpec, field};
use fake_tee::rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use serde_json::json;

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
            // The last field's size: four bytes before its 32 bytes of data.
            let at = bytes.len() - 34;
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
    assert_eq!(switches.len(), 2);
    for gpu in report.gpus() {
        assert_eq!(gpu.architecture, Architecture::Hopper);
        assert_eq!(gpu.reported_fwid, Stated::Value(gpu.fwid));
        assert_eq!(gpu.measurements.len(), 64);
        assert_eq!(gpu.driver_rim_id(), "NV_GPU_DRIVER_GH100_570.172.08");
    }
}

/// A GPU that was exchanged has another VBIOS; each is attested alone.
#[test]
fn other_versions_are_a_finding() {
    let findings = |change: fn(&mut GpuSpec)| {
        let report = forged(change).unwrap();
        assert_eq!(report.gpus().len(), 3);
        let said = report.findings().iter();
        said.map(|finding| {
            assert_eq!(finding.topic, "gpu_versions_differ");
            (finding.severity, finding.detail.clone())
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(findings(|_| {}), []);
    let vbios = findings(|spec| {
        spec.gpus[1]
            .message
            .push(|m| m.field(field::VBIOS)[3] = 0x95);
    });
    let expected = "the GPUs have not one VBIOS: 95.00.CF.00.02 (1), 96.00.CF.00.02 (2)";
    assert_eq!(vbios, [(Severity::Notice, expected.to_owned())]);
    let driver = findings(|spec| {
        spec.gpus[0]
            .message
            .push(|m| *m.field(field::DRIVER) = b"570.172.09\0".to_vec());
    });
    let expected = "the GPUs have not one driver: 570.172.08 (2), 570.172.09 (1)";
    assert_eq!(driver, [(Severity::Warning, expected.to_owned())]);
    // All of them alike: nothing differs.
    let all = |spec: &mut GpuSpec| {
        for gpu in &mut spec.gpus {
            gpu.message.push(|m| m.field(field::VBIOS)[3] = 0x95);
        }
    };
    assert_eq!(findings(all), []);
}

/// What one GPU does not state contradicts no other; two values do.
#[test]
fn only_what_is_stated_is_compared() {
    let modes = |modes: [Option<u8>; 3]| {
        forged(|spec| {
            for (gpu, mode) in spec.gpus.iter_mut().zip(modes) {
                if let Some(mode) = mode {
                    gpu.message
                        .push(move |m| m.fields.push((field::FEATURE, vec![mode, 0])));
                }
            }
        })
    };
    assert_eq!(code(&modes([None, Some(2), None])), "verified");
    assert_eq!(code(&modes([Some(2); 3])), "verified");
    let rejected = modes([None, Some(2), Some(1)]).unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_topology");
    let said = "the driver's mode of GPU 2: 1; of GPU 1: 2";
    assert_eq!(rejected.to_string(), said);

    let without = |kind: u16| {
        forged(|spec| {
            spec.gpus[0]
                .message
                .push(move |m| m.fields.retain(|(other, _)| *other != kind));
        })
        .unwrap()
    };
    let older = Topology::NotCompared("this driver does not report it");
    assert_eq!(*without(field::SWITCHES).topology(), older);
    assert_eq!(without(field::SWITCHES).switches().len(), 2);
    let report = without(field::PROTECTED_PCIE);
    assert!(matches!(report.topology(), Topology::SameSwitches(_)));
}

/// Newer than this program, under the trusted root: nothing of its evidence counts
/// for or against anybody. That its device issued the leaf is looked at all the same.
#[test]
fn a_gpu_of_an_unknown_architecture_is_not_understood() {
    let cases: [(&str, Change); 5] = [
        ("a newer GPU", |g| g.chip = "GB100".to_owned()),
        ("30 device name", |g| {
            g.device.push(|device| {
                device
                    .distinguished_name
                    .push(DnType::CommonName, "GB100 A01 GSP BROM");
            })
        }),
        ("another layout of its certificate", |g| {
            g.chip = "GB100".to_owned();
            g.leaf.push(|leaf| leaf.custom_extensions.clear());
        }),
        ("another layout of its evidence", |g| {
            g.chip = "GB100".to_owned();
            g.evidence.push(|bytes| *bytes = b"SPDM 2.0".to_vec());
        }),
        ("another kind of device", |g| {
            g.chip = "GR100".to_owned();
            g.kind = 0x40;
        }),
    ];
    for (name, change) in cases {
        let report = forged(|spec| change(&mut spec.gpus[1])).expect(name);
        assert_eq!(report.gpus().len(), 2, "{name}");
        let [unknown] = report.not_understood() else {
            panic!("{name}: {report:?}");
        };
        assert_eq!(unknown.gpu, 1, "{name}");
        assert!(["\"GB100\"", "\"GR100\""].contains(&&*unknown.chip));
        let reason = "not every GPU is understood";
        assert_eq!(*report.topology(), Topology::NotCompared(reason), "{name}");
        let report = forged(|spec| spec.gpus.iter_mut().for_each(change)).expect(name);
        assert_eq!((report.gpus().len(), report.not_understood().len()), (0, 3));
    }
    // What nobody under the root has signed earns no such word.
    let cases: [(&str, &str, Change); 5] = [
        ("a stranger's leaf", "rejected_gpu_chain", |g| {
            g.leaf_signer = Signer::Stranger
        }),
        ("a leaf that is no certificate", "rejected_gpu_chain", |g| {
            g.chain.push(|chain| chain[0] = vec![0x30, 0])
        }),
        ("an expired leaf", "rejected_gpu_chain", |g| {
            g.leaf
                .push(|leaf| leaf.not_after = date_time_ymd(2026, 11, 21))
        }),
        ("an expired device", "rejected_gpu_chain", |g| {
            g.device
                .push(|device| device.not_after = date_time_ymd(2026, 11, 21))
        }),
        ("no root", "rejected_gpu_chain_length", |g| {
            g.chain.push(|c| drop(c.pop()))
        }),
    ];
    for (name, expected, change) in cases {
        let outcome = forged(|spec| {
            spec.gpus[1].chip = "GB100".to_owned();
            change(&mut spec.gpus[1]);
        });
        assert_eq!(code(&outcome), expected, "{name}");
    }
    let outcome = forged(|spec| {
        spec.pki = GpuPki::other().unwrap();
        spec.gpus[1].chip = "GB100".to_owned();
    });
    assert_eq!(code(&outcome), "rejected_gpu_root");
    // A GPU twice beside it refuses, by its place in the list; so does a forged one.
    let outcome = forged(|spec| {
        spec.gpus[0].chip = "GB100".to_owned();
        spec.gpus[2] = spec.gpus[1].clone();
    });
    assert_eq!(outcome.unwrap_err().to_string(), "GPU 2 is GPU 1 again");
    let outcome = forged(|spec| {
        spec.gpus[0].chip = "GB100".to_owned();
        spec.gpus[1].leaf_signer = Signer::Stranger;
    });
    assert_eq!(code(&outcome), "rejected_gpu_chain");
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

#[test]
fn fewer_gpus_are_counted_and_none_is_refused() {
    // 39: how many there should be is a policy's matter.
    assert_eq!(
        forged(|spec| spec.gpus.truncate(2)).unwrap().gpus().len(),
        2
    );
    let one = forged(|spec| spec.gpus.truncate(1)).unwrap();
    assert_eq!(*one.topology(), Topology::NotCompared("there is one GPU"));
    assert_eq!(
        code(&forged(|spec| spec.gpus.clear())),
        "rejected_gpu_missing"
    );
}

#[test]
fn a_device_counts_once_whatever_its_firmware_key() {
    let twice = |change: fn(&mut Gpu)| {
        let outcome = forged(|spec| {
            let mut again = spec.gpus[0].clone();
            change(&mut again);
            spec.gpus.push(again);
        });
        code(&outcome)
    };
    assert_eq!(twice(|_| {}), "rejected_gpu_duplicate", "40");
    assert_eq!(
        twice(|gpu| gpu.keys = Arc::new(GpuKeys::generate().unwrap())),
        "rejected_gpu_duplicate",
        "another key"
    );
    assert_eq!(
        twice(|gpu| gpu.pdi[0] ^= 1),
        "rejected_gpu_duplicate",
        "another number"
    );
}

#[test]
fn a_gpu_of_another_machine_is_refused_and_another_machine_is_not() {
    let elsewhere = |gpu: &mut Gpu| {
        gpu.message.push(|m| {
            for byte in m.field(field::SWITCHES).iter_mut().take(24) {
                *byte ^= 0xff;
            }
        });
    };
    let outcome = forged(|spec| elsewhere(&mut spec.gpus[2]));
    assert_eq!(code(&outcome), "rejected_gpu_topology", "48");
    let outcome = forged(|spec| spec.gpus.iter_mut().for_each(elsewhere));
    assert_eq!(code(&outcome), "verified", "49");
    let outcome = forged(|spec| spec.gpus.reverse());
    assert_eq!(code(&outcome), "verified", "42");
}

/// Old drivers do not name their firmware: that is said, and is no pass.
#[test]
fn what_a_driver_does_not_report_is_absent_with_a_reason() {
    let without = |kind: u16| {
        forged(|spec| {
            for gpu in &mut spec.gpus {
                gpu.message
                    .push(move |m| m.fields.retain(|(other, _)| *other != kind));
            }
        })
        .unwrap()
    };
    let older = "this driver does not report it";
    assert_eq!(
        without(field::FWID).gpus()[0].reported_fwid,
        Stated::Absent(older)
    );
    assert_eq!(
        *without(field::SWITCHES).topology(),
        Topology::NotCompared(older)
    );
    assert_eq!(
        without(field::PROJECT).gpus()[0].vbios_rim_id(),
        Stated::Absent("the GPU does not name its board")
    );
    let unconnected = forged(|spec| {
        for gpu in &mut spec.gpus {
            gpu.message.push(|m| m.field(field::SWITCHES).fill(0));
        }
    });
    assert_eq!(
        *unconnected.unwrap().topology(),
        Topology::NotCompared("the GPUs name no switch")
    );
}

#[test]
fn the_payload_must_agree_with_what_was_signed() {
    type Edit = fn(&mut serde_json::Value);
    let cases: [(&str, &str, Edit); 6] = [
        ("43 nonce", "rejected_gpu_payload_nonce", |p| {
            p["nonce"] = json!("00".repeat(32))
        }),
        ("43 nonce in capitals", "rejected_gpu_payload_nonce", |p| {
            p["nonce"] = json!(p["nonce"].as_str().unwrap().to_uppercase())
        }),
        ("43 item nonce", "rejected_gpu_payload_nonce", |p| {
            p["evidence_list"][1]["nonce"] = json!("00".repeat(32))
        }),
        ("43 no nonce", "evidence_gpu_payload", |p| {
            drop(p.as_object_mut().unwrap().remove("nonce"))
        }),
        ("44 arch is no text", "evidence_gpu_payload", |p| {
            p["arch"] = json!(["HOPPER"])
        }),
        ("a field of a newer tool", "verified", |p| {
            p["claims_version"] = json!("3.0")
        }),
    ];
    for (name, expected, change) in cases {
        let outcome = forged(|spec| spec.payload.push(change));
        assert_eq!(code(&outcome), expected, "{name}: {outcome:?}");
    }
}

/// What the JSON calls the architecture is signed by nobody: a finding, if it differs.
#[test]
fn the_payloads_word_for_the_architecture_is_a_copy() {
    type Edit = fn(&mut serde_json::Value);
    let certified = "the certificate says HOPPER";
    let cases: [(Edit, Option<&str>); 6] = [
        (|_| {}, None),
        (
            |p| p["arch"] = json!("BLACKWELL"),
            Some("nvidia_payload is \"BLACKWELL\""),
        ),
        (
            |p| p["evidence_list"][1]["arch"] = json!("LS10\u{1b}[2J"),
            Some("a GPU of nvidia_payload is \"LS10\\\\u{1b}[2J\""),
        ),
        (
            |p| p["evidence_list"][1]["arch"] = json!(""),
            Some("a GPU of nvidia_payload is \"\""),
        ),
        (|p| drop(p.as_object_mut().unwrap().remove("arch")), None),
        (
            |p| {
                drop(
                    p["evidence_list"][2]
                        .as_object_mut()
                        .unwrap()
                        .remove("arch"),
                )
            },
            None,
        ),
    ];
    for (change, expected) in cases {
        let report = forged(|spec| spec.payload.push(change)).unwrap();
        let said: Vec<_> = report
            .findings()
            .iter()
            .map(|finding| {
                assert_eq!(finding.topic, "gpu_copies_differ");
                finding.detail.clone()
            })
            .collect();
        let expected = expected.map(|said| format!("arch of {said}, {certified}"));
        assert_eq!(said, expected.into_iter().collect::<Vec<_>>());
    }
}
