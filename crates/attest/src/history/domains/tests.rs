//! What is remembered for how long, and how much of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on should stop"
)]

use super::super::History;
use super::*;
use crate::base::finding::Severity;

const DAY: u64 = DAY_SECONDS;

fn domain(number: usize) -> Domain {
    format!("m{number}.completions.near.ai").parse().unwrap()
}

fn of_image(image: &str) -> State {
    State {
        levels: Levels::LEAST,
        deployment_is_open: false,
        image: Some(image.to_owned()),
        kms_root: None,
        signing_key: "ed25519:00".to_owned(),
    }
}

fn remark(detail: &str) -> Finding {
    Finding::new(Severity::Warning, "app_script", detail.to_owned())
}

/// Remembers one verdict, and says what it changed and how many remarks were new.
fn step(domains: &mut Domains, image: &str, remarks: &[&str], day: u64) -> (usize, usize) {
    let compared = judged(domains, false, image, remarks, day);
    (compared.changes.len(), compared.new_remarks)
}

fn judged(domains: &mut Domains, held: bool, image: &str, remarks: &[&str], day: u64) -> Compared {
    let remarks: Vec<_> = remarks.iter().map(|detail| remark(detail)).collect();
    let (state, now) = (of_image(image), UnixTime(day * DAY + 7));
    let compared = domains.compare(&domain(0), &state, held, remarks.iter(), now);
    let seen = DomainSeen::new(&domain(0), state, held, remarks.iter(), now);
    domains.remember(&seen);
    compared
}

#[test]
fn a_remark_is_new_for_a_week() {
    let mut domains = Domains::default();
    let mut step = |remarks: &[&str], day| step(&mut domains, "i-1", remarks, day);
    assert_eq!(step(&["a"], 100), (0, 1));
    assert_eq!(step(&["a"], 106), (0, 1));
    assert_eq!(step(&["a", "b"], 107), (1, 1));
    assert_eq!(step(&["a", "b"], 113), (0, 1));
    assert_eq!(step(&["a", "b"], 114), (0, 0));
    // A clock that goes back makes nothing new.
    assert_eq!(step(&["b"], 50), (0, 1));
    // Not seen for long, it is new again.
    assert_eq!(step(&["b"], 205), (0, 0));
    assert_eq!(step(&["a", "b"], 206), (1, 1));
}

/// Back to an image that none of the domain's machines had for a month.
#[test]
fn a_return_is_a_change_after_a_month() {
    let mut domains = Domains::default();
    let mut step = |image: &str, day| step(&mut domains, image, &[], day).0;
    assert_eq!(step("i-0.5.5", 100), 0);
    assert_eq!(step("i-0.5.11", 110), 1);
    assert_eq!(step("i-0.5.5", 130), 0);
    assert_eq!(step("i-0.5.11", 160), 0);
    assert_eq!(step("i-0.5.5", 161), 0);
    assert_eq!(step("i-0.5.11", 192), 0);
    assert_eq!(step("i-0.5.5", 192), 1);
    // However long the proxy is not used, the newest state counts.
    assert_eq!(step("i-0.5.5", 9_000), 0);
    assert_eq!(step("i-0.5.4", 9_001), 1);
}

#[test]
fn versions_are_compared_as_numbers_within_a_family() {
    assert!(version("dstack-nvidia-0.5.5") < version("dstack-nvidia-0.5.11"));
    for none in ["dstack", "dstack-nvidia", "a-0.5.x", "a-", ""] {
        assert_eq!(version(none), None, "{none}");
    }
}

/// What another policy let pass is no measure for one that holds, however often and long.
#[test]
fn who_holds_compares_with_what_was_held() {
    let mut domains = Domains::default();
    let mut step = |held, image: &str, day| {
        let compared = judged(&mut domains, held, image, &[], day);
        let down = compared.changes.iter().filter(|change| change.down);
        (compared.is_first, down.count())
    };
    assert_eq!(step(false, "i-9", 100), (true, 0));
    assert_eq!(step(true, "i-9", 100), (true, 0));
    for at in 0..40 {
        assert!(!step(false, "i-8", 100 + at).0);
        assert!(!step(false, &format!("j-{at}"), 100 + at).0);
    }
    let mut held = domains.clone();
    assert_eq!(judged(&mut held, true, "i-9", &[], 140).changes, []);
    let down = judged(&mut held, true, "i-8", &[], 140);
    assert!(!down.is_first && down.changes.iter().any(|change| change.down));
}

/// The last of many states of one day is kept, so that what was accepted is.
#[test]
fn the_last_state_is_kept() {
    let mut domains = Domains::default();
    for at in 0..MAX_STATES + 3 {
        judged(&mut domains, true, &format!("i-{at}"), &[], 100);
        let again = judged(&mut domains, true, &format!("i-{at}"), &[], 100);
        assert_eq!(again.changes, [], "{at}");
    }
}

/// A hundred names more do not make the proxy forget one that is in use.
#[test]
fn a_domain_in_use_is_not_pushed_out() {
    let mut domains = Domains::default();
    let mut see = |number: usize, day: u64| {
        let now = UnixTime(day * DAY);
        let none = std::iter::empty();
        domains.remember(&DomainSeen::new(
            &domain(number),
            of_image("i-1"),
            true,
            none,
            now,
        ))
    };
    for number in 0..MAX_DOMAINS {
        assert!(see(number, 100));
    }
    assert!(!see(MAX_DOMAINS, 130));
    assert!(see(MAX_DOMAINS, 131));
}

/// What a hostile operator can add is bounded, on disk too.
#[test]
fn memory_is_bounded_and_reads_back() {
    let mut history = History::default();
    let mut see = |number: usize, image: usize| {
        let state = State {
            image: Some(format!("{}-{image}", "i".repeat(200))),
            kms_root: Some("ab".repeat(91)),
            ..of_image("")
        };
        let remarks: Vec<_> = (0..40).map(|at| remark(&format!("{image} {at}"))).collect();
        let now = UnixTime(number as u64 * DAY);
        let seen = DomainSeen::new(&domain(number), state, false, remarks.iter(), now);
        assert!(history.domains.remember(&seen));
        assert!(!history.domains.remember(&seen));
    };
    for number in 0..MAX_DOMAINS {
        see(number, 0);
    }
    for image in 1..MAX_STATES + 5 {
        see(MAX_DOMAINS - 1, image);
    }
    let known = &history.domains.0;
    assert_eq!(known.len(), MAX_DOMAINS);
    let full = &known[domain(MAX_DOMAINS - 1).as_str()];
    assert_eq!(
        (full.states.len(), full.remarks.len()),
        (MAX_STATES, MAX_REMARKS)
    );
    let size = serde_json::to_string(full).unwrap().len();
    assert!(size * MAX_DOMAINS < 5 << 20, "{size}");
    let text = history.to_json();
    assert_eq!(History::from_json(text.as_bytes()), Ok(history));
}
