//! The layout of a file, and why a file is not used.
//!
//! Each file states the version of its layout in its first member. A change of what a file may
//! hold is a new version, also if only a member is added: earlier programs would take the file
//! for a damaged one. Earlier layouts are read, and replaced by the next write. A later layout is
//! neither read nor replaced: it holds what this program does not understand.

use std::fmt;

use serde::Deserialize;

/// Bytes in which a file states its layout.
pub(super) const HEAD: u64 = 64;

/// Why a file's content is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// A newer version of this program wrote it.
    Newer { layout: u64, known: u32 },
    /// It is damaged, or no regular file.
    Damaged(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { layout, known } => write!(
                f,
                "a newer version of verified-proxy wrote it (layout {layout}, this version knows up to {known})"
            ),
            Self::Damaged(detail) => f.write_str(detail),
        }
    }
}

/// The layout that a whole JSON text states.
pub(super) fn stated(json: &[u8]) -> Result<Option<u64>, String> {
    #[derive(Deserialize)]
    struct Layout {
        version: Option<u64>,
    }
    let Layout { version } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(version)
}

/// The layout that a file's first bytes state, also of a file that is too long to read or breaks
/// off.
pub(super) fn begun(head: &[u8]) -> Option<u64> {
    let rest = head.trim_ascii_start().strip_prefix(b"{")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"version\"")?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?;
    let rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // What follows the digits has to be there: else there could be more of them.
    rest.get(digits)?;
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_read_where_the_rest_is_not() {
        for (head, layout) in [
            (&b"{\"version\": 3, \"floors\": {"[..], Some(3)),
            (b"{\"version\":12}", Some(12)),
            (b" {\n  \"version\" : 7\n", Some(7)),
            (b"{\"version\":12", None),
            (b"{\"version\":\"3\"}", None),
            (b"{\"version\":-3}", None),
            (b"{\"version\":99999999999999999999999,", None),
            (b"{\"floors\":{},\"version\":3}", None),
            (b"\0\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(begun(head), layout, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_whole_text_states_its_layout_anywhere() {
        assert_eq!(stated(b"{\"floors\":{},\"version\":3}"), Ok(Some(3)));
        assert_eq!(stated(b"{\"logs\":{},\"domains\":{}}"), Ok(None));
        assert!(stated(b"{\"version\":\"3\"}").is_err());
        assert!(stated(b"{\"version\":3").is_err());
    }
}
