//! GPUs of an architecture that this program does not know.
//! Numbers are those of the project's list of GPU tamperings.

use attest::Topology;
use fake_tee::Signer;
use fake_tee::gpu::GpuPki;
use fake_tee::rcgen::{DnType, date_time_ymd};

use super::{Change, code, forged};

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
