//! `Retry-After` (RFC 9110 §10.2.3): for how long a server asks not to be asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attest::UnixTime;
use http::{HeaderMap, HeaderName, header};

/// The pause that the header states, if it can be read. It is unbounded: callers limit it.
pub(crate) fn retry_after(headers: &HeaderMap, now: UnixTime) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // The server's dates are by the server's clock.
    let date = text(headers, header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let since = date.or_else(|| UNIX_EPOCH.checked_add(Duration::from_secs(now.0)))?;
    Some(left(since, until))
}

fn left(since: SystemTime, until: SystemTime) -> Duration {
    until.duration_since(since).unwrap_or(Duration::ZERO)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// A Sunday, 2026-11-22T12:00:00Z.
    const NOW: UnixTime = UnixTime(1_795_348_800);

    fn read(value: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, HeaderValue::from_str(date).unwrap());
        }
        retry_after(&headers, NOW).map(|left| left.as_secs())
    }

    #[test]
    fn seconds_or_a_date() {
        for (value, date, left) in [
            ("0", None, Some(0)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Sun, 22 Nov 2026 12:01:30 GMT", None, Some(90)),
            ("Sunday, 22-Nov-26 12:01:30 GMT", None, Some(90)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", None, Some(0)),
            // By the server's clock, which is an hour ahead of this machine's.
            (
                "Sun, 22 Nov 2026 13:01:30 GMT",
                Some("Sun, 22 Nov 2026 13:00:00 GMT"),
                Some(90),
            ),
            ("Sun, 22 Nov 2026 12:01:30 GMT", Some("yesterday"), Some(90)),
            ("", None, None),
            ("-1", None, None),
            ("+1", None, None),
            ("1.5", None, None),
            ("soon", None, None),
        ] {
            assert_eq!(read(value, date), left, "{value:?} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW), None);
    }
}
