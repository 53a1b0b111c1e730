use crate::trust::TrustAnchors;
use fake_tee::{Challenge, Spec};

use super::*;

const NOW: UnixTime = UnixTime(1_795_348_800);

struct Machine {
    anchors: TrustAnchors,
    collateral: Collateral,
    own: ParsedQuote,
    manager: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        let challenge = Challenge {
            nonce: [0x5a; 32],
            spki_sha256: [0xc3; 32],
        };
        let built = Spec::new(NOW.0).unwrap().forge(&challenge).unwrap();
        let manager = built.report["compose_manager_attestation"]["quote"].as_str();
        Self {
            anchors: TrustAnchors::danger_tdx_root(built.tdx_root_der),
            collateral: Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
            own: ParsedQuote::parse(built.quote).unwrap(),
            manager: hex::decode(manager.unwrap()).unwrap(),
        }
    }

    fn manager(&self) -> ParsedQuote {
        ParsedQuote::parse(self.manager.clone()).unwrap()
    }

    fn verify(&self, quote: &ParsedQuote) -> Result<VerifiedQuote, Refusal> {
        verify(quote, &self.collateral, &self.anchors, NOW)
    }

    fn is_known(&self, own: &VerifiedQuote, quote: &ParsedQuote) -> bool {
        *own.inputs == Inputs::of(quote, &self.collateral, &self.anchors, NOW)
            && both_signatures_hold(quote)
    }
}

#[test]
fn the_quick_way_says_what_verifying_says() {
    let machine = Machine::new();
    let own = machine.verify(&machine.own).unwrap();
    let manager = machine.manager();
    assert_ne!(manager.td.report_data, own.td.report_data);
    assert!(machine.is_known(&own, &manager));
    let quick = own.verify_another(&manager, &machine.collateral, &machine.anchors, NOW);
    let slow = machine.verify(&manager).unwrap();
    assert_eq!(format!("{:?}", quick.unwrap()), format!("{slow:?}"));
}

/// No byte of it may change, except in the length of the part after the TD report,
/// which no signature covers and which may count zeros of the padding.
#[test]
fn a_changed_quote_is_not_known() {
    let machine = Machine::new();
    let own = machine.verify(&machine.own).unwrap();
    for index in 0..machine.manager.len() {
        let mut changed = machine.manager.clone();
        changed[index] ^= 1;
        let Ok(quote) = ParsedQuote::parse(changed) else {
            continue;
        };
        if machine.is_known(&own, &quote) {
            let length = quote.quote.signed_length();
            assert!((length..length + 4).contains(&index), "byte {index}");
            let quick = own.verify_another(&quote, &machine.collateral, &machine.anchors, NOW);
            let slow = machine.verify(&quote).unwrap();
            assert_eq!(format!("{:?}", quick.unwrap()), format!("{slow:?}"));
        }
    }
}

/// Of every kind of TD report (Intel DCAP, quote version 5, body types 2 to 4).
#[test]
fn the_report_data_and_nothing_else_is_left_out() {
    let quote = Machine::new().manager;
    let (header, rest) = quote.split_at(48);
    let (td, signed) = rest.split_at(584);
    let left = |kind: u16, report: &[u8]| {
        let size = u32::try_from(report.len()).unwrap().to_le_bytes();
        let parts = [&[5, 0], &header[2..], &kind.to_le_bytes(), &size, report];
        let quote = [&parts.concat(), signed].concat();
        without_report_data(Quote::parse(&quote).unwrap().report)
    };
    for (kind, len) in [(2, 584), (3, 648), (4, 885)] {
        let mut report = [td, &vec![0; len - 584]].concat();
        let before = left(kind, &report);
        for index in 0..len {
            report[index] ^= 1;
            let is_equal = left(kind, &report) == before;
            report[index] ^= 1;
            let is_data = (520..584).contains(&index);
            assert_eq!(is_equal, is_data, "type {kind}, byte {index}");
        }
    }
}

#[test]
fn another_machine_root_time_or_collateral_is_not_known() {
    let (machine, other) = (Machine::new(), Machine::new());
    let own = machine.verify(&machine.own).unwrap();
    assert!(!machine.is_known(&own, &other.manager()));
    assert!(own.inputs.unsigned != unsigned(other.manager().quote));

    let refused = |collateral: &Collateral, anchors: &TrustAnchors, now| {
        let again = own.verify_another(&machine.manager(), collateral, anchors, now);
        again.map(|_| ()).unwrap_err().rejected.code()
    };
    let Machine {
        collateral,
        anchors,
        ..
    } = &machine;
    let day_31 = NOW.plus(31 * 86_400);
    assert_eq!(
        refused(collateral, anchors, day_31),
        "rejected_collateral_expired"
    );
    let intel = TrustAnchors::intel();
    assert_eq!(
        refused(collateral, &intel, NOW),
        "rejected_collateral_untrusted"
    );
    let mut changed = collateral.clone();
    changed.documents.tcb_info_signature[0] ^= 1;
    assert_eq!(
        refused(&changed, anchors, NOW),
        "rejected_collateral_untrusted"
    );
}
