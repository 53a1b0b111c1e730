//! The proxy's own error codes, beside those of refused evidence
//! ([`attest::Explanation`]). Stable: added to, never renamed.

use std::fmt::Write as _;

use attest::{Blame, Explanation};

macro_rules! codes {
    ($($variant:ident $code:literal $status:literal $meaning:literal $remedy:literal;)*) => {
        /// A code of the proxy's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($variant,)*
        }

        impl Code {
            /// As it stands in `error.code`.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What to do about it, where nothing more is known.
            pub(crate) const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }

        const TABLE: &[(&str, &str, &str, &str)] = &[$(($code, $status, $meaning, $remedy),)*];
    };
}

codes! {
    BadRequest "bad_request" "400, 408, 501"
        "The request is malformed, broke off, stalled, or asks for something that is not forwarded (CONNECT, TRACE, upgrades, other transfer-codings)."
        "Mend the request; the message says what was wrong.";
    NoBackend "no_backend" "400"
        "The request names no model and no backend."
        "Name a model at the top level of a JSON body, in a form's field `model` or in `?model=`, or a backend in the header X-Backend-Domain.";
    BackendNotAllowed "backend_not_allowed" "403"
        "The backend is outside the allowed domains, an IP address, or has a port or userinfo."
        "Use a name under completions.near.ai, or allow another with --allow-domain.";
    HostNotAllowed "host_not_allowed" "403"
        "The request is for a host that is not this proxy: a web page can make its own name lead here."
        "Use localhost or 127.0.0.1, or allow a name with --allow-host.";
    OriginNotAllowed "origin_not_allowed" "403"
        "The request comes from a web page that may not use this proxy."
        "Allow the page's origin with --allow-origin.";
    ClientTokenRequired "client_token_required" "401"
        "The proxy asks its clients for a token, and the request brings none that it knows."
        "Send a token of --client-token-file as the API key, or in the header X-Verified-Proxy-Token.";
    ModelNotFound "model_not_found" "404"
        "The endpoint list has no such model."
        "GET /v1/models lists the names; the message names close matches.";
    NotFound "not_found" "404"
        "The proxy has no such page, no longer has this report, or does not know which backend gave the answer whose signature was requested."
        "/_proxy/, /_proxy/about, /_proxy/events, /_proxy/live, /_proxy/ready, /_proxy/metrics, /_proxy/verdicts and /_proxy/verdicts/{id} exist; an answer's id is known for 20 minutes, X-Backend-Domain or `?model=` names a backend directly.";
    MethodNotAllowed "method_not_allowed" "405"
        "The proxy's own pages are read with GET."
        "Use GET.";
    BodyTooLarge "body_too_large" "413"
        "The request's body is larger than the limit."
        "Raise --max-body, or send less.";
    BackendUnreachable "backend_unreachable" "502"
        "No connection to the backend, or it was closed before the request was sent."
        "Try again; check the network and, behind a TLS-inspecting proxy, --extra-ca.";
    BackendTimeout "backend_timeout" "504"
        "The backend did not answer in time."
        "Try again. --attest-timeout limits how long a first request may wait for a verified connection.";
    BackendCertificate "backend_certificate" "502"
        "No certificate authority vouches for the backend's name, or the backend does not hold its key."
        "Name an authority of your own with --extra-ca. If the key is not held, somebody is in the middle.";
    BackendRedirect "backend_redirect" "502"
        "The backend redirects to another place, where nothing is verified."
        "Report it to the backend's operator.";
    BackendBrokeOff "backend_broke_off" "502"
        "The connection broke after the request was sent, or the answer has no clear end and is not passed on; the backend may have done its work."
        "Decide whether to send it again.";
    EvidenceUnavailable "evidence_unavailable" "502"
        "The backend answered the attestation request with an error."
        "A backend that is starting answers 502 or 503; one outside a TEE 404.";
    LevelNotReached "level_not_reached" "502"
        "The backend is verified, but the request, its token or its model asks for a level that the backend's verdict does not reach. The proxy sent nothing."
        "Ask for a lower level in X-Verified-Proxy-Require, on the token's line in --client-token-file or in --model-levels, or wait until the backend reaches the level.";
    EndpointsUnavailable "endpoints_unavailable" "503"
        "The endpoint list could not be fetched and none is known from before."
        "Check the network and --endpoints-url; `verified-proxy doctor` finds out why.";
    CollateralUnavailable "collateral_unavailable" "503"
        "Intel's documents about the backend's platform could not be fetched, or not in time."
        "Check the network; --pccs-url names another source.";
    SourceTimeout "source_timeout" "503"
        "The proxy was still waiting for compose files or for NVIDIA's opinion when the time for a first request ended; the message says which."
        "Try again; raise --attest-timeout, which is shorter than these sources may take, or see what --compose-files-url and --nras-url name.";
    NoRandomness "no_randomness" "503"
        "This machine's random number generator failed, so no nonce could be made."
        "Look at the machine.";
    Busy "busy" "503"
        "Too much is waiting already."
        "Try again after the time in Retry-After.";
    ShuttingDown "shutting_down" "503"
        "The proxy was told to stop: it finishes the answers under way and takes no more requests."
        "Try again on a new connection, once the proxy has started again.";
}

/// Whose doing a refusal is, for people.
const fn words_of(blame: Blame) -> &'static str {
    match blame {
        Blame::Machine => {
            "the backend's evidence contradicts a signature or the policy, lacks what the policy demands, or cannot be read"
        }
        Blame::Unknown => "an honest change and an attack look the same here",
        Blame::Age => "the evidence is genuine and newer than this program",
        Blame::Collateral => "Intel's documents, or their source",
        Blame::Clock => "a clock, most likely this machine's",
        Blame::Sources => "something that others than the backend provide",
        Blame::Request => "what was asked for",
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
    for (code, status, meaning, remedy) in TABLE {
        let _ = writeln!(text, "| `{code}` | {status} | {meaning} | {remedy} |");
    }
    text.push_str(
        "\n## Refused evidence\n\n\
         In the order in which the checks run; the status is 502. `evidence_*`: the report cannot be\n\
         understood. `rejected_*`: it does not prove what it should. \"Blame\" says whose doing it is:\n\n",
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
