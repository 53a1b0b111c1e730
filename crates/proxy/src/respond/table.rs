//! The table: every error, exhaustively, and the line that it becomes. No code reads
//! the text of a message.

use std::fmt::{self, Write as _};

use attest::Rejected;
use http::StatusCode;
use sources::endpoints::EndpointsError;
use sources::fetch::FetchError;
use sources::net::{MAX_HTTP_BUFFER, TunnelError};
use upstream::guard::NotAdmitted;
use upstream::verdicts;
use upstream::{
    AttemptError, AttestError, BodyError, DialError, ForwardError, Framing, PathError, SealError,
    WaitedFor,
};

use super::{BadHead, Failure};
use crate::codes::{Code, Retry, VERIFICATION};
use crate::route::RouteError;

/// One line of the table. The command line shows the code and the words alone.
#[derive(Debug)]
pub struct Line {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub code: &'static str,
    pub(super) retry: Retry,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        let mut hint = self.hint.iter();
        hint.try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl Line {
    /// As the table of codes has it.
    fn of(code: Code, message: impl Into<String>) -> Self {
        let row = code.row();
        Self {
            status: row.status(),
            kind: row.kind,
            code: row.code,
            retry: row.retry,
            message: message.into(),
            hint: None,
        }
    }

    /// The same, with what the table of codes says to do.
    fn remedied(code: Code, message: impl Into<String>) -> Self {
        Self::of(code, message).hint(code.row().remedy)
    }

    /// Refused evidence, whose codes are in the tables of `attest`.
    fn refused(code: &'static str, retry: Retry, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            kind: VERIFICATION,
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

    fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

pub fn line(failure: &Failure) -> Line {
    match failure {
        Failure::NotAdmitted(refused) => not_admitted_line(*refused),
        Failure::Head(head) => head_line(*head),
        Failure::Framing(framing) => framing_line(*framing),
        Failure::Seal(SealError::Body(error)) => body_line(*error),
        Failure::Seal(error @ SealError::NoMemory(_)) => Line::of(Code::Busy, error.to_string()),
        Failure::Route(error) => route_line(error),
        Failure::Endpoints(error) => {
            let message = format!("the endpoint list is not available: {error}");
            let hint = format!("{}; `verified-proxy doctor` finds out why", remedy(error));
            Line::of(Code::EndpointsUnavailable, message).hint(hint)
        }
        Failure::Path(error) => path_line(error),
        Failure::Forward(error) => forward_line(error),
        Failure::Reserve => Line::of(
            Code::Busy,
            "every connection that clients may have has a request under way; this one is for /_proxy/live and /_proxy/ready",
        ),
        Failure::TooManyListeners(full) => {
            let message = format!("too many clients listen to events already: {full}");
            Line::of(Code::Busy, message)
        }
        Failure::ShuttingDown => Line::of(
            Code::ShuttingDown,
            "the proxy is stopping and takes no more requests",
        ),
        Failure::NoSuchPage => Line::of(Code::NotFound, "the proxy has no such page").hint(
            format!("use {PAGES}; the proxy keeps reports in memory for a while"),
        ),
        Failure::NotAPage => Line::of(
            Code::MethodNotAllowed,
            "the proxy's own pages are read with GET",
        ),
    }
}

/// What to do about an endpoint list that cannot be fetched.
pub fn remedy(error: &EndpointsError) -> &'static str {
    match error {
        EndpointsError::Fetch { source, .. } if source.is_about_time() => {
            "set this machine's clock: by it the server's certificate is not valid"
        }
        EndpointsError::Fetch {
            source: FetchError::Tls { .. },
            ..
        } => "behind a TLS-inspecting proxy name its authority with --extra-ca",
        EndpointsError::Fetch { source, .. } if let Some(error) = source.tunnel() => {
            tunnel_remedy(error)
        }
        EndpointsError::Fetch { .. } | EndpointsError::Lost { .. } => {
            "check the network and --endpoints-url; behind a company proxy name it with --proxy or HTTPS_PROXY"
        }
        EndpointsError::Status { .. } | EndpointsError::Format { .. } => {
            "check --endpoints-url, and whether a network's login page answers in its place"
        }
    }
}

/// What to do about a proxy for outgoing connections.
pub fn tunnel_remedy(error: &TunnelError) -> &'static str {
    match error {
        _ if error.is_about_credentials() => {
            "give the outgoing proxy's user name and password in --proxy, as in http://USER:PASSWORD@HOST:PORT, best through VERIFIED_PROXY_PROXY or --config; the proxy speaks Basic authentication only"
        }
        _ if error.is_unreachable() => {
            "check --proxy (or HTTPS_PROXY, ALL_PROXY); --proxy none connects directly"
        }
        TunnelError::NotAProxy { .. } => {
            "check the scheme and port of --proxy (or HTTPS_PROXY, ALL_PROXY): http://, https:// or socks5h://"
        }
        _ => {
            "ask for this name and port to be allowed at the outgoing proxy, or name in NO_PROXY what is reached directly"
        }
    }
}

fn tunnel_line(error: &TunnelError, message: String) -> Line {
    let (code, retry) = match error.is_unreachable() {
        true => (Code::OutgoingProxyUnreachable, Retry::Helps),
        false if error.may_pass() => (Code::OutgoingProxyRefused, Retry::Helps),
        false => (Code::OutgoingProxyRefused, Retry::Useless),
    };
    Line::of(code, message)
        .retry(retry)
        .hint(tunnel_remedy(error))
}

fn not_admitted_line(refused: NotAdmitted) -> Line {
    match refused {
        NotAdmitted::Host => Line::remedied(
            Code::HostNotAllowed,
            "the request is for a host that is not this proxy",
        ),
        NotAdmitted::Origin => Line::remedied(
            Code::OriginNotAllowed,
            "the request comes from a web page that may not use this proxy",
        ),
        NotAdmitted::OpaqueOrigin => Line::of(
            Code::OriginNotAllowed,
            "the request comes from a web page whose origin is null, as local files and sandboxed frames of any site have it",
        )
        .hint("serve the page at an address and allow that, such as --allow-origin http://localhost:3000; null cannot be allowed"),
        NotAdmitted::Token => Line::remedied(
            Code::ClientTokenRequired,
            "this proxy asks its clients for a token",
        ),
        NotAdmitted::Require => Line::of(
            Code::BadRequest,
            "the header X-Verified-Proxy-Require asks for something that this version does not know",
        )
        .hint("write AXIS=LEVEL,... such as deployment=tagged, with the axes hardware, boot, identity, deployment and gpu"),
    }
}

/// The proxy's own pages.
const PAGES: &str = "/_proxy/, /_proxy/about, /_proxy/events, /_proxy/live, /_proxy/ready, /_proxy/metrics, /_proxy/verdicts or /_proxy/verdicts/{id}";

fn head_line(head: BadHead) -> Line {
    let line = |message: &str| Line::of(Code::BadRequest, message);
    match head {
        BadHead::Malformed => line("the request's head is not valid HTTP/1.1").hint(
            "use http:// in the base URL, not https://; the proxy speaks HTTP/1.1 without TLS",
        ),
        BadHead::TargetTooLong => line("the request's target is too long")
            .status(StatusCode::URI_TOO_LONG)
            .hint("send a shorter path and query"),
        BadHead::TooLarge => line(&format!(
            "the request's head has more than {MAX_HTTP_BUFFER} bytes or more than 100 lines"
        ))
        .status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        .hint("send fewer or shorter headers, such as cookies"),
    }
}

fn framing_line(framing: Framing) -> Line {
    let not_forwarded = StatusCode::NOT_IMPLEMENTED;
    let (status, message) = match framing {
        Framing::Method => (not_forwarded, "CONNECT and TRACE are not forwarded"),
        Framing::Upgrade => {
            return Line::of(Code::BadRequest, "WebSocket is not forwarded")
                .status(StatusCode::UPGRADE_REQUIRED)
                .hint("send plain HTTP requests, as most clients do after this answer");
        }
        Framing::TransferCoding => (
            not_forwarded,
            "the only transfer-coding taken is one \"chunked\"",
        ),
        Framing::Host => (
            StatusCode::BAD_REQUEST,
            "an HTTP/1.1 request has one Host header",
        ),
        Framing::Usual | Framing::Target => (
            StatusCode::BAD_REQUEST,
            "the request's target is an authority, not a path",
        ),
    };
    Line::of(Code::BadRequest, message).status(status)
}

fn of_base_url(base: &str) -> String {
    format!(
        "set the client's base URL to {base}/v1 (Anthropic's clients: {base}); GET {base}/v1/models lists the models"
    )
}

fn route_line(error: &RouteError) -> Line {
    let message = error.to_string();
    match error {
        RouteError::NoBackend { why } => {
            Line::remedied(Code::NoBackend, format!("{message}: {why}"))
        }
        RouteError::Compressed => Line::remedied(Code::BodyCompressed, message),
        RouteError::NoPage { why, base } => Line::of(Code::NotFound, format!("{message}: {why}"))
            .hint(format!(
                "{}; pages of the proxy itself are {PAGES}; name a model in ?model= or a backend in X-Backend-Domain to ask a backend",
                of_base_url(base)
            )),
        RouteError::Misplaced { base } => Line::of(Code::NotFound, message).hint(format!(
            "{}; a request that names a backend in X-Backend-Domain may have any path",
            of_base_url(base)
        )),
        RouteError::Malformed(_) => Line::of(Code::BadRequest, message),
        RouteError::ModelNotFound { close, .. } => {
            let hint = match &*close.join(", ") {
                "" => "GET /v1/models lists the names".to_owned(),
                close => format!("close matches: {close}; GET /v1/models lists all"),
            };
            Line::of(Code::ModelNotFound, message).hint(hint)
        }
        RouteError::UnknownAnswer => Line::of(Code::NotFound, message)
            .hint("name the backend with the header X-Backend-Domain or ?model=; the proxy knows ids for 20 minutes, and none from before its start"),
        RouteError::NotAllowed(_) => Line::remedied(Code::BackendNotAllowed, message),
    }
}

/// The line of the attempt that says most: a refusal, which may be an attack, before a
/// verdict that falls short, and a verdict before a failure to reach a backend. The
/// others are listed.
fn path_line(error: &PathError) -> Line {
    let is_refusal = |(_, error): &&(_, AttemptError)| matches!(error, AttemptError::Attest(error) if error.refusal().is_some());
    let is_short = |(_, error): &&(_, AttemptError)| matches!(error, AttemptError::BelowLevel(_));
    let refusal = error.attempts.iter().find(is_refusal);
    let verdict = refusal.or_else(|| error.attempts.iter().rfind(is_short));
    let Some((domain, main)) = verdict.or(error.attempts.last()) else {
        return Line::of(Code::BackendUnreachable, "no backend to try");
    };
    let mut line = attempt_line(main);
    let is = match main {
        AttemptError::BelowLevel(_) => "is",
        _ => "was not",
    };
    line.message = format!("{domain} {is} verified, nothing of the request was sent to it: {main}");
    if error.connections > 1 {
        let _ = write!(
            line.message,
            "\n{} connections were tried",
            error.connections
        );
        for (domain, error) in &error.attempts {
            let code = attempt_line(error).code;
            let _ = write!(line.message, "\n- {domain}: {code} ({error})");
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
    let message = error.to_string();
    match error {
        AttemptError::Dial(DialError::Connect(_) | DialError::Tls(_) | DialError::Http(_))
        | AttemptError::ClosedAfterProbe(_)
        | AttemptError::OtherInstance => Line::remedied(Code::BackendUnreachable, message),
        AttemptError::Dial(DialError::Proxy { error, .. }) => tunnel_line(error, message),
        AttemptError::Dial(DialError::Timeout(..)) => Line::remedied(Code::BackendTimeout, message),
        AttemptError::Dial(error) if error.is_about_time() => Line::of(Code::BackendCertificate, message)
            .hint("set this machine's clock: by it the backend's certificate is not valid; if the clock is right, tell the backend's operator"),
        AttemptError::Dial(DialError::Certificate(_)) => Line::of(Code::BackendCertificate, message)
            .hint("name an authority of your own with --extra-ca; with --webpki off the evidence alone decides"),
        AttemptError::Dial(DialError::KeyNotHeld) => Line::of(Code::BackendCertificate, message)
            .hint("do not use this network path: another machine shows the backend's certificate"),
        AttemptError::QueueFull(_) => Line::of(Code::Busy, message),
        AttemptError::Attest(attest) => attest_line(attest),
        AttemptError::BelowLevel(_) => Line::remedied(Code::LevelNotReached, message),
        AttemptError::Deadline { waited_for, .. } => match waited_for {
            WaitedFor::Permit => Line::of(Code::Busy, message),
            WaitedFor::Connection | WaitedFor::Report => {
                Line::remedied(Code::BackendTimeout, message)
            }
            WaitedFor::Collateral(_) => Line::remedied(Code::CollateralUnavailable, message),
            // Without these sources the backend might have been verified, or not.
            WaitedFor::ComposeFiles(_) => Line::of(Code::SourceTimeout, message)
                .hint("raise --attest-timeout; or name other sources, or \"off\", with --compose-files-url and --compose-tags-url"),
            WaitedFor::Opinion(_) => Line::of(Code::SourceTimeout, message)
                .hint("raise --attest-timeout; or name another address with --nras-url, or use a policy with gpu.nras = \"off\""),
        },
    }
}

fn attest_line(error: &AttestError) -> Line {
    let message = error.to_string();
    match error {
        AttestError::Status(status) => {
            let line = Line::remedied(Code::EvidenceUnavailable, message);
            if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS {
                line.retry(Retry::Helps)
            } else {
                line
            }
        }
        AttestError::Timeout(_) => Line::remedied(Code::BackendTimeout, message),
        AttestError::BrokenOff(_) => Line::remedied(Code::BackendUnreachable, message),
        AttestError::NoRandomness => Line::remedied(Code::NoRandomness, message),
        AttestError::Rejected(refusal) | AttestError::RefusedBefore { refusal, .. } => {
            let rejected = &refusal.rejected;
            let retry = match rejected {
                // A rotation, a mixed-up answer, a machine that has just booted.
                Rejected::SpkiMismatch { .. }
                | Rejected::Nonce { .. }
                | Rejected::AppCertMissing {} => Retry::Helps,
                _ => Retry::Useless,
            };
            Line::refused(rejected.code(), retry, message)
                .hint(verdicts::hint(rejected, refusal.skew))
        }
        AttestError::OtherKey => Line::refused("rejected_spki_mismatch", Retry::Helps, message),
        AttestError::Collateral(error) if error.is_about_time() => {
            Line::of(Code::CollateralUnavailable, message).hint(
                "set this machine's clock: by it a source's certificate is not valid; if the clock is right, name another source with --pccs-url",
            )
        }
        AttestError::Collateral(_) => Line::remedied(Code::CollateralUnavailable, message),
    }
}

fn forward_line(error: &ForwardError) -> Line {
    let message = error.to_string();
    match error {
        ForwardError::Unsent { .. } => Line::of(Code::BackendUnreachable, message),
        ForwardError::BrokenOff { is_safe, .. } => {
            let line = Line::of(Code::BackendBrokeOff, message);
            if *is_safe {
                line.retry(Retry::Helps)
            } else {
                line
            }
        }
        ForwardError::Switched | ForwardError::Framing(_) => {
            Line::of(Code::BackendBrokeOff, message).retry(Retry::Useless)
        }
        ForwardError::FirstByte(_) => Line::of(Code::BackendTimeout, message).retry(Retry::Unsafe),
        // Without its end a request is not carried out.
        ForwardError::NotTaken(_) => Line::of(Code::BackendTimeout, message),
        ForwardError::Redirect => Line::remedied(Code::BackendRedirect, message),
        ForwardError::BelowLevel(_) => Line::remedied(Code::LevelNotReached, message),
        ForwardError::Body(error) => body_line(*error),
    }
}

fn body_line(error: BodyError) -> Line {
    let message = error.to_string();
    match error {
        BodyError::TooLarge { .. } => Line::remedied(Code::BodyTooLarge, message),
        BodyError::BrokenOff | BodyError::Malformed | BodyError::Content(_) => {
            Line::of(Code::BadRequest, message)
        }
        BodyError::Stalled { .. } | BodyError::TooSlow { .. } | BodyError::Slow { .. } => {
            Line::of(Code::BadRequest, message)
                .status(StatusCode::REQUEST_TIMEOUT)
                .retry(Retry::Helps)
        }
        BodyError::Withdrawn => Line {
            kind: VERIFICATION,
            // The machine did not get the request's end.
            ..Line::of(Code::BackendBrokeOff, message).retry(Retry::Helps)
        }
        .hint("GET /_proxy/verdicts lists why the backend was refused"),
    }
}
