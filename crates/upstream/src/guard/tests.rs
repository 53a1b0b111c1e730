use super::*;
use attest::LeastLevels;
use http::Request;
use proptest::prelude::*;

const TOKEN_OF_ANN: &str = "0123456789abcdef";

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn guard(hosts: &[&str], origins: &[&str], tokens: Option<&str>) -> Guard {
    Guard {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        origins: origins.iter().map(|text| text.parse().unwrap()).collect(),
        tokens: tokens.map(|text| ClientTokens::parse(text).unwrap()),
    }
}

fn admit(guard: &Guard, headers: &[(&str, &str)]) -> Result<Admitted, NotAdmitted> {
    let local = "192.168.1.5".parse().ok();
    guard.admit(&mut head("POST", "/v1/x", headers), local)
}

const ADMITTED: Result<Admitted, NotAdmitted> = Ok(Admitted {
    origin: None,
    preflight: false,
    shown: false,
    least: LeastLevels::NONE,
    token: None,
});

#[test]
fn hosts_are_of_this_machine() {
    let guard = guard(&["Proxy.example"], &[], None);
    for host in [
        "localhost",
        "LocalHost:8080",
        "localhost.:1",
        "127.0.0.1:8080",
        "127.8.9.10",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        "192.168.1.5:8080",
        "proxy.example",
        "proxy.example:443",
        "localhost:",
    ] {
        assert_eq!(admit(&guard, &[("host", host)]), ADMITTED, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "x.localhost",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost/",
        "localhost:x",
        "localhost:99999999",
        "127.0.0.1.evil.example",
        "192.168.1.6",
        "[::2]",
        "[::1",
        "x.proxy.example",
        "0.0.0.0",
        "",
        ".",
        "local host",
    ] {
        let admitted = admit(&guard, &[("host", host)]);
        assert_eq!(admitted, Err(NotAdmitted::Host), "{host}");
    }
    // HTTP/1.0 needs none. A second one is checked too.
    assert_eq!(admit(&guard, &[]), ADMITTED);
    let two = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(admit(&guard, &two), Err(NotAdmitted::Host));
}

#[test]
fn the_targets_authority_counts_like_a_host() {
    let guard = guard(&[], &[], None);
    for (target, host, expected) in [
        ("http://localhost/v1", "localhost", ADMITTED),
        (
            "http://evil.example/v1",
            "localhost",
            Err(NotAdmitted::Host),
        ),
        (
            "http://localhost/v1",
            "evil.example",
            Err(NotAdmitted::Host),
        ),
    ] {
        let mut head = head("GET", target, &[("host", host)]);
        assert_eq!(guard.admit(&mut head, None), expected, "{target} {host}");
    }
}

#[test]
fn pages_of_other_origins_are_refused() {
    let guard = guard(&[], &["https://chat.example"], None);
    let host = ("host", "localhost:8080");
    for (headers, expected) in [
        (&[][..], ADMITTED),
        (&[("sec-fetch-site", "none")], ADMITTED),
        (&[("sec-fetch-site", "same-origin")], ADMITTED),
        (&[("origin", "http://localhost:8080")], ADMITTED),
        // Each of these is a page of another origin.
        (
            &[("sec-fetch-site", "cross-site")],
            Err(NotAdmitted::Origin),
        ),
        (&[("sec-fetch-site", "same-site")], Err(NotAdmitted::Origin)),
        (&[("sec-fetch-site", "")], Err(NotAdmitted::Origin)),
        (
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            Err(NotAdmitted::Origin),
        ),
        (&[("origin", "null")], Err(NotAdmitted::OpaqueOrigin)),
        (&[("origin", "file://")], Err(NotAdmitted::Origin)),
        (
            &[("origin", "vscode-webview://1f2e")],
            Err(NotAdmitted::Origin),
        ),
        (&[("origin", "")], Err(NotAdmitted::Origin)),
        (
            &[("origin", "http://localhost:3000")],
            Err(NotAdmitted::Origin),
        ),
        (
            &[("origin", "https://localhost:8080")],
            Err(NotAdmitted::Origin),
        ),
        (&[("origin", "http://localhost")], Err(NotAdmitted::Origin)),
        (
            &[("origin", "http://chat.example")],
            Err(NotAdmitted::Origin),
        ),
        (
            &[("origin", "https://chat.example.evil.example")],
            Err(NotAdmitted::Origin),
        ),
        (
            &[
                ("origin", "https://chat.example"),
                ("origin", "https://evil.example"),
            ],
            Err(NotAdmitted::Origin),
        ),
    ] {
        let all: Vec<_> = headers.iter().copied().chain([host]).collect();
        assert_eq!(admit(&guard, &all), expected, "{headers:?}");
    }
    // Allowed: an allowed origin outweighs its site.
    let allowed = [
        host,
        ("origin", "https://chat.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let admitted = admit(&guard, &allowed).unwrap();
    assert_eq!(admitted.origin.unwrap(), "https://chat.example");
    assert!(!admitted.preflight);
}

#[test]
fn pages_of_programs_are_allowed_by_their_scheme() {
    let guard = guard(
        &[],
        &["vscode-webview://*", "file://", "app://obsidian.md"],
        None,
    );
    let ask = |origin: &str| admit(&guard, &[("origin", origin)]).map(|page| page.origin);
    for origin in [
        "vscode-webview://1f2e-77",
        "vscode-webview://other",
        "file://",
        "app://obsidian.md",
    ] {
        assert_eq!(ask(origin), Ok(Some(origin.parse().unwrap())), "{origin}");
    }
    for origin in [
        "vscode-webviews://1f2e",
        "vscode-webview://",
        "vscode-webview://*",
        "http://vscode-webview",
        "https://file",
        "file:///etc",
        "app://other",
    ] {
        assert_eq!(ask(origin), Err(NotAdmitted::Origin), "{origin}");
    }
    // Frames of every site have it.
    assert_eq!(ask("null"), Err(NotAdmitted::OpaqueOrigin));
}

#[test]
fn what_a_browser_shows_is_told_from_what_a_page_fetches() {
    let guard = Guard::default();
    let shown = |headers: &[(&str, &str)]| admit(&guard, headers).unwrap().shown;
    for destination in ["document", "iframe", "script", "object", "", "new"] {
        assert!(shown(&[("sec-fetch-dest", destination)]), "{destination}");
    }
    assert!(!shown(&[("sec-fetch-dest", "empty")]) && !shown(&[]));
    assert!(shown(&[
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-dest", "document")
    ]));
}

#[test]
fn a_preflight_needs_no_token_and_is_none_without_an_allowed_page() {
    let tokens = format!("ann {TOKEN_OF_ANN}");
    let guard = guard(&[], &["https://chat.example"], Some(&tokens));
    let ask = |headers: &[(&str, &str)]| {
        let all = [
            &[
                ("host", "localhost"),
                ("access-control-request-method", "POST"),
            ],
            headers,
        ]
        .concat();
        guard.admit(&mut head("OPTIONS", "/v1/x", &all), None)
    };
    let admitted = ask(&[("origin", "https://chat.example")]).unwrap();
    assert!(admitted.preflight);
    assert_eq!(ask(&[]), Err(NotAdmitted::Token));
    let foreign = ask(&[("origin", "https://evil.example")]);
    assert_eq!(foreign, Err(NotAdmitted::Origin));
}

#[test]
fn tokens_are_asked_for_and_stay_here() {
    let tokens = format!("ann {TOKEN_OF_ANN}");
    let guard = guard(&[], &[], Some(&tokens));
    let bearer = format!("bearer {TOKEN_OF_ANN}");
    for (headers, left) in [
        (&[("authorization", bearer.as_str())][..], &[][..]),
        (&[("x-api-key", TOKEN_OF_ANN)], &[]),
        (
            &[
                ("x-verified-proxy-token", TOKEN_OF_ANN),
                ("authorization", "Bearer sk-own"),
            ],
            &["authorization"],
        ),
        (
            &[
                ("x-verified-proxy-token", TOKEN_OF_ANN),
                ("authorization", &bearer),
            ],
            &[],
        ),
        // A token in a form that does not authorise is still a token.
        (
            &[
                ("x-verified-proxy-token", TOKEN_OF_ANN),
                ("authorization", TOKEN_OF_ANN),
            ],
            &[],
        ),
    ] {
        let mut head = head("POST", "/v1/x", headers);
        let admitted = guard.admit(&mut head, None).unwrap();
        assert_eq!(admitted.token, Some(0), "{headers:?}");
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, left, "{headers:?}");
    }
    // Nor in a place that does not authorise, beside others that are the client's own.
    let key = format!("Key {TOKEN_OF_ANN}");
    let parameter = format!("Token token={TOKEN_OF_ANN}");
    let quoted = format!("Token token=\"{TOKEN_OF_ANN}\", x");
    let list = format!("Bearer {TOKEN_OF_ANN}, x");
    let cookie = format!("a=b; session={TOKEN_OF_ANN}; c=d");
    let basic = format!("user:{TOKEN_OF_ANN}");
    for (name, value) in [
        ("api-key", TOKEN_OF_ANN),
        ("authorization", &key),
        ("authorization", &parameter),
        ("authorization", &quoted),
        ("authorization", &list),
        ("cookie", &cookie),
        ("x-goog-api-key", TOKEN_OF_ANN),
        ("x-anything", &basic),
    ] {
        let headers = [
            ("x-verified-proxy-token", TOKEN_OF_ANN),
            (name, value),
            ("x-kept", "0123456789abcdeF"),
            ("user-agent", "x"),
        ];
        let mut head = head("POST", "/v1/x", &headers);
        let admitted = guard.admit(&mut head, None).unwrap();
        assert_eq!(admitted.token, Some(0), "{name}: {value}");
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["user-agent", "x-kept"], "{name}: {value}");
    }
    // A token that ends as base64 does, beside bytes that are no text.
    let tokens = "bob c2VjcmV0LXNlY3JldA==";
    let of_bob = self::guard(&[], &[], Some(tokens));
    let mut head = head("POST", "/v1/x", &[("x-verified-proxy-token", &tokens[4..])]);
    let cookie = [&b"x=\xff; t="[..], &tokens.as_bytes()[4..]].concat();
    let cookie = HeaderValue::from_bytes(&cookie).unwrap();
    head.headers.insert(header::COOKIE, cookie);
    assert_eq!(of_bob.admit(&mut head, None).unwrap().token, Some(0));
    assert!(head.headers.is_empty());
    for headers in [
        &[][..],
        &[("authorization", TOKEN_OF_ANN)],
        &[("api-key", TOKEN_OF_ANN)],
        &[("authorization", parameter.as_str())],
        &[("cookie", "t=0123456789abcdef")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic 0123456789abcdef")],
        &[("x-api-key", "0123456789abcdeF")],
        &[("x-verified-proxy-token", "ann")],
    ] {
        assert_eq!(
            admit(&guard, headers),
            Err(NotAdmitted::Token),
            "{headers:?}"
        );
    }
    // A token is not sent on even if none is required.
    let open = Guard::default();
    let mut head = self::head("POST", "/v1/x", &[("x-verified-proxy-token", "t")]);
    assert_eq!(open.admit(&mut head, None), ADMITTED);
    assert!(head.headers.is_empty());
}

/// Probes come to an address that the proxy may not know, and have no token.
#[test]
fn probes_need_no_token_and_no_name() {
    let tokens = format!("ann {TOKEN_OF_ANN}");
    let guard = guard(&[], &[], Some(&tokens));
    let ask = |method: &str, target: &str, headers: &[(&str, &str)]| {
        guard.admit(&mut head(method, target, headers), None)
    };
    let addresses = [
        "10.1.2.3",
        "10.1.2.3:8080",
        "[fd00::2]:8080",
        "203.0.113.9",
        "localhost:8080",
    ];
    for target in ["/_proxy/live", "/_proxy/ready", "/_proxy/live?x=1"] {
        for host in addresses {
            for method in ["GET", "HEAD"] {
                let admitted = ask(method, target, &[("host", host)]);
                assert_eq!(admitted, ADMITTED, "{method} {target} {host}");
            }
        }
        // A name may be a page's, which leads it here.
        for host in ["evil.example", "10.1.2.3.evil.example", "0x7f.1", "1.2.3"] {
            let admitted = ask("GET", target, &[("host", host)]);
            assert_eq!(admitted, Err(NotAdmitted::Host), "{target} {host}");
        }
        let page = [("host", "10.1.2.3"), ("origin", "http://evil.example")];
        assert_eq!(ask("GET", target, &page), Err(NotAdmitted::Origin));
        let two = [("host", "10.1.2.3"), ("host", "evil.example")];
        assert_eq!(ask("GET", target, &two), Err(NotAdmitted::Host));
        let post = ask("POST", target, &[("host", "localhost")]);
        assert_eq!(post, Err(NotAdmitted::Token));
    }
    for target in [
        "/_proxy/metrics",
        "/_proxy/live/",
        "/_proxy/verdicts",
        "/_proxy/liveness",
        "/v1/models",
        "/v1/models/_proxy/live",
        "/%5Fproxy/live",
    ] {
        let admitted = ask("GET", target, &[("host", "10.1.2.3")]);
        assert_eq!(admitted, Err(NotAdmitted::Host), "{target}");
        let admitted = ask("GET", target, &[("host", "localhost")]);
        assert_eq!(admitted, Err(NotAdmitted::Token), "{target}");
    }
    // On a listener of its own, every page may be asked at every address, but not by a page.
    let probe = |headers: &[(&str, &str)]| {
        guard.admit_probe(&head("GET", "/_proxy/metrics", headers), None)
    };
    for host in addresses {
        assert_eq!(probe(&[("host", host)]), Ok(()), "{host}");
    }
    assert_eq!(probe(&[("host", "evil.example")]), Err(NotAdmitted::Host));
    let page = [("host", "10.1.2.3"), ("origin", "http://evil.example")];
    assert_eq!(probe(&page), Err(NotAdmitted::Origin));
}

#[test]
fn origins_and_hosts_are_what_browsers_write() {
    for (text, written) in [
        ("https://Chat.example", "https://chat.example"),
        ("https://chat.example:443", "https://chat.example"),
        ("http://chat.example:80", "http://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://localhost:3000/", "http://localhost:3000"),
        (" https://chat.example:443/ ", "https://chat.example"),
        ("file://", "file://"),
        ("File:///", "file://"),
        ("VSCode-webview://*", "vscode-webview://*"),
        ("moz-extension://*/", "moz-extension://*"),
    ] {
        assert_eq!(text.parse::<Origin>().unwrap().to_string(), written);
    }
    for text in [
        "",
        "*",
        "null",
        "chat.example",
        "https://",
        "https://chat.example//",
        "http://localhost:3000/app",
        "file:///home",
        "NULL",
        "https://*",
        "HTTP://*/",
        "*://*",
        "vscode-webview://*.x",
        "https://a@b",
        "https://*.example",
        "https://a b",
    ] {
        assert!(text.parse::<Origin>().is_err(), "{text}");
    }
    let refused = |text: &str| text.parse::<Origin>().unwrap_err();
    for (text, said) in [
        ("null", "sandboxed frame"),
        ("http://*", "every page of the web"),
        ("http://localhost:3000/app", "without a path"),
    ] {
        assert!(refused(text).contains(said), "{}", refused(text));
    }
    for text in [
        "",
        "*",
        "*.example",
        "a.example:80",
        "http://a.example",
        "a b",
    ] {
        assert!(text.parse::<HostName>().is_err(), "{text}");
    }
    assert_eq!("A.Example.".parse::<HostName>().unwrap().0, "a.example");
}

proptest! {
    #[test]
    fn an_origin_allows_its_own_pages(
        scheme in "[a-z][a-z0-9+.-]{0,9}",
        host in "[a-z0-9-]{1,9}",
        port in proptest::option::of(1..u16::MAX),
        slash in "/?",
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let text = format!("{scheme}://{host}{port}");
        let page = normal(&text).unwrap();
        prop_assert_eq!(normal(&page), Some(page.clone()));
        let origin: Origin = format!("{text}{slash}").parse().unwrap();
        prop_assert!(origin.allows(&page));
        let others = [
            format!("x{text}"),
            format!("{scheme}x://{host}{port}"),
            format!("{scheme}://x{host}{port}"),
            format!("{scheme}://{host}.x{port}"),
            format!("{scheme}://{host}:0"),
        ];
        for other in &others {
            prop_assert!(!origin.allows(&normal(other).unwrap()), "{}", other);
        }
        match format!("{scheme}://*{slash}").parse::<Origin>() {
            Ok(all) => {
                prop_assert!(all.allows(&page) && all.allows(&normal(&others[2]).unwrap()));
                for other in &others[..2] {
                    prop_assert!(!all.allows(&normal(other).unwrap()), "{}", other);
                }
            }
            Err(_) => prop_assert!(matches!(scheme.as_str(), "http" | "https")),
        }
    }

    /// However a header is written, a token between marks is found.
    #[test]
    fn a_token_is_found_in_any_header(
        token in "[A-Za-z0-9+/._~=-]{16,40}",
        before in "([a-z ]{0,9}[ ,;\"'=:])?",
        after in "([ ,;\"'][a-z =:]{0,9})?",
    ) {
        let value = HeaderValue::from_str(&format!("{before}{token}{after}")).unwrap();
        prop_assert!(words(&value).any(|word| word == token), "{:?}", value);
    }
}
