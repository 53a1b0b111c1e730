//! Whether this machine's clock is right. Every proof depends on it: an expired document
//! and one that is not valid yet prove nothing.

use attest::{Collateral, UnixTime};
use sources::clock::Clock;
use sources::fetch::FetchError;
use sources::skew::{Dates, Skew};
use upstream::AttemptError;

use super::check::{Check, Id, reach_or};

/// Intel's documents are valid for 30 days. By a clock that is off by more, none of them is
/// valid: that fails even if no document was fetched.
const VALIDITY: u64 = 30 * 24 * 60 * 60;

const FIX: &str = "set this machine's clock, and let the network keep it right (`timedatectl set-ntp true`, or the system's settings)";

/// What was seen about the time.
#[derive(Debug)]
pub(super) struct Times {
    now: UnixTime,
    /// The days from and until which documents are valid.
    documents: Vec<(UnixTime, UnixTime)>,
    /// A server's certificate that is not valid now.
    certificate: Option<String>,
}

impl Times {
    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            now: clock.now(),
            documents: Vec::new(),
            certificate: None,
        }
    }

    pub(super) fn document(&mut self, collateral: &Collateral) {
        self.documents
            .extend(collateral.issued().zip(collateral.next_update()));
    }

    /// What to do about a source that was not reached. By a wrong clock its certificate is not
    /// valid, and then nothing else is to be changed.
    pub(super) fn failure(&mut self, error: &FetchError, otherwise: &str) -> String {
        if error.is_about_time() {
            self.certificate.get_or_insert(error.to_string());
            return FIX.to_owned();
        }
        reach_or(otherwise)
    }

    /// The same of a backend's certificate.
    pub(super) fn dial(&mut self, error: &AttemptError) {
        if let AttemptError::Dial(error) = error
            && error.is_about_time()
        {
            self.certificate.get_or_insert(error.to_string());
        }
    }

    pub(super) fn check(&self, dates: &Dates) -> Check {
        let skew = dates.least();
        if let Some((why, skew)) = self.documents_disagree(skew) {
            return Check::failed(Id::Clock, format!("{skew}: {why}"), FIX);
        }
        // A certificate that ended by a right clock is a matter of its server.
        if let Some(error) = &self.certificate
            && skew.is_none_or(Skew::is_notable)
        {
            let detail = format!("by this clock a server's certificate is not valid: {error}");
            return Check::failed(Id::Clock, detail, FIX);
        }
        let sources = dates.sources().join(", ");
        match skew {
            None => Check::skipped(Id::Clock, "no server said what time it is"),
            Some(skew) if self.documents.is_empty() && skew.size() > VALIDITY => Check::failed(
                Id::Clock,
                format!("{skew} of {sources}, longer than Intel's documents are valid"),
                FIX,
            ),
            Some(skew) if skew.is_notable() => {
                Check::warning(Id::Clock, format!("{skew}, by the time of {sources}"), FIX)
            }
            Some(_) => Check::ok(Id::Clock, format!("right to the minute, by {sources}")),
        }
    }

    /// Documents that are not valid yet, or that would be valid if the clock were right.
    fn documents_disagree(&self, skew: Option<Skew>) -> Option<(&'static str, Skew)> {
        let newest = self.documents.iter().map(|(issued, _)| *issued).max();
        if let Some(issued) = newest
            && issued > self.now
        {
            let behind = Skew::between(self.now, issued);
            let behind = skew.map_or(behind, |skew| skew.min(behind));
            if behind.is_notable() {
                return Some(("Intel's documents are not valid yet", behind));
            }
        }
        let skew = skew.filter(|skew| skew.is_notable())?;
        let right = skew.corrected(self.now);
        let ended = |(_, end): &(UnixTime, UnixTime)| *end <= self.now && right < *end;
        let ended = self.documents.iter().any(ended);
        ended.then_some((
            "Intel's documents are expired by this clock, and would not be if it were right",
            skew,
        ))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const NOW: u64 = 1_795_348_800;
    const DAY: u64 = 24 * 60 * 60;

    /// What is said at NOW of documents that are valid from and to, in days, where
    /// a server's time is `there`, in seconds, all from NOW on.
    fn said(documents: Option<[i64; 2]>, there: Option<i64>) -> String {
        let moment = |seconds: i64| UnixTime(NOW.saturating_add_signed(seconds));
        let mut times = Times::new(&Clock::from_fn(|| UnixTime(NOW)));
        times.documents = documents
            .map(|days| days.map(|days| moment(days * DAY as i64)))
            .map(|[issued, end]| (issued, end))
            .into_iter()
            .collect();
        let dates = Dates::new(Clock::from_fn(|| UnixTime(NOW)));
        if let Some(there) = there {
            let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(moment(there).0);
            let date = httpdate::fmt_http_date(date).parse().unwrap();
            let headers = HeaderMap::from_iter([(http::header::DATE, date)]);
            dates.saw("pcs".to_owned(), &headers);
        }
        super::super::check::text(&[times.check(&dates)], false)
            .lines()
            .next()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_clock_is_judged_by_dates_and_by_documents() {
        const DAYS: i64 = DAY as i64;
        let valid = Some([-1, 29]);
        for (documents, there, line) in [
            (None, None, "skipped  clock: no server said what time it is"),
            (
                valid,
                Some(0),
                "ok       clock: right to the minute, by pcs",
            ),
            (
                valid,
                Some(-60),
                "ok       clock: right to the minute, by pcs",
            ),
            (
                valid,
                Some(61),
                "warning  clock: about 61 s behind, by the time of pcs",
            ),
            (
                valid,
                Some(-3 * 3_600),
                "warning  clock: about 3 h ahead, by the time of pcs",
            ),
            // Documents of tomorrow: behind by a day at least, whatever servers say.
            (
                Some([1, 31]),
                Some(0),
                "FAILED   clock: about 24 h behind: Intel's documents are not valid yet",
            ),
            (
                Some([1, 31]),
                Some(3 * DAYS),
                "FAILED   clock: about 3 days behind: Intel's documents are not valid yet",
            ),
            (
                Some([-40, -10]),
                Some(-39 * DAYS),
                "FAILED   clock: about 39 days ahead: Intel's documents are expired by this clock, and would not be if it were right",
            ),
            // Old documents are no matter of the clock where it is right.
            (
                Some([-40, -10]),
                Some(0),
                "ok       clock: right to the minute, by pcs",
            ),
            (
                Some([-40, -10]),
                None,
                "skipped  clock: no server said what time it is",
            ),
            (
                None,
                Some(-31 * DAYS),
                "FAILED   clock: about 31 days ahead of pcs, longer than Intel's documents are valid",
            ),
        ] {
            assert_eq!(said(documents, there), line);
        }
    }

    #[test]
    fn a_certificate_of_another_time_is_a_matter_of_the_clock() {
        let mut times = Times::new(&Clock::from_fn(|| UnixTime(NOW)));
        let refused = |error| FetchError::Tls {
            host: "a.example".to_owned(),
            source: std::sync::Arc::new(std::io::Error::other(rustls::Error::InvalidCertificate(
                error,
            ))),
        };
        let fix = times.failure(
            &refused(rustls::CertificateError::UnknownIssuer),
            "use another one",
        );
        assert!(fix.ends_with("use another one"), "{fix}");
        let dates = Dates::new(Clock::system());
        let line = |times: &Times| super::super::check::text(&[times.check(&dates)], false);
        assert!(
            line(&times).starts_with("skipped  clock: "),
            "{}",
            line(&times)
        );
        let fix = times.failure(
            &refused(rustls::CertificateError::NotValidYet),
            "use another one",
        );
        assert_eq!(fix, FIX);
        let right = Dates::new(Clock::from_fn(|| UnixTime(NOW)));
        let date =
            httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW));
        let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
        right.saw("pcs".to_owned(), &headers);
        let found = super::super::check::text(&[times.check(&right)], false);
        assert!(
            found.starts_with("ok       clock: right to the minute"),
            "{found}"
        );
        assert!(
            line(&times).starts_with("FAILED   clock: by this clock a server's certificate is not valid: no TLS with a.example: "),
            "{}",
            line(&times)
        );
    }
}
