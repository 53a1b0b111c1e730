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
}

/// Whether the proxy itself answers.
pub(crate) fn target<'a>(view: &View<'a>) -> Target<'a> {
    const MODELS: &str = "/v1/models";
    if let Some(own) = view.path.strip_prefix("/_proxy/") {
        return Target::Own(own);
    }
    if !matches!(*view.method, Method::GET | Method::HEAD)
        || view.backend_domain != SingleHeader::Absent
    {
        return Target::Backend;
    }
    if let Some(id) = signature_id(view.path) {
        return Target::Signature(id);
    }
    match view.path.strip_prefix(MODELS) {
        Some("") => Target::Models,
        Some(rest) => rest
            .strip_prefix('/')
            .map_or(Target::Backend, Target::Model),
        None => Target::Backend,
    }
}

/// True for what a browser requests if a person types the proxy's address. It goes to
/// the page, unless it names a backend.
pub(crate) fn is_front_door(view: &View<'_>) -> bool {
    matches!(*view.method, Method::GET | Method::HEAD) && matches!(view.path, "/" | "/_proxy")
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
        Model::Absent(why) => Err(RouteError::NoBackend { why }),
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
