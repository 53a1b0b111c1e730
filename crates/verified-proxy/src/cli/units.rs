//! Sizes, durations, addresses and folders, as people write them.

use std::path::PathBuf;
use std::time::Duration;

/// Bytes, or a number with KiB, MiB or GiB; at least one byte.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    ) {
        (digits, "" | "B") => (digits, 0),
        (digits, "KiB") => (digits, 10),
        (digits, "MiB") => (digits, 20),
        (digits, "GiB") => (digits, 30),
        _ => return Err("expected bytes, or a number with KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("expected at least one byte".to_owned()),
        Some(size) => Ok(size),
        None => Err("too large".to_owned()),
    }
}

/// A parser of durations from `min` to `max` seconds.
pub(super) fn between(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let duration = duration(text)?;
        let (min, max) = (Duration::from_secs(min), Duration::from_secs(max));
        if (min..=max).contains(&duration) {
            return Ok(duration);
        }
        let [min, max] = [min, max].map(humantime::format_duration);
        Err(format!("expected {min} to {max}"))
    }
}

/// `90`, `90s`, `10m`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected seconds, or a duration such as 90s, 10m or 1h"))
}

/// `unix:` and an absolute path.
pub(super) fn unix_socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").map(PathBuf::from);
    path.filter(|path| path.is_absolute())
        .ok_or_else(|| "expected unix: and an absolute path, such as unix:/run/user/1000/verified-proxy.sock; for a port use --host and --port".to_owned())
}

/// Where state is kept, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StateDir {
    Nowhere,
    At(PathBuf),
}

impl StateDir {
    /// The word for [`StateDir::Nowhere`].
    pub(super) const NOWHERE: &str = "none";

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            // Other options say "off": a folder of that name is "./off".
            "" | "off" => Err("expected a folder, or \"none\"".to_owned()),
            Self::NOWHERE => Ok(Self::Nowhere),
            folder => Ok(Self::At(folder.into())),
        }
    }

    /// The platform's folder for state; nowhere for a user without a home.
    pub(super) fn of_platform() -> Self {
        use etcetera::BaseStrategy;
        match etcetera::choose_base_strategy() {
            Ok(dirs) => Self::At(
                dirs.state_dir()
                    .unwrap_or_else(|| dirs.data_dir())
                    .join("verified-proxy"),
            ),
            Err(_) => Self::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("100MiB"), Ok(100 << 20));
        assert_eq!(size("5"), Ok(5));
        for text in ["", "MiB", "1MB", "-1", "0", "0MiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let parse = between(1, 3_600);
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("10m", 600),
            ("1m 30s", 90),
            ("1h", 3_600),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "0",
            "0s",
            "3601",
            "2h",
            "",
            "-1",
            "1 fortnight",
            "1.5h",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("2h").unwrap_err(), "expected 1s to 1h");
        assert!(between(0, 1)("0").is_ok());
    }

    #[test]
    fn state_is_kept_somewhere_or_nowhere() {
        assert_eq!(StateDir::parse("none"), Ok(StateDir::Nowhere));
        for text in ["", "off"] {
            let refused = StateDir::parse(text).unwrap_err();
            assert_eq!(refused, "expected a folder, or \"none\"");
        }
        assert_eq!(StateDir::parse("./none"), Ok(StateDir::At("./none".into())));
    }
}
