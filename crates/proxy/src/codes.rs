//! The proxy's own error codes, beside those of refused evidence
//! ([`attest::Explanation`]). Stable: added to, never renamed.

use std::fmt::Write as _;

use attest::{Blame, Explanation};
use http::StatusCode;

/// Whether sending the same request again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    Helps,
    HelpsLater,
    Useless,
    /// The backend may have done the work already: a person decides, not an SDK.
    Unsafe,
}

// `error.type` of an answer.
const REQUEST: &str = "invalid_request_error";
pub(crate) const VERIFICATION: &str = "tee_verification_failed";
const UPSTREAM: &str = "upstream_error";
const PROXY: &str = "proxy_error";

/// What is fixed for a code.
#[derive(Debug)]
pub(crate) struct Row {
    /// As it stands in `error.code`.
    pub(crate) code: &'static str,
    /// The usual one, and those that some causes get instead.
    status: &'static [StatusCode],
    /// As it stands in `error.type`.
    pub(crate) kind: &'static str,
    pub(crate) retry: Retry,
    meaning: &'static str,
    /// What to do about it, where nothing more is known.
    pub(crate) remedy: &'static str,
}

impl Row {
    pub(crate) fn status(&self) -> StatusCode {
        self.status[0]
    }
}

macro_rules! codes {
    ($($variant:ident $code:literal [$($status:ident),+] $kind:ident $retry:ident
        $meaning:literal $remedy:literal;)*) => {
        /// A code of the proxy's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($variant,)*
        }

        impl Code {
            pub(crate) const fn row(self) -> &'static Row {
                &TABLE[self as usize]
            }
        }

        const TABLE: &[Row] = &[$(Row {
            code: $code,
            status: &[$(StatusCode::$status),+],
            kind: $kind,
            retry: Retry::$retry,
            meaning: $meaning,
            remedy: $remedy,
        },)*];
    };
}

codes! {
    BadRequest "bad_request" [BAD_REQUEST, REQUEST_TIMEOUT, URI_TOO_LONG, UPGRADE_REQUIRED, REQUEST_HEADER_FIELDS_TOO_LARGE, NOT_IMPLEMENTED] REQUEST Useless
        "The request is malformed, broke off, stalled, has a head beyond the limits, or asks for something that is not forwarded (CONNECT, TRACE, WebSocket, other transfer-codings)."
        "Correct the request; the message says what was wrong.";
    NoBackend "no_backend" [BAD_REQUEST] REQUEST Useless
        "The request names no model and no backend."
        "Name a model at the top level of a JSON body, in a form's field `model` or in `?model=`, or a backend in the header X-Backend-Domain.";
    BodyCompressed "body_compressed" [UNSUPPORTED_MEDIA_TYPE] REQUEST Useless
        "The body has a Content-Encoding, so no model is read from it, and the request names none elsewhere."
        "Send it uncompressed (Codex: features.enable_request_compression=false), or name the model in `?model=` or a backend in the header X-Backend-Domain.";
    BackendNotAllowed "backend_not_allowed" [FORBIDDEN] REQUEST Useless
        "The backend is outside the allowed domains, an IP address, or has a port or userinfo."
        "Use a name under completions.near.ai, or allow another with --allow-domain.";
    HostNotAllowed "host_not_allowed" [FORBIDDEN] REQUEST Useless
        "The request is for a host that is not this proxy: a web page can make its own name resolve to this address (DNS rebinding)."
        "Use http://127.0.0.1, or allow another name of this machine with --allow-host.";
    OriginNotAllowed "origin_not_allowed" [FORBIDDEN] REQUEST Useless
        "The request comes from a web page that may not use this proxy."
        "Allow the page's origin with --allow-origin, such as --allow-origin http://localhost:3000.";
    ClientTokenRequired "client_token_required" [UNAUTHORIZED] REQUEST Useless
        "The proxy asks its clients for a token, and the request has none that it knows."
        "Send a token of --client-token-file as the API key (Authorization: Bearer …), or in the header X-Verified-Proxy-Token beside an API key of your own.";
    ModelNotFound "model_not_found" [NOT_FOUND] REQUEST Useless
        "The endpoint list has no such model."
        "GET /v1/models lists the names; the message names close matches.";
    NotFound "not_found" [NOT_FOUND] REQUEST Useless
        "The proxy has no such page, no longer has this report, or does not know which backend gave the answer whose signature was requested; or the path is one that no backend has (the client's base URL is wrong)."
        "Base URLs end in /v1 (Anthropic's clients add it themselves). /v1/models, /_proxy/, /_proxy/about, /_proxy/events, /_proxy/live, /_proxy/ready, /_proxy/metrics, /_proxy/verdicts and /_proxy/verdicts/{id} exist; an answer's id is known for 20 minutes, X-Backend-Domain or `?model=` names a backend directly.";
    MethodNotAllowed "method_not_allowed" [METHOD_NOT_ALLOWED] REQUEST Useless
        "The proxy's own pages are read with GET."
        "Use GET.";
    BodyTooLarge "body_too_large" [PAYLOAD_TOO_LARGE] REQUEST Useless
        "The request's body is larger than the limit."
        "Raise --max-body, or send less.";
    BackendUnreachable "backend_unreachable" [BAD_GATEWAY] UPSTREAM Helps
        "The proxy has no connection to the backend, or it was closed before the request was sent."
        "Try again; check the network and, behind a TLS-inspecting proxy, --extra-ca.";
    BackendTimeout "backend_timeout" [GATEWAY_TIMEOUT] UPSTREAM Helps
        "The backend did not answer in time. `x-should-retry: false` says that it has the whole request and may be at work."
        "Try again, unless the backend may be at work. --attest-timeout limits how long a first request may wait for a verified connection.";
    OutgoingProxyUnreachable "outgoing_proxy_unreachable" [BAD_GATEWAY] UPSTREAM Helps
        "The proxy for outgoing connections (--proxy, HTTPS_PROXY, ALL_PROXY) could not be reached, or broke off."
        "Check --proxy, or connect directly with --proxy none.";
    OutgoingProxyRefused "outgoing_proxy_refused" [BAD_GATEWAY] UPSTREAM Useless
        "The proxy for outgoing connections asks for a user name and password, does not let the backend's name and port through, could not reach it, or does not answer as a proxy does. The message says which."
        "Give the user name and password in --proxy, or ask for the name and port 443 to be allowed there.";
    BackendCertificate "backend_certificate" [BAD_GATEWAY] VERIFICATION Useless
        "No certificate authority vouches for the backend's name, or the backend does not hold its key."
        "Name an authority of your own with --extra-ca. If the backend does not hold the key, another machine intercepts the connection: do not use this network path.";
    BackendRedirect "backend_redirect" [BAD_GATEWAY] UPSTREAM Useless
        "The backend redirects to another address, which is not verified. The proxy does not pass the redirect on."
        "Report it to the backend's operator.";
    BackendBrokeOff "backend_broke_off" [BAD_GATEWAY] UPSTREAM Unsafe
        "The connection broke after the request was sent, or the answer has no clear end and is not passed on; the backend may have done its work. Unless the request is a GET, HEAD or OPTIONS, `x-should-retry: false` keeps SDKs from ordering the work again."
        "Decide whether to send it again.";
    EvidenceUnavailable "evidence_unavailable" [BAD_GATEWAY] VERIFICATION Useless
        "The backend answered the attestation request with an error."
        "Wait if the status is 502 or 503: the backend is starting. A backend outside a TEE answers 404.";
    LevelNotReached "level_not_reached" [BAD_GATEWAY] VERIFICATION Useless
        "The backend is verified, but the request, its token or its model asks for a level that the backend's verdict does not reach. The proxy sent nothing."
        "Ask for a lower level in X-Verified-Proxy-Require, on the token's line in --client-token-file or in --model-levels, or wait until the backend reaches the level.";
    EndpointsUnavailable "endpoints_unavailable" [SERVICE_UNAVAILABLE] PROXY Helps
        "The proxy could not fetch the endpoint list and has none from before."
        "Check the network and --endpoints-url; `verified-proxy doctor` finds out why.";
    CollateralUnavailable "collateral_unavailable" [SERVICE_UNAVAILABLE] PROXY Helps
        "The proxy could not fetch Intel's documents about the backend's platform, or not in time."
        "Check the network, or name another source with --pccs-url.";
    SourceTimeout "source_timeout" [SERVICE_UNAVAILABLE] PROXY Helps
        "The proxy was still waiting for compose files or for NVIDIA's opinion when the time for a first request ended; the message says which."
        "Try again; raise --attest-timeout, which is shorter than these sources may take, or check --compose-files-url and --nras-url.";
    NoRandomness "no_randomness" [SERVICE_UNAVAILABLE] PROXY Helps
        "This machine's random number generator failed, so no nonce could be made."
        "Check this machine's operating system.";
    Busy "busy" [SERVICE_UNAVAILABLE] PROXY HelpsLater
        "A limit is reached: of clients' connections, of requests that wait for one backend, of memory for bodies, or of clients that listen to events; the message says which."
        "Try again after the time in Retry-After.";
    ShuttingDown "shutting_down" [SERVICE_UNAVAILABLE] PROXY HelpsLater
        "The proxy was told to stop: it finishes the answers under way and takes no more requests."
        "Try again on a new connection, once the proxy has started again.";
}

/// What caused a refusal, for people.
const fn words_of(blame: Blame) -> &'static str {
    match blame {
        Blame::Machine => {
            "the backend's evidence contradicts a signature or the policy, lacks what the policy demands, or cannot be read"
        }
        Blame::Unknown => "an honest change and an attack look the same here",
        Blame::Age => "the evidence is genuine and newer than this program",
        Blame::Collateral => "Intel's documents, or their source",
        Blame::Clock => "a clock, most likely this machine's",
        Blame::Sources => "something that a party other than the backend provides",
        Blame::Request => "what the request or the command asked for",
    }
}

/// docs/codes.md.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Codes\n\n\
         Generated from the code by `scripts/docs`. Codes are never renamed.\n\
         They stand in `error.code` of an answer, and in `code` of `verify --json`.\n\n\
         ## The proxy's own\n\n| code | status | what it means | what to do |\n|---|---|---|---|\n",
    );
    // Writing to a String cannot fail.
    for row in TABLE {
        let status: Vec<_> = row.status.iter().map(StatusCode::as_str).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            row.code,
            status.join(", "),
            row.meaning,
            row.remedy
        );
    }
    text.push_str(
        "\n## Refused evidence\n\n\
         In the order in which the checks run; the status is 502. `evidence_*`: the report cannot be\n\
         understood. `rejected_*`: it does not prove what it should. \"Blame\" says what causes it:\n\n",
    );
    for blame in Blame::ALL {
        let _ = writeln!(text, "- `{}`: {}", blame.as_str(), words_of(blame));
    }
    text.push_str(
        "\n| code | check | blame | what it means | what to do |\n|---|---|---|---|---|\n",
    );
    for explanation in Explanation::all() {
        let Explanation {
            code,
            checks,
            blame,
            meaning,
            remedy,
            ..
        } = explanation;
        let checks: Vec<_> = checks.iter().map(|check| check.id()).collect();
        let (checks, blame) = (checks.join(", "), blame.as_str());
        let _ = writeln!(
            text,
            "| `{code}` | {checks} | {blame} | {meaning} | {remedy} |"
        );
    }
    text
}
