//! How far this machine's clock seems to be off, by the `Date` of public servers' answers.
//!
//! Only a hint for people: no proof depends on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use attest::UnixTime;
use http::{HeaderMap, header};

use crate::clock::Clock;
use crate::lock::lock;

/// Servers are set by NTP and answers come within seconds. A smaller difference tells nothing.
const NOTABLE: u64 = 60;
/// Sources are named on the command line, a few of them.
const MAX_SOURCES: usize = 64;

/// How far this machine's clock is ahead of another, in seconds; negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skew(i64);

impl Skew {
    /// The skew of a clock that shows `here` while another shows `there`.
    pub fn between(here: UnixTime, there: UnixTime) -> Self {
        let seconds = |time: UnixTime| i64::try_from(time.0).unwrap_or(i64::MAX);
        Self(seconds(here).saturating_sub(seconds(there)))
    }

    /// True if networks and rounding do not explain it.
    pub fn is_notable(self) -> bool {
        self.size() > NOTABLE
    }

    /// In seconds, without its sign.
    pub fn size(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// What the other clock shows when this machine's clock shows `here`.
    pub fn corrected(self, here: UnixTime) -> UnixTime {
        UnixTime(here.0.saturating_add_signed(self.0.saturating_neg()))
    }
}

/// For example `about 3 h behind`.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let size = self.size();
        let (number, unit) = match size {
            0..=119 => (size, "s"),
            120..=7_199 => ((size + MINUTE / 2) / MINUTE, "min"),
            7_200..=172_799 => ((size + HOUR / 2) / HOUR, "h"),
            _ => ((size.saturating_add(DAY / 2)) / DAY, "days"),
        };
        let direction = if self.0 < 0 { "behind" } else { "ahead" };
        write!(f, "about {number} {unit} {direction}")
    }
}

/// What each source's newest answer says of the time, by its host and port.
///
/// The difference between two clocks is true until one of them is set. So the source's time is
/// kept, and what has passed since by a clock that nobody sets.
#[derive(Debug)]
pub struct Dates {
    clock: Clock,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// A source's time at a moment of [`Clock::uptime`].
#[derive(Debug, Clone, Copy)]
struct Seen {
    there: UnixTime,
    at: Duration,
}

impl Dates {
    /// No source has stated the time to a machine with this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            seen: Mutex::default(),
        }
    }

    /// Notes an answer that has just come. A cache keeps the `Date` of the origin and adds its
    /// `Age` (RFC 9111 §4.2.3).
    pub fn saw(&self, source: String, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(date) = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok())
        else {
            return;
        };
        let age = text(header::AGE).and_then(|age| age.trim().parse().ok());
        let since = date.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seen = Seen {
            there: UnixTime(since.as_secs()).plus(age.unwrap_or(0)),
            at: self.clock.uptime(),
        };
        let mut all = lock(&self.seen);
        if all.len() < MAX_SOURCES || all.contains_key(&source) {
            all.insert(source, seen);
        }
    }

    /// The sources that stated the time.
    pub fn sources(&self) -> Vec<String> {
        lock(&self.seen).keys().cloned().collect()
    }

    /// The smallest skew of all sources. If this machine's clock is off, every source shows it;
    /// a single source whose own clock is off is outvoted by one that is right.
    pub fn least(&self) -> Option<Skew> {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let skew = |seen: &Seen| {
            let since = uptime.saturating_sub(seen.at).as_secs();
            Skew::between(now, seen.there.plus(since))
        };
        let seen = lock(&self.seen);
        seen.values().map(skew).min_by_key(|skew| skew.size())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const NOW: UnixTime = UnixTime(1_795_348_800);

    #[test]
    fn a_skew_is_told_in_the_unit_that_fits() {
        for (seconds, text) in [
            (0, "about 0 s ahead"),
            (-90, "about 90 s behind"),
            (120, "about 2 min ahead"),
            (-3 * 3_600 + 20, "about 3 h behind"),
            (47 * 3_600, "about 47 h ahead"),
            (-40 * 86_400, "about 40 days behind"),
            (i64::MIN, "about 106751991167301 days behind"),
        ] {
            assert_eq!(Skew(seconds).to_string(), text);
        }
        assert!(!Skew(-60).is_notable() && Skew(61).is_notable() && Skew(i64::MIN).is_notable());
        assert_eq!(Skew(-5).corrected(UnixTime(10)), UnixTime(15));
        assert_eq!(Skew(11).corrected(UnixTime(10)), UnixTime(0));
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    /// A clock with hands.
    #[derive(Clone, Default)]
    struct Hands(Arc<[AtomicU64; 2]>);

    impl Hands {
        fn clock(&self) -> Clock {
            let (wall, uptime) = (self.clone(), self.clone());
            Clock::from_fn(move || UnixTime(wall.0[0].load(Ordering::SeqCst)))
                .with_uptime(move || Duration::from_secs(uptime.0[1].load(Ordering::SeqCst)))
        }

        /// Sets the time of day.
        fn set(&self, now: u64) {
            self.0[0].store(now, Ordering::SeqCst);
        }

        /// Time passes.
        fn pass(&self, seconds: u64) {
            for hand in self.0.iter() {
                hand.fetch_add(seconds, Ordering::SeqCst);
            }
        }
    }

    fn at_now() -> (Hands, Dates) {
        let hands = Hands::default();
        hands.set(NOW.0);
        let dates = Dates::new(hands.clock());
        (hands, dates)
    }

    #[test]
    fn one_source_that_is_right_clears_the_clock() {
        let (_, dates) = at_now();
        assert_eq!(dates.least(), None);
        // NOW is 2026-11-22T12:00:00Z, a Sunday.
        let three_hours_on = headers(&[("date", "Sun, 22 Nov 2026 15:00:00 GMT")]);
        dates.saw("a".to_owned(), &three_hours_on);
        assert_eq!(dates.least(), Some(Skew(-3 * 3_600)));
        // From a cache, which has held it for two hours.
        let cached = headers(&[("date", "Sun, 22 Nov 2026 10:00:00 GMT"), ("age", "7200")]);
        dates.saw("b".to_owned(), &cached);
        assert_eq!(dates.least(), Some(Skew(0)));
        assert_eq!(dates.sources(), ["a", "b"]);
        // The newest answer of a source counts.
        dates.saw("b".to_owned(), &three_hours_on);
        assert_eq!(dates.least(), Some(Skew(-3 * 3_600)));
    }

    #[test]
    fn a_step_of_the_clock_is_told_as_it_is() {
        const DAY: u64 = 86_400;
        let (hands, dates) = at_now();
        dates.saw(
            "a".to_owned(),
            &headers(&[("date", "Sun, 22 Nov 2026 12:00:00 GMT")]),
        );
        for (passed, set, text) in [
            (0, NOW.0, "about 0 s ahead"),
            (2 * 3_600, NOW.0 + 2 * 3_600, "about 0 s ahead"),
            // The clock stands still for an hour.
            (3_600, NOW.0 + 2 * 3_600, "about 60 min behind"),
            (0, NOW.0 + 5 * 3_600, "about 2 h ahead"),
            (0, NOW.0 + 3 * 3_600 - 3 * DAY, "about 3 days behind"),
            (30 * DAY, NOW.0 - 3_620 * DAY, "about 3650 days behind"),
            (0, 0, "about 20810 days behind"),
            (0, NOW.0 + 36_555 * DAY, "about 36525 days ahead"),
            (0, NOW.0 + 30 * DAY + 3 * 3_600, "about 0 s ahead"),
        ] {
            hands.pass(passed);
            hands.set(set);
            assert_eq!(dates.least().unwrap().to_string(), text);
        }
        // Time that passes changes nothing.
        hands.pass(400 * DAY);
        assert_eq!(dates.least(), Some(Skew(0)));
    }

    #[test]
    fn what_is_no_date_says_nothing() {
        let (_, dates) = at_now();
        for value in ["", "yesterday", "2026-11-22T12:00:00Z"] {
            dates.saw("a".to_owned(), &headers(&[("date", value)]));
        }
        dates.saw("a".to_owned(), &HeaderMap::new());
        assert_eq!(dates.least(), None);
        for number in 0..200 {
            let date = headers(&[("date", "Sun, 22 Nov 2026 12:00:00 GMT")]);
            dates.saw(number.to_string(), &date);
        }
        assert_eq!(dates.sources().len(), MAX_SOURCES);
    }
}
