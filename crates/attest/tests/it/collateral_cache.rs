//! What whoever fetches collateral needs to keep it: text, its end, floors of
//! several processes.

use std::collections::BTreeMap;

use attest::{Collateral, Floor, FloorKey, Floors, Issued, UnixTime};
use fake_tee::Spec;

use crate::support::{DAY, NOW, anchors, challenge, spec};

fn collateral(spec: &Spec) -> Collateral {
    let built = spec.forge(&challenge()).unwrap();
    Collateral::from_json(built.collateral_json.as_bytes()).unwrap()
}

#[test]
fn collateral_comes_back_as_it_was_written() {
    let one = collateral(&spec());
    let again = Collateral::from_json(one.to_json().as_bytes()).unwrap();
    assert_eq!(again, one);
}

#[test]
fn each_document_can_be_the_first_to_end() {
    let end = NOW + DAY;
    type Change = fn(&mut Spec, u64);
    let changes: [(&str, Change); 4] = [
        ("TCB info", |s, end| {
            s.tcb_info.next_update = UnixTime(end).to_string();
        }),
        ("QE identity", |s, end| {
            s.qe_identity.next_update = UnixTime(end).to_string();
        }),
        ("PCK CRL", |s, end| s.crls.pck.next_update = end),
        ("root CRL", |s, end| s.crls.root.next_update = end),
    ];
    for (what, change) in changes {
        let mut spec = spec();
        change(&mut spec, end);
        assert_eq!(
            collateral(&spec).next_update(),
            Some(UnixTime(end)),
            "{what}"
        );
    }
    let mut unreadable = spec();
    unreadable.tcb_info.next_update = "soon".to_owned();
    assert_eq!(collateral(&unreadable).next_update(), None);
}

#[test]
fn each_document_can_be_the_last_to_be_issued() {
    let late = NOW - 1;
    type Change = fn(&mut Spec, u64);
    let changes: [(&str, Change); 4] = [
        ("TCB info", |s, late| {
            s.tcb_info.issue_date = UnixTime(late).to_string();
        }),
        ("QE identity", |s, late| {
            s.qe_identity.issue_date = UnixTime(late).to_string();
        }),
        ("PCK CRL", |s, late| s.crls.pck.this_update = late),
        ("root CRL", |s, late| s.crls.root.this_update = late),
    ];
    let usual = collateral(&spec()).issued().unwrap();
    assert!(usual < UnixTime(late), "{usual}");
    for (what, change) in changes {
        let mut spec = spec();
        change(&mut spec, late);
        assert_eq!(collateral(&spec).issued(), Some(UnixTime(late)), "{what}");
    }
}

fn floor_key() -> FloorKey {
    FloorKey::new(&anchors(), "b0c06f000000".parse().unwrap())
}

fn floors(channel: &str, floor: &str) -> Floors {
    let sha = hex::encode(anchors().tdx_root_sha256());
    let json = format!(r#"{{"{sha}/b0c06f000000{channel}":{floor}}}"#);
    Floors::from_json(json.as_bytes()).unwrap()
}

#[test]
fn merged_floors_are_the_higher_of_both() {
    let with = |tcb_info: u32, qe_identity: u32, date: u64| {
        floors(
            "",
            &format!(
                r#"{{"tcb_info":{tcb_info},"qe_identity":{qe_identity},"pck_crl":1,"root_crl":2,
                "editions":{{"20":{{"tcb_info":{date},"qe_identity":5}}}}}}"#
            ),
        )
    };
    let mut one = with(20, 17, 7);
    assert!(one.merge(&with(19, 18, 7)), "the QE identity's rises");
    assert!(one.merge(&with(19, 18, 8)), "the TCB info's date rises");
    assert!(!one.merge(&with(20, 1, 2)), "nothing rises");
    let issued = Issued {
        tcb_info: UnixTime(8),
        qe_identity: UnixTime(5),
    };
    let expected = Floor {
        tcb_info: 20,
        qe_identity: 18,
        pck_crl: UnixTime(1),
        root_crl: UnixTime(2),
        editions: BTreeMap::from([(20, issued)]),
    };
    assert_eq!(one.get(&floor_key()), Some(&expected));
    let mut empty = Floors::default();
    assert!(empty.merge(&one) && empty == one);
}

/// Before editions were kept by what came, they were by what was asked.
#[test]
fn floors_of_the_layout_before_do_not_sink() {
    let before = r#"{"tcb_info":20,"qe_identity":19,"pck_crl":1,"root_crl":2}"#;
    let expected = Floor {
        tcb_info: 20,
        qe_identity: 19,
        pck_crl: UnixTime(1),
        root_crl: UnixTime(2),
        editions: BTreeMap::new(),
    };
    let read = floors("/standard", before);
    assert_eq!(read.get(&floor_key()), Some(&expected));
    // Early editions never were a floor of standard ones.
    let expected = Floor {
        tcb_info: 0,
        qe_identity: 0,
        ..expected
    };
    let read = floors("/early", before);
    assert_eq!(read.get(&floor_key()), Some(&expected));
    let sha = hex::encode(anchors().tdx_root_sha256());
    for key in ["/other", "/standard/", "/standard/20"] {
        let json = format!(r#"{{"{sha}/b0c06f000000{key}":{before}}}"#);
        let error = Floors::from_json(json.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains("is not a floor's key"),
            "{key}: {error}"
        );
    }
}
