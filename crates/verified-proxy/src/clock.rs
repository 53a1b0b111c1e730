//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use attest::UnixTime;

/// Now. A clock before 1970 reads as 1970, at which nothing is valid.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |duration| duration.as_secs()))
}
