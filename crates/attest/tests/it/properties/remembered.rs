//! What is kept: floors and records.

use std::sync::OnceLock;

use attest::{
    Attested, Collateral, Evidence, FloorCheck, FloorKey, Floors, PolicyDigest, RecallError,
    Record, Spki, UnixTime,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{base_evidence, collateral, judge_evidence};
use crate::support::{
    DOMAIN, LIVE, NOW, anchors, cases, challenge, code, editions,
    policy_of_the_machine_alone as policy, spec,
};

const TTL: u64 = 3600;

/// Floors as a file may hold them, of this layout and the one before.
fn floors_json() -> impl Strategy<Value = Value> {
    let numbers = (0..300_u32, 0..300_u32, 0..300_u32, 0..300_u32);
    let key = (any::<[u8; 32]>(), any::<[u8; 6]>(), 0..3_usize);
    prop::collection::vec((key, numbers), 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .map(
                |((root, fmspc, layout), (tcb_info, qe_identity, pck_crl, root_crl))| {
                    let kind = ["", "/standard", "/early"][layout];
                    let key = format!("{}/{}{kind}", hex::encode(root), hex::encode(fmspc));
                    let mut floor = json!({
                        "tcb_info": tcb_info, "qe_identity": qe_identity,
                        "pck_crl": pck_crl, "root_crl": root_crl,
                    });
                    if layout == 0 {
                        let issued = json!({"tcb_info": root_crl, "qe_identity": pck_crl});
                        floor["editions"] = json!({ tcb_info.to_string(): issued });
                    }
                    (key, floor)
                },
            )
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

/// Days before now, so that each step is past the slack of a week.
fn step(number: u32) -> u64 {
    NOW - 86_400 * u64::from(8 * (4 - number))
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn floors_survive_a_file_and_never_sink(
        file in floors_json(),
        // Edition; then steps of TCB info, QE identity and revocation lists; list had?
        seen in prop::collection::vec((18..23_u32, [1..4_u32, 1..4_u32, 1..4_u32, 1..4_u32], any::<bool>()), 1..6),
    ) {
        let mut floors = Floors::from_json(file.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&Floors::from_json(floors.to_json().as_bytes()).unwrap(), &floors);
        let mut oldest = 0;
        let mut issued = std::collections::BTreeMap::<u32, [u32; 2]>::new();
        let mut lists = [0; 2];
        for (edition, steps, listed) in seen {
            let mut spec = spec();
            spec.tcb_info.tcb_evaluation_data_number = edition;
            spec.qe_identity.tcb_evaluation_data_number = edition;
            spec.tcb_info.set_validity(step(steps[0]), NOW + 86_400);
            spec.qe_identity.set_validity(step(steps[1]), NOW + 86_400);
            spec.crls.pck.this_update = step(steps[2]);
            spec.crls.root.this_update = step(steps[3]);
            let built = spec.forge(&challenge()).unwrap();
            let evidence = Evidence::parse(&built.report_bytes).unwrap();
            let collateral = Collateral::from_json(built.collateral_json.as_bytes()).unwrap();
            let list = listed.then(|| editions(&built));
            let kept = FloorCheck::Kept { floors: &floors, editions: list.as_ref() };
            let appraisal = judge_evidence(&evidence, &collateral, kept);
            if listed {
                oldest = 20;
            }
            let known = issued.entry(edition).or_default();
            let sinks = edition < oldest
                || steps[0] < known[0] || steps[1] < known[1] || steps[2] < lists[0] || steps[3] < lists[1];
            prop_assert_eq!(code(&appraisal), if sinks { "rejected_collateral_rollback" } else { "verified" });
            let before = floors.clone();
            let changed = floors.raise(&appraisal.floor_seen.unwrap());
            prop_assert_eq!(changed, floors != before);
            *known = [known[0].max(steps[0]), known[1].max(steps[1])];
            lists = [lists[0].max(steps[2]), lists[1].max(steps[3])];
            let key = FloorKey::new(&anchors(), evidence.collateral_key().unwrap().fmspc);
            let floor = floors.get(&key).unwrap();
            prop_assert_eq!([floor.tcb_info, floor.qe_identity], [oldest; 2]);
            prop_assert_eq!([floor.pck_crl, floor.root_crl], lists.map(|number| UnixTime(step(number))));
            let dates = floor.editions[&edition];
            prop_assert_eq!([dates.tcb_info, dates.qe_identity], known.map(|number| UnixTime(step(number))));
            let read = Floors::from_json(floors.to_json().as_bytes()).unwrap();
            prop_assert_eq!(&read, &floors);
        }
    }
}

fn attested() -> &'static Attested {
    static ATTESTED: OnceLock<Attested> = OnceLock::new();
    ATTESTED.get_or_init(|| {
        let appraisal =
            judge_evidence(base_evidence(), collateral(), FloorCheck::NotKept("a test"));
        appraisal.outcome.unwrap()
    })
}

fn record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| attested().record(UnixTime(NOW), TTL).unwrap())
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_record_stands_for_its_own_domain_key_policy_and_time_only(
        domain in prop_oneof![Just(DOMAIN.to_owned()), "[a-z]{1,5}\\.near\\.ai", Just(format!("a{DOMAIN}"))],
        key_bit in prop::option::of(0..256_usize),
        policy_bit in prop::option::of(0..256_usize),
        now in prop_oneof![
            Just(NOW), Just(NOW - 1), Just(NOW + TTL - 1), Just(NOW + TTL), NOW - 9..NOW + TTL + 9, any::<u64>(),
        ],
    ) {
        let flip = |bytes: &[u8; 32], bit: Option<usize>| {
            let mut bytes = *bytes;
            if let Some(bit) = bit {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes
        };
        let key = Spki::from_bytes(flip(&LIVE, key_bit));
        let digest = PolicyDigest::from_bytes(flip(policy().digest().as_bytes(), policy_bit));
        let expected = if domain != DOMAIN {
            Err(RecallError::OtherDomain)
        } else if key_bit.is_some() {
            Err(RecallError::OtherKey)
        } else if policy_bit.is_some() {
            Err(RecallError::OtherPolicy)
        } else if now < NOW {
            Err(RecallError::ClockWentBack)
        } else if now >= NOW + TTL {
            Err(RecallError::Expired)
        } else {
            Ok(UnixTime(NOW + TTL))
        };
        let recalled = record().recall(&domain.parse().unwrap(), key, digest, UnixTime(now));
        prop_assert_eq!(recalled.map(|attested| attested.valid_until()), expected);
    }

    #[test]
    fn a_record_never_outlives_its_proof(made in any::<u64>(), ttl in any::<u64>()) {
        let attested = attested();
        let record = attested.record(UnixTime(made), ttl).unwrap();
        prop_assert!(record.valid_until() <= attested.valid_until());
        prop_assert!(record.valid_until() <= UnixTime(made.saturating_add(ttl)));
    }
}
