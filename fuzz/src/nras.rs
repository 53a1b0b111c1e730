//! One GPU, NVIDIA's answer about it and the keys behind the answer: the same for
//! as long as the process lives.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use attest::{
    GpuAnchors, GpuReport, IssuerCache, KeySet, Nonce, NrasAnchors, NrasOpinion, Spki, UnixTime,
    appraise_gpus, appraise_nras,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fake_tee::gpu::{GpuSpec, P384Key};
use fake_tee::hash::sha256;
use fake_tee::nras::{NrasSpec, SigningKey};
use serde_json::{Value, json};

use crate::{memory, must_be_printable};

/// Of all that an appraisal allocates.
const FIXED_BYTES: usize = 1 << 20;
const BYTES_PER_BYTE: usize = 64;

/// The moment at which all is judged.
pub const NOW: u64 = 1_800_000_000;
const NONCE: [u8; 32] = [7; 32];

/// What a target starts from.
#[derive(Debug)]
pub struct Nras {
    /// NVIDIA's answer.
    pub answer: Value,
    /// Its key set.
    pub key_set: String,
    /// What the answer's tokens claim: of all GPUs, and of the one.
    pub claims: [Vec<u8>; 2],
    /// The authority's key (SubjectPublicKeyInfo, DER).
    pub authority: Vec<u8>,
    key: SigningKey,
    gpus: GpuReport,
    anchors: NrasAnchors,
}

impl Nras {
    /// The answer of this process; kept beside the base, as [`crate::Base::get`]
    /// keeps that.
    pub fn get() -> &'static Self {
        static NRAS: OnceLock<Nras> = OnceLock::new();
        NRAS.get_or_init(|| {
            let Some(path) = std::env::var_os("VERIFIED_PROXY_FUZZ_BASE") else {
                return Self::of(&forge());
            };
            let path = PathBuf::from(path).with_extension("nras.json");
            if !path.exists() {
                std::fs::write(&path, forge().to_string()).expect("the answer can be written");
            }
            let text = std::fs::read(&path).expect("the answer can be read");
            Self::of(&serde_json::from_slice(&text).expect("the answer is JSON"))
        })
    }

    fn of(saved: &Value) -> Self {
        let text = |name: &str| saved[name].as_str().expect("a text").to_owned();
        let bytes = |name: &str| hex::decode(text(name)).expect("hex");
        let gpus = appraise_gpus(
            &text("payload"),
            Nonce::from_bytes(NONCE),
            &GpuAnchors::danger_gpu_root(bytes("root")),
            UnixTime(NOW),
            &IssuerCache::new(),
        );
        let authority = bytes("authority");
        let pin = Spki::from_bytes(sha256(&authority));
        let nras = Self {
            answer: saved["answer"].clone(),
            key_set: text("key_set"),
            claims: [bytes("overall"), bytes("gpu")],
            key: SigningKey {
                kid: text("kid"),
                key: P384Key::from_pkcs8(&bytes("key")).expect("the key can be used"),
            },
            gpus: gpus.expect("the GPU is genuine"),
            anchors: NrasAnchors::danger_nras_intermediates([pin]),
            authority,
        };
        let answer = nras.answer.to_string();
        let good = nras.judge(answer.as_bytes(), nras.key_set.as_bytes());
        assert!(good.is_some(), "the answer is good");
        nras
    }

    /// The answer with other claims about all GPUs, signed.
    pub fn with_overall(&self, claims: &[u8]) -> Value {
        let overall = self.key.token(claims).expect("it signs");
        json!([["JWT", overall], self.answer[1]])
    }

    /// The answer whose first token has another header, signed.
    pub fn with_header(&self, header: &[u8]) -> Value {
        let [header, claims] =
            [header, &self.claims[0]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = self.key.key.sign_fixed(signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(&signature.expect("it signs"));
        json!([["JWT", format!("{signed}.{signature}")], self.answer[1]])
    }

    /// The header of the answer's tokens.
    pub fn header(&self) -> Vec<u8> {
        let token = self.answer[0][1].as_str().expect("a token");
        let (header, _) = token.split_once('.').expect("a header");
        BASE64_URL_SAFE_NO_PAD.decode(header).expect("base64url")
    }

    /// The answer with other claims about the one GPU, signed.
    pub fn with_gpu(&self, claims: &[u8]) -> Value {
        let gpu = self.key.token(claims).expect("it signs");
        let mut overall: Value = serde_json::from_slice(&self.claims[0]).expect("JSON");
        let digest = hex::encode(sha256(gpu.as_bytes()));
        overall["submods"]["GPU-0"][1][1] = digest.into();
        let overall = self.key.token(overall.to_string().as_bytes());
        json!([["JWT", overall.expect("it signs")], { "GPU-0": gpu }])
    }

    /// The opinion, if the answer is good under the keys.
    pub fn judge(&self, answer: &[u8], key_set: &[u8]) -> Option<NrasOpinion> {
        let len = answer.len() + key_set.len();
        let outcome = memory::bounded(len, FIXED_BYTES, BYTES_PER_BYTE, || {
            KeySet::parse(key_set).and_then(|keys| {
                appraise_nras(
                    answer,
                    &keys,
                    &self.anchors,
                    Nonce::from_bytes(NONCE),
                    &self.gpus,
                    UnixTime(NOW),
                )
            })
        });
        match outcome {
            Ok(opinion) => Some(opinion),
            Err(rejected) => {
                must_be_printable(&rejected.to_string());
                None
            }
        }
    }
}

fn forge() -> Value {
    let gpus = GpuSpec::new(1).expect("keys can be made");
    let payload = gpus.forge(&NONCE).expect("the GPU can be forged");
    let mut spec = NrasSpec::new(NOW).expect("keys can be made");
    let seen = [(); 2].map(|()| Arc::<Mutex<Vec<u8>>>::default());
    let [overall, gpu] = seen.clone();
    spec.overall.payload.push(move |bytes| put(&overall, bytes));
    spec.gpu(0).payload.push(move |bytes| put(&gpu, bytes));
    let answer = spec.answer(&payload).expect("it answers");
    let [overall, gpu] = seen.map(|claims| hex::encode(&*claims.lock().expect("one thread")));
    json!({
        "payload": payload,
        "root": hex::encode(gpus.pki.root_der()),
        "answer": answer,
        "key_set": spec.key_set().expect("it has keys").to_string(),
        "authority": hex::encode(spec.pki.intermediate_spki_der()),
        "overall": overall,
        "gpu": gpu,
        "kid": spec.key.kid,
        "key": hex::encode(spec.key.key.pkcs8_der()),
    })
}

fn put(place: &Mutex<Vec<u8>>, bytes: &[u8]) {
    *place.lock().expect("one thread") = bytes.to_vec();
}
