//! Says on the log what may happen often, seldom.
//!
//! How often a request fails, and under which name, is up to clients; how much is logged must
//! not be (threats.md C11). Each line has a subject and a code. It is said at once, then at most
//! once in [`PAUSE`]; what was held back is counted, and the count is said.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// Least time between two lines with one subject and code.
pub const PAUSE: Duration = Duration::from_secs(60);
/// Lines remembered at a time: five codes for each of today's fifty domains. Clients can choose
/// names under an allowed suffix; further ones share a line for each code.
const MAX_LINES: usize = 256;
/// A domain has 253 characters at most, a TLS key 64.
const MAX_SUBJECT: usize = 400;
/// The subject of the lines that further names share.
const OTHERS: &str = "others";

/// What was said a short time ago. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Seldom(Arc<Mutex<HashMap<(String, &'static str), Line>>>);

#[derive(Debug)]
struct Line {
    said: Instant,
    /// How many were held back since.
    held: u64,
}

impl Line {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.said) >= PAUSE
    }

    fn more(&self, now: Instant) -> More {
        More {
            held: self.held,
            over: now.duration_since(self.said),
        }
    }
}

/// How many lines of a kind were held back, and over which time. It prints nothing if there
/// were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct More {
    pub held: u64,
    pub over: Duration,
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held {
            0 => Ok(()),
            held => write!(
                f,
                " ({held} more like it in the last {} s)",
                self.over.as_secs()
            ),
        }
    }
}

/// Lines that were held back, and none like them has been said since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    pub subject: String,
    pub code: &'static str,
    pub more: More,
}

impl Seldom {
    /// Whether to say `code` of `subject` now; if so, what was held back since the last time.
    pub fn may_say(&self, subject: impl fmt::Display, code: &'static str) -> Option<More> {
        let now = Instant::now();
        let mut lines = lock(&self.0);
        let subject = subject.to_string().chars().take(MAX_SUBJECT).collect();
        let mut key = (subject, code);
        if lines.len() >= MAX_LINES && !lines.contains_key(&key) {
            lines.retain(|_, line| !line.is_over(now));
            if lines.len() >= MAX_LINES {
                key.0 = OTHERS.to_owned();
            }
        }
        let fresh = Line { said: now, held: 0 };
        match lines.get_mut(&key) {
            Some(line) if !line.is_over(now) => {
                line.held = line.held.saturating_add(1);
                None
            }
            Some(line) => Some(std::mem::replace(line, fresh).more(now)),
            None => {
                let more = fresh.more(now);
                lines.insert(key, fresh);
                Some(more)
            }
        }
    }

    /// What was held back and is due to be said, since nothing like it came after its pause.
    pub fn held_back(&self) -> Vec<HeldBack> {
        let now = Instant::now();
        let mut lines = lock(&self.0);
        let over = lines.extract_if(|_, line| line.is_over(now));
        let held = over.filter(|(_, line)| line.held > 0);
        held.map(|((subject, code), line)| HeldBack {
            subject,
            code,
            more: line.more(now),
        })
        .collect()
    }

    /// Logs [`Seldom::held_back`]. Call it every few seconds.
    pub fn say_held_back(&self) {
        for HeldBack {
            subject,
            code,
            more: More { held, over },
        } in self.held_back()
        {
            let over = over.as_secs();
            tracing::warn!(subject, code, "{held} more like it in the last {over} s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn wait(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn once_a_pause_then_with_a_count() {
        let seldom = Seldom::default();
        let first = seldom.may_say("one.example", "refused").unwrap();
        assert_eq!((first.held, first.to_string()), (0, String::new()));
        for _ in 0..1_000 {
            assert_eq!(seldom.may_say("one.example", "refused"), None);
        }
        wait(PAUSE - SECOND).await;
        assert_eq!(seldom.may_say("one.example", "refused"), None);
        wait(SECOND * 3).await;
        let again = seldom.may_say("one.example", "refused").unwrap();
        assert_eq!(again.to_string(), " (1001 more like it in the last 62 s)");
        // Counted anew.
        wait(PAUSE).await;
        assert_eq!(seldom.may_say("one.example", "refused").unwrap().held, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_code_or_subject_is_said_at_once() {
        let seldom = Seldom::default();
        for subject in ["one.example", "two.example", "", "others"] {
            for code in ["refused", "unreachable", "withdrawn"] {
                assert_eq!(seldom.may_say(subject, code).unwrap().held, 0);
                assert_eq!(seldom.may_say(subject, code), None, "{subject} {code}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_said_though_nothing_more_happens() {
        let seldom = Seldom::default();
        for code in ["refused", "cut", "cut", "cut"] {
            seldom.may_say("one.example", code);
        }
        assert_eq!(seldom.held_back(), []);
        wait(PAUSE).await;
        let more = More {
            held: 2,
            over: PAUSE,
        };
        let subject = "one.example".to_owned();
        let code = "cut";
        let expected = HeldBack {
            subject,
            code,
            more,
        };
        // "refused" was said once and is complete.
        assert_eq!(seldom.held_back(), [expected]);
        assert_eq!(seldom.held_back(), []);
        assert_eq!(seldom.may_say("one.example", "cut").unwrap().held, 0);
    }

    /// A client that makes up names gets neither memory nor lines without a bound.
    #[tokio::test(start_paused = true)]
    async fn many_names_share_a_line() {
        let seldom = Seldom::default();
        let names = 20_000_u64;
        let mut said = 0;
        for name in 0..names {
            let name = format!("made-up-{name}.example");
            said += u64::from(seldom.may_say(name, "unreachable").is_some());
        }
        assert_eq!(said, MAX_LINES as u64 + 1);
        assert!(lock(&seldom.0).len() <= MAX_LINES + 1);
        // Another code is still said at once, of one name.
        assert!(seldom.may_say("honest.example", "refused").is_some());
        assert!(seldom.may_say("honest.example", "refused").is_none());
        wait(PAUSE).await;
        let held = seldom.held_back();
        let of = |code| held.iter().find(|held| held.code == code).unwrap();
        assert_eq!(of("unreachable").subject, OTHERS);
        assert_eq!(of("unreachable").more.held, names - said);
        assert_eq!(of("refused").more.held, 1);
        // Later there is room again, also if nobody looks for what was held back.
        for name in 0..MAX_LINES {
            assert!(seldom.may_say(name, "late").is_some());
        }
        wait(PAUSE).await;
        assert!(seldom.may_say("honest.example", "late").is_some());
        assert_eq!(lock(&seldom.0).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_subject_is_cut() {
        let seldom = Seldom::default();
        seldom.may_say("é".repeat(1 << 20), "refused");
        seldom.may_say("é".repeat(1 << 20), "refused");
        wait(PAUSE).await;
        let held = seldom.held_back();
        assert_eq!(held[0].subject, "é".repeat(MAX_SUBJECT));
    }

    #[test]
    fn clones_share_what_was_said() {
        let seldom = Seldom::default();
        let clone = seldom.clone();
        assert!(seldom.may_say("one.example", "refused").is_some());
        assert!(clone.may_say("one.example", "refused").is_none());
    }
}
