//! The table: every error, exhaustively, and the one line that it becomes. Nobody
//! reads the text of a message.

use std::fmt::Write as _;

use attest::Rejected;
use http::StatusCode;
use sources::endpoints::EndpointsError;
use sources::fetch::FetchError;
use upstream::guard::NotAdmitted;
use upstream::verdicts;
use upstream::{
    AttemptError, AttestError, BodyError, DialError, ForwardError, Framing, PathError, SealError,
    WaitedFor,
};

use super::Failure;
use crate::codes::Code;
use crate::route::RouteError;

/// Whether sending the same again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Helps,
    HelpsLater,
    Useless,
    /// The backend may have done the work already: the client decides.
    Unsafe,
}

/// One line of the table. Who is no HTTP client gets the code and the words.
#[derive(Debug)]
pub struct Line {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub code: &'static str,
    pub(super) retry: Retry,
    pub message: String,
    pub hint: Option<String>,
}

const REQUEST: &str = "invalid_request_error";
const VERIFICATION: &str = "tee_verification_failed";
const UPSTREAM: &str = "upstream_error";
const PROXY: &str = "proxy_error";

impl Line {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        retry: Retry,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            retry,
            message: message.into(),
            hint: None,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

pub fn line(failure: &Failure) -> Line {
    match failure {
        Failure::NotAdmitted(refused) => not_admitted_line(*refused),
        Failure::Framing(framing) => framing_line(*framing),
        Failure::Seal(error) => match error {
            SealError::Body(error) => body_line(*error),
            SealError::NoMemory => busy(error.to_string()),
        },
        Failure::Route(error) => route_line(error),
        Failure::Endpoints(error) => Line::new(
            StatusCode::SERVICE_UNAVAILABLE,
            PROXY,
            Code::EndpointsUnavailable.as_str(),
            Retry::Helps,
            format!("the endpoint list is not available: {error}"),
        )
        .hint(format!("{}; `verified-proxy doctor` finds out why", remedy(error))),
        Failure::Path(error) => path_line(error),
        Failure::Forward(error) => forward_line(error),
        Failure::Busy => busy("too many requests are waiting for a verified connection"),
        Failure::TooManyListeners => busy("too many listen to events already"),
        Failure::ShuttingDown => Line::new(
            StatusCode::SERVICE_UNAVAILABLE,
            PROXY,
            Code::ShuttingDown.as_str(),
            Retry::HelpsLater,
            "the proxy is stopping and takes no more requests",
        ),
        Failure::NoSuchPage => {
            Line::new(StatusCode::NOT_FOUND, REQUEST, Code::NotFound.as_str(), Retry::Useless, "the proxy has no such page")
                .hint("/_proxy/, /_proxy/about, /_proxy/events, /_proxy/live, /_proxy/ready, /_proxy/metrics, /_proxy/verdicts and /_proxy/verdicts/{id} exist; reports are kept in memory for a while")
        }
        Failure::NotAPage => Line::new(
            StatusCode::METHOD_NOT_ALLOWED,
            REQUEST,
            Code::MethodNotAllowed.as_str(),
            Retry::Useless,
            "the proxy's own pages are read with GET",
        ),
    }
}

/// What to do about a list that cannot be fetched.
pub fn remedy(error: &EndpointsError) -> &'static str {
    match error {
        EndpointsError::Fetch { source, .. } if source.is_about_time() => {
            "by this machine's clock the server's certificate is not valid: set the clock"
        }
        EndpointsError::Fetch {
            source: FetchError::Tls { .. },
            ..
        } => "behind a TLS-inspecting proxy name its authority with --extra-ca",
        EndpointsError::Fetch { .. } | EndpointsError::Lost { .. } => {
            "check the network and --endpoints-url; HTTP proxies (HTTPS_PROXY) are not used"
        }
        EndpointsError::Status { .. } | EndpointsError::Format { .. } => {
            "check --endpoints-url, and whether a network's login page answers in its place"
        }
    }
}

fn not_admitted_line(refused: NotAdmitted) -> Line {
    let line = |status, code: Code, message: &str| {
        Line::new(status, REQUEST, code.as_str(), Retry::Useless, message)
    };
    match refused {
        NotAdmitted::Host => line(
            StatusCode::FORBIDDEN,
            Code::HostNotAllowed,
            "the request is for a host that is not this proxy",
        )
        .hint("use http://localhost or http://127.0.0.1; another name of this machine is allowed with --allow-host"),
        NotAdmitted::Origin => line(
            StatusCode::FORBIDDEN,
            Code::OriginNotAllowed,
            "the request comes from a web page that may not use this proxy",
        )
        .hint("--allow-origin names the pages that may, such as --allow-origin http://localhost:3000"),
        NotAdmitted::Token => line(
            StatusCode::UNAUTHORIZED,
            Code::ClientTokenRequired,
            "this proxy asks its clients for a token",
        )
        .hint("send one of --client-token-file as the API key (Authorization: Bearer …), or in the header X-Verified-Proxy-Token beside a key of your own"),
        NotAdmitted::Require => line(
            StatusCode::BAD_REQUEST,
            Code::BadRequest,
            "the header X-Verified-Proxy-Require asks for something that this version does not know",
        )
        .hint("expected AXIS=LEVEL,... such as deployment=tagged, with the axes hardware, boot, identity, deployment and gpu"),
    }
}

fn framing_line(framing: Framing) -> Line {
    let refused = |status, message: &str| {
        Line::new(
            status,
            REQUEST,
            Code::BadRequest.as_str(),
            Retry::Useless,
            message,
        )
    };
    match framing {
        Framing::Method => refused(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT and TRACE are not forwarded",
        ),
        Framing::Upgrade => refused(
            StatusCode::NOT_IMPLEMENTED,
            "protocol upgrades are not forwarded",
        ),
        Framing::TransferCoding => refused(
            StatusCode::NOT_IMPLEMENTED,
            "the only transfer-coding taken is one \"chunked\"",
        ),
        Framing::Host => refused(
            StatusCode::BAD_REQUEST,
            "an HTTP/1.1 request has one Host header",
        ),
        Framing::Usual | Framing::Target => refused(
            StatusCode::BAD_REQUEST,
            "the request's target is an authority, not a path",
        ),
    }
}

fn route_line(error: &RouteError) -> Line {
    match error {
        RouteError::NoBackend { why } => Line::new(
            StatusCode::BAD_REQUEST,
            REQUEST,
            Code::NoBackend.as_str(),
            Retry::Useless,
            format!("{error}: {why}"),
        )
        .hint("name a model at the top level of a JSON body, in a form's field \"model\" or in ?model=, or a backend in the header X-Backend-Domain"),
        RouteError::Malformed(_) => {
            Line::new(StatusCode::BAD_REQUEST, REQUEST, Code::BadRequest.as_str(), Retry::Useless, error.to_string())
        }
        RouteError::ModelNotFound { close, .. } => {
            let line =
                Line::new(StatusCode::NOT_FOUND, REQUEST, Code::ModelNotFound.as_str(), Retry::Useless, error.to_string());
            if close.is_empty() {
                line.hint("GET /v1/models lists the names")
            } else {
                line.hint(format!("close matches: {}; GET /v1/models lists all", close.join(", ")))
            }
        }
        RouteError::UnknownAnswer => {
            Line::new(StatusCode::NOT_FOUND, REQUEST, Code::NotFound.as_str(), Retry::Useless, error.to_string())
                .hint("ids are known for 20 minutes of this proxy's life; the header X-Backend-Domain or ?model= names a backend directly")
        }
        RouteError::NotAllowed(_) => {
            Line::new(StatusCode::FORBIDDEN, REQUEST, Code::BackendNotAllowed.as_str(), Retry::Useless, error.to_string())
                .hint("--allow-domain names the backends that may be asked")
        }
    }
}

/// The line of the attempt that says most: a refusal, which may be an attack, before a
/// verdict that falls short, and a verdict before a failure to reach one. The others are
/// listed.
fn path_line(error: &PathError) -> Line {
    let is_refusal = |(_, error): &&(_, AttemptError)| matches!(error, AttemptError::Attest(error) if error.refusal().is_some());
    let is_short = |(_, error): &&(_, AttemptError)| matches!(error, AttemptError::BelowLevel(_));
    let refusal = error.attempts.iter().find(is_refusal);
    let verdict = refusal.or_else(|| error.attempts.iter().rfind(is_short));
    let Some((domain, main)) = verdict.or(error.attempts.last()) else {
        return Line::new(
            StatusCode::BAD_GATEWAY,
            UPSTREAM,
            Code::BackendUnreachable.as_str(),
            Retry::Helps,
            "no backend to try",
        );
    };
    let mut line = attempt_line(main);
    let is = match main {
        AttemptError::BelowLevel(_) => "is",
        _ => "was not",
    };
    line.message = format!("{domain} {is} verified, nothing of the request was sent to it: {main}");
    if error.attempts.len() > 1 {
        let _ = write!(
            line.message,
            "\n{} connections were tried",
            error.attempts.len()
        );
        for (domain, error) in &error.attempts {
            let _ = write!(
                line.message,
                "\n- {domain}: {} ({error})",
                attempt_line(error).code
            );
        }
    }
    if let AttemptError::Attest(error) = main
        && let Some(refusal) = error.refusal()
    {
        let id = &refusal.report.id;
        let _ = write!(line.message, "\nreport: GET /_proxy/verdicts/{id}");
    }
    line
}

pub fn attempt_line(error: &AttemptError) -> Line {
    let upstream = |status, code: Code| {
        let message = error.to_string();
        Line::new(status, UPSTREAM, code.as_str(), Retry::Helps, message).hint(code.remedy())
    };
    match error {
        AttemptError::Dial(dial) => match dial {
            DialError::Connect(_) | DialError::Tls(_) | DialError::Http(_) => {
                upstream(StatusCode::BAD_GATEWAY, Code::BackendUnreachable)
            }
            DialError::Timeout(_) => upstream(StatusCode::GATEWAY_TIMEOUT, Code::BackendTimeout),
            DialError::Certificate(_) => Line::new(
                StatusCode::BAD_GATEWAY,
                VERIFICATION,
                Code::BackendCertificate.as_str(),
                Retry::Useless,
                error.to_string(),
            )
            .hint("an authority of your own is named with --extra-ca; --webpki off leaves the decision to the evidence alone"),
            DialError::KeyNotHeld => Line::new(
                StatusCode::BAD_GATEWAY,
                VERIFICATION,
                Code::BackendCertificate.as_str(),
                Retry::Useless,
                error.to_string(),
            )
            .hint("somebody shows a certificate that is not theirs: do not use this network path"),
        },
        AttemptError::Attest(attest) => attest_line(attest),
        AttemptError::BelowLevel(_) => level_line(error.to_string()),
        AttemptError::ClosedAfterProbe(_) | AttemptError::OtherInstance => {
            upstream(StatusCode::BAD_GATEWAY, Code::BackendUnreachable)
        }
        AttemptError::Deadline { waited_for, .. } => match waited_for {
            WaitedFor::Permit => busy(error.to_string()),
            WaitedFor::Connection | WaitedFor::Report => {
                upstream(StatusCode::GATEWAY_TIMEOUT, Code::BackendTimeout)
            }
            WaitedFor::Collateral(_) => no_collateral(error.to_string()),
            WaitedFor::ComposeFiles(_) => source_timeout(error.to_string())
                .hint("a longer --attest-timeout waits for them; --compose-files-url and --compose-tags-url name other sources, or off"),
            WaitedFor::Opinion(_) => source_timeout(error.to_string())
                .hint("a longer --attest-timeout waits for it; --nras-url names another address, and a policy with gpu.nras = \"off\" asks nobody"),
        },
    }
}

fn attest_line(error: &AttestError) -> Line {
    let message = error.to_string();
    match error {
        AttestError::Status(status) => {
            let retry = if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS {
                Retry::Helps
            } else {
                Retry::Useless
            };
            Line::new(
                StatusCode::BAD_GATEWAY,
                VERIFICATION,
                Code::EvidenceUnavailable.as_str(),
                retry,
                message,
            )
            .hint("a backend outside a TEE answers 404, one that is starting 502 or 503")
        }
        AttestError::Timeout(_) => Line::new(
            StatusCode::GATEWAY_TIMEOUT,
            UPSTREAM,
            Code::BackendTimeout.as_str(),
            Retry::Helps,
            message,
        )
        .hint(Code::BackendTimeout.remedy()),
        AttestError::BrokenOff(_) => Line::new(
            StatusCode::BAD_GATEWAY,
            UPSTREAM,
            Code::BackendUnreachable.as_str(),
            Retry::Helps,
            message,
        )
        .hint(Code::BackendUnreachable.remedy()),
        AttestError::NoRandomness => Line::new(
            StatusCode::SERVICE_UNAVAILABLE,
            PROXY,
            Code::NoRandomness.as_str(),
            Retry::Helps,
            message,
        )
        .hint(Code::NoRandomness.remedy()),
        AttestError::Rejected(refusal) | AttestError::RefusedBefore { refusal, .. } => {
            let rejected = &refusal.rejected;
            let retry = match rejected {
                // A rotation, a mixed-up answer, a machine that has just booted.
                Rejected::SpkiMismatch { .. }
                | Rejected::Nonce { .. }
                | Rejected::AppCertMissing {} => Retry::Helps,
                _ => Retry::Useless,
            };
            Line::new(
                StatusCode::BAD_GATEWAY,
                VERIFICATION,
                rejected.code(),
                retry,
                message,
            )
            .hint(verdicts::hint(rejected, refusal.skew))
        }
        AttestError::OtherKey => Line::new(
            StatusCode::BAD_GATEWAY,
            VERIFICATION,
            "rejected_spki_mismatch",
            Retry::Helps,
            message,
        ),
        AttestError::Collateral(_) => no_collateral(message),
    }
}

fn level_line(message: String) -> Line {
    Line::new(
        StatusCode::BAD_GATEWAY,
        VERIFICATION,
        Code::LevelNotReached.as_str(),
        Retry::Useless,
        message,
    )
    .hint(Code::LevelNotReached.remedy())
}

fn no_collateral(message: String) -> Line {
    Line::new(
        StatusCode::SERVICE_UNAVAILABLE,
        PROXY,
        Code::CollateralUnavailable.as_str(),
        Retry::Helps,
        message,
    )
    .hint("without Intel's documents no machine can be judged; --pccs-url names another source")
}

/// A source was slow, and nobody knows whether without it the backend would have
/// been verified.
fn source_timeout(message: String) -> Line {
    Line::new(
        StatusCode::SERVICE_UNAVAILABLE,
        PROXY,
        Code::SourceTimeout.as_str(),
        Retry::Helps,
        message,
    )
}

fn forward_line(error: &ForwardError) -> Line {
    let message = error.to_string();
    let upstream = |code, retry| {
        Line::new(
            StatusCode::BAD_GATEWAY,
            UPSTREAM,
            code,
            retry,
            message.clone(),
        )
    };
    match error {
        ForwardError::Unsent { .. } => upstream(Code::BackendUnreachable.as_str(), Retry::Helps),
        ForwardError::BrokenOff(_) => upstream(Code::BackendBrokeOff.as_str(), Retry::Unsafe),
        ForwardError::Switched | ForwardError::Framing(_) => {
            upstream(Code::BackendBrokeOff.as_str(), Retry::Useless)
        }
        ForwardError::FirstByte(_) => {
            Line::new(StatusCode::GATEWAY_TIMEOUT, UPSTREAM, Code::BackendTimeout.as_str(), Retry::Unsafe, message)
        }
        ForwardError::Redirect => upstream(Code::BackendRedirect.as_str(), Retry::Useless)
            .hint("the proxy keeps requests on the verified backend and does not pass redirects away from it on"),
        ForwardError::BelowLevel(_) => level_line(message),
        ForwardError::Body(error) => body_line(*error),
    }
}

fn body_line(error: BodyError) -> Line {
    let line = |status, code: Code, retry| {
        Line::new(status, REQUEST, code.as_str(), retry, error.to_string())
    };
    match error {
        BodyError::TooLarge { .. } => line(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::BodyTooLarge,
            Retry::Useless,
        )
        .hint("--max-body sets the limit"),
        BodyError::BrokenOff | BodyError::Malformed | BodyError::Content(_) => {
            line(StatusCode::BAD_REQUEST, Code::BadRequest, Retry::Useless)
        }
        BodyError::Stalled { .. } | BodyError::Slow { .. } => {
            line(StatusCode::REQUEST_TIMEOUT, Code::BadRequest, Retry::Helps)
        }
        BodyError::Withdrawn => Line::new(
            StatusCode::BAD_GATEWAY,
            VERIFICATION,
            Code::BackendBrokeOff.as_str(),
            Retry::Unsafe,
            error.to_string(),
        )
        .hint("GET /_proxy/verdicts lists what it was refused for"),
    }
}

fn busy(message: impl Into<String>) -> Line {
    Line::new(
        StatusCode::SERVICE_UNAVAILABLE,
        PROXY,
        Code::Busy.as_str(),
        Retry::HelpsLater,
        message,
    )
}
