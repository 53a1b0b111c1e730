//! What a policy accepts against its own rules: with an end, a reason and a name, so
//! that a person reviews it again.

use std::fmt;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::base::identifiers::UnixTime;
use crate::base::text::{as_text, expected};

const DAY_SECONDS: u64 = 86_400;

/// A day in UTC, written `2027-02-28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl Day {
    /// Reads `2027-02-28`.
    ///
    /// # Errors
    /// In words, with what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|day| (1970..=9999).contains(&day.year()))
            .map(Self)
            .ok_or_else(|| expected("a day such as 2027-02-28", text))
    }

    /// The day of a moment; for a moment after the last day that can be written, that
    /// day.
    #[must_use]
    pub fn of(moment: UnixTime) -> Self {
        let days = i64::try_from(moment.0 / DAY_SECONDS).unwrap_or(i64::MAX);
        let since_1970 = chrono::TimeDelta::try_days(days);
        let day = since_1970.and_then(|days| NaiveDate::default().checked_add_signed(days));
        let last = NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX);
        Self(day.filter(|day| day.year() <= 9999).unwrap_or(last))
    }

    /// The first moment after it.
    #[must_use]
    pub fn end(self) -> UnixTime {
        let midnight = self.0.and_time(chrono::NaiveTime::MIN).and_utc();
        let start = u64::try_from(midnight.timestamp()).unwrap_or_default();
        UnixTime(start).plus(DAY_SECONDS)
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> UnixTime {
        UnixTime(self.end().0.saturating_sub(DAY_SECONDS))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

as_text!(Day, Day::parse);

/// Until when a value is accepted, why, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The last day on which it holds.
    pub until: Day,
    /// Why, in the words of the person who accepted it.
    pub reason: String,
    /// Who accepted it.
    pub by: String,
}

impl Exception {
    pub(crate) fn check(&self, place: &str) -> Result<(), String> {
        for (name, text) in [("reason", &self.reason), ("by", &self.by)] {
            let is_plain = (1..=200).contains(&text.len()) && text.chars().all(|c| !c.is_control());
            if !is_plain {
                let what = format!("exception.{name} of 1 to 200 printable characters");
                return Err(format!("{place}: {}", expected(what, text)));
            }
        }
        Ok(())
    }

    /// Days until it ends, the last one included; 0 if it has ended.
    #[must_use]
    pub fn days_left(&self, now: UnixTime) -> u64 {
        self.until
            .end()
            .0
            .saturating_sub(now.0)
            .div_ceil(DAY_SECONDS)
    }

    /// True until its last day is over.
    pub(crate) fn holds(&self, now: UnixTime) -> bool {
        now < self.until.end()
    }

    /// The exception that a ready-made line proposes.
    pub(crate) fn proposed(now: UnixTime) -> String {
        let until = Self::proposed_end(now);
        format!("exception = {{ until = \"{until}\", reason = \"say why\", by = \"your name\" }}")
    }

    /// The end that a ready-made line proposes: 90 days, in which Intel's fixes reach
    /// most hosts.
    pub(crate) fn proposed_end(now: UnixTime) -> Day {
        Day::of(now.plus(90 * DAY_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight() {
        let day = Day::parse("2027-02-28").unwrap();
        assert_eq!(day.start().to_string(), "2027-02-28T00:00:00Z");
        assert_eq!(day.end().to_string(), "2027-03-01T00:00:00Z");
        assert_eq!(Day::of(day.start()), day);
        assert_eq!(Day::of(UnixTime(day.end().0 - 1)), day);
        assert_eq!(Day::of(day.end()).to_string(), "2027-03-01");
        let exception = Exception {
            until: day,
            reason: "a test".to_owned(),
            by: "me".to_owned(),
        };
        assert!(exception.holds(UnixTime(day.end().0 - 1)));
        assert!(!exception.holds(day.end()));
        assert_eq!(exception.days_left(day.end()), 0);
        assert_eq!(exception.days_left(UnixTime(day.end().0 - 1)), 1);
        assert_eq!(exception.days_left(UnixTime(day.start().0 - 1)), 2);
    }

    #[test]
    fn only_days_are_read() {
        for text in [
            "",
            "2027-02-30",
            "2027-2-x",
            "1969-12-31",
            "10000-01-01",
            "tomorrow",
        ] {
            let refused = Day::parse(text).unwrap_err();
            assert!(refused.starts_with("expected a day such as"), "{refused}");
        }
        let last = Day::of(UnixTime(u64::MAX));
        assert_eq!(last.to_string(), "9999-12-31");
        assert_eq!(Day::parse("9999-12-31"), Ok(last));
    }
}
