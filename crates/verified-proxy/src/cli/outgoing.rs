//! The proxy for outgoing connections: `--proxy`, or the variables that other programs read.

use std::ffi::OsString;

use proxy::config::{Proxies, Proxy, ProxyUrlError};

use super::read_files::Failure;

/// No proxy, whatever the variables say.
const NONE: &str = "none";

/// As in curl, lower case goes first. HTTP_PROXY is for plain http, which this program speaks
/// with its own machine only.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The proxy of the option, or of the variables; an empty value is none given. A value that
/// cannot be read is refused: connecting directly would tell the network what should have gone
/// through a proxy.
pub(super) fn proxies(
    option: Option<&str>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Proxies, Failure> {
    let named = |name: &'static str| match variable(name)?.into_string() {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some((name, Ok(text))),
        // Its bytes are not shown.
        Err(_) => Some((name, Err(ProxyUrlError::Malformed))),
    };
    let option = option.filter(|text| !text.trim().is_empty());
    if option.is_some_and(|text| text.trim().eq_ignore_ascii_case(NONE)) {
        return Ok(Proxies::none());
    }
    let given = option.map(|text| ("--proxy", Ok(text.to_owned())));
    let Some((from, text)) = given.or_else(|| VARIABLES.into_iter().find_map(named)) else {
        return Ok(Proxies::none());
    };
    let proxy = text.and_then(|text| text.parse::<Proxy>());
    let proxy = proxy.map_err(|error| {
        let hint = match from {
            "--proxy" => "correct it, or connect directly with --proxy none",
            _ => "correct the variable, or name another proxy with --proxy; --proxy none connects directly",
        };
        Failure::Usage(format!("{from}: {error}\nhint: {hint}"))
    })?;
    tracing::info!(%proxy, from, "outgoing connections go through a proxy");
    let except = EXCEPT.into_iter().find_map(named);
    let except = except.and_then(|(_, text)| text.ok()).unwrap_or_default();
    Ok(Proxies::new(proxy, &except))
}

/// The value of `--proxy` without credentials.
pub(super) fn shown(value: &str) -> String {
    if value.trim().is_empty() || value.trim().eq_ignore_ascii_case(NONE) {
        return value.to_owned();
    }
    let proxy = value.parse::<Proxy>();
    proxy.map_or("(not shown)".to_owned(), |proxy| proxy.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy that is found and whether `a.example` is reached through it.
    fn found(option: Option<&str>, variables: &[(&str, &str)]) -> Result<Proxies, String> {
        let variable = |name: &str| {
            let mut named = variables.iter();
            let found = named.find(|(variable, _)| *variable == name)?;
            Some(OsString::from(found.1))
        };
        proxies(option, variable).map_err(|failure| failure.to_string())
    }

    fn shows(option: Option<&str>, variables: &[(&str, &str)]) -> String {
        let proxies = found(option, variables).unwrap();
        let proxy = proxies.proxy().map(ToString::to_string);
        proxy.unwrap_or_default()
    }

    #[test]
    fn the_option_goes_before_the_variables_and_lower_case_before_upper() {
        let all = [
            ("https_proxy", "http://1:1"),
            ("HTTPS_PROXY", "http://2:1"),
            ("all_proxy", "socks5h://3:1"),
            ("ALL_PROXY", "http://4:1"),
            ("HTTP_PROXY", "http://5:1"),
            ("http_proxy", "http://6:1"),
        ];
        let expected = [
            "http://1:1",
            "http://2:1",
            "socks5h://3:1",
            "http://4:1",
            "",
        ];
        for (at, expected) in expected.into_iter().enumerate() {
            assert_eq!(shows(None, &all[at..]), expected);
        }
        assert_eq!(shows(Some("http://o:1"), &all), "http://o:1");
        for none in ["none", "NONE", " none "] {
            assert_eq!(shows(Some(none), &all), "");
        }
        for empty in ["", " "] {
            assert_eq!(shows(Some(empty), &all), "http://1:1");
            assert_eq!(shows(None, &[("https_proxy", empty), all[3]]), "http://4:1");
        }
    }

    #[test]
    fn no_proxy_counts_with_the_option_and_the_variables() {
        let proxy = "http://p:1";
        let with = |except| Proxies::new(proxy.parse().unwrap(), except);
        for (variables, except) in [
            (
                &[("no_proxy", "a.example"), ("NO_PROXY", "b.example")][..],
                "a.example",
            ),
            (&[("NO_PROXY", "b.example")], "b.example"),
            (&[("no_proxy", ""), ("NO_PROXY", "b.example")], "b.example"),
            (&[], ""),
        ] {
            assert_eq!(found(Some(proxy), variables).unwrap(), with(except));
            let variables = [variables, &[("ALL_PROXY", proxy)]].concat();
            assert_eq!(found(None, &variables).unwrap(), with(except));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_words() {
        for value in [
            "socks4://me:secret@h",
            "ftp://me:secret@h",
            "http://me:secret@",
            "me:secret@h:x",
        ] {
            for (option, variables, from) in [
                (Some(value), &[][..], "--proxy: "),
                (None, &[("HTTPS_PROXY", value)], "HTTPS_PROXY: "),
                (None, &[("all_proxy", value)], "all_proxy: "),
            ] {
                let why = found(option, variables).unwrap_err();
                assert!(
                    why.starts_with(from) && why.contains("--proxy none"),
                    "{why}"
                );
                assert!(!why.contains("secret") && !why.contains("me:"), "{why}");
            }
            assert_eq!(shown(value), "(not shown)");
        }
        assert_eq!(shown("http://me:secret@h:1"), "http://h:1");
        assert_eq!(shown("none"), "none");
    }
}
