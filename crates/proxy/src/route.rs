//! From the visible part of a request to the backends that may serve it. Pure.

use attest::Expected;
use http::Method;
use sources::backend::{AllowList, Backend, NotAllowed};
use sources::endpoints::EndpointList;
use upstream::answer_ids::{Instance, signature_id};
use upstream::{Model, SingleHeader, View};

/// Why a request has no backend.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("the request names no model")]
    NoBackend { why: &'static str },
    #[error("the request names no model outside its body, which has a Content-Encoding")]
    Compressed,
    /// `base` is the address for clients, without `/v1`.
    #[error("the proxy has no such page, and the request names no model")]
    NoPage { why: &'static str, base: String },
    #[error(
        "no backend has this path: it lacks /v1 or has it twice, or has something before it, or an empty part"
    )]
    Misplaced { base: String },
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the model {model:?} is not in the endpoint list")]
    ModelNotFound { model: String, close: Vec<String> },
    #[error("this proxy does not know which backend gave the answer with this id")]
    UnknownAnswer,
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

/// What answers a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The proxy, about itself.
    Own(&'a str),
    /// The proxy, with all models of the endpoint list.
    Models,
    /// The proxy, with one model of the endpoint list.
    Model(&'a str),
    /// The instance that gave the answer with this id (percent-encoded); if that is not
    /// known, any backend that the request names.
    Signature(&'a str),
    /// A backend.
    Backend,
    /// Nothing: the client's base URL is wrong.
    Misplaced,
}

/// Whether the proxy itself answers. A slash at the end of the path of one of its pages means
/// nothing.
pub(crate) fn target<'a>(view: &View<'a>) -> Target<'a> {
    const MODELS: &str = "/v1/models";
    let path = view.path.strip_suffix('/').unwrap_or(view.path);
    if let Some(own) = view.path.strip_prefix("/_proxy/") {
        return Target::Own(own.strip_suffix('/').unwrap_or(own));
    }
    if view.backend_domain != SingleHeader::Absent {
        return Target::Backend;
    }
    if is_read(view.method) {
        if let Some(id) = signature_id(view.path) {
            return Target::Signature(id);
        }
        match path.strip_prefix(MODELS) {
            Some("") => return Target::Models,
            Some(rest) => match rest.strip_prefix('/') {
                None | Some("") => {}
                Some(id) => return Target::Model(id),
            },
            None => {}
        }
    }
    match is_misplaced(view.path) {
        true => Target::Misplaced,
        false => Target::Backend,
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// True for a path of OpenAI's or Anthropic's API that does not stand right below `/v1`: then
/// the client's base URL is wrong. vLLM and SGLang, which NEAR AI's backends run, have these
/// paths nowhere else. Other paths may be a backend's.
fn is_misplaced(path: &str) -> bool {
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    let has_empty = parts.clone().any(str::is_empty);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let base = parts
        .iter()
        .rposition(|part| *part == "v1")
        .map_or(0, |last| last + 1);
    let is_of_the_api = matches!(
        parts.get(base..).unwrap_or_default(),
        ["chat", "completions", ..]
            | ["audio", "speech" | "transcriptions" | "translations"]
            | ["images", "edits" | "generations" | "variations"]
            | [
                "completions" | "embeddings" | "messages" | "models" | "responses",
                ..
            ]
    );
    is_of_the_api && (base != 1 || has_empty)
}

/// The address by which the client knows the proxy.
pub(crate) fn base_url(view: &View<'_>) -> String {
    format!("http://{}", view.host.unwrap_or("HOST:PORT"))
}

/// True for what a browser requests if a person types the proxy's address. It goes to
/// the page, unless it names a backend.
pub(crate) fn is_front_door(view: &View<'_>) -> bool {
    is_read(view.method) && matches!(view.path, "/" | "/_proxy")
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// A host, which the allow list admits.
    Domain(&'a str),
    /// A model, wherever it is served.
    Model(&'a str),
    /// The instance that gave an earlier answer.
    Instance(Instance),
}

/// What `view` asks for, before the endpoint list is read.
pub(crate) fn wanted<'a>(view: &View<'a>, allow: &AllowList) -> Result<Wanted<'a>, RouteError> {
    match view.backend_domain {
        SingleHeader::Ambiguous => {
            return Err(RouteError::Malformed(
                "the header X-Backend-Domain is given more than once, or is not text",
            ));
        }
        SingleHeader::Once(domain) => {
            allow.backend(domain, Expected::NotChecked("only the name is checked"))?;
            return Ok(Wanted::Domain(domain));
        }
        SingleHeader::Absent => {}
    }
    match view.model {
        Model::Named(model) => Ok(Wanted::Model(model)),
        Model::Absent(why) if is_read(view.method) => Err(RouteError::NoPage {
            why,
            base: base_url(view),
        }),
        Model::Absent(why) => Err(RouteError::NoBackend { why }),
        Model::Encoded => Err(RouteError::Compressed),
        Model::Malformed(why) => Err(RouteError::Malformed(why)),
    }
}

/// The backends to try, in order; at least one.
pub(crate) fn candidates(
    wanted: &Wanted<'_>,
    list: &EndpointList,
    allow: &AllowList,
) -> Result<Vec<Backend>, RouteError> {
    let model = match wanted {
        Wanted::Domain(domain) => {
            let models = match list.models_of(domain) {
                Some(models) => Expected::Known(models.to_vec()),
                None => Expected::NotChecked(
                    "the endpoint list does not name this domain, X-Backend-Domain did",
                ),
            };
            return Ok(vec![allow.backend(domain, models)?]);
        }
        Wanted::Instance(instance) => {
            let wanted = Wanted::Domain(instance.domain.as_str());
            return candidates(&wanted, list, allow);
        }
        Wanted::Model(model) => *model,
    };
    let backends = list.backends(model);
    if backends.is_empty() {
        return Err(RouteError::ModelNotFound {
            model: model.chars().take(200).collect(),
            close: list.close_to(model),
        });
    }
    Ok(backends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use upstream::Framing;

    fn view<'a>(method: &'a Method, path: &'a str) -> View<'a> {
        View {
            method,
            path,
            host: Some("127.0.0.1:8080"),
            backend_domain: SingleHeader::Absent,
            model: Model::Absent("it has no body"),
            framing: Framing::Usual,
        }
    }

    #[test]
    fn a_wrong_base_url_is_told_from_a_path_of_a_backend() {
        for path in [
            "/models",
            "/models/a/b",
            "/chat/completions",
            "/messages",
            "/audio/transcriptions",
            "/v1//models",
            "//v1/models",
            "/v1/v1/models",
            "/v1/v1/messages",
            "/api/v1/chat/completions",
            "/openai/v1/embeddings",
            "/a/b/v1/responses/resp-1",
            "/v1/chat//completions",
            "/v1/chat/completions/",
            "/v1/v1/v1/completions",
        ] {
            let found = target(&view(&Method::POST, path));
            assert_eq!(found, Target::Misplaced, "{path}");
            let get = target(&view(&Method::GET, path));
            assert_eq!(get, Target::Misplaced, "{path}");
            let mut named = view(&Method::POST, path);
            named.backend_domain = SingleHeader::Once("a.completions.near.ai");
            assert_eq!(target(&named), Target::Backend, "{path}");
        }
        for path in [
            "/",
            "*",
            "/v1",
            "/v1/",
            "/v1/chat/completions",
            "/v1/chat/completions/chatcmpl-1/messages",
            "/v1/messages/count_tokens",
            "/v1/responses/resp-1/input_items",
            "/v1/audio/transcriptions",
            "/v1/rerank",
            "/v2/rerank",
            "/rerank",
            "/tokenize",
            "/inference/v1/generate",
            "/chat",
            "/images",
            "/api/chat",
            "/v1/privacy//classify",
            "/v1/files/models",
            "/v10/models",
        ] {
            let found = target(&view(&Method::POST, path));
            assert_eq!(found, Target::Backend, "{path}");
        }
    }

    #[test]
    fn a_slash_at_the_end_of_a_page_means_nothing() {
        for (path, expected) in [
            ("/v1/models", Target::Models),
            ("/v1/models/", Target::Models),
            ("/v1/models/a/b", Target::Model("a/b")),
            ("/v1/models/a%2fb/", Target::Model("a%2fb")),
            ("/v1/models//", Target::Misplaced),
            ("/v1/modelsx", Target::Backend),
            ("/_proxy/", Target::Own("")),
            ("/_proxy//", Target::Own("")),
            ("/_proxy/live/", Target::Own("live")),
            ("/_proxy/verdicts/x", Target::Own("verdicts/x")),
        ] {
            assert_eq!(target(&view(&Method::GET, path)), expected, "{path}");
        }
        // The list is read.
        for path in ["/v1/models", "/v1/models/a"] {
            assert_eq!(target(&view(&Method::POST, path)), Target::Backend);
        }
    }
}
