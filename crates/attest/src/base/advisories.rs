//! What Intel's advisories mean for a person whose prompts must stay hidden from the
//! host.
//!
//! A level of Intel's TCB info names advisories by number. A person who accepts such a
//! level accepts each of them, and must know what each lets the host do.
//!
//! Every row rests on Intel's own text. A comment that begins with a date and a severity rests on
//! the advisory as Intel publishes it for machines (CSAF). One that begins with a CVE rests on the
//! CVE record that Intel wrote, with the record's date; the advisory may hold more. A comment also
//! gives the attacker that Intel names, and Intel's CVSS base score (3.1 unless it says 4.0) with
//! the impact on confidentiality (C, VC, SC), integrity and availability. Intel's "privileged user
//! with local access" is the host; its "authenticated user" is any user there, another tenant too.
//! "Gain rights" is Intel's "escalation of privilege". That SGX signs the quotes of TDX is of TDX's
//! architecture, not of an advisory. A row says "prompts may be exposed" unless Intel rules that
//! out.
//!
//! An advisory for which no such text was read has no row. No row says that prompts are
//! safe: a flaw whose effect Intel describes as denial of service has no row unless all
//! of Intel's text agrees.

/// What an advisory means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advisory {
    /// Intel's number, as in TCB info.
    pub(crate) id: &'static str,
    /// The part of the platform that has the flaw.
    pub(crate) component: &'static str,
    /// One sentence: what the host may do, and whether that can reach prompts.
    pub(crate) meaning: &'static str,
}

/// What the advisory means, or nothing where this program does not know.
pub(crate) fn explained(id: &str) -> Option<&'static Advisory> {
    ADVISORIES.iter().find(|advisory| advisory.id == id)
}

/// Advisories that a hint explains; a level has eight at most in Intel's documents of
/// 2026, and a document could name any number.
const MAX_EXPLAINED: usize = 16;

/// What each advisory of a level means, as the end of a hint; nothing if there is none.
pub(crate) fn explained_all(ids: &[String]) -> String {
    let mut text = String::new();
    for id in ids.iter().take(MAX_EXPLAINED) {
        match explained(id) {
            Some(Advisory {
                component, meaning, ..
            }) => {
                text.push_str(&format!(" {id} ({component}): {meaning}"));
            }
            None => text.push_str(&format!(
                " {id}: this program does not know what the advisory lets the host do."
            )),
        }
    }
    text
}

/// Those of TCB info for processors that run TDX, in order of their numbers.
const ADVISORIES: &[Advisory] = &[
    Advisory {
        // CVE-2018-3640 (2018-05-21): disclosure to an attacker with local user access.
        id: "INTEL-SA-00115",
        component: "processor",
        meaning: "Speculative execution may let a local user of the host learn processor state by a side channel; prompts may be exposed.",
    },
    Advisory {
        // CVE-2019-0123 (2019-11-14): privileged user, escalation of privilege.
        id: "INTEL-SA-00220",
        component: "SGX",
        meaning: "Weak memory protection may let the host gain rights over SGX, which signs TDX quotes; the attestation may not hold and prompts may be exposed.",
    },
    Advisory {
        // CVE-2018-12127 (2019-05-14): authenticated user, information disclosure.
        id: "INTEL-SA-00233",
        component: "processor",
        meaning: "A side channel of the processor's buffers may let a local user of the host learn data of others; prompts may be exposed.",
    },
    Advisory {
        // CVE-2019-11135 (2019-11): authenticated user, information disclosure.
        id: "INTEL-SA-00270",
        component: "processor",
        meaning: "A side channel of aborted transactions (TSX) may let a local user of the host learn data of others; prompts may be exposed.",
    },
    Advisory {
        // CVE-2020-0543 (2020-06): authenticated user, information disclosure.
        id: "INTEL-SA-00320",
        component: "processor",
        meaning: "Special register reads may leave data behind that a local user of the host can learn; prompts may be exposed.",
    },
    Advisory {
        // CVE-2020-0549 (2020-01-28): authenticated user, information disclosure.
        id: "INTEL-SA-00329",
        component: "processor",
        meaning: "Cache evictions may leave data behind that a local user of the host can learn; prompts may be exposed.",
    },
    Advisory {
        // CVE-2020-8696 (2020-11-12): authenticated user, information disclosure.
        id: "INTEL-SA-00381",
        component: "processor",
        meaning: "The processor may leave data behind that a local user of the host can learn; prompts may be exposed.",
    },
    Advisory {
        // CVE-2020-8695 (2020-11-12): privileged user, information disclosure.
        id: "INTEL-SA-00389",
        component: "processor",
        meaning: "Energy readings (RAPL) may let the host learn secrets that the processor works on; prompts may be exposed.",
    },
    Advisory {
        // CVE-2021-0001 (2021-06-09): authorized user, information disclosure.
        id: "INTEL-SA-00477",
        component: "crypto library",
        meaning: "Timing of Intel's IPP library may let a local user of the host learn secrets that it works on; prompts may be exposed.",
    },
    Advisory {
        // CVE-2022-41804 (2023-08-11): privileged user, escalation, 7.2, C:L I:H A:H.
        id: "INTEL-SA-00837",
        component: "processor",
        meaning: "Injected errors may let the host gain rights over SGX or TDX; Intel rates the risk to integrity high, to secrets low; prompts may be exposed.",
    },
    Advisory {
        // CVE-2023-22655 (2024-03-14): privileged user, escalation, 6.1, C:L I:H.
        id: "INTEL-SA-00960",
        component: "processor",
        meaning: "A failing protection of SGX and TDX may let the host gain rights; Intel rates the risk to integrity high, to secrets low; prompts may be exposed.",
    },
    Advisory {
        // CVE-2023-38575 (2024-03-14): authorized user, information disclosure, 5.5, C:H.
        id: "INTEL-SA-00982",
        component: "processor",
        meaning: "Return predictions shared between programs may let a local user of the host learn data of others; prompts may be exposed.",
    },
    Advisory {
        // CVE-2023-32666 (2024-03-14): privileged user, escalation, 7.2, C:H I:H.
        id: "INTEL-SA-00986",
        component: "processor",
        meaning: "The chip's debug and test interface may let the host gain rights over SGX or TDX; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2024-08-13, medium. CVE-2024-39283: authenticated user, escalation, 6.0, C:H I:H.
        id: "INTEL-SA-01010",
        component: "TDX module",
        meaning: "A filtering flaw may let a user of the host gain rights over the TDX module; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // CVE-2023-45745, CVE-2023-47855 (2024-05-16): privileged user, escalation, 7.9, C:H I:H.
        id: "INTEL-SA-01036",
        component: "TDX module",
        meaning: "Inputs that are not checked may let the host gain rights over the TDX module; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2024-11-12, medium. CVE-2024-21850: privileged user, escalation, 6.0, C:H I:H.
        id: "INTEL-SA-01076",
        component: "TDX loader",
        meaning: "Secrets that the TDX loader leaves behind may let the host gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2024-11-12, high. CVE-2024-21820, CVE-2024-23918: privileged user, escalation, 8.8,
        // C:H I:H A:H.
        id: "INTEL-SA-01079",
        component: "memory controller",
        meaning: "Memory controller settings may let the host gain rights over SGX, which signs TDX quotes; the attestation may not hold and prompts may be exposed.",
    },
    Advisory {
        // 2024-10-08, low. CVE-2024-27457: privileged user, information disclosure, 2.5, C:L.
        id: "INTEL-SA-01099",
        component: "TDX module",
        meaning: "A missing check may let the host learn data that the TDX module protects; Intel rates the risk low; prompts may be exposed.",
    },
    Advisory {
        // 2024-09-10, medium. CVE-2024-23984: privileged user, information disclosure, 5.3, C:H.
        id: "INTEL-SA-01103",
        component: "processor",
        meaning: "Energy readings (RAPL) may let the host learn secrets that the processor works on; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2024-11-12, high. CVE-2024-24985, CVE-2024-22185: privileged user, escalation, 7.2, C:H I:H.
        id: "INTEL-SA-01111",
        component: "memory check (ACTM)",
        meaning: "Flaws of the check for aliased memory may let the host gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, medium. CVE-2024-33607: authenticated user, information disclosure, 5.6, C:H.
        id: "INTEL-SA-01192",
        component: "TDX module",
        meaning: "An out-of-bounds read may let a user of the host learn data of the TDX module; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, medium. CVE-2025-20044: privileged user, escalation, 4.1, C:N I:H.
        id: "INTEL-SA-01245",
        component: "TDX module",
        meaning: "A locking flaw may let the host gain rights over the TDX module and change what it protects; Intel names no reading of secrets, but prompts may be at risk.",
    },
    Advisory {
        // 2025-05-13, medium. CVE-2024-48869: privileged user, escalation, 6.1, C:L I:H.
        id: "INTEL-SA-01268",
        component: "processor",
        meaning: "Controls of the hardware may let the host gain rights over SGX or TDX; Intel rates the risk to integrity high, to secrets low; prompts may be exposed.",
    },
    Advisory {
        // 2025-05-13, high. CVE-2025-20004: privileged user, escalation, 7.2, C:H I:H.
        id: "INTEL-SA-01273",
        component: "memory check (ACTM)",
        meaning: "A flaw of the check for aliased memory may let the host gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-05-13, high. CVE-2025-20100: privileged user, escalation, C:H I:H A:H.
        id: "INTEL-SA-01278",
        component: "memory controller",
        meaning: "Memory controller settings may let the host gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, high. CVE-2025-22889: privileged user, escalation, 7.9, C:H I:H.
        id: "INTEL-SA-01311",
        component: "processor",
        meaning: "Overlapping ranges of protected memory may let the host gain rights over TDX; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, low. CVE-2025-21096, CVE-2025-22853 (privileged user, escalation, I:L),
        // CVE-2025-20613 (authenticated user, information disclosure, 3.3, C:L).
        id: "INTEL-SA-01312",
        component: "TDX module",
        meaning: "Three flaws, one a predictable random seed, may let the host gain rights or its users learn data; Intel rates the risk low; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, high. CVE-2025-24305, CVE-2025-20053 (privileged user, escalation, 7.2,
        // C:H I:H), CVE-2025-21090 (authenticated user, denial of service).
        id: "INTEL-SA-01313",
        component: "processor firmware",
        meaning: "Flaws of the memory check (ACTM) and of SGX, which signs TDX quotes, may let the host gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-02-10, medium. CVE-2025-22885: privileged user, escalation, C:H I:L.
        id: "INTEL-SA-01314",
        component: "TDX module",
        meaning: "A buffer flaw may let the host gain rights over the TDX module; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2025-08-12, high. CVE-2025-32086, CVE-2025-26403: privileged user, escalation, 7.2, C:H I:H.
        id: "INTEL-SA-01367",
        component: "memory subsystem",
        meaning: "Flaws of memory settings and writes may let the host gain rights over SGX or TDX; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, high. CVE-2025-31936: SMM adversary, privileged user, escalation, CVSS 4.0 7.0,
        // VC:H VI:H.
        id: "INTEL-SA-01379",
        component: "processor",
        meaning: "Overlapping ranges of protected memory may let the host's firmware (SMM) gain rights over TDX; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-02-10, high. CVE-2025-30513 (privileged user, escalation, 7.9, C:H I:H),
        // CVE-2025-32467, CVE-2025-27572, CVE-2025-32007, CVE-2025-27940 (information disclosure,
        // C:H), CVE-2025-31944 (denial of service).
        id: "INTEL-SA-01397",
        component: "TDX module",
        meaning: "Six flaws may let the host gain rights over the TDX module or read its data; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, medium. CVE-2025-31938: authenticated user, information disclosure, CVSS 4.0 4.3,
        // SC:H.
        id: "INTEL-SA-01404",
        component: "processor",
        meaning: "Access control that is too coarse may let a user of the host learn data of a processor with TDX; Intel rates the risk to secrets beyond the processor high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, medium. CVE-2025-31356: privileged user, information disclosure, CVSS 4.0 5.6,
        // VC:H VI:L.
        id: "INTEL-SA-01419",
        component: "TDX module",
        meaning: "Data whose origin the TDX module does not verify may let the host learn secrets; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, high. CVE-2025-35973: privileged user, escalation, CVSS 4.0 4.5, VC:L VI:L
        // SC:H SI:H.
        id: "INTEL-SA-01428",
        component: "processor",
        meaning: "Values that the processor mishandles may let the host gain rights; Intel rates the risk to secrets beyond the processor high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, high. CVE-2026-20885 (privileged user, escalation and disclosure, CVSS 4.0 7.0,
        // VC:H VI:H), CVE-2026-20705 (disclosure, VC:H SC:H), CVE-2026-20775 (denial of service).
        id: "INTEL-SA-01436",
        component: "TDX module",
        meaning: "Three flaws may let privileged system software read data of the TDX module or gain rights over it; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, high. CVE-2026-20898: startup code and SMM adversary, privileged user,
        // escalation, CVSS 4.0 8.5, VC:H VI:H SC:H SI:H.
        id: "INTEL-SA-01439",
        component: "memory check (ACTM)",
        meaning: "The check for aliased memory may let the host's firmware (SMM) gain rights; Intel rates the risk to secrets high; prompts may be exposed.",
    },
    Advisory {
        // 2026-08-11, high. CVE-2026-20713 (privileged user, escalation, CVSS 4.0 4.5, SC:H SI:H),
        // CVE-2026-20901 (startup code and SMM adversary, escalation, SI:H).
        id: "INTEL-SA-01442",
        component: "processor firmware",
        meaning: "Two flaws may let the host or its own firmware gain rights; Intel rates the risk to secrets beyond the flawed firmware high; prompts may be exposed.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_in_order_and_distinct() {
        assert!(ADVISORIES.is_sorted_by(|a, b| a.id < b.id));
        for advisory in ADVISORIES {
            let number = advisory.id.strip_prefix("INTEL-SA-").unwrap();
            assert!(number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit()));
            assert_eq!(explained(advisory.id), Some(advisory));
        }
    }

    #[test]
    fn a_meaning_is_one_short_sentence_that_claims_no_more_than_may() {
        for Advisory {
            id,
            component,
            meaning,
        } in ADVISORIES
        {
            for text in [component, meaning] {
                assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{id}");
            }
            assert!((1..=30).contains(&component.len()), "{id}");
            assert!(meaning.len() <= 200, "{id}");
            assert!(meaning.ends_with('.'), "{id}");
            assert_eq!(meaning.matches(". ").count(), 0, "{id}");
            assert!(meaning.contains(" may "), "{id}");
            assert!(meaning.contains("prompts"), "{id}");
        }
    }

    /// The levels of recorded TCB info for a TDX processor that are not its lowest,
    /// and what live machines were refused for.
    #[test]
    fn what_machines_are_refused_for_is_explained() {
        for number in [
            "01036", "01079", "01099", "01103", "01111", "01192", "01245", "01312", "01313",
            "01314", "01397",
        ] {
            let id = format!("INTEL-SA-{number}");
            assert!(explained(&id).is_some(), "{id}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_explained() {
        // The first is of TCB info, and no text of Intel's about it was read.
        for id in [
            "INTEL-SA-00106",
            "INTEL-SA-99999",
            "intel-sa-01036",
            "INTEL-SA-0103",
            "",
        ] {
            assert_eq!(explained(id), None, "{id}");
        }
    }
}
