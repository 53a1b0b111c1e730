//! The platform, and Intel's documents about it.

use super::Member;
use crate::support::NOW;

pub(super) const PAIRS: &[(Member, Member)] = &[
    (
        (
            "SWHardeningNeeded",
            |s| {
                s.tcb_info
                    .set_platform_status("SWHardeningNeeded", &["FAKE-SA-00001"]);
            },
            "tagged",
        ),
        (
            "a machine that lacks Intel's updates",
            |s| {
                s.tcb_info
                    .set_platform_status("OutOfDate", &["FAKE-SA-00001"]);
            },
            "rejected_tcb_platform machine",
        ),
    ),
    (
        ("a newer TDX module", |s| s.td.tee_tcb_svn[0] += 1, "tagged"),
        (
            "a TDX module whose keys are compromised",
            |s| s.tcb_info.set_module_status("Revoked", &[]),
            "rejected_tcb_module machine",
        ),
    ),
    (
        (
            "a platform that is not dynamic",
            |s| s.platform.dynamic_platform = false,
            "tagged",
        ),
        (
            "a quoting enclave that lacks updates",
            |s| s.qe_identity.set_status("OutOfDate", &["FAKE-SA-1"]),
            "rejected_tcb_qe machine",
        ),
    ),
    (
        (
            "Intel's next edition",
            |s| {
                s.tcb_info.tcb_evaluation_data_number += 1;
                s.qe_identity.tcb_evaluation_data_number += 1;
            },
            "tagged",
        ),
        (
            "an edition of a year ago, freshly signed",
            |s| {
                s.tcb_info.tcb_evaluation_data_number = 18;
                s.qe_identity.tcb_evaluation_data_number = 18;
            },
            "rejected_tcb_evaluation collateral",
        ),
    ),
    (
        (
            "documents four minutes ahead of our clock",
            |s| s.tcb_info.set_validity(NOW + 240, NOW + 2_000_000),
            "tagged",
        ),
        (
            "documents that ran out",
            |s| s.tcb_info.set_validity(NOW - 4_000_000, NOW - 1),
            "rejected_collateral_expired collateral",
        ),
    ),
    (
        (
            "another platform",
            |s| s.platform.ppid = [0x42; 16],
            "tagged",
        ),
        (
            "a machine that its host can debug",
            |s| s.td.td_attributes[0] = 1,
            "rejected_td_debug machine",
        ),
    ),
];
