//! The page at `/_proxy/` and its events. What a browser makes of them is
//! scripts/browser's matter.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fake_tee::serve::Running;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use proxy::config::ClientTokens;

use crate::harness::*;

const TOKEN: &str = "token-of-ann-0123456789";

async fn document(proxy: &Proxy) -> (Answer, String) {
    let answer = proxy.get("/_proxy/").await;
    assert_eq!(answer.status, StatusCode::OK);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    (answer, text)
}

/// What stands between `<tag>` and `</tag>`, of which there is one.
fn inside<'a>(document: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut parts = document.split(&open);
    let rest = parts.nth(1).unwrap();
    assert!(parts.next().is_none(), "a second {open}");
    let (inside, rest) = rest.split_once(&close).unwrap();
    assert!(!rest.contains(&close), "a second {close}");
    inside
}

async fn events(proxy: &Proxy) -> Response<Incoming> {
    let request = Request::get("/_proxy/events").header("host", "localhost");
    proxy.send(request.body(Full::default()).unwrap()).await
}

/// The number of the next event.
async fn next(events: &mut Response<Incoming>) -> u64 {
    let frame = tokio::time::timeout(Duration::from_secs(60), events.frame()).await;
    let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(data.to_vec()).unwrap();
    let number = text.strip_prefix("event: verdicts\ndata: ").unwrap();
    number.strip_suffix("\n\n").unwrap().parse().unwrap()
}

async fn listed(proxy: &Proxy) -> Vec<String> {
    let verdicts = proxy.get("/_proxy/verdicts").await.json();
    let entries = verdicts["verdicts"].as_array().unwrap().iter();
    entries
        .map(|entry| match entry["code"].as_str() {
            Some(code) => code.to_owned(),
            None if entry["stands"] == true => "stands".to_owned(),
            None => "former".to_owned(),
        })
        .collect()
}

/// The report of the verdict on a request.
async fn report_of(fake: &Running) -> serde_json::Value {
    let proxy = Proxy::in_front_of(fake).await;
    let answer = proxy.chat().await;
    let id = answer.header("x-verified-proxy-verdict");
    proxy.get(&format!("/_proxy/verdicts/{id}")).await.json()
}

/// What the page shows of a report is in its JSON, by these names.
#[tokio::test]
async fn a_verdict_has_what_the_page_shows() {
    let report = report_of(&fake().await).await;
    for name in [
        "spki", "ca_chain", "id", "at", "facts", "checks", "limits", "findings",
    ] {
        assert!(!report[name].is_null(), "{name}: {report}");
    }
    let deployment = &report["deployment"];
    assert_eq!(deployment["actions"], 4, "{deployment}");
    for name in ["first", "last", "up", "manager"] {
        assert!(!deployment[name].is_null(), "{name}: {deployment}");
    }
    for name in ["service", "file", "tag", "commit", "since"] {
        assert!(
            deployment["up"][0][name].is_string(),
            "{name}: {deployment}"
        );
    }
    assert_eq!(report["gpus"].as_array().unwrap().len(), 8);
    for name in [
        "chip",
        "driver",
        "vbios",
        "protected_pcie",
        "pdi",
        "measurements_sha384",
    ] {
        assert!(report["gpus"][0][name].is_string(), "{name}");
    }
    for name in ["severity", "topic", "detail"] {
        assert!(report["findings"][0][name].is_string(), "{name}");
    }
}

#[tokio::test]
async fn the_document_allows_itself_and_nothing_else() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let (answer, text) = document(&proxy).await;
    let hash = |tag| {
        let digest = digest::digest(&digest::SHA256, inside(&text, tag).as_bytes());
        format!("'sha256-{}'", BASE64_STANDARD.encode(digest.as_ref()))
    };
    let mut policy: Vec<_> = answer
        .header("content-security-policy")
        .split("; ")
        .collect();
    policy.sort_unstable();
    assert_eq!(
        policy,
        [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src data:",
            "require-trusted-types-for 'script'",
            &format!("script-src {}", hash("script")),
            &format!("style-src {}", hash("style")),
            "trusted-types 'none'",
        ]
    );
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let head = Request::head("/_proxy/").header("host", "localhost");
    let head = proxy.request(head.body(Full::default()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn the_document_names_no_other_place_and_makes_no_markup() {
    let fake = fake().await;
    let (_, text) = document(&Proxy::in_front_of(&fake).await).await;
    // Data comes later, and an unfilled place would be seen.
    for absent in [
        "://",
        "url(",
        "@import",
        "srcdoc",
        "{{",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "localStorage",
        "sessionStorage",
        "cookie",
        MODEL,
        DOMAIN,
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    let markup = text.replace(inside(&text, "script"), "");
    let attributes: BTreeSet<_> = markup
        .split('<')
        .flat_map(|tag| tag.split('>').next().unwrap().split_whitespace().skip(1))
        .filter_map(|attribute| Some(attribute.split_once('=')?.0))
        .collect();
    let handlers: Vec<_> = attributes
        .iter()
        .filter(|name| name.starts_with("on"))
        .collect();
    assert!(attributes.contains("id"), "{attributes:?}");
    assert!(handlers.is_empty(), "{handlers:?}");
    assert!(!attributes.contains("style"), "{attributes:?}");
    let links: Vec<_> = markup
        .match_indices("href=")
        .map(|(at, _)| &markup[at..at + 7])
        .collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(link == "href=\"#" || link == "href=\"d", "{link}");
    }
}

#[tokio::test]
async fn it_says_what_this_proxy_is_and_what_codes_mean() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.policy = attest::Policy::built_in("hardware").unwrap();
    config.webpki = proxy::config::WebPki::Off;
    config.verdict_ttl = Duration::from_secs(90);
    let about = Proxy::start(config.clone())
        .await
        .get("/_proxy/about")
        .await
        .json();
    assert_eq!(about["policy"]["name"], "hardware");
    assert_eq!(about["policy"]["hardware_only"], true);
    assert_eq!(
        about["policy"]["digest"],
        config.policy.digest().to_string()
    );
    assert_eq!(about["trust_root"], "DANGER: not Intel's");
    assert_eq!(about["ca_chain"], "not required");
    assert_eq!(about["verdict_ttl_seconds"], 90);
    let codes = about["codes"].as_object().unwrap();
    assert_eq!(codes.len(), attest::Explanation::all().count());
    for known in attest::Explanation::all() {
        assert_eq!(codes[known.code]["meaning"], known.meaning);
        let advice = codes[known.code]["remedy"].as_str().unwrap();
        assert!([known.remedy, known.blame.remedy()].contains(&advice));
        assert_no_command(known.code, advice);
        assert_no_command(known.code, known.meaning);
    }
    // Each fact of a report has words, which are no names of JSON.
    let facts = about["facts"].as_array().unwrap();
    let words_of = |name: &str| {
        let fact = facts.iter().find(|fact| fact["name"] == name);
        fact.map(|fact| fact["words"].as_str().unwrap())
    };
    for (name, _) in report_of(&fake).await["facts"].as_object().unwrap() {
        let words = words_of(name).unwrap_or_else(|| panic!("no words for {name}"));
        assert!(!words.is_empty() && !words.contains('_'), "{words}");
    }
    let machine = "machine by its host's word, of which only the memory is measured";
    assert_eq!(words_of("machine_unmeasured"), Some(machine));
    // Of each group and check that a report has, under the same names.
    let report = serde_json::to_value(report_of(&fake).await).unwrap();
    let groups = about["groups"].as_array().unwrap();
    for check in report["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        assert!(about["compared"][id].is_string(), "{id}");
        let own = groups
            .iter()
            .find(|group| group["title"] == check["group"])
            .unwrap_or_else(|| panic!("no {}", check["group"]));
        assert!(own["proves"].is_string(), "{own}");
    }
    assert_eq!(groups.len(), attest::Group::ALL.len());
}

/// What people could be made to copy from a page that only looks like this one.
fn assert_no_command(of: &str, text: &str) {
    for command in [
        "verified-proxy ",
        "policy accept ",
        "--",
        "`",
        "policy line",
    ] {
        assert!(!text.contains(command), "{of}: {text}");
    }
}

/// What the page shows of a refusal: what differs, and nothing to copy.
#[tokio::test]
async fn a_refusal_shows_what_differs_and_no_command() {
    for (tampering, what) in [
        ("other-os-image", "firmware (MRTD)"),
        ("tcb-out-of-date", "patch level of the platform"),
        ("debug-td", "attributes of the virtual machine"),
    ] {
        let fake = fake().await;
        fake.tamper(tampering).unwrap();
        let proxy = Proxy::start(config(&fake)).await;
        assert_ne!(proxy.chat().await.status, StatusCode::OK);
        let list = proxy.get("/_proxy/verdicts").await.json();
        let id = list["verdicts"][0]["id"].as_str().unwrap().to_owned();
        let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
        let differences = report["differences"].as_array().unwrap();
        assert!(
            differences.iter().any(|own| own["what"] == what),
            "{report}"
        );
        let mut shown = vec![report["message"].as_str().unwrap().to_owned()];
        for own in differences {
            assert_ne!(own["expected"], own["seen"], "{own}");
            let parts = ["what", "expected", "seen"];
            shown.extend(parts.map(|part| own[part].as_str().unwrap().to_owned()));
        }
        for check in report["checks"].as_array().unwrap() {
            shown.push(check["detail"].as_str().unwrap().to_owned());
        }
        for text in shown {
            assert_no_command(tampering, &text);
        }
    }
    // The hint of a verdict has such lines: it is for programs and the terminal.
    let page = include_str!("../../../proxy/src/page/page.js").to_owned()
        + include_str!("../../../proxy/src/page/report.js")
        + include_str!("../../../proxy/src/page/page.html");
    for word in [
        "hint",
        "verified-proxy policy",
        "policy accept ",
        "--accept",
    ] {
        assert!(!page.contains(word), "{word}");
    }
}

#[tokio::test]
async fn an_event_comes_with_each_change_of_the_verdicts() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(5);
    let proxy = Proxy::start(config).await;
    let mut listener = events(&proxy).await;
    assert_eq!(listener.status(), StatusCode::OK);
    assert_eq!(listener.headers()["content-type"], "text/event-stream");
    assert_eq!(listener.headers()["cache-control"], "no-store");
    // One at once: what was read before it may be old.
    assert_eq!(next(&mut listener).await, 0);
    assert!(listed(&proxy).await.is_empty());

    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // In use, so it is to be renewed in the background.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(next(&mut listener).await, 1);
    assert_eq!(listed(&proxy).await, ["stands"]);
    // Who comes later is told where it is at.
    let mut late = events(&proxy).await;
    assert_eq!(next(&mut late).await, 1);
    fake.tamper("debug-td").unwrap();
    assert_eq!(next(&mut listener).await, 2);
    let listed = listed(&proxy).await;
    assert_eq!(listed, ["rejected_td_debug", "former"]);
    assert_eq!(next(&mut late).await, 2);
}

#[tokio::test]
async fn an_event_comes_when_a_verdict_has_expired() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(2);
    let proxy = Proxy::start(config).await;
    let mut listener = events(&proxy).await;
    assert_eq!(next(&mut listener).await, 0);
    // Nobody uses it after it was made, so it is not made anew.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(next(&mut listener).await, 1);
    assert_eq!(next(&mut listener).await, 2);
    assert_eq!(listed(&proxy).await, ["former"]);
}

#[tokio::test]
async fn listeners_are_bounded_and_their_places_are_given_back() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let mut listeners = Vec::new();
    for _ in 0..32 {
        let mut listener = events(&proxy).await;
        assert_eq!(next(&mut listener).await, 0);
        listeners.push(listener);
    }
    let one_more = events(&proxy).await;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(proxy.get("/_proxy/events").await.code(), "busy");
    // Others are served meanwhile.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    drop(listeners.pop());
    for _ in 0..500 {
        let listener = events(&proxy).await;
        if listener.status() == StatusCode::OK {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn events_end_with_the_proxy_and_do_not_hold_it_up() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.drain = Duration::from_secs(600);
    let mut proxy = Proxy::start(config).await;
    let mut listener = events(&proxy).await;
    assert_eq!(next(&mut listener).await, 0);
    proxy.stop.take().unwrap().send(()).unwrap();
    // The clean end of an answer, not a connection that breaks off.
    let end = async {
        let rest = listener.into_body().collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
        (&mut proxy.task).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), end)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_a_token_the_document_is_all_that_is_shown() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.guard.tokens = Some(ClientTokens::parse(&format!("ann {TOKEN}")).unwrap());
    let proxy = Proxy::start(config).await;
    document(&proxy).await;
    for path in [
        "/_proxy/about",
        "/_proxy/events",
        "/_proxy/verdicts",
        "/_proxy/?x",
        "/_proxy//",
        "/_proxy/x",
        "/_proxy",
        "/",
        "/v1/models",
    ] {
        let answer = proxy.get(path).await;
        if path == "/_proxy/?x" {
            // The same document: its query is nobody's.
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            continue;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.code(), "client_token_required", "{path}");
    }
    let post = Request::post("/_proxy/").header("host", "localhost");
    let post = proxy.request(post.body(Full::default()).unwrap()).await;
    assert_eq!(post.code(), "client_token_required");
    // Nor does the exception let in whom the guard keeps out for other reasons.
    for (name, value, code) in [
        ("host", "evil.example", "host_not_allowed"),
        ("sec-fetch-site", "cross-site", "origin_not_allowed"),
    ] {
        let mut request = Request::get("/_proxy/");
        if name != "host" {
            request = request.header("host", "localhost");
        }
        let request = request.header(name, value).body(Full::default()).unwrap();
        assert_eq!(proxy.request(request).await.code(), code);
    }
    let about = Request::get("/_proxy/about")
        .header("host", "localhost")
        .header("x-verified-proxy-token", TOKEN);
    let about = proxy.request(about.body(Full::default()).unwrap()).await;
    assert_eq!(about.status, StatusCode::OK);
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn the_bare_address_leads_to_the_page_unless_it_names_a_backend() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["the backend's own"], End::Clean))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    for path in ["/", "/_proxy", "/?x=1"] {
        let answer = proxy.get(path).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{path}");
        assert_eq!(answer.header("location"), "/_proxy/", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    assert_eq!(proxy.get("/index.html").await.code(), "not_found");
    let post = Request::post("/").header("host", "localhost");
    let post = proxy.request(post.body(Full::default()).unwrap()).await;
    assert_eq!(post.code(), "no_backend");
    assert!(backend.lines().is_empty());

    let model = format!("/?model={MODEL}");
    let named = Request::get("/")
        .header("host", "localhost")
        .header("x-backend-domain", DOMAIN);
    let named = proxy.request(named.body(Full::default()).unwrap()).await;
    for answer in [proxy.get(&model).await, named] {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body, "the backend's own");
    }
    let foreign = Request::get("/")
        .header("host", "localhost")
        .header("x-backend-domain", "evil.example");
    let foreign = proxy.request(foreign.body(Full::default()).unwrap()).await;
    assert_eq!(foreign.code(), "backend_not_allowed");
}
