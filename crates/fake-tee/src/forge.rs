//! From a [`Spec`] to signed bytes: the stages, in the order in which hooks run.

mod certificates;
mod manager;

use serde_json::{Value, json};

use crate::Error;
use crate::attestation::Attestation;
use crate::challenge::Challenge;
use crate::collateral::Collateral;
use crate::encode::pem_chain;
use crate::event_log::{DigestForm, Event, RUNTIME_EVENT_TYPE, replay, strip_boot_events};
use crate::gpu::GpuSpec;
use crate::hash::sha256;
use crate::pki::{Issued, Signer};
use crate::quote::{self, QuoteKeys, SignedQuote, TdReport, UnsignedQuote};
use crate::spec::Spec;

/// Everything that was forged.
#[derive(Debug, Clone)]
pub struct Built {
    /// The report as a JSON value, after all hooks but `report_bytes`.
    pub report: Value,
    /// The report as a backend sends it.
    pub report_bytes: Vec<u8>,
    /// The main quote.
    pub quote: Vec<u8>,
    /// The PCK chain as it was issued, in DER: PCK certificate, platform CA, root.
    pub pck_chain: Vec<Vec<u8>>,
    /// The app certificate's chain in DER: leaf, app CA, root.
    pub app_chain: Vec<Vec<u8>>,
    /// The event log as reported.
    pub events: Vec<Event>,
    /// The collateral.
    pub collateral: Collateral,
    /// The collateral as dcap-qvl's `QuoteCollateralV3` JSON.
    pub collateral_json: String,
    /// The trust anchor.
    pub tdx_root_der: Vec<u8>,
    /// The trust anchor of GPUs.
    pub gpu_root_der: Vec<u8>,
    /// The KMS root's SubjectPublicKeyInfo.
    pub kms_root_spki_hex: String,
    /// The challenge that was answered.
    pub challenge: Challenge,
}

impl Spec {
    /// Signs everything.
    pub fn forge(&self, challenge: &Challenge) -> Result<Built, Error> {
        let issued = self.pki.issue(self)?;
        let collateral = self.sign_collateral(&issued)?;
        let mut challenge = challenge.clone();
        self.hooks.challenge.apply(&mut challenge);

        let mut events = self.events();
        self.hooks.events.apply(&mut events);
        let mut td = self.td.clone();
        td.mr_config_id = self.mr_config_id();
        let certified_registers = self.registers(self.certified(&events));
        td.rt_mr = self.registers(&events);
        if self.strip_boot_events {
            strip_boot_events(&mut events);
        }
        self.hooks.events_after.apply(&mut events);

        let app_chain = self.app_certificates(
            &issued,
            TdReport {
                rt_mr: certified_registers,
                ..td.clone()
            },
            self.certified(&events),
        )?;

        td.report_data = self.report_data(&challenge);
        self.hooks.td_report.apply(&mut td);
        let mut unsigned = quote::unsigned(&self.quote, &td, self.platform.cpu_svn);
        self.hooks.unsigned_quote.apply(&mut unsigned);
        let mut signed = self.sign_quote(&issued, unsigned, self.signers.td_report)?;
        self.hooks.signed_quote.apply(&mut signed);
        let mut quote = signed.encode();
        self.hooks.quote_bytes.apply(&mut quote);

        let mut report = self.report(&challenge, &td, &quote, &events, &app_chain)?;
        if let Some(manager) = &self.compose_manager {
            report["compose_manager_attestation"] =
                self.compose_manager_attestation(manager, &issued, &challenge, td, &events)?;
        }
        if let Some(ohttp) = &self.ohttp {
            ohttp.write(&mut report)?;
        }
        self.hooks.report.apply(&mut report);
        let mut report_bytes = serde_json::to_vec(&report)?;
        self.hooks.report_bytes.apply(&mut report_bytes);

        Ok(Built {
            report,
            report_bytes,
            quote,
            pck_chain: issued.pck_chain,
            app_chain,
            events,
            collateral_json: collateral.to_json()?,
            collateral,
            tdx_root_der: self.pki.root_der().to_vec(),
            gpu_root_der: self.gpu_root_der(),
            kms_root_spki_hex: self.kms.root_spki_hex(),
            challenge,
        })
    }

    /// The root under which its GPUs are trusted; empty without any.
    pub fn gpu_root_der(&self) -> Vec<u8> {
        let root = |gpus: &GpuSpec| gpus.pki.root_der().to_vec();
        self.gpus.as_ref().map(root).unwrap_or_default()
    }

    /// The collateral alone, for a PCS.
    pub fn forge_collateral(&self) -> Result<Collateral, Error> {
        self.sign_collateral(&self.pki.issue(self)?)
    }

    /// The part of the log that the app certificate speaks of.
    fn certified<'a>(&self, events: &'a [Event]) -> &'a [Event] {
        let ready = events
            .iter()
            .position(|event| event.event == "system-ready");
        match ready {
            Some(ready) if self.app.certified_at_ready => events.get(..=ready).unwrap_or(events),
            _ => events,
        }
    }

    fn registers(&self, events: &[Event]) -> [[u8; 48]; 4] {
        let mut registers = replay(events);
        for (register, replacement) in registers.iter_mut().zip(self.overrides.rt_mr) {
            *register = replacement.unwrap_or(*register);
        }
        registers
    }

    fn sign_collateral(&self, issued: &Issued) -> Result<Collateral, Error> {
        let mut tcb_info = serde_json::to_string(&self.tcb_info)?;
        self.hooks.tcb_info_json.apply(&mut tcb_info);
        let mut qe_identity = serde_json::to_string(&self.qe_identity)?;
        self.hooks.qe_identity_json.apply(&mut qe_identity);
        let mut evaluation_numbers = serde_json::to_string(&self.evaluation_numbers)?;
        let numbers_hook = &self.hooks.evaluation_numbers_json;
        numbers_hook.apply(&mut evaluation_numbers);
        let sign = |signer: Signer, text: &str| {
            self.pki
                .tcb_signer_key(signer)
                .sign_fixed(text.as_bytes())
                .map(|signature| signature.to_vec())
        };
        let mut collateral = Collateral {
            pck_crl_issuer_chain: issued.platform_ca_chain.clone(),
            root_ca_crl: issued.root_crl.clone(),
            pck_crl: issued.pck_crl.clone(),
            tcb_info_issuer_chain: issued.tcb_signer_chain.clone(),
            tcb_info_signature: sign(self.signers.tcb_info, &tcb_info)?,
            tcb_info,
            qe_identity_issuer_chain: issued.tcb_signer_chain.clone(),
            qe_identity_signature: sign(self.signers.qe_identity, &qe_identity)?,
            qe_identity,
            evaluation_numbers_issuer_chain: issued.tcb_signer_chain.clone(),
            evaluation_numbers_signature: sign(
                self.signers.evaluation_numbers,
                &evaluation_numbers,
            )?,
            evaluation_numbers,
            pck_certificate_chain: None,
        };
        self.hooks.collateral.apply(&mut collateral);
        Ok(collateral)
    }

    pub(crate) fn sign_quote(
        &self,
        issued: &Issued,
        unsigned: UnsignedQuote,
        td_signer: Signer,
    ) -> Result<SignedQuote, Error> {
        quote::sign(
            &self.quote,
            unsigned,
            &self.qe,
            |qe| self.hooks.qe_report.apply(qe),
            &QuoteKeys {
                attestation: self.pki.attestation_key(Signer::Proper),
                signer: self.pki.attestation_key(td_signer),
                pck: self.pki.pck_key(self.signers.qe_report),
            },
            issued.pck_chain.clone(),
        )
    }

    /// The KMS's chain, with a quote over the same TD inside.
    fn app_certificates(
        &self,
        issued: &Issued,
        mut td: TdReport,
        events: &[Event],
    ) -> Result<Vec<Vec<u8>>, Error> {
        td.report_data = self.kms.leaf_report_data();
        self.hooks.app_td_report.apply(&mut td);
        let unsigned = quote::unsigned(&self.quote, &td, self.platform.cpu_svn);
        let quote = self.sign_quote(issued, unsigned, Signer::Proper)?.encode();
        self.kms.issue(
            &self.hooks,
            self.app.boot_time,
            &self.app.app_id,
            self.cert_form,
            &Attestation {
                quote: &quote,
                events,
                report_data: td.report_data,
                config: &serde_json::to_string(&self.vm_config)?,
            },
        )
    }

    fn mr_config_id(&self) -> [u8; 48] {
        self.overrides
            .mr_config_id
            .unwrap_or_else(|| self.mr_config.id(self))
    }

    /// SHA-256(address || fingerprint) || nonce; without a fingerprint the
    /// address, padded with zeros, takes the hash's place.
    fn report_data(&self, challenge: &Challenge) -> [u8; 64] {
        self.overrides.report_data.unwrap_or_else(|| {
            let mut value = [0; 64];
            let address = &self.signing.address;
            if self.include_tls_fingerprint {
                let bound = sha256(&[&address[..], &challenge.spki_sha256].concat());
                value[..32].copy_from_slice(&bound);
            } else {
                for (to, from) in value[..32].iter_mut().zip(address) {
                    *to = *from;
                }
            }
            value[32..].copy_from_slice(&challenge.nonce);
            value
        })
    }

    fn report(
        &self,
        challenge: &Challenge,
        td: &TdReport,
        quote: &[u8],
        events: &[Event],
        app_chain: &[Vec<u8>],
    ) -> Result<Value, Error> {
        let app = &self.app;
        let mut events = serde_json::to_value(events)?;
        if self.strip_digests {
            for event in events.as_array_mut().into_iter().flatten() {
                if event["event_type"] == RUNTIME_EVENT_TYPE {
                    event["digest"] = "".into();
                    if self.digest_form == DigestForm::V2 {
                        event["version"] = 2.into();
                    }
                }
            }
        }
        let event_log = if self.event_log_as_string {
            Value::from(serde_json::to_string(&events)?)
        } else {
            events
        };
        let compose_hash = hex::encode(app.compose_hash());
        let os_image_hash = hex::encode(app.os_image_hash);
        let device_id = hex::encode(app.device_id);
        let mut core = json!({
            "model_name": self.model_name,
            "signing_address": self.signing.address_text(),
            "signing_algo": self.signing.algo.as_str(),
            "signing_public_key": hex::encode(&self.signing.public_key),
            "request_nonce": hex::encode(challenge.nonce),
            "intel_quote": hex::encode(quote),
            "event_log": event_log,
            "info": {
                "app_cert": pem_chain(app_chain),
                "app_id": hex::encode(&app.app_id),
                "app_name": app.name,
                "compose_hash": compose_hash,
                "device_id": device_id,
                "instance_id": hex::encode(&app.instance_id),
                "key_provider_info": self.key_provider(),
                "mr_aggregated": hex::encode(mr_aggregated(td)),
                "os_image_hash": os_image_hash,
                "tcb_info": {
                    "app_compose": app.compose,
                    "compose_hash": compose_hash,
                    "device_id": device_id,
                    "event_log": event_log,
                    "mrtd": hex::encode(td.mr_td),
                    "os_image_hash": os_image_hash,
                    "rtmr0": hex::encode(td.rt_mr[0]),
                    "rtmr1": hex::encode(td.rt_mr[1]),
                    "rtmr2": hex::encode(td.rt_mr[2]),
                    "rtmr3": hex::encode(td.rt_mr[3]),
                },
                "vm_config": serde_json::to_string(&self.vm_config)?,
            },
        });
        if let Some(gpus) = &self.gpus {
            core["nvidia_payload"] = gpus.forge(&challenge.nonce)?.into();
        }
        if self.include_tls_fingerprint {
            core["tls_cert_fingerprint"] = hex::encode(challenge.spki_sha256).into();
        }
        let copy = core.clone();
        core["all_attestations"] = Value::Array(vec![copy]);
        Ok(core)
    }
}

/// SHA-256 over MRTD, RTMR0-3, MRCONFIGID, MROWNER, MROWNERCONFIG, as dstack aggregates them.
fn mr_aggregated(td: &TdReport) -> [u8; 32] {
    sha256(
        &[
            td.mr_td,
            td.rt_mr[0],
            td.rt_mr[1],
            td.rt_mr[2],
            td.rt_mr[3],
            td.mr_config_id,
            td.mr_owner,
            td.mr_owner_config,
        ]
        .concat(),
    )
}
