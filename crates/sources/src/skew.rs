//! How far this machine's clock seems to be off, by the `Date` of public servers' answers.
//!
//! Only a hint for people: no proof depends on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use attest::UnixTime;
use http::{HeaderMap, header};

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

/// The skew by each source's newest answer, by its host and port.
#[derive(Debug, Default)]
pub struct Dates(Mutex<BTreeMap<String, Skew>>);

impl Dates {
    /// Notes an answer that has just come. A cache keeps the `Date` of the origin and adds its
    /// `Age` (RFC 9111 §4.2.3).
    pub fn saw(&self, source: String, headers: &HeaderMap, now: UnixTime) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(date) = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok())
        else {
            return;
        };
        let age = text(header::AGE).and_then(|age| age.trim().parse().ok());
        let since = date.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let there = UnixTime(since.as_secs()).plus(age.unwrap_or(0));
        let mut all = lock(&self.0);
        if all.len() < MAX_SOURCES || all.contains_key(&source) {
            all.insert(source, Skew::between(now, there));
        }
    }

    /// The sources that stated the time.
    pub fn sources(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }

    /// The smallest skew of all sources. If this machine's clock is off, every source shows it;
    /// a single source whose own clock is off is outvoted by one that is right.
    pub fn least(&self) -> Option<Skew> {
        lock(&self.0)
            .values()
            .copied()
            .min_by_key(|skew| skew.size())
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn one_source_that_is_right_clears_the_clock() {
        let dates = Dates::default();
        assert_eq!(dates.least(), None);
        // NOW is 2026-11-22T12:00:00Z, a Sunday.
        let three_hours_on = headers(&[("date", "Sun, 22 Nov 2026 15:00:00 GMT")]);
        dates.saw("a".to_owned(), &three_hours_on, NOW);
        assert_eq!(dates.least(), Some(Skew(-3 * 3_600)));
        // From a cache, which has held it for two hours.
        let cached = headers(&[("date", "Sun, 22 Nov 2026 10:00:00 GMT"), ("age", "7200")]);
        dates.saw("b".to_owned(), &cached, NOW);
        assert_eq!(dates.least(), Some(Skew(0)));
        assert_eq!(dates.sources(), ["a", "b"]);
        // The newest answer of a source counts.
        dates.saw("b".to_owned(), &three_hours_on, NOW);
        assert_eq!(dates.least(), Some(Skew(-3 * 3_600)));
    }

    #[test]
    fn what_is_no_date_says_nothing() {
        let dates = Dates::default();
        for value in ["", "yesterday", "2026-11-22T12:00:00Z"] {
            dates.saw("a".to_owned(), &headers(&[("date", value)]), NOW);
        }
        dates.saw("a".to_owned(), &HeaderMap::new(), NOW);
        assert_eq!(dates.least(), None);
        for number in 0..200 {
            let date = headers(&[("date", "Sun, 22 Nov 2026 12:00:00 GMT")]);
            dates.saw(number.to_string(), &date, NOW);
        }
        assert_eq!(dates.sources().len(), MAX_SOURCES);
    }
}
