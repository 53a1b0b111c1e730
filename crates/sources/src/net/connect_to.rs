//! `--connect-to`.

use std::str::FromStr;

/// One `--connect-to HOST:PORT:HOST2:PORT2`, as in curl: connections for HOST:PORT go to
/// HOST2:PORT2. An empty HOST or PORT matches any, an empty HOST2 or PORT2 changes nothing. The
/// names in TLS and HTTP stay the same, so nothing less is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    from: (Option<String>, Option<u16>),
    to: (Option<String>, Option<u16>),
}

impl FromStr for ConnectTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (from_host, rest) = split_host(text)?;
            let (from_port, rest) = rest.split_once(':')?;
            let (to_host, to_port) = split_host(rest)?;
            Some(Self {
                from: (from_host, parse_port(from_port)?),
                to: (to_host, parse_port(to_port)?),
            })
        };
        parse().ok_or_else(|| format!("expected HOST:PORT:HOST2:PORT2, got {text:?}"))
    }
}

/// A host (IPv6 in brackets, `None` if empty) and the text after its colon.
fn split_host(text: &str) -> Option<(Option<String>, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    Some(((!host.is_empty()).then(|| host.to_ascii_lowercase()), rest))
}

fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

/// All `--connect-to` in order. The first that matches counts.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectMap(Vec<ConnectTo>);

impl ConnectMap {
    pub(super) fn new(entries: Vec<ConnectTo>) -> Self {
        Self(entries)
    }

    /// Where a connection for `host:port` goes.
    pub(super) fn target(&self, host: &str, port: u16) -> (String, u16) {
        let matching = self.0.iter().find(|entry| {
            let (from_host, from_port) = &entry.from;
            from_host
                .as_ref()
                .is_none_or(|from| from.eq_ignore_ascii_case(host))
                && from_port.is_none_or(|from| from == port)
        });
        match matching {
            Some(ConnectTo {
                to: (to_host, to_port),
                ..
            }) => (
                to_host.clone().unwrap_or_else(|| host.to_owned()),
                to_port.unwrap_or(port),
            ),
            None => (host.to_owned(), port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(entries: &[&str], host: &str, port: u16) -> (String, u16) {
        ConnectMap::new(entries.iter().map(|text| text.parse().unwrap()).collect())
            .target(host, port)
    }

    #[test]
    fn connect_to_has_curls_meaning() {
        let to = |host: &str, port| (host.to_owned(), port);
        assert_eq!(
            target(&["a.example:443:127.0.0.1:8443"], "A.example", 443),
            to("127.0.0.1", 8443)
        );
        assert_eq!(
            target(&["a.example:443:127.0.0.1:8443"], "a.example", 80),
            to("a.example", 80)
        );
        assert_eq!(target(&["::[::1]:8443"], "b.example", 443), to("::1", 8443));
        assert_eq!(
            target(&["::127.0.0.1:"], "b.example", 443),
            to("127.0.0.1", 443)
        );
        assert_eq!(
            target(&[":443::1", "::x:2"], "b.example", 443),
            to("b.example", 1)
        );
    }

    #[test]
    fn other_shapes_do_not_parse() {
        for text in [
            "",
            "a",
            "a:1",
            "a:1:b",
            "a:x:b:1",
            "a:1:b:70000",
            "[::1:1:b:2",
            "a:1:b:2:3",
        ] {
            assert!(text.parse::<ConnectTo>().is_err(), "{text}");
        }
    }
}
