//! How long failures are reused.

use std::sync::atomic::{AtomicU64, Ordering};

use attest::UnixTime;

use super::*;

fn status(document: Document, status: u16, pause: Option<u64>) -> NrasError {
    NrasError::Status {
        document,
        status,
        pause: pause.map(Duration::from_secs),
    }
}

/// Of two failures the longer pause holds, whichever comes first.
#[test]
fn a_short_pause_ends_no_long_one() {
    let time = Arc::new(AtomicU64::new(1_000));
    let read = Arc::clone(&time);
    let clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    let machine = Spki::of_der(b"a machine");
    for evidence in [false, true] {
        let statuses = if evidence { [500, 502] } else { [429, 503] };
        let long = status(Document::Answer, statuses[0], Some(120));
        let short = status(Document::Answer, statuses[1], None);
        for order in [[&long, &short], [&short, &long]] {
            let mut known = Known::default();
            let begin = time.load(Ordering::SeqCst);
            for error in order {
                known.fail(Some(machine), error, &clock);
            }
            for (after, left_alone) in [(6, true), (119, true), (121, false)] {
                time.store(begin + after, Ordering::SeqCst);
                let failed = known.failed(machine, &clock);
                assert_eq!(failed.is_some(), left_alone, "{order:?} {after}");
            }
            // A failure over one machine's evidence does not stop another's.
            time.store(begin + 6, Ordering::SeqCst);
            let other = known.failed(Spki::of_der(b"another"), &clock);
            assert_eq!(other.is_none(), evidence);
            time.store(begin + 1_000, Ordering::SeqCst);
        }
    }
}

#[test]
fn failing_machines_are_bounded() {
    let clock = Clock::system();
    let mut known = Known::default();
    let error = status(Document::Answer, 500, None);
    for number in 0..2 * MAX_MACHINES {
        known.fail(Some(Spki::of_der(&number.to_be_bytes())), &error, &clock);
    }
    assert_eq!(known.machines.len(), MAX_MACHINES);
    // The key set belongs to no machine.
    known.fail(None, &status(Document::KeySet, 500, None), &clock);
    assert!(known.failed(Spki::of_der(b"any"), &clock).is_some());
}
