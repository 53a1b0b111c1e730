//! The ordered checks: the one place that turns evidence into a proof.
//!
//! Each step takes what the step before proved and refuses by its own
//! [`Rejected`]. The [`Report`] is written along the way and decides nothing.

use std::sync::Arc;

use crate::attested::{Attested, Claims, Expected, Subject};
use crate::collateral::{Channel, Collateral, Floor, FloorKey, FloorSeen, Floors, TrustAnchors};
use crate::event_log::{self, BootEvents};
use crate::evidence::Evidence;
use crate::policy::{AcpiMode, Hex, OsImage, Policy, Rules, Seen, firmware_line, machine_line};
use crate::quote::{self, Td, VerifiedQuote};
use crate::report::{CheckId, PolicyName, Report, Status};
use crate::rtmr0::{Rtmr0, td_hob_digest};
use crate::tcb::{Component, Level};
use crate::text::{hex_bytes, quoted, shown, shown_hex};
use crate::{Fmspc, Nonce, Rejected, Spki, UnixTime, app_cert, binding};

/// Everything a verdict depends on.
#[derive(Debug, Clone, Copy)]
pub struct Appraise<'a> {
    /// The report.
    pub evidence: &'a Evidence,
    /// What it should be about.
    pub subject: &'a Subject,
    /// The TLS key of the live connection, from its session.
    pub live_spki: Spki,
    /// The nonce that was sent with the request for this report.
    pub nonce: Nonce,
    /// Intel's documents about the platform.
    pub collateral: &'a Collateral,
    /// How old those documents may be.
    pub floor: FloorCheck<'a>,
    /// What is accepted.
    pub policy: &'a Policy,
    /// Whose word counts.
    pub trust_anchors: &'a TrustAnchors,
    /// The time.
    pub now: UnixTime,
}

/// The memory against which rollback of collateral is noticed.
#[derive(Debug, Clone, Copy)]
pub enum FloorCheck<'a> {
    /// The highest numbers seen, and the channel this collateral was asked on.
    Kept {
        /// The memory.
        floors: &'a Floors,
        /// `update=standard` or `update=early`.
        channel: Channel,
    },
    /// There is no memory, for this reason; the report says so.
    NotKept(&'static str),
}

/// The verdict, and the report for people.
#[derive(Debug)]
#[non_exhaustive]
pub struct Appraisal {
    /// The proof.
    pub outcome: Result<Attested, Rejected>,
    /// What a memory of floors has to remember, whatever the verdict: a newer
    /// edition that refuses a platform must not be forgotten for an older one
    /// that accepts it.
    pub floor_seen: Option<FloorSeen>,
    /// Every check.
    pub report: Report,
    quote: Option<Arc<VerifiedQuote>>,
}

impl Appraisal {
    /// The verdict on a report that could not be read.
    #[must_use]
    pub fn unreadable(
        rejected: Rejected,
        policy: &Policy,
        trust_anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Self {
        let mut report = new_report(policy, trust_anchors, now);
        report.set(CheckId::Evidence, Status::Fail, rejected.to_string());
        report.rejected = Some(rejected.clone());
        Self {
            outcome: Err(rejected),
            floor_seen: None,
            report,
            quote: None,
        }
    }

    /// A policy that would accept what this evidence showed, for review; `None`
    /// if its quote did not verify, its event log does not explain itself, or
    /// it is not the evidence that was judged.
    #[must_use]
    pub fn policy_toml(&self, evidence: &Evidence) -> Option<String> {
        let seen = seen(evidence, self.quote.as_ref()?)?;
        Some(seen.to_policy_toml(self.report.at))
    }
}

/// Judges evidence.
///
/// A refusal is the first failing check in the order of [`CheckId::ALL`].
#[must_use]
pub fn appraise(request: &Appraise<'_>) -> Appraisal {
    let mut run = Run {
        request: *request,
        report: new_report(request.policy, request.trust_anchors, request.now),
        current: CheckId::Evidence,
        floor_seen: None,
        quote: None,
    };
    let outcome = run.checks();
    if let Err(rejected) = &outcome {
        run.report
            .set(run.current, Status::Fail, rejected.to_string());
        run.report.rejected = Some(rejected.clone());
    }
    Appraisal {
        outcome,
        floor_seen: run.floor_seen,
        report: run.report,
        quote: run.quote,
    }
}

fn new_report(policy: &Policy, trust_anchors: &TrustAnchors, now: UnixTime) -> Report {
    let name = PolicyName {
        name: policy.name().to_owned(),
        digest: policy.digest(),
        hardware_only: policy.hardware_only(),
    };
    let mut report = Report::new(name, now, trust_anchors.is_intel());
    report.not_proved(CheckId::Gpus, "GPU evidence is not judged by this version");
    report.not_proved(
        CheckId::Deployment,
        "which containers were deployed into the VM is not judged by this version",
    );
    report.not_proved(
        CheckId::CaChain,
        "not part of the evidence; trust comes from the quote",
    );
    report
}

struct Run<'a> {
    request: Appraise<'a>,
    report: Report,
    /// The check that a refusal belongs to.
    current: CheckId,
    floor_seen: Option<FloorSeen>,
    quote: Option<Arc<VerifiedQuote>>,
}

impl<'a> Run<'a> {
    fn begin(&mut self, check: CheckId) {
        self.current = check;
    }

    fn pass(&mut self, detail: impl Into<String>) {
        self.report.pass(self.current, detail);
    }

    fn rules(&self) -> &'a Rules {
        self.request.policy.rules()
    }

    fn checks(&mut self) -> Result<Attested, Rejected> {
        let evidence = self.request.evidence;
        self.begin(CheckId::Evidence);
        self.pass(format!(
            "{} events, signing key {}",
            evidence.events.len(),
            evidence.signing_key
        ));
        let quote = Arc::new(self.genuine()?);
        self.quote = Some(Arc::clone(&quote));
        self.patched(&quote)?;
        self.td(quote.td())?;
        self.connection(quote.td())?;
        let (boot, rtmr0) = self.boot(quote.td())?;
        let valid_until = if self.request.policy.hardware_only() {
            self.software_is_not_looked_at();
            quote.valid_until()
        } else {
            self.software(quote.td(), &boot, &rtmr0)?;
            self.identity(quote.td(), &boot)?.min(quote.valid_until())
        };
        self.pins(&quote, &boot)?;
        self.model()?;
        self.report.fact("valid_until", valid_until.to_string());
        Ok(Attested {
            claims: Claims {
                domain: self.request.subject.domain.clone(),
                spki: self.request.live_spki,
                policy: self.request.policy.digest(),
                valid_until,
                model_name: evidence.model_name.clone(),
                signing_key: evidence.signing_key.clone(),
                nonce: self.request.nonce,
            },
        })
    }

    /// A quote of a genuine platform, judged by documents no older than seen before.
    fn genuine(&mut self) -> Result<VerifiedQuote, Rejected> {
        let request = self.request;
        self.begin(CheckId::QuoteFormat);
        let key = request.evidence.collateral_key()?;
        self.pass(format!("FMSPC {}", key.fmspc));

        self.begin(CheckId::Quote);
        let verified = quote::verify(
            &request.evidence.quote,
            request.collateral,
            request.trust_anchors,
            request.now,
        );
        self.floor_seen = match &verified {
            Ok(quote) => Some((quote.fmspc(), quote.floor())),
            Err(refusal) => refusal.genuine,
        }
        .and_then(|(fmspc, floor)| self.floor_seen(fmspc, floor));
        let quote = verified.map_err(|refusal| {
            self.current = check_of(&refusal.rejected);
            refusal.rejected
        })?;
        self.pass(format!(
            "version {}, under {} root",
            quote.version(),
            if request.trust_anchors.is_intel() {
                "Intel's"
            } else {
                "a DANGEROUS"
            }
        ));
        self.begin(CheckId::CollateralValid);
        self.pass(format!("until {}", quote.valid_until()));

        self.begin(CheckId::CollateralFloor);
        match request.floor {
            FloorCheck::NotKept(reason) => self.report.not_proved(CheckId::CollateralFloor, reason),
            FloorCheck::Kept { floors, channel } => {
                let key = FloorKey::new(request.trust_anchors, quote.fmspc(), channel);
                floors.get(&key).admit(&quote.floor())?;
                let Floor {
                    tcb_info,
                    qe_identity,
                    pck_crl,
                    root_crl,
                } = quote.floor();
                self.pass(format!(
                    "TCB info {tcb_info}, QE identity {qe_identity}, CRLs of {pck_crl} and {root_crl}"
                ));
            }
        }
        Ok(quote)
    }

    fn floor_seen(&self, fmspc: Fmspc, floor: Floor) -> Option<FloorSeen> {
        match self.request.floor {
            FloorCheck::NotKept(_) => None,
            FloorCheck::Kept { channel, .. } => Some(FloorSeen {
                key: FloorKey::new(self.request.trust_anchors, fmspc, channel),
                floor,
            }),
        }
    }

    /// At an accepted patch level.
    fn patched(&mut self, quote: &VerifiedQuote) -> Result<(), Rejected> {
        self.begin(CheckId::TcbEvaluation);
        let (got, rules) = (quote.evaluation_number(), &self.rules().tcb);
        match rules.min_evaluation_number {
            Some(min) if got < min => return Err(Rejected::TcbEvaluation { got, min }),
            Some(min) => self.pass(format!("number {got}, at least {min}")),
            None => self.report.not_proved(
                CheckId::TcbEvaluation,
                format!("number {got}; the policy asks for none"),
            ),
        }
        let levels = quote.levels();
        self.levels(
            CheckId::TcbPlatform,
            Component::Platform,
            &levels.platform,
            |level| Rejected::TcbPlatform { level },
        )?;
        if levels.module.is_empty() {
            self.report.not_proved(
                CheckId::TcbModule,
                "Intel judges this TDX module together with the platform",
            );
        } else {
            self.levels(
                CheckId::TcbModule,
                Component::Module,
                &levels.module,
                |level| Rejected::TcbModule { level },
            )?;
        }
        let qe = std::slice::from_ref(&levels.qe);
        self.levels(CheckId::TcbQe, Component::Qe, qe, |level| Rejected::TcbQe {
            level,
        })?;

        let td = quote.td();
        self.report.fact("fmspc", quote.fmspc().to_string());
        self.report.fact("ppid", hex::encode(quote.ppid()));
        self.report.fact("platform", quote.platform_flags());
        self.report.fact("mrseam", hex::encode(td.mr_seam));
        self.report.fact("tee_tcb_svn", hex::encode(td.tee_tcb_svn));
        Ok(())
    }

    fn levels(
        &mut self,
        check: CheckId,
        component: Component,
        levels: &[Level],
        refusal: impl Fn(Level) -> Rejected,
    ) -> Result<(), Rejected> {
        self.begin(check);
        for level in levels {
            if !self.rules().tcb.admits(component, level) {
                return Err(refusal(level.clone()));
            }
        }
        let words: Vec<_> = levels.iter().map(ToString::to_string).collect();
        self.pass(words.join("; now "));
        Ok(())
    }

    fn td(&mut self, td: &Td) -> Result<(), Rejected> {
        let rules = &self.rules().td;
        self.begin(CheckId::TdAttributes);
        let got = Hex(td.attributes);
        if td.attributes.first() != Some(&0) {
            return Err(Rejected::TdDebug {
                attributes: got.to_string(),
            });
        }
        if !rules.attributes.contains(&got) {
            return Err(Rejected::TdAttributes {
                got: got.to_string(),
                allowed: rules.attributes.len(),
                accept: format!("td.attributes = [\"{got}\"]"),
            });
        }
        self.pass(got.to_string());
        self.begin(CheckId::Xfam);
        let got = Hex(td.xfam);
        if !rules.xfam.contains(&got) {
            return Err(Rejected::Xfam {
                got: got.to_string(),
                allowed: rules.xfam.len(),
                accept: format!("td.xfam = [\"{got}\"]"),
            });
        }
        self.pass(got.to_string());
        Ok(())
    }

    /// This connection, this request.
    fn connection(&mut self, td: &Td) -> Result<(), Rejected> {
        let Appraise {
            evidence,
            live_spki,
            nonce,
            ..
        } = self.request;
        self.begin(CheckId::TlsKey);
        binding::tls_key(evidence, live_spki)?;
        self.pass(live_spki.to_string());
        self.begin(CheckId::Nonce);
        binding::nonce(evidence, td, nonce)?;
        self.pass(nonce.to_string());
        self.begin(CheckId::ReportData);
        binding::report_data(evidence, td, live_spki)?;
        self.pass(format!("signing key {}", evidence.signing_key));
        Ok(())
    }

    /// The measured boot, as far as it explains itself.
    fn boot(&mut self, td: &Td) -> Result<(BootEvents, Rtmr0), Rejected> {
        let evidence = self.request.evidence;
        self.begin(CheckId::Rtmrs);
        event_log::replay(&evidence.events, td)?;
        self.pass(format!("{} events", evidence.events.len()));
        self.begin(CheckId::BootEvents);
        let boot = BootEvents::read(&evidence.events)?;
        let rtmr0 = Rtmr0::read(&evidence.events)?;
        event_log::repeated_values_agree(evidence, &boot, td)?;
        self.pass(format!("{} later events ignored", boot.later));
        self.begin(CheckId::Compose);
        let compose_hash = event_log::compose(evidence, &boot, td)?;
        self.pass(hex::encode(compose_hash));

        self.report.fact("mrtd", hex::encode(td.mrtd));
        for (name, value) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"]
            .into_iter()
            .zip(td.rtmr)
        {
            self.report.fact(name, hex::encode(value));
        }
        self.report
            .fact("os_image_hash", hex::encode(boot.os_image_hash));
        self.report.fact("compose_hash", hex::encode(compose_hash));
        self.report.fact("app_id", hex::encode(boot.app_id));
        self.report
            .fact("instance_id", shown_hex(&boot.instance_id));
        if !boot.mr_kms.is_empty() {
            let all: Vec<_> = boot.mr_kms.iter().map(|mr_kms| shown_hex(mr_kms)).collect();
            self.report.fact("mr_kms", shown(&all.join(" ")));
        }
        if let Some(device_id) = &evidence.repeated.device_id {
            self.report.fact("device_id_unmeasured", shown(device_id));
        }
        self.report
            .fact("signing_key", evidence.signing_key.to_string());
        self.report.fact("model_name", shown(&evidence.model_name));
        Ok((boot, rtmr0))
    }

    fn software_is_not_looked_at(&mut self) {
        for check in [
            CheckId::OsImage,
            CheckId::Firmware,
            CheckId::TdHob,
            CheckId::Acpi,
            CheckId::Kms,
            CheckId::AppId,
            CheckId::KeyProvider,
        ] {
            self.report
                .not_proved(check, "the policy is hardware only: any software passes");
        }
    }

    /// The expected image, on a machine of a known shape.
    fn software(&mut self, td: &Td, boot: &BootEvents, rtmr0: &Rtmr0) -> Result<(), Rejected> {
        let rules = self.rules();
        self.begin(CheckId::OsImage);
        let [_, rtmr1, rtmr2, _] = td.rtmr;
        let image = OsImage::seen(td.mrtd, rtmr1, rtmr2, boot.os_image_hash);
        let Some(name) = rules.os_image(&image) else {
            return Err(Rejected::OsImage {
                mrtd: image.mrtd.to_string(),
                rtmr1: image.rtmr1.to_string(),
                rtmr2: image.rtmr2.to_string(),
                os_image_hash: image.os_image_hash.to_string(),
                allowed: rules.os_images.len(),
                accept: image.line(),
            });
        };
        self.pass(shown(name));

        self.begin(CheckId::Firmware);
        match rules.firmware(&rtmr0.firmware) {
            Ok(name) => self.pass(shown(name)),
            Err((event, got)) => {
                return Err(Rejected::Firmware {
                    event,
                    got: hex::encode(got),
                    accept: firmware_line(&rtmr0.firmware),
                });
            }
        }

        self.begin(CheckId::TdHob);
        let memory_size =
            self.request
                .evidence
                .memory_size
                .ok_or_else(|| Rejected::EvidenceMissingField {
                    field: "info.vm_config.memory_size".to_owned(),
                })?;
        let expected = td_hob_digest(memory_size);
        if expected != Some(rtmr0.td_hob) {
            return Err(Rejected::TdHob {
                got: hex::encode(rtmr0.td_hob),
                expected: expected.map_or("no machine".to_owned(), hex::encode),
                memory_size,
            });
        }
        self.pass(format!("{memory_size} bytes of memory"));

        self.begin(CheckId::Acpi);
        match (rules.machine(&rtmr0.acpi), rules.acpi) {
            (Some(name), _) => self.pass(shown(name)),
            (None, AcpiMode::Report) => self.report.not_proved(
                CheckId::Acpi,
                "no machine shape of the policy, which does not require one (acpi = \"report\")",
            ),
            (None, AcpiMode::Require) => {
                return Err(Rejected::Acpi {
                    loader: hex::encode(rtmr0.acpi.loader),
                    rsdp: hex::encode(rtmr0.acpi.rsdp),
                    tables: hex::encode(rtmr0.acpi.tables),
                    allowed: rules.machines.len(),
                    accept: machine_line(&rtmr0.acpi),
                });
            }
        }
        Ok(())
    }

    /// What the KMS signed decides; RTMR3 has to agree.
    fn identity(&mut self, td: &Td, boot: &BootEvents) -> Result<UnixTime, Rejected> {
        let request = self.request;
        self.begin(CheckId::Kms);
        let identity = app_cert::verify(
            request.evidence.app_cert.as_deref(),
            td,
            &boot.rtmr3_since_ready,
            self.rules(),
            request.now,
        )
        .inspect_err(|rejected| self.current = check_of(rejected))?;
        self.pass("certificate of the expected KMS, issued for these registers");

        self.begin(CheckId::AppId);
        if identity.app_id != boot.app_id {
            return Err(Rejected::AppIdDisagrees {
                rtmr3: hex::encode(boot.app_id),
                signed: shown_hex(&identity.app_id),
            });
        }
        self.pass(hex::encode(&identity.app_id));

        self.begin(CheckId::KeyProvider);
        let got = String::from_utf8_lossy(&boot.key_provider);
        if !binding::is_key_provider(&boot.key_provider, &identity.kms_root) {
            return Err(Rejected::KeyProvider {
                got: quoted(&got),
                expected: format!("name \"kms\", id {}", identity.kms_root),
            });
        }
        self.pass("the same KMS");
        Ok(identity.valid_until)
    }

    fn pins(&mut self, quote: &VerifiedQuote, boot: &BootEvents) -> Result<(), Rejected> {
        self.begin(CheckId::Pins);
        let pins = &self.rules().pins;
        let td = quote.td();
        let [rtmr0, ..] = td.rtmr;
        let evidence = self.request.evidence;
        let device_id = evidence.repeated.device_id.as_deref().and_then(hex_bytes);
        let device_id = device_id.map_or("absent".to_owned(), |id| shown_hex(&id));
        let texts = |set: &mut dyn Iterator<Item = String>| set.collect::<Vec<_>>();
        let kms: Vec<_> = boot.mr_kms.iter().map(hex::encode).collect();
        let pinned = [
            (
                "mr_kms",
                texts(&mut pins.mr_kms.iter().map(ToString::to_string)),
                kms,
            ),
            (
                "mrseam",
                texts(&mut pins.mrseam.iter().map(ToString::to_string)),
                vec![hex::encode(td.mr_seam)],
            ),
            (
                "instance_ids",
                texts(&mut pins.instance_ids.iter().map(|id| id.as_str().to_owned())),
                vec![hex::encode(&boot.instance_id)],
            ),
            (
                "device_ids",
                texts(&mut pins.device_ids.iter().map(ToString::to_string)),
                vec![device_id],
            ),
            (
                "ppids",
                texts(&mut pins.ppids.iter().map(ToString::to_string)),
                vec![hex::encode(quote.ppid())],
            ),
            (
                "rtmr0",
                texts(&mut pins.rtmr0.iter().map(ToString::to_string)),
                vec![hex::encode(rtmr0)],
            ),
            (
                "compose_hashes",
                texts(&mut pins.compose_hashes.iter().map(ToString::to_string)),
                vec![hex::encode(&boot.compose_hash)],
            ),
            (
                "signing_keys",
                texts(&mut pins.signing_keys.iter().cloned()),
                vec![evidence.signing_key.to_string()],
            ),
        ];
        let mut compared = Vec::new();
        for (what, allowed, seen) in pinned {
            if allowed.is_empty() {
                continue;
            }
            // An absent value (no mr-kms event) satisfies no pin.
            let bad = match seen.iter().find(|value| !allowed.contains(value)) {
                Some(value) => Some(value.clone()),
                None if seen.is_empty() => Some("absent".to_owned()),
                None => None,
            };
            if let Some(got) = bad {
                return Err(Rejected::Pin {
                    what,
                    allowed: allowed.len(),
                    accept: pin_line(what, &got),
                    got: shown(&got),
                });
            }
            compared.push(what);
        }
        if compared.is_empty() {
            self.report
                .not_proved(CheckId::Pins, "the policy pins none");
        } else if compared == ["device_ids"] {
            // Refused if it differs, but a host can state any.
            self.report.not_proved(
                CheckId::Pins,
                "device_ids is as pinned, but nobody measures it",
            );
        } else {
            self.pass(compared.join(", "));
        }
        Ok(())
    }

    /// Nothing measured names the model: only who was asked, over the attested
    /// channel, vouches for it.
    fn model(&mut self) -> Result<(), Rejected> {
        self.begin(CheckId::Model);
        let got = &self.request.evidence.model_name;
        match &self.request.subject.models {
            Expected::NotChecked(reason) => {
                self.report.not_proved(
                    CheckId::Model,
                    format!("the report says {}; {reason}", quoted(got)),
                );
            }
            Expected::Known(names) if names.contains(got) => self.pass(quoted(got)),
            Expected::Known(names) => {
                let names: Vec<_> = names.iter().take(8).map(|name| quoted(name)).collect();
                return Err(Rejected::Model {
                    got: quoted(got),
                    expected: names.join(" or "),
                });
            }
        }
        Ok(())
    }
}

/// The policy line that would accept a pinned value; none for a value that no
/// policy could hold.
fn pin_line(what: &str, value: &str) -> String {
    let digits = value.rsplit(':').next().unwrap_or_default();
    let is_plain =
        (1..=128).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if is_plain {
        format!("pins.{what} = [\"{value}\"]")
    } else {
        String::new()
    }
}

/// Measured values of a verified quote whose event log explains itself.
fn seen(evidence: &Evidence, quote: &VerifiedQuote) -> Option<Seen> {
    let td = quote.td();
    event_log::replay(&evidence.events, td).ok()?;
    let boot = BootEvents::read(&evidence.events).ok()?;
    let rtmr0 = Rtmr0::read(&evidence.events).ok()?;
    let compose_hash = event_log::compose(evidence, &boot, td).ok()?;
    let [rtmr0_value, rtmr1, rtmr2, _] = td.rtmr;
    Some(Seen {
        attributes: Hex(td.attributes),
        xfam: Hex(td.xfam),
        os_image: OsImage::seen(td.mrtd, rtmr1, rtmr2, boot.os_image_hash),
        firmware: rtmr0.firmware,
        acpi: rtmr0.acpi,
        app_id: boot.app_id,
        app_cert: evidence.app_cert.clone(),
        mr_seam: Hex(td.mr_seam),
        rtmr0: Hex(rtmr0_value),
        compose_hash: Hex(compose_hash),
        instance_id: boot.instance_id,
        ppid: quote.ppid().to_vec(),
        signing_key: evidence.signing_key.clone(),
    })
}

/// The check that a refusal out of a larger step belongs to.
fn check_of(rejected: &Rejected) -> CheckId {
    match rejected {
        Rejected::CollateralFormat { .. }
        | Rejected::CollateralFmspc { .. }
        | Rejected::CollateralNotYetValid { .. }
        | Rejected::CollateralExpired { .. }
        | Rejected::CollateralUntrusted { .. } => CheckId::CollateralValid,
        Rejected::QuoteFormat { .. } => CheckId::QuoteFormat,
        Rejected::TcbPlatform { .. } | Rejected::TcbUnknown { .. } => CheckId::TcbPlatform,
        Rejected::TcbModule { .. } => CheckId::TcbModule,
        Rejected::TcbQe { .. } => CheckId::TcbQe,
        Rejected::TdDebug { .. } | Rejected::TdAttributes { .. } | Rejected::ServiceTd { .. } => {
            CheckId::TdAttributes
        }
        Rejected::AppId { .. } => CheckId::AppId,
        Rejected::AppCertMissing { .. }
        | Rejected::AppCert { .. }
        | Rejected::AppCertUsage { .. }
        | Rejected::AppCertQuote { .. }
        | Rejected::AppCertReportData { .. }
        | Rejected::KmsRoot { .. } => CheckId::Kms,
        _ => CheckId::Quote,
    }
}
