//! What clients need beside the proxy: an API key, and its URL.

use std::ffi::OsString;
use std::net::IpAddr;

use http::Uri;

use super::check::{Check, Id};
use crate::cli::clients::KeyFile;
use crate::cli::listening::At;
use crate::cli::read_files::Failure;

pub(super) const BASE_URL: &str = "OPENAI_BASE_URL";

/// The key itself is never shown.
pub(super) fn api_key(key: Result<Option<KeyFile>, Failure>) -> Check {
    match key {
        Err(failure) => Check::failed(
            Id::ApiKey,
            failure.to_string(),
            "write the key, one word, into the file of --api-key-file or into VERIFIED_PROXY_API_KEY",
        ),
        Ok(None) => Check::skipped(
            Id::ApiKey,
            "the proxy has none (--api-key-file, VERIFIED_PROXY_API_KEY): clients have to send their own",
        ),
        Ok(Some(key)) if key.key.is_placeholder() => Check::warning(
            Id::ApiKey,
            format!("from {}: it is a placeholder, not a key", key.from),
            "write your key of NEAR AI there",
        ),
        Ok(Some(key)) if key.others_read => Check::warning(
            Id::ApiKey,
            format!("from {}, which other users can read", key.from),
            format!("`chmod 600 {}`", key.from),
        ),
        Ok(Some(key)) => Check::ok(Id::ApiKey, format!("from {}", key.from)),
    }
}

/// Their values may contain passwords, and are not shown.
pub(super) fn proxy_variables() -> Check {
    const NAMES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let value = |name: &str| {
        let named = [name.to_owned(), name.to_lowercase()];
        named.into_iter().find_map(|name| {
            let value = std::env::var_os(&name)?;
            (!value.is_empty()).then_some((name, value))
        })
    };
    let set: Vec<_> = NAMES.iter().filter_map(|name| value(name)).collect();
    if set.is_empty() {
        return Check::ok(Id::ProxyVariables, "none is set");
    }
    let names: Vec<_> = set.into_iter().map(|(name, _)| name).collect();
    let detail = format!(
        "{}: verified-proxy connects through HTTPS_PROXY, or else ALL_PROXY, unless --proxy is given",
        names.join(", ")
    );
    let exempt = value("NO_PROXY").map(|(_, value)| value.to_string_lossy().into_owned());
    if exempt.is_some_and(|list| exempts_this_machine(&list)) {
        return Check::ok(
            Id::ProxyVariables,
            format!("{detail}; NO_PROXY keeps clients' requests to it on this machine"),
        );
    }
    Check::warning(
        Id::ProxyVariables,
        format!("{detail}; clients may send requests for localhost to them"),
        "export NO_PROXY=localhost,127.0.0.1,::1 for the clients",
    )
}

fn exempts_this_machine(list: &str) -> bool {
    let names: Vec<_> = list.split(',').map(str::trim).collect();
    let has = |name| names.contains(&name);
    has("*") || has("localhost") && (has("127.0.0.1") || has("127.0.0.0/8"))
}

/// Whether OPENAI_BASE_URL is this proxy's. Its value may contain a password, and is not
/// shown.
pub(super) fn base_url(value: Option<OsString>, at: &At) -> Check {
    let port = match at {
        At::Tcp { port, .. } if *port != 0 => *port,
        At::Tcp { .. } => return Check::skipped(Id::BaseUrl, "--port 0 takes any free port"),
        At::Unix(_) => {
            return Check::skipped(Id::BaseUrl, "a Unix socket has no URL");
        }
    };
    let hosts = at.ips();
    let shown = match hosts.first() {
        Some(host) if !host.is_unspecified() => *host,
        _ => IpAddr::from([127, 0, 0, 1]),
    };
    let own = format!("http://{}/v1", std::net::SocketAddr::new(shown, port));
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        let why = format!("{BASE_URL} is not set here; clients that read it need {own}");
        return Check::skipped(Id::BaseUrl, why);
    };
    let uri = value.to_str().and_then(|text| text.parse::<Uri>().ok());
    let fix = format!("export {BASE_URL}={own}");
    match uri {
        Some(uri) if leads_to(&uri, &hosts, port) => {
            if uri.path().trim_end_matches('/') == "/v1" {
                return Check::ok(Id::BaseUrl, format!("{BASE_URL} points here"));
            }
            let detail = format!("{BASE_URL} points here, but its path is not /v1");
            Check::warning(Id::BaseUrl, detail, fix)
        }
        _ => Check::warning(
            Id::BaseUrl,
            format!("{BASE_URL} points elsewhere: clients that read it do not use verified-proxy"),
            fix,
        ),
    }
}

fn leads_to(uri: &Uri, hosts: &[IpAddr], port: u16) -> bool {
    let named = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = match named.parse::<IpAddr>() {
        Ok(address) => {
            let all = |host: &IpAddr| host.is_unspecified() && address.is_loopback();
            hosts.iter().any(|host| *host == address || all(host))
        }
        Err(_) => {
            let local = |host: &IpAddr| host.is_loopback() || host.is_unspecified();
            named.eq_ignore_ascii_case("localhost") && hosts.iter().any(local)
        }
    };
    uri.scheme_str() == Some("http") && uri.port_u16().unwrap_or(80) == port && is_here
}

#[cfg(test)]
mod tests {
    use super::super::check::{Status, text};
    use super::*;

    #[test]
    fn a_base_url_points_here_or_elsewhere() {
        let at = |host: &str, port| At::Tcp {
            hosts: vec![host.parse().unwrap()],
            port,
        };
        let here = at("localhost", 8080);
        let line = |value: &str| text(&[base_url(Some(value.into()), &here)], false);
        for value in [
            "http://127.0.0.1:8080/v1",
            "http://localhost:8080/v1/",
            "http://LOCALHOST:8080/v1",
            "http://[::1]:8080/v1",
        ] {
            assert!(
                line(value).starts_with("ok       base URL: OPENAI_BASE_URL points here\n"),
                "{value}"
            );
        }
        let fix = "\n         fix: export OPENAI_BASE_URL=http://127.0.0.1:8080/v1\n";
        for value in ["http://127.0.0.1:8080", "http://localhost:8080/api/v1"] {
            let line = line(value);
            assert!(
                line.starts_with(
                    "warning  base URL: OPENAI_BASE_URL points here, but its path is not /v1\n"
                ),
                "{line}"
            );
            assert!(line.contains(fix), "{line}");
        }
        for value in [
            "https://cloud-api.near.ai/v1",
            "http://127.0.0.1:8081/v1",
            "https://127.0.0.1:8080/v1",
            "http://user:secret@evil.example:8080/v1",
            "nonsense",
        ] {
            let line = line(value);
            assert!(
                line.starts_with("warning  base URL: OPENAI_BASE_URL points elsewhere"),
                "{line}"
            );
            assert!(line.contains(fix) && !line.contains("secret"), "{line}");
        }
        let everywhere = at("0.0.0.0", 80);
        let check = base_url(Some("http://localhost/v1".into()), &everywhere);
        assert_eq!(check.status, Status::Ok);
        for (value, at) in [
            (None, here),
            (Some("x".into()), at("127.0.0.1", 0)),
            (Some("x".into()), At::Unix("/run/s".into())),
        ] {
            assert_eq!(base_url(value, &at).status, Status::Skipped);
        }
    }

    #[test]
    fn no_proxy_has_to_name_both() {
        for list in [
            "*",
            "localhost,127.0.0.1",
            "a.example, 127.0.0.0/8 ,localhost",
        ] {
            assert!(exempts_this_machine(list), "{list}");
        }
        for list in ["", "localhost", "127.0.0.1", "localhost.example,127.0.0.1"] {
            assert!(!exempts_this_machine(list), "{list}");
        }
    }
}
