//! Controls for other processes, under `/_fake/` of the plain-HTTP ports: what
//! [`Running`](super::Running) can do. `GET` asks; `POST` takes a JSON object.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::behaviour::Route;
use super::body::{Reply, error_reply, json_reply};
use super::faults::Fault;
use super::instance::InstanceInfo;
use super::{State, lock};
use crate::Error;

const MAX_ORDER: usize = 4 << 20;

/// The fields of all controls; each takes its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    name: Option<String>,
    instance: Option<usize>,
    of: Option<usize>,
    order: Option<Vec<usize>>,
    faults: Option<Vec<String>>,
    path: Option<String>,
    what: Option<String>,
    times: Option<u64>,
    source: Option<usize>,
    route: Option<String>,
    behaviour: Option<String>,
}

pub(super) async fn answer(state: &State, control: &str, request: Request<Incoming>) -> Reply {
    if request.method() == Method::GET {
        return match control {
            "received" => json_reply(StatusCode::OK, &received(state)),
            "instances" => json_reply(StatusCode::OK, &instances(state)),
            "counts" => json_reply(StatusCode::OK, &counts(state)),
            _ => no_such(),
        };
    }
    let bad = |message: &str| error_reply(StatusCode::BAD_REQUEST, "bad_request", message);
    if request.method() != Method::POST {
        return no_such();
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_ORDER).collect().await else {
        return bad("body too large or broken");
    };
    let body = body.to_bytes();
    let asked = if body.is_empty() {
        Ok(Asked::default())
    } else {
        serde_json::from_slice(&body)
    };
    match asked {
        Err(error) => bad(&error.to_string()),
        Ok(asked) => match act(state, control, asked) {
            Ok(Some(done)) => json_reply(StatusCode::OK, &done),
            Ok(None) => no_such(),
            Err(error) => bad(&error.to_string()),
        },
    }
}

fn no_such() -> Reply {
    error_reply(StatusCode::NOT_FOUND, "not_found", "no such control")
}

/// `None`: no such control.
fn act(state: &State, control: &str, asked: Asked) -> Result<Option<Value>, Error> {
    let need = |name: &str| Error::Argument(format!("expected {{\"{name}\": ...}}"));
    let instance = || asked.instance.ok_or_else(|| need("instance"));
    let mut done = json!({});
    match control {
        "clear" => state.records.clear(),
        "tamper" => {
            let name = asked.name.ok_or_else(|| need("name"))?;
            match asked.instance {
                None => state.tamper(&name)?,
                Some(instance) => state.tamper_instance(instance, &name)?,
            }
            done = json!({"tamper": name});
        }
        "rotate" => done = json!({"spki_sha256": hex::encode(state.rotate(instance()?)?)}),
        "steal" => state.steal(instance()?, asked.of.ok_or_else(|| need("of"))?)?,
        "restart" => state.restart(instance()?)?,
        "stop" => state.stop(instance()?)?,
        "start" => state.start(instance()?)?,
        // Without an instance the pin is taken away.
        "pin" => state.balancer.pin(asked.instance),
        "balance" => state
            .balancer
            .order(asked.order.ok_or_else(|| need("order"))?),
        "faults" => {
            let texts = asked.faults.ok_or_else(|| need("faults"))?;
            let faults = texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<Vec<Fault>, _>>()?;
            match asked.instance {
                None => state.faults.queue(faults),
                Some(instance) => state.instance(instance)?.faults.queue(faults),
            }
        }
        "order" => {
            let what = asked.what.ok_or_else(|| need("what"))?.parse()?;
            let path = asked.path.ok_or_else(|| need("path"))?;
            state.orders.add(&path, what, asked.times.unwrap_or(1));
        }
        "pcs" => {
            let behaviour = asked.behaviour.ok_or_else(|| need("behaviour"))?.parse()?;
            let source = state.source(asked.source.unwrap_or_default())?;
            match asked.route {
                None => source.behave(&Route::ALL, &behaviour),
                Some(route) => source.behave(&[route.parse()?], &behaviour),
            }
        }
        "endpoints" => {
            let behaviour = asked.behaviour.ok_or_else(|| need("behaviour"))?.parse()?;
            *lock(&state.endpoints) = behaviour;
        }
        "compose-files" => {
            let behaviour = asked.behaviour.ok_or_else(|| need("behaviour"))?.parse()?;
            *lock(&state.compose.behaviour) = behaviour;
        }
        "compose-tags" => {
            let behaviour = asked.behaviour.ok_or_else(|| need("behaviour"))?.parse()?;
            *lock(&state.compose_tags.behaviour) = behaviour;
        }
        _ => return Ok(None),
    }
    Ok(Some(done))
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

fn received(state: &State) -> Value {
    state
        .records
        .all()
        .into_iter()
        .map(|connection| {
            let requests: Vec<_> = connection
                .requests
                .iter()
                .map(|request| {
                    json!({
                        "line": request.line,
                        "at_ms": milliseconds(request.at),
                        "body_len": request.body_len,
                        "body_sha256": hex::encode(request.body_sha256),
                        "complete": request.complete,
                    })
                })
                .collect();
            json!({
                "connection": connection.id,
                "instance": connection.instance,
                "spki_sha256": hex::encode(connection.spki_sha256),
                "opened_ms": milliseconds(connection.opened),
                "closed_ms": connection.closed.map(milliseconds),
                "bytes": String::from_utf8_lossy(&connection.bytes),
                "truncated": connection.truncated,
                "request_lines": connection.request_lines,
                "requests": requests,
                "tcp_sent": connection.tcp_bytes.0,
                "tcp_received": connection.tcp_bytes.1,
                "plain_sent": connection.plain_bytes.0,
                "plain_received": connection.plain_bytes.1,
            })
        })
        .collect()
}

fn instances(state: &State) -> Value {
    state
        .instances
        .iter()
        .map(|instance| {
            let info = InstanceInfo::from(instance.as_ref());
            json!({
                "spki_sha256": hex::encode(info.spki_sha256),
                "up": info.up,
                "accepted": info.accepted,
                "requests": info.requests,
            })
        })
        .collect()
}

fn counts(state: &State) -> Value {
    let sources: Vec<_> = state
        .sources
        .iter()
        .map(|source| {
            json!({
                "tcb": source.count(Route::Tcb),
                "qe": source.count(Route::QeIdentity),
                "pckcrl": source.count(Route::PckCrl),
                "rootcrl": source.count(Route::RootCrl),
                "numbers": source.count(Route::EvaluationNumbers),
            })
        })
        .collect();
    let compose_files = lock(&state.compose.asked).len();
    let compose_tags = lock(&state.compose_tags.asked).len();
    json!({
        "endpoints": state.endpoints_fetched.load(Relaxed),
        "compose_files": compose_files,
        "compose_tags": compose_tags,
        "pcs": sources,
    })
}
