//! Intel's PCS, or a PCCS in front of it. Shapes: Intel PCS API v4.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::Machine;
use super::body::{Reply, reply};
use super::http::parameter;
use crate::encode::{pem_chain, percent};

/// Where the root certificate says that its CRL is.
pub(super) const ROOT_CRL_PATH: &str = "/content/FakeSGXRootCA.der";

/// `None`: not one of a PCS's routes.
pub(super) fn answer(machine: &Machine, pccs: bool, path: &str, query: &str) -> Option<Reply> {
    let collateral = &machine.collateral;
    let signed = |name: &str, text: &str, signature: &[u8]| {
        // Byte for byte what was signed.
        format!(
            r#"{{"{name}":{text},"signature":"{}"}}"#,
            hex::encode(signature)
        )
    };
    Some(match path {
        "/tdx/certification/v4/tcb" => {
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
        "/tdx/certification/v4/qe/identity" => with_chain(
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
        "/sgx/certification/v4/pckcrl" => match parameter(query, "ca").as_deref() {
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
        "/sgx/certification/v4/rootcacrl" if pccs => reply(
            StatusCode::OK,
            "text/plain",
            hex::encode(&collateral.root_ca_crl),
        ),
        ROOT_CRL_PATH => reply(
            StatusCode::OK,
            "application/pkix-crl",
            collateral.root_ca_crl.clone(),
        ),
        _ => return None,
    })
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
