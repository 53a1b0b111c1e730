//! The refusals of evidence, each with a stable code.
//!
//! `evidence_*` means that the report could not be understood, `rejected_*` that it was
//! understood and does not prove what it should. The codes are part of the product's
//! interface: codes may be added, never renamed.

pub(crate) mod checks;
pub(crate) mod compose;
pub(crate) mod deployment;
pub(crate) mod gpu;
pub(crate) mod nras;
pub(crate) mod table;

use crate::base::advisories;
use crate::base::exception::Day;
use crate::base::finding::Severity;
use crate::base::tcb::{Accept, Level};
use crate::refusals::checks::CheckId;
use crate::refusals::compose::ComposeRejected;
use crate::refusals::deployment::DeploymentRejected;
use crate::refusals::gpu::GpuRejected;
use crate::refusals::nras::NrasRejected;
use crate::refusals::table::{Explanation, rejections};

impl Explanation {
    /// Every code, in the order of the checks within each table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        [
            Rejected::EXPLANATIONS,
            GpuRejected::EXPLANATIONS,
            DeploymentRejected::EXPLANATIONS,
            NrasRejected::EXPLANATIONS,
            ComposeRejected::EXPLANATIONS,
        ]
        .into_iter()
        .flatten()
    }
}

rejections! {
    /// Why evidence was refused: one variant a check.
    Rejected
        wraps Gpu(GpuRejected)
        wraps Deployment(DeploymentRejected)
        wraps Nras(NrasRejected)
        wraps Compose(ComposeRejected);

    EvidenceTooLarge { len: usize, max: usize }
        "evidence_too_large" check Evidence blame Machine
        "the report has {len} bytes, at most {max} are read"
        means "The backend's report is larger than any honest one (0.35 MB).";
    EvidenceNotJson { detail: String }
        "evidence_not_json" check Evidence blame Machine
        "the report is not valid JSON: {detail}"
        means "The backend answered the attestation request with something other than a report, or with bytes after it."
        remedy "Check the backend's domain. A backend that is starting answers with an error page.";
    EvidenceTooComplex { detail: String }
        "evidence_too_complex" check Evidence blame Machine
        "the report exceeds a structural limit: {detail}"
        means "The report nests deeper or holds more values than any honest one; the limit bounds the cost of reading.";
    EvidenceDuplicateKey { key: String }
        "evidence_duplicate_key" check Evidence blame Machine
        "the report names the key {key} twice in one object"
        means "Two readers of such a report could see different values (RFC 8259 section 4).";
    EvidenceMissingField { field: String }
        "evidence_missing_field" check Evidence|TdHob blame Unknown
        "the report has no field {field}"
        means "A field that the proof needs is missing."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    EvidenceBadField { field: String, expected: &'static str, got: String }
        "evidence_bad_field" check Evidence blame Unknown
        "field {field}: expected {expected}, got {got}"
        means "A field does not have the form that the layout defines."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    EvidenceNoTlsFingerprint {}
        "evidence_no_tls_fingerprint" check Evidence blame Machine
        "the report names no TLS key (tls_cert_fingerprint)"
        means "The report binds no TLS key, so it does not prove where this connection ends. The older layout without the key is never accepted."
        remedy "The operator has to configure the backend to report its TLS key. Another instance may do so already.";
    EvidenceAddressLength { algo: &'static str, expected: usize, got: usize }
        "evidence_address_length" check Evidence blame Machine
        "signing_address has {got} bytes, {algo} has {expected}"
        means "The signing address does not have the length of its algorithm, which would shift what report_data binds.";

    QuoteFormat { detail: String }
        "rejected_quote_format" check QuoteFormat blame Unknown
        "the quote is not a TDX quote of version 4 or 5 with its certificates: {detail}"
        means "The quote's bytes do not have the layout that Intel specifies."
        remedy "Look for a newer verified-proxy: the backend may run on a newer platform. If there is none, ask its operator.";
    QuoteNotTdx { tee_type: u32 }
        "rejected_quote_not_tdx" check QuoteFormat blame Machine
        "the quote is of TEE type {tee_type:#x}, TDX is 0x81"
        means "The quote, genuine or not, is not from a TDX virtual machine.";
    CollateralFormat { detail: String }
        "rejected_collateral_format" check CollateralValid blame Collateral
        "Intel's collateral cannot be read: {detail}"
        means "The documents that say which platforms are trustworthy are damaged."
        remedy "Fetch them again, or from another source (--pccs-url).";
    CollateralFmspc { quote: String, collateral: String }
        "rejected_collateral_fmspc" check CollateralValid blame Collateral
        "the collateral is for FMSPC {collateral}, the quote's platform is {quote}"
        means "The documents are genuine but belong to another kind of machine."
        remedy "Fetch the collateral for this FMSPC.";
    CollateralNotYetValid { what: &'static str, from: String, now: String }
        "rejected_collateral_not_yet_valid" check CollateralValid blame Clock
        "{what} is valid from {from}, it is {now}"
        means "The collateral is from the future. Usually the local clock is slow.";
    CollateralExpired { what: &'static str, until: String, now: String }
        "rejected_collateral_expired" check CollateralValid blame Collateral
        "{what} was valid until {until}, it is {now}"
        means "Intel's documents are older than they may be, or the local clock is fast."
        remedy "Check the clock of this machine, then fetch the collateral again.";
    CollateralUntrusted { detail: String }
        "rejected_collateral_untrusted" check CollateralValid blame Collateral
        "the collateral is not signed under the trust root: {detail}"
        means "TCB info, QE identity or a revocation list is not what its issuer signed."
        remedy "Fetch the collateral from another source (--pccs-url); the one used may be hostile.";
    CollateralRollback { what: &'static str, got: String, floor: String }
        "rejected_collateral_rollback" check CollateralFloor blame Collateral
        "{what} is {got}, older than the floor {floor}"
        means "The source serves collateral that is older than collateral seen before, or than Intel's standard edition. Old collateral can hide a known weakness."
        remedy "Use another source (--pccs-url).";
    PlatformCertificate { what: &'static str, from: String, until: String, now: String }
        "rejected_platform_certificate" check Quote blame Clock
        "{what} is valid from {from} to {until}, it is {now}"
        means "The platform's certificate, which is part of the quote, is not valid now."
        remedy "Check the clock of this machine. If it is right, do not use this backend.";
    CertificateRevoked { what: &'static str }
        "rejected_certificate_revoked" check Quote blame Machine
        "{what} is revoked"
        means "Intel has revoked a certificate that this platform's identity rests on.";
    QuoteUntrusted { detail: String }
        "rejected_quote_untrusted" check Quote blame Machine
        "the quote is not signed under the trust root: {detail}"
        means "The quote was not made by a genuine TDX platform, or was changed afterwards.";
    TcbUnknown { detail: String }
        "rejected_tcb_unknown" check TcbPlatform blame Unknown
        "Intel's TCB info has no level for this platform: {detail}"
        means "The machine is older than every level that Intel still lists, or the document does not cover its kind."
        remedy "Fetch newer collateral, or from another source: a newer platform looks like this under an old document. If the refusal persists, ask the backend's operator.";
    TcbPlatform { level: Level, accept: Accept }
        "rejected_tcb_platform" check TcbPlatform blame Machine
        "the platform's TCB is {level}, which the policy does not accept"
        means "Firmware or microcode of the machine is older than Intel's current security level."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbModule { level: Level, accept: Accept }
        "rejected_tcb_module" check TcbModule blame Machine
        "the TDX module's TCB is {level}, which the policy does not accept"
        means "The TDX module of the machine is older than Intel's current security level, or not Intel's."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbQe { level: Level, accept: Accept }
        "rejected_tcb_qe" check TcbQe blame Machine
        "the quoting enclave's TCB is {level}, which the policy does not accept"
        means "The enclave that signed the quote is older than Intel's current security level."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbEvaluation { got: u32, min: u32 }
        "rejected_tcb_evaluation" check TcbEvaluation blame Collateral
        "the collateral's tcbEvaluationDataNumber is {got}, the policy asks for {min}"
        means "The collateral is of an older edition of Intel's rules than the policy demands."
        remedy "Fetch newer collateral.";

    TdDebug { attributes: String }
        "rejected_td_debug" check TdAttributes blame Machine
        "the TD can be debugged from outside: td_attributes {attributes}"
        means "The host can read the memory of this virtual machine.";
    TdAttributes { got: String, allowed: usize }
        "rejected_td_attributes" check TdAttributes blame Unknown
        "td_attributes {got} are not among the {allowed} that the policy allows"
        means "The virtual machine was started with other protections than expected."
        remedy "Ask the backend's operator, over another channel, why the machine is started in another way; then write the value into a policy of your own.";
    ServiceTd { got: String }
        "rejected_service_td" check TdAttributes blame Machine
        "the TD is bound to a service TD: {got}"
        means "Another virtual machine has rights over this one, for example to migrate it.";
    Xfam { got: String, allowed: usize }
        "rejected_xfam" check Xfam blame Unknown
        "xfam {got} is not among the {allowed} that the policy allows"
        means "The virtual machine was started with other CPU features than expected."
        remedy "Ask the backend's operator, over another channel, why the machine is started in another way; then write the value into a policy of your own.";

    SpkiMismatch { live: String, attested: String }
        "rejected_spki_mismatch" check TlsKey blame Unknown
        "this connection's TLS key is {live}, the report attests {attested}"
        means "The evidence is about another TLS key than the one of this connection. A certificate rotation looks like this for some hours; so does an attacker between you and the machine."
        remedy "Try again: a new connection may reach an instance whose rotation is complete.";
    Nonce { sent: String, got: String }
        "rejected_nonce" check Nonce blame Machine
        "the nonce sent was {sent}, the evidence has {got}"
        means "The evidence was made for another request: it is a replay, or an answer from a cache."
        remedy "Try again. If the refusal persists, do not use this backend.";
    ReportData { expected: String, got: String }
        "rejected_report_data" check ReportData blame Machine
        "report_data binds {got}, signing key and TLS key give {expected}"
        means "The quote does not bind the keys that the report names.";

    EventDigest { index: usize, event: String }
        "rejected_event_digest" check BootEvents blame Machine
        "event {index} ({event}) has a digest that is not that of its payload"
        means "The event log was changed: it does not state what was measured.";
    RtmrReplay { register: u8, replayed: String, quoted: String }
        "rejected_rtmr_replay" check Rtmrs blame Machine
        "the event log replays to {replayed} for RTMR{register}, the quote has {quoted}"
        means "The event log is not the one that was measured: an event is missing, added, changed or out of order.";
    BootEvents { detail: String }
        "rejected_boot_events" check BootEvents blame Unknown
        "the boot events of RTMR3 are not those of a dstack guest: {detail}"
        means "The machine did not record its identity as the expected operating system does, in order and once each."
        remedy "Look for a newer verified-proxy: the backend may run a newer dstack. If there is none, ask its operator.";
    ComposeHash { got: String, expected: String }
        "rejected_compose_hash" check Compose blame Machine
        "the compose-hash event is {got}, the compose text hashes to {expected}"
        means "The application description in the report is not the one that was measured.";
    MrConfigId { got: String, expected: String }
        "rejected_mr_config_id" check Compose blame Machine
        "mr_config_id is {got}, the events of RTMR3 give {expected}"
        means "The virtual machine was started for another application description.";
    MrConfigIdVersion { form: u8 }
        "rejected_mr_config_id_version" check Compose blame Age
        "mr_config_id is of form {form}, which this version does not understand"
        means "The quote's register MRCONFIGID binds the virtual machine to an application in a form that is newer than this program.";

    OsImage { mrtd: String, rtmr1: String, rtmr2: String, os_image_hash: String, allowed: usize }
        "rejected_os_image" check OsImage blame Unknown
        "the OS image is not among the {allowed} that the policy allows: MRTD {mrtd}, RTMR1 {rtmr1}, RTMR2 {rtmr2}, os-image-hash {os_image_hash}"
        means "The machine booted another firmware, kernel, initrd or command line than expected."
        remedy "Look for a newer verified-proxy, whose policy may name the image. Else use verified-proxy policy accept, for an image that this program knows, or verified-proxy image measure, for a release whose files you have.";
    OsImageWithdrawn { name: String, since: Day }
        "rejected_os_image_withdrawn" check OsImage blame Machine
        "the policy refuses the OS image {name} since {since}"
        means "The machine runs an image that the policy accepted for a limited time only, which is over."
        remedy "Ask the backend's operator for a newer image.";
    Firmware { event: &'static str, got: String }
        "rejected_firmware" check Firmware blame Unknown
        "RTMR0 event {event} is {got}, which is in no firmware that the policy allows"
        means "The machine booted with another firmware configuration than expected."
        remedy "Measure the release that the backend's operator names with verified-proxy image measure, and compare.";
    TdHob { got: String, expected: String, memory_size: u64 }
        "rejected_td_hob" check TdHob blame Machine
        "the TD HOB was measured as {got}, memory of {memory_size} bytes gives {expected}"
        means "The host gave the firmware a memory map that does not fit the machine's stated memory size.";
    Acpi { loader: String, rsdp: String, tables: String, allowed: usize, why: String }
        "rejected_acpi" check Acpi blame Unknown
        "the ACPI tables (loader {loader}, RSDP {rsdp}, tables {tables}) match none of the {allowed} machine shapes that the policy allows; {why}"
        means "The host gave the guest ACPI tables that no rule of the policy accepts. ACPI tables can hold code that the guest runs."
        remedy "Ask the backend's operator for the machine's shape. If your policy compares with rows only, verified-proxy policy accept adds one for tables that this program can compute.";
    QemuVersion { why: String }
        "rejected_qemu_version" check Acpi blame Unknown
        "the tables are those of the stated machine, but another register is not: {why}"
        means "The stated version of QEMU makes these tables, but measures firmware or kernel in another way than the quote shows. No one machine gives both values."
        remedy "Ask the backend's operator which version of QEMU the machine runs on.";
    Rtmr0 { got: String, why: String }
        "rejected_rtmr_computed" check Acpi blame Unknown
        "RTMR0 is {got}, the log leaves out its events, and nothing that the policy accepts gives this value: {why}"
        means "The backend does not state with which firmware configuration, memory map and ACPI tables the machine booted, and they are not those of its stated shape."
        remedy "Ask the backend's operator for the machine's shape, or for the whole event log.";
    AppCertMissing {}
        "rejected_app_cert_missing" check Kms blame Machine
        "the report has no identity certificate (info.app_cert)"
        means "The report has no signature of the key management service that identifies the application."
        remedy "Try again in a minute: just after boot the certificate may not be there yet.";
    AppCert { detail: String }
        "rejected_app_cert" check Kms blame Machine
        "the identity certificate does not verify: {detail}"
        means "The application's certificate is damaged, expired, or not signed by the issuer that it names.";
    KmsRoot { got: String, allowed: usize }
        "rejected_kms_root" check Kms blame Unknown
        "the identity certificate was issued by the KMS {got}, which none of the {allowed} identities of the policy names"
        means "Another key management service than the expected one certified this machine."
        remedy "Do not use this backend unless its operator announced a new key management service.";
    AppId { got: String }
        "rejected_app_id" check AppId blame Unknown
        "the KMS signed for the app-id {got}, which the policy does not name together with this KMS"
        means "The machine runs as another application than the expected one."
        remedy "Do not use this backend unless its operator announced a new application id.";
    AppCertUsage { certificate: &'static str, got: String, expected: &'static str }
        "rejected_app_cert_usage" check Kms blame Machine
        "the {certificate} certificate is for {got}, expected {expected}"
        means "A certificate issued for another purpose is used as the application's identity.";
    AppCertQuote { register: &'static str, got: String, expected: String }
        "rejected_app_cert_quote" check Kms blame Machine
        "the identity certificate was issued for {register} {got}, this machine has {expected}"
        means "The key management service certified a machine in another state than this one.";
    AppCertForm { detail: String }
        "rejected_app_cert_form" check Kms blame Age
        "the identity certificate is in a form that this version does not understand: {detail}"
        means "The expected key management service signed this certificate. The certificate states the machine's measurements in a format that is newer than this program.";
    AppCertReportData {}
        "rejected_app_cert_report_data" check Kms blame Machine
        "the quote inside the identity certificate does not bind the certificate's key"
        means "The quote inside the identity certificate does not bind the certificate's key.";
    AppIdDisagrees { rtmr3: String, signed: String }
        "rejected_app_id_disagrees" check AppId blame Machine
        "RTMR3 records the app-id {rtmr3}, the KMS signed for {signed}"
        means "The machine recorded another application id than the one that its certificate was issued for.";
    KeyProvider { got: String, expected: String }
        "rejected_key_provider" check KeyProvider blame Machine
        "RTMR3 records the key provider {got}, expected {expected}"
        means "The machine recorded that it got its keys from another key management service than the one that signed its certificate, or from none.";
    Pin { what: &'static str, got: String, allowed: usize, accept: String }
        "rejected_pin" check Pins blame Unknown
        "{what} is {got}, which is not among the {allowed} that the policy pins"
        means "A value that your own policy pins has changed."
        remedy "If you expected the change, change the pin in your policy.";
    Finding { topic: &'static str, severity: Severity, detail: String }
        "rejected_finding" check Findings blame Unknown
        "the policy refuses the finding {topic} ({severity}): {detail}"
        means "The report has a finding that your policy lists in findings.refuse. No other rule refuses it."
        remedy "Read the finding. If you accept it, remove its topic from findings.refuse in your policy.";
    BelowLevel { axis: &'static str, got: &'static str, least: &'static str }
        "rejected_level" check OsImage|TcbPlatform|Kms|Deployment|Gpus blame Unknown
        "the verdict reaches {axis}={got}, the policy asks for {axis}={least} at least"
        means "Nothing in the evidence is wrong, but it shows less than the policy asks for."
        remedy "Wait until the operator runs what the policy asks for, or set a lower least level for this axis in a policy of your own.";
    WentDown { detail: String }
        "rejected_went_down" check LastSeen blame Unknown
        "at this domain, since it was last seen: {detail}"
        means "A level, the OS image's version, the key management service or the signing key is not what it was at this domain, and your policy holds what was seen (hold = true)."
        remedy "An honest change and an attack look the same here. Ask the backend's operator, over another channel than this connection, about this change, unless you changed your policy or --signing-algo. To accept all that changed at this domain, start verified-proxy with --accept-change DOMAIN, and without it the next time.";
    Model { got: String, expected: String }
        "rejected_model" check Model blame Request
        "the backend serves {got}, the endpoint list gives this domain {expected}"
        means "The machine is genuine but serves another model than the one asked for."
        remedy "Try again later: the endpoint list and the backend disagree.";
}

impl Rejected {
    /// The check that this refusal fails: the one that had begun if the row names it,
    /// else the row's first.
    #[must_use]
    pub(crate) fn check(&self, begun: CheckId) -> CheckId {
        let checks = self.explanation().checks;
        match checks.first() {
            Some(first) if !checks.contains(&begun) => *first,
            _ => begun,
        }
    }

    /// The remedy, with the exact policy line or option that would accept what was
    /// seen, if there is one.
    ///
    /// There is no line for another KMS root, app-id, image, firmware, table or attribute:
    /// that the evidence shows a value is no reason to trust it.
    #[must_use]
    pub fn hint(&self) -> String {
        let (option, line) = match self {
            Self::Pin { accept, .. } => (None, Some(accept.clone())),
            Self::TcbPlatform { accept, .. }
            | Self::TcbModule { accept, .. }
            | Self::TcbQe { accept, .. } => (accept.option.clone(), accept.line.clone()),
            Self::Gpu(inner) => (None, inner.accept()),
            Self::Deployment(inner) => (None, inner.accept()),
            _ => (None, None),
        };
        let mut hint = self.explanation().remedy.to_owned();
        if let Self::TcbPlatform { level, .. }
        | Self::TcbModule { level, .. }
        | Self::TcbQe { level, .. } = self
        {
            hint.push_str(&advisories::explained_all(&level.advisories));
        }
        if let Some(option) = option {
            hint.push_str(&format!(
                " The option that would accept it: --accept-tcb {option}"
            ));
        }
        if let Some(line) = line.filter(|line| !line.is_empty()) {
            hint.push_str(&format!(" The policy line that would accept it: {line}"));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::Explanation;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_snake_case() {
        let codes: BTreeSet<_> = Explanation::all().map(|e| e.code).collect();
        assert_eq!(codes.len(), Explanation::all().count());
        for code in codes {
            assert!(
                code.starts_with("evidence_")
                    || code.starts_with("rejected_")
                    || matches!(
                        code,
                        "deployment_missing"
                            | "deployment_files_unavailable"
                            | "deployment_tags_unavailable"
                            | "nras_unavailable"
                    ),
                "{code}"
            );
            assert!(
                code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code}"
            );
        }
    }
}
