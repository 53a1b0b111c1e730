//! Intel's PCS, or a PCCS in front of it. Shapes: Intel PCS API v4.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::behaviour::{Behaviour, Gone, Route, Source};
use super::body::{Reply, reply};
use super::instance::Machine;
use super::query::parameter;
use crate::encode::{pem_chain, percent};

/// Where the root certificate says that its CRL is.
pub(super) const ROOT_CRL_PATH: &str = "/content/FakeSGXRootCA.der";

fn route(path: &str, pccs: bool) -> Option<Route> {
    Some(match path {
        "/tdx/certification/v4/tcb" => Route::Tcb,
        "/tdx/certification/v4/qe/identity" => Route::QeIdentity,
        "/sgx/certification/v4/pckcrl" => Route::PckCrl,
        "/tdx/certification/v4/tcbevaluationdatanumbers" => Route::EvaluationNumbers,
        "/sgx/certification/v4/rootcacrl" if pccs => Route::RootCrl,
        ROOT_CRL_PATH => Route::RootCrl,
        _ => return None,
    })
}

/// `None`: not one of a PCS's routes.
pub(super) async fn answer(
    machine: &Arc<Machine>,
    source: &Source,
    path: &str,
    query: &str,
) -> Result<Option<Reply>, Gone> {
    let Some(route) = route(path, source.pccs) else {
        return Ok(None);
    };
    let behaviour = source.behaviour(route);
    if let Some(reply) = behaviour.instead().await? {
        return Ok(Some(reply));
    }
    let mut machine = machine.clone();
    if matches!(behaviour, Behaviour::Stale | Behaviour::Expired) {
        let mut spec = machine.spec.clone();
        behaviour.age(&mut spec);
        machine = match Machine::new(spec) {
            Ok(machine) => machine,
            Err(_) => return Ok(Some(empty(StatusCode::INTERNAL_SERVER_ERROR))),
        };
    }
    let mut reply = document(&machine, route, path, query);
    behaviour.date(&mut reply);
    Ok(Some(reply))
}

fn document(machine: &Machine, route: Route, path: &str, query: &str) -> Reply {
    let collateral = &machine.collateral;
    let signed = |name: &str, text: &str, signature: &[u8]| {
        // Byte for byte what was signed.
        format!(
            r#"{{"{name}":{text},"signature":"{}"}}"#,
            hex::encode(signature)
        )
    };
    match route {
        Route::Tcb => {
            let known = &machine.spec.tcb_info.fmspc;
            match parameter(query, "fmspc") {
                Some(fmspc) if fmspc.eq_ignore_ascii_case(known) => with_chain(
                    "TCB-Info-Issuer-Chain",
                    &collateral.tcb_info_issuer_chain,
                    reply(
                        StatusCode::OK,
                        "application/json",
                        signed(
                            "tcbInfo",
                            &collateral.tcb_info,
                            &collateral.tcb_info_signature,
                        ),
                    ),
                ),
                Some(_) => empty(StatusCode::NOT_FOUND),
                None => empty(StatusCode::BAD_REQUEST),
            }
        }
        Route::QeIdentity => with_chain(
            "SGX-Enclave-Identity-Issuer-Chain",
            &collateral.qe_identity_issuer_chain,
            reply(
                StatusCode::OK,
                "application/json",
                signed(
                    "enclaveIdentity",
                    &collateral.qe_identity,
                    &collateral.qe_identity_signature,
                ),
            ),
        ),
        Route::EvaluationNumbers => with_chain(
            "TCB-Evaluation-Data-Numbers-Issuer-Chain",
            &collateral.evaluation_numbers_issuer_chain,
            reply(
                StatusCode::OK,
                "application/json",
                signed(
                    "tcbEvaluationDataNumbers",
                    &collateral.evaluation_numbers,
                    &collateral.evaluation_numbers_signature,
                ),
            ),
        ),
        Route::PckCrl => match parameter(query, "ca").as_deref() {
            Some("platform") => with_chain(
                "SGX-PCK-CRL-Issuer-Chain",
                &collateral.pck_crl_issuer_chain,
                reply(
                    StatusCode::OK,
                    "application/pkix-crl",
                    collateral.pck_crl.clone(),
                ),
            ),
            Some("processor") => empty(StatusCode::NOT_FOUND),
            _ => empty(StatusCode::BAD_REQUEST),
        },
        Route::RootCrl if path != ROOT_CRL_PATH => reply(
            StatusCode::OK,
            "text/plain",
            hex::encode(&collateral.root_ca_crl),
        ),
        Route::RootCrl => reply(
            StatusCode::OK,
            "application/pkix-crl",
            collateral.root_ca_crl.clone(),
        ),
    }
}

fn empty(status: StatusCode) -> Reply {
    reply(status, "text/plain", "")
}

fn with_chain(name: &'static str, chain: &[Vec<u8>], mut reply: Reply) -> Reply {
    if let Ok(value) = HeaderValue::from_str(&percent(&pem_chain(chain))) {
        reply.headers_mut().insert(name, value);
    }
    reply
}
