//! The proxy's own answers: about itself, its verdicts and the endpoint list's models.

use http::{Method, Response, StatusCode};
use sources::endpoints::{EndpointList, Endpoints};
use upstream::admission::Client;
use upstream::metrics;
use upstream::verdicts::Verdicts;

use crate::body::{self, Body, json};
use crate::page::Page;
use crate::respond::Failure;
use crate::shutdown::Running;

/// What the answers are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subjects<'a> {
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) verdicts: &'a Verdicts,
    pub(crate) page: &'a Page,
    pub(crate) running: &'a Running,
    pub(crate) client: &'a Client,
}

/// Answers `/_proxy/` + `page`.
pub(crate) async fn page(
    method: &Method,
    page: &str,
    about: Subjects<'_>,
    numbers: impl FnOnce() -> String,
) -> Result<Response<Body>, Failure> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::NotAPage);
    }
    let Subjects {
        endpoints,
        verdicts,
        ..
    } = about;
    match page {
        "" => Ok(about.page.document()),
        "about" => Ok(about.page.about()),
        "events" => about
            .page
            .events(about.client, verdicts, about.running)
            .map_err(Failure::TooManyListeners),
        "live" => Ok(json(StatusCode::OK, r#"{"status":"live"}"#)),
        // Ready once there is a backend to send requests to.
        "ready" => match endpoints.list().await? {
            list if list.models().next().is_some() => {
                Ok(json(StatusCode::OK, r#"{"status":"ready"}"#))
            }
            _ => Ok(json(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"not ready","reason":"the endpoint list names no allowed backend"}"#,
            )),
        },
        "metrics" => Ok(body::own(StatusCode::OK, metrics::CONTENT_TYPE, numbers())),
        "verdicts" => Ok(json(StatusCode::OK, verdicts.list())),
        other => {
            let report = other
                .strip_prefix("verdicts/")
                .and_then(|id| verdicts.report(id));
            report
                .map(|report| json(StatusCode::OK, report.as_bytes().to_vec()))
                .ok_or(Failure::NoSuchPage)
        }
    }
}

/// `GET /v1/models`, in OpenAI's shape.
pub(crate) fn models(list: &EndpointList) -> Response<Body> {
    let data: Vec<_> = list.models().map(model_object).collect();
    let body = serde_json::json!({ "object": "list", "data": data });
    json(StatusCode::OK, body.to_string())
}

/// `GET /v1/models/{id}`; none if the list has no such model.
pub(crate) fn model(list: &EndpointList, id: &str) -> Option<Response<Body>> {
    let id = percent_encoding::percent_decode_str(id)
        .decode_utf8()
        .ok()?;
    let found = list.models().find(|model| *model == id)?;
    Some(json(StatusCode::OK, model_object(found).to_string()))
}

/// `created` is 0: the list has no dates.
fn model_object(id: &str) -> serde_json::Value {
    serde_json::json!({ "id": id, "object": "model", "created": 0, "owned_by": "near-ai" })
}
