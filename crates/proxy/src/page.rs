//! The page for people at `/_proxy/`: one document with its style and script inside,
//! what it says about this proxy, and events that keep it current.
//!
//! The document holds no data. It asks for `/_proxy/about`, `/_proxy/verdicts`
//! and the reports. Their texts come from backends: the document's Content-Security-Policy
//! allows no way to make markup or script of them.

use std::time::Duration;

use attest::{CheckId, Explanation, Group, Policy, TrustAnchors};
use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Either;
use sources::webpki::WebPki;
use upstream::admission::{Client, Counts, Full};
use upstream::verdicts::Verdicts;

use crate::body::{self, Body};
use crate::events::Listeners;
use crate::report_labels::FACTS;
use crate::shutdown::Running;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(include_str!("page/report.js"), include_str!("page/page.js"));

/// The document, what it says about this proxy, and the listeners to its verdicts.
#[derive(Debug)]
pub(crate) struct Page {
    document: Bytes,
    policy: HeaderValue,
    about: Bytes,
    listeners: Listeners,
}

impl Page {
    pub(crate) fn new(
        policy: &Policy,
        anchors: &TrustAnchors,
        webpki: WebPki,
        verdict_ttl: Duration,
        counts: Counts,
    ) -> Self {
        let codes: serde_json::Map<_, _> = Explanation::all()
            .map(|of| {
                let words = serde_json::json!({ "meaning": of.meaning, "remedy": advice(of) });
                (of.code.to_owned(), words)
            })
            .collect();
        let groups: Vec<_> = Group::ALL
            .into_iter()
            .map(|group| serde_json::json!({ "title": group.title(), "proves": group.proves() }))
            .collect();
        let compared: serde_json::Map<_, _> = CheckId::ALL
            .iter()
            .map(|check| (check.id().to_owned(), check.compared().into()))
            .collect();
        let facts: Vec<_> = FACTS
            .iter()
            .map(|fact| serde_json::json!({ "name": fact.name, "words": fact.words }))
            .collect();
        let about = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "policy": {
                "name": policy.name(),
                "date": policy.date(),
                "digest": policy.digest().to_string(),
                "hardware_only": policy.hardware_only(),
            },
            "trust_root": if anchors.is_intel() { "intel" } else { "DANGER: not Intel's" },
            "gpu_root": if anchors.gpus().is_nvidia() { "nvidia" } else { "DANGER: not NVIDIA's" },
            "nras_root": if anchors.nras().is_nvidia() { "nvidia" } else { "DANGER: not NVIDIA's" },
            "ca_chain": webpki.as_str(),
            "verdict_ttl_seconds": verdict_ttl.as_secs(),
            "codes": codes,
            "groups": groups,
            "compared": compared,
            "facts": facts,
        });
        let document = DOCUMENT
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT);
        Self {
            document: document.into(),
            policy: content_security_policy(),
            about: about.to_string().into(),
            listeners: Listeners::new(counts),
        }
    }

    pub(crate) fn document(&self) -> Response<Body> {
        let mut response = body::own(
            StatusCode::OK,
            "text/html; charset=utf-8",
            self.document.clone(),
        );
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // No opener and no embedding page can reach it, also in browsers that do
            // not know frame-ancestors.
            (header::X_FRAME_OPTIONS, "DENY"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    pub(crate) fn about(&self) -> Response<Body> {
        body::json(StatusCode::OK, self.about.clone())
    }

    /// Sends an event now and with each change of `verdicts`, until `running` stops.
    /// Fails if too many clients listen already.
    pub(crate) fn events(
        &self,
        client: &Client,
        verdicts: &Verdicts,
        running: &Running,
    ) -> Result<Response<Body>, Full> {
        let events = self
            .listeners
            .open(client, verdicts.changes(), running.stopping())?;
        let mut response = Response::new(Either::Right(Either::Right(events)));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// How many clients listen to events, and how many may.
    pub(crate) fn listeners(&self) -> (usize, usize) {
        self.listeners.held()
    }
}

/// What to do about a refusal, without commands, options and lines for a policy: another
/// program on this port could show a page like this one with a harmful command in it, so
/// people must not expect commands here.
fn advice(of: &Explanation) -> &'static str {
    let is_command = |text: &str| {
        let signs = ["--", " = ", "`", "verified-proxy "];
        signs.iter().any(|sign| text.contains(sign))
    };
    if is_command(of.remedy) {
        of.blame.remedy()
    } else {
        of.remedy
    }
}

/// Allows exactly this style and this script, and no way from a text to markup (CSP 3,
/// Trusted Types). "self" would also allow scripts in backends' answers, which have the
/// proxy's origin. `img-src data:` is for the empty icon, so that browsers request none.
fn content_security_policy() -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        digest_of(SCRIPT),
        digest_of(STYLE)
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

fn digest_of(text: &str) -> String {
    BASE64_STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}
