//! The description of one machine, valid as it comes, every part of it open to change.

mod mr_config;

use std::sync::Arc;

pub use self::mr_config::MrConfig;
use crate::Error;
use crate::attestation::CertForm;
use crate::collateral::{EvaluationNumbers, QeIdentity, TcbInfo};
use crate::deployment::ComposeManager;
use crate::event_log::{BootDigests, DigestForm, Event};
use crate::gpu::GpuSpec;
use crate::hash::{label, label256, sha256};
use crate::hooks::Hooks;
use crate::kms::Kms;
use crate::ohttp::Ohttp;
use crate::pki::{Certs, Crls, PckIssuer, Pki, Signer};
use crate::platform::Platform;
use crate::quote::{EnclaveReport, QuoteShape, TdReport};
use crate::signing::Signing;
use crate::vm_config::VmConfig;

/// The app that the VM runs and what dstack notes about it in RTMR3.
#[derive(Debug, Clone)]
pub struct App {
    /// The app's id.
    pub app_id: Vec<u8>,
    /// The instance's id.
    pub instance_id: Vec<u8>,
    /// The text of app_compose. Its SHA-256 is the compose hash.
    pub compose: String,
    /// The hash of the OS image, as the KMS echoes it.
    pub os_image_hash: [u8; 32],
    /// The aggregated measurement of each KMS that was contacted.
    pub mr_kms: Vec<Vec<u8>>,
    /// The payload of `key-provider`; `None`: derived from the KMS.
    pub key_provider: Option<String>,
    /// The payload of `storage-fs`; `None` leaves the event out, as dstack 0.5.4 does.
    pub storage_fs: Option<String>,
    /// Payloads of `init-script-hash`.
    pub init_script_hashes: Vec<[u8; 32]>,
    /// The payload of `gpu-policy-hash`, which dstack 0.6 notes of every app.
    pub gpu_policy_hash: Option<[u8; 32]>,
    /// The payload of `gpu-attestation`.
    pub gpu_attestation: Option<String>,
    /// The payload of `storage-encrypted`.
    pub storage_encrypted: Option<String>,
    /// Events that the app itself adds after `system-ready`.
    pub app_events: Vec<(String, Vec<u8>)>,
    /// Whether the KMS certified the state at `system-ready`, as it does when a
    /// guest boots, or the state after all events.
    pub certified_at_ready: bool,
    /// Device id.
    pub device_id: [u8; 32],
    /// The app's (and image's) free text name.
    pub name: String,
    /// When the VM booted, seconds since 1970.
    pub boot_time: u64,
}

impl App {
    /// The compose hash.
    pub fn compose_hash(&self) -> [u8; 32] {
        sha256(self.compose.as_bytes())
    }
}

/// Who signs what.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "one field a signature")]
pub struct Signers {
    pub platform_ca_cert: Signer,
    pub pck_cert: Signer,
    /// Which CA's name the PCK certificate carries as its issuer.
    pub pck_issuer: PckIssuer,
    pub tcb_signer_cert: Signer,
    pub root_crl: Signer,
    pub pck_crl: Signer,
    pub tcb_info: Signer,
    pub qe_identity: Signer,
    pub evaluation_numbers: Signer,
    pub qe_report: Signer,
    pub td_report: Signer,
}

/// Values that are otherwise derived. They apply to the quote in the app
/// certificate too, but for the report data.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// RTMR0 to 3.
    pub rt_mr: [Option<[u8; 48]>; 4],
    /// MRCONFIGID.
    pub mr_config_id: Option<[u8; 48]>,
    /// The main quote's report data.
    pub report_data: Option<[u8; 64]>,
}

/// A whole machine: platform, TD, collateral, KMS, app.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The time around which everything is valid.
    pub now: u64,
    /// The fake Intel.
    pub pki: Arc<Pki>,
    /// What Intel certified about the platform.
    pub platform: Platform,
    /// Names and validity of the certificates.
    pub certs: Certs,
    /// The CRLs.
    pub crls: Crls,
    /// TCB info, before it is signed.
    pub tcb_info: TcbInfo,
    /// QE identity, before it is signed.
    pub qe_identity: QeIdentity,
    /// Which editions Intel serves, before it is signed.
    pub evaluation_numbers: EvaluationNumbers,
    /// The quoting enclave.
    pub qe: EnclaveReport,
    /// The TD. Registers 0 to 3, `mr_config_id` and `report_data` are derived: see `overrides`.
    pub td: TdReport,
    /// How quotes are written.
    pub quote: QuoteShape,
    /// Digests of firmware, ACPI and kernel.
    pub boot: BootDigests,
    /// The VM's shape.
    pub vm_config: VmConfig,
    /// The app.
    pub app: App,
    /// Digests of runtime events.
    pub digest_form: DigestForm,
    /// Whether the report leaves out digests of runtime events, as dstack 0.6 does.
    pub strip_digests: bool,
    /// Whether the log leaves out the events of RTMR0 to 2, but for those of ACPI. The
    /// registers are those of the whole log.
    pub strip_boot_events: bool,
    /// What MRCONFIGID says.
    pub mr_config: MrConfig,
    /// How the KMS writes the leaf.
    pub cert_form: CertForm,
    /// The KMS.
    pub kms: Arc<Kms>,
    /// Names the model.
    pub model_name: String,
    /// The model's signing key.
    pub signing: Signing,
    /// Whether the report carries and binds the TLS fingerprint.
    pub include_tls_fingerprint: bool,
    /// `event_log` as a JSON string, as older proxies sent it.
    pub event_log_as_string: bool,
    /// The compose-manager; `None`: the report says nothing of deployments.
    pub compose_manager: Option<ComposeManager>,
    /// The GPUs; `None`: the report has no evidence of any.
    pub gpus: Option<GpuSpec>,
    /// The OHTTP gateway's key; `None`: the report has none.
    pub ohttp: Option<Ohttp>,
    /// Derived values to replace.
    pub overrides: Overrides,
    /// Who signs what.
    pub signers: Signers,
    /// Changes at each stage.
    pub hooks: Hooks,
}

impl Spec {
    /// A valid machine under the process's shared PKI and KMS, with eight GPUs.
    pub fn new(now: u64) -> Result<Self, Error> {
        let gpus = GpuSpec::shared()?;
        Ok(Self::with(now, Pki::shared()?, Kms::shared()?, gpus))
    }

    /// A valid machine under given ones, with these GPUs.
    pub fn with(now: u64, pki: Arc<Pki>, kms: Arc<Kms>, gpus: GpuSpec) -> Self {
        let platform = Platform::new();
        let td = TdReport::new();
        let os_image_hash = label256("OS image");
        Self {
            now,
            tcb_info: TcbInfo::new(now, &platform, td.tee_tcb_svn),
            qe_identity: QeIdentity::new(now),
            evaluation_numbers: EvaluationNumbers::new(now),
            qe: EnclaveReport::quoting_enclave(platform.cpu_svn),
            certs: Certs::new(now),
            crls: Crls::new(now),
            quote: QuoteShape::new(),
            boot: BootDigests::new(),
            vm_config: VmConfig::new(
                u32::try_from(gpus.gpus.len()).unwrap_or(u32::MAX),
                os_image_hash,
            ),
            app: App {
                app_id: label::<20>("app id").to_vec(),
                instance_id: label::<20>("instance id").to_vec(),
                compose: COMPOSE.to_owned(),
                os_image_hash,
                mr_kms: vec![label256("KMS measurement").to_vec()],
                key_provider: None,
                storage_fs: Some("zfs".to_owned()),
                init_script_hashes: Vec::new(),
                gpu_policy_hash: None,
                gpu_attestation: None,
                storage_encrypted: None,
                app_events: Vec::new(),
                certified_at_ready: true,
                device_id: label256("device id"),
                name: "fake-image-1.0".to_owned(),
                // Its manager's first action follows ten minutes later.
                boot_time: now.saturating_sub(72 * 3600 + 600),
            },
            digest_form: DigestForm::default(),
            strip_digests: false,
            strip_boot_events: false,
            mr_config: MrConfig::default(),
            cert_form: CertForm::default(),
            model_name: "fake/llama".to_owned(),
            signing: Signing::ed25519(),
            include_tls_fingerprint: true,
            event_log_as_string: false,
            compose_manager: Some(ComposeManager::new(now)),
            gpus: Some(gpus),
            ohttp: Some(Ohttp::new()),
            overrides: Overrides::default(),
            signers: Signers::default(),
            hooks: Hooks::default(),
            pki,
            platform,
            td,
            kms,
        }
    }

    /// What a guest of dstack 0.6 on a host with GPUs notes, and how: V2 digests that
    /// the log leaves out, the GPUs' events, no `mr-kms`; under a KMS of its age.
    pub fn boot_dstack_0_6(&mut self) {
        self.digest_form = DigestForm::V2;
        self.strip_digests = true;
        self.cert_form = CertForm::AttestationV1;
        let app = &mut self.app;
        app.mr_kms.clear();
        app.init_script_hashes = vec![label256("script one"), label256("script two")];
        app.gpu_policy_hash = Some(label256("GPU policy"));
        app.gpu_attestation = Some(GPU_ATTESTATION.to_owned());
        app.storage_encrypted = Some("1".to_owned());
    }

    /// `{"name":"kms","id":"…"}` unless replaced.
    pub fn key_provider(&self) -> String {
        self.app
            .key_provider
            .clone()
            .unwrap_or_else(|| format!(r#"{{"name":"kms","id":"{}"}}"#, self.kms.root_spki_hex()))
    }

    /// The event log as the guest writes it, without any hook.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.boot.events(&self.vm_config);
        let app = &self.app;
        let mut add = |name: &str, payload: &[u8]| {
            events.push(Event::runtime(name, payload, self.digest_form));
        };
        add("system-preparing", b"");
        add("app-id", &app.app_id);
        add("compose-hash", &app.compose_hash());
        for hash in &app.init_script_hashes {
            add("init-script-hash", hash);
        }
        if let Some(hash) = &app.gpu_policy_hash {
            add("gpu-policy-hash", hash);
        }
        if let Some(attestation) = &app.gpu_attestation {
            add("gpu-attestation", attestation.as_bytes());
        }
        add("instance-id", &app.instance_id);
        add("boot-mr-done", b"");
        for mr_kms in &app.mr_kms {
            add("mr-kms", mr_kms);
        }
        add("os-image-hash", &app.os_image_hash);
        add("key-provider", self.key_provider().as_bytes());
        if let Some(fs) = &app.storage_fs {
            add("storage-fs", fs.as_bytes());
        }
        if let Some(encrypted) = &app.storage_encrypted {
            add("storage-encrypted", encrypted.as_bytes());
        }
        add("system-ready", b"");
        for (name, payload) in &app.app_events {
            add(name, payload);
        }
        events
    }
}

const GPU_ATTESTATION: &str = r#"{"version":1,"provider":"nvidia","devices":8,"cc_mode":"on","devtools":false,"evidence_sha256":"00"}"#;

const COMPOSE: &str = r#"{
    "manifest_version": 2,
    "name": "fake-image-1.0",
    "runner": "docker-compose",
    "docker_compose_file": "services:\n  engine:\n    image: example.invalid/engine@sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
    "kms_enabled": true,
    "gateway_enabled": true,
    "local_key_provider_enabled": false,
    "key_provider_id": "",
    "public_logs": false,
    "public_sysinfo": true,
    "allowed_envs": ["BEARER_TOKEN", "HF_TOKEN"],
    "no_instance_id": false,
    "secure_time": false
}"#;
