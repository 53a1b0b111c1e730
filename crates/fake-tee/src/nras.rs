//! NVIDIA's Remote Attestation Service as far as its answers go: signed tokens
//! about GPUs, and the key set behind them.
//!
//! A [`NrasSpec`] answers a payload as NVIDIA does. A test changes a field, or
//! through a [`Hook`] the value at one stage; what comes after is derived and
//! signed: GPU claims, their tokens, the digests in the overall claims, the
//! overall token, the answer.

mod keys;

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::gpu::GpuClaims;
use crate::hash::{label, sha256};
use crate::{Error, Hook, Signer};

pub use keys::{NrasPki, SigningKey};

/// Who signs, in NVIDIA's production.
pub const ISSUER: &str = "https://nras.attestation.nvidia.com";

/// One token as it is made.
#[derive(Debug, Clone, Default)]
pub struct TokenHooks {
    /// The header.
    pub header: Hook<Value>,
    /// The claims.
    pub claims: Hook<Value>,
    /// The payload's bytes, before they are signed.
    pub payload: Hook<Vec<u8>>,
    /// The signature.
    pub signature: Hook<Vec<u8>>,
    /// The compact text.
    pub compact: Hook<String>,
}

impl TokenHooks {
    /// Header, payload and signature in compact form.
    fn token(&self, key: &SigningKey, mut payload: Vec<u8>) -> Result<String, Error> {
        let mut header = json!({ "kid": key.kid, "alg": "ES384" });
        self.header.apply(&mut header);
        self.payload.apply(&mut payload);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(&payload)
        );
        let mut signature = key.key.sign_fixed(signed.as_bytes())?;
        self.signature.apply(&mut signature);
        let mut compact = format!("{signed}.{}", encode(&signature));
        self.compact.apply(&mut compact);
        Ok(compact)
    }
}

/// A service, and where a test reaches in.
#[derive(Debug, Clone)]
pub struct NrasSpec {
    /// Who certifies its keys.
    pub pki: Arc<NrasPki>,
    /// The key that signs now.
    pub key: Arc<SigningKey>,
    /// Further keys of the set.
    pub other_keys: Vec<Arc<SigningKey>>,
    /// When it answers, seconds since 1970.
    pub now: u64,
    /// Who signs the keys' certificates.
    pub leaf_signer: Signer,
    /// A key's certificate before it is signed.
    pub leaf: Hook<CertificateParams>,
    /// The intermediate's, which nobody looks behind.
    pub intermediate: Hook<CertificateParams>,
    /// The certificates of a key (DER, leaf first).
    pub x5c: Hook<Vec<Vec<u8>>>,
    /// The key set.
    pub key_set: Hook<Value>,
    /// The token about all GPUs.
    pub overall: TokenHooks,
    /// The tokens about one GPU each, by its place in the list.
    pub gpus: Vec<TokenHooks>,
    /// The GPUs' tokens before the overall one names their digests.
    pub tokens: Hook<Vec<String>>,
    /// The whole answer.
    pub answer: Hook<Value>,
}

impl NrasSpec {
    /// A service under [`NrasPki::shared`] that answers at this moment, with a
    /// key of its own.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn new(now: u64) -> Result<Self, Error> {
        Ok(Self {
            pki: NrasPki::shared()?,
            key: Arc::new(SigningKey::generate("first")?),
            other_keys: vec![Arc::new(SigningKey::generate("second")?)],
            now,
            leaf_signer: Signer::Proper,
            leaf: Hook::default(),
            intermediate: Hook::default(),
            x5c: Hook::default(),
            key_set: Hook::default(),
            overall: TokenHooks::default(),
            gpus: Vec::new(),
            tokens: Hook::default(),
            answer: Hook::default(),
        })
    }

    /// What is done to the token of a GPU.
    ///
    /// # Panics
    /// Never: places that are not there yet are made.
    pub fn gpu(&mut self, index: usize) -> &mut TokenHooks {
        if self.gpus.len() <= index {
            self.gpus.resize_with(index + 1, TokenHooks::default);
        }
        &mut self.gpus[index]
    }

    /// The body of `/.well-known/jwks.json`.
    ///
    /// # Errors
    /// If something cannot be signed.
    pub fn key_set(&self) -> Result<Value, Error> {
        let keys = [&self.key]
            .into_iter()
            .chain(&self.other_keys)
            .map(|key| {
                let mut x5c = self.pki.certify(key, self)?;
                self.x5c.apply(&mut x5c);
                let x5c: Vec<_> = x5c.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
                let (x, y) = key.coordinates()?;
                Ok(json!({
                    "kty": "EC",
                    "crv": "P-384",
                    "kid": key.kid,
                    "x5c": x5c,
                    "x": BASE64_URL_SAFE_NO_PAD.encode(&x),
                    "y": BASE64_URL_SAFE_NO_PAD.encode(&y),
                }))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut set = json!({ "keys": keys });
        self.key_set.apply(&mut set);
        Ok(set)
    }

    /// The body of the answer to a payload. GPUs that signed another nonce than
    /// the payload's fail, as they do at NVIDIA's.
    ///
    /// # Errors
    /// If the payload is none, or something cannot be signed.
    pub fn answer(&self, payload: &str) -> Result<Value, Error> {
        let payload: Value = serde_json::from_str(payload)?;
        let nonce = payload["nonce"].as_str().unwrap_or_default();
        let unread = || Error::Argument("it is no payload of GPUs".to_owned());
        let gpus = payload["evidence_list"]
            .as_array()
            .ok_or_else(unread)?
            .iter()
            .map(|item| {
                let blob = |field: &str| {
                    BASE64_STANDARD
                        .decode(item[field].as_str().unwrap_or_default())
                        .ok()
                };
                GpuClaims::read(&blob("certificate")?, &blob("evidence")?)
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unread)?;

        let untouched = TokenHooks::default();
        let failed = gpus.iter().any(|gpu| hex::encode(gpu.nonce) != nonce);
        let mut tokens = gpus
            .iter()
            .enumerate()
            .map(|(index, gpu)| {
                let claims = if failed {
                    self.failure()
                } else {
                    self.success(index, gpu, nonce)
                };
                self.token(self.gpus.get(index).unwrap_or(&untouched), claims)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        self.tokens.apply(&mut tokens);

        let submods: serde_json::Map<_, _> = tokens
            .iter()
            .enumerate()
            .map(|(index, token)| {
                let digest = hex::encode(sha256(token.as_bytes()));
                (
                    format!("GPU-{index}"),
                    json!(["DIGEST", ["SHA-256", digest]]),
                )
            })
            .collect();
        let mut overall = self.common("overall");
        overall["sub"] = "NVIDIA-PLATFORM-ATTESTATION".into();
        overall["x-nvidia-ver"] = "2.0".into();
        overall["x-nvidia-overall-att-result"] = (!failed).into();
        overall["submods"] = submods.into();
        overall["eat_nonce"] = nonce.into();
        let overall = self.token(&self.overall, overall)?;

        let each: serde_json::Map<_, _> = tokens
            .into_iter()
            .enumerate()
            .map(|(index, token)| (format!("GPU-{index}"), token.into()))
            .collect();
        let mut answer = json!([["JWT", overall], each]);
        self.answer.apply(&mut answer);
        Ok(answer)
    }

    /// A token about these claims.
    fn token(&self, hooks: &TokenHooks, mut claims: Value) -> Result<String, Error> {
        hooks.claims.apply(&mut claims);
        hooks.token(&self.key, claims.to_string().into_bytes())
    }

    /// What every token has.
    fn common(&self, name: &str) -> Value {
        json!({
            "iss": ISSUER,
            "iat": self.now,
            "nbf": self.now,
            "exp": self.now + 3_600,
            "jti": hex::encode(label::<16>(&format!("jti of {name}"))),
        })
    }

    fn success(&self, index: usize, gpu: &GpuClaims, nonce: &str) -> Value {
        let mut claims = self.common(&format!("GPU-{index}"));
        claims["eat_nonce"] = nonce.into();
        claims["ueid"] = gpu.ueid.as_str().into();
        claims["hwmodel"] = "GH100".into();
        claims["oemid"] = "5703".into();
        claims["measres"] = "success".into();
        claims["secboot"] = true.into();
        claims["dbgstat"] = "disabled".into();
        claims["x-nvidia-attestation-warning"] = Value::Null;
        claims["x-nvidia-gpu-driver-version"] = gpu.driver.as_str().into();
        claims["x-nvidia-gpu-vbios-version"] = gpu.vbios.as_str().into();
        for check in [
            "arch-check",
            "attestation-report-parsed",
            "attestation-report-nonce-match",
            "attestation-report-signature-verified",
            "attestation-report-cert-chain-validated",
        ] {
            claims[format!("x-nvidia-gpu-{check}")] = true.into();
        }
        for of in ["driver", "vbios"] {
            for check in [
                "fetched",
                "schema-validated",
                "cert-validated",
                "signature-verified",
                "measurements-available",
            ] {
                claims[format!("x-nvidia-gpu-{of}-rim-{check}")] = true.into();
            }
        }
        claims["x-nvidia-gpu-vbios-index-no-conflict"] = true.into();
        claims
    }

    /// A real failure of this kind, but for what the token says beside it.
    fn failure(&self) -> Value {
        let mut claims = self.common("a failed GPU");
        claims["x-nvidia-error-details"] = json!({
            "code": 4010,
            "message": "NONCE_NOT_MATCHING",
            "description": "The nonce in the evidence is not the nonce of the request.",
            "fieldName": "nonce",
            "httpStatus": 400,
        });
        claims
    }
}
