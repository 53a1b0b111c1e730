//! Every way in which evidence can fail, each with a stable code.
//!
//! `evidence_*` means that the report could not be understood, `rejected_*`
//! that it was understood and does not prove what it should. The codes are part
//! of the product's interface: they may be added to, never renamed.

use crate::compose_file::ComposeRejected;
use crate::deployment::DeploymentRejected;
use crate::gpu::GpuRejected;
use crate::keys::KeysRejected;
use crate::nras::NrasRejected;
use crate::tcb::{Component, Level};

/// What a code means to a person who meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The stable code, in snake case.
    pub code: &'static str,
    /// What was found.
    pub meaning: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

/// A table of refusals: an enum with one variant a check, and what each means.
///
/// `wraps Variant(Inner)` takes in the refusals of another table, codes and all.
macro_rules! rejections {
    ($(#[$doc:meta])* $name:ident $(wraps $wrapped:ident($inner:ty))*;
    $($variant:ident { $($field:ident: $kind:ty),* $(,)? }
        $code:literal $message:literal means $meaning:literal remedy $remedy:literal;)*) => {
        $(#[$doc])*
        ///
        /// Messages quote foreign text bounded and escaped.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the message and the explanation beside each variant document it")]
        pub enum $name {
            $(#[error($message)] $variant { $($field: $kind),* },)*
            $(#[error(transparent)] $wrapped(#[from] $inner),)*
        }

        impl $name {
            /// This table's codes, in the order in which the checks run.
            pub const EXPLANATIONS: &'static [$crate::Explanation] = &[
                $($crate::Explanation { code: $code, meaning: $meaning, remedy: $remedy },)*
            ];

            /// Meaning and remedy of this refusal.
            #[must_use]
            pub const fn explanation(&self) -> &'static $crate::Explanation {
                match self {
                    $(Self::$variant { .. } => &$crate::Explanation {
                        code: $code, meaning: $meaning, remedy: $remedy,
                    },)*
                    $(Self::$wrapped(inner) => inner.explanation(),)*
                }
            }

            /// The stable code, in snake case.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                self.explanation().code
            }
        }
    };
}
pub(crate) use rejections;

impl Explanation {
    /// Every code, in the order of the checks within each table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        [
            Rejected::EXPLANATIONS,
            GpuRejected::EXPLANATIONS,
            DeploymentRejected::EXPLANATIONS,
            KeysRejected::EXPLANATIONS,
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
        wraps Keys(KeysRejected)
        wraps Nras(NrasRejected)
        wraps Compose(ComposeRejected);

    EvidenceTooLarge { len: usize, max: usize }
        "evidence_too_large" "the report has {len} bytes, at most {max} are read"
        means "The backend's report is larger than any honest one (0.35 MB)."
        remedy "Nothing on your side helps; another instance of the backend may answer properly.";
    EvidenceNotJson { detail: String }
        "evidence_not_json" "the report is not the JSON it should be: {detail}"
        means "The backend answered the attestation request with something else than a report, or with bytes after it."
        remedy "Check that the backend's domain is right; a backend that is starting answers with an error page.";
    EvidenceTooComplex { detail: String }
        "evidence_too_complex" "the report exceeds a structural limit: {detail}"
        means "The report nests deeper or holds more values than any honest one; reading on would cost more than it may."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    EvidenceDuplicateKey { key: String }
        "evidence_duplicate_key" "the report names the key {key} twice in one object"
        means "Two readers of such a report could see different values (RFC 8259 section 4)."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    EvidenceMissingField { field: String }
        "evidence_missing_field" "the report has no field {field}"
        means "A field that the proof needs is missing."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    EvidenceBadField { field: String, expected: &'static str, got: String }
        "evidence_bad_field" "field {field}: expected {expected}, got {got}"
        means "A field is there but is not what it should be."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    EvidenceNoTlsFingerprint {}
        "evidence_no_tls_fingerprint" "the report names no TLS key (tls_cert_fingerprint)"
        means "The report binds no TLS key, so it says nothing about this connection. The older layout without the key is never accepted."
        remedy "The backend has to be configured to report its TLS key; another instance may be.";
    EvidenceAddressLength { algo: &'static str, expected: usize, got: usize }
        "evidence_address_length" "signing_address has {got} bytes, {algo} has {expected}"
        means "The signing address does not have the length of its algorithm, which would shift what report_data binds."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    EvidenceInconsistent { field: &'static str, got: String, with: &'static str, expected: String }
        "evidence_inconsistent" "field {field} is {got}, but {with} is {expected}"
        means "The report states one value twice, differently."
        remedy "Nothing on your side helps; report it to the backend's operator.";

    QuoteFormat { detail: String }
        "rejected_quote_format" "the quote is not a TDX quote of version 4 or 5 with its certificates: {detail}"
        means "The quote's bytes do not have the layout that Intel specifies."
        remedy "The backend may run on a platform that this proxy does not know: look for a newer proxy.";
    QuoteNotTdx { tee_type: u32 }
        "rejected_quote_not_tdx" "the quote is of TEE type {tee_type:#x}, TDX is 0x81"
        means "The quote is genuine or not, but it is not from a TDX virtual machine."
        remedy "Nothing on your side helps; report it to the backend's operator.";
    CollateralFormat { detail: String }
        "rejected_collateral_format" "Intel's collateral cannot be read: {detail}"
        means "The documents that say which platforms are trustworthy are damaged."
        remedy "Fetch them again, or from another source (--pccs-url).";
    CollateralFmspc { quote: String, collateral: String }
        "rejected_collateral_fmspc" "the collateral is for FMSPC {collateral}, the quote's platform is {quote}"
        means "The documents are genuine but belong to another kind of machine."
        remedy "Fetch the collateral for this FMSPC.";
    CollateralNotYetValid { what: &'static str, from: String, now: String }
        "rejected_collateral_not_yet_valid" "{what} is valid from {from}, it is {now}"
        means "Collateral from the future: usually the local clock is slow."
        remedy "Check the clock of this machine.";
    CollateralExpired { what: &'static str, until: String, now: String }
        "rejected_collateral_expired" "{what} was valid until {until}, it is {now}"
        means "Intel's documents are older than they may be, or the local clock is fast."
        remedy "Check the clock of this machine, then fetch the collateral again.";
    CollateralUntrusted { detail: String }
        "rejected_collateral_untrusted" "the collateral is not signed under the trust root: {detail}"
        means "TCB info, QE identity or a revocation list is not what its issuer signed."
        remedy "Fetch the collateral from another source (--pccs-url); the one used may be hostile.";
    CollateralRollback { what: &'static str, got: String, floor: String }
        "rejected_collateral_rollback" "{what} is {got}, but {floor} was seen before"
        means "Somebody answers with older collateral than this machine has already seen, which could hide a known weakness."
        remedy "Use another source (--pccs-url).";
    PlatformCertificate { what: &'static str, from: String, until: String, now: String }
        "rejected_platform_certificate" "{what} is valid from {from} to {until}, it is {now}"
        means "The certificate that the quote brings along for its platform is not valid now."
        remedy "Check the clock of this machine; if it is right, do not use this backend.";
    CertificateRevoked { what: &'static str }
        "rejected_certificate_revoked" "{what} is revoked"
        means "Intel has revoked a certificate that vouches for this platform."
        remedy "Do not use this backend; report it to its operator.";
    QuoteUntrusted { detail: String }
        "rejected_quote_untrusted" "the quote is not signed under the trust root: {detail}"
        means "The quote was not made by a genuine TDX platform, or was changed afterwards."
        remedy "Do not use this backend; report it to its operator.";
    TcbUnknown { detail: String }
        "rejected_tcb_unknown" "Intel's TCB info has no level for this platform: {detail}"
        means "The machine is older than every level that Intel still lists, or of a kind that the document does not cover."
        remedy "Do not use this backend; report it to its operator.";
    TcbPlatform { level: Level }
        "rejected_tcb_platform" "the platform's TCB is {level}, which the policy does not accept"
        means "Firmware or microcode of the machine is older than Intel's current security level."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbModule { level: Level }
        "rejected_tcb_module" "the TDX module's TCB is {level}, which the policy does not accept"
        means "The TDX module of the machine is older than Intel's current security level, or not Intel's."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbQe { level: Level }
        "rejected_tcb_qe" "the quoting enclave's TCB is {level}, which the policy does not accept"
        means "The enclave that signed the quote is older than Intel's current security level."
        remedy "Wait for the operator's update, or accept the named advisories knowingly.";
    TcbEvaluation { got: u32, min: u32 }
        "rejected_tcb_evaluation" "the collateral's tcbEvaluationDataNumber is {got}, the policy asks for {min}"
        means "The platform was judged by an older edition of Intel's rules than the policy demands."
        remedy "Fetch newer collateral.";

    TdDebug { attributes: String }
        "rejected_td_debug" "the TD can be debugged from outside: td_attributes {attributes}"
        means "The host can read the memory of this virtual machine."
        remedy "Do not use this backend; report it to its operator.";
    TdAttributes { got: String, allowed: usize, accept: String }
        "rejected_td_attributes" "td_attributes {got} are not among the {allowed} that the policy allows"
        means "The virtual machine was started with other protections than expected."
        remedy "Add the value to a policy of your own if you know why it changed.";
    ServiceTd { got: String }
        "rejected_service_td" "the TD is bound to a service TD: {got}"
        means "Another virtual machine has rights over this one, for example to migrate it."
        remedy "Do not use this backend; report it to its operator.";
    Xfam { got: String, allowed: usize, accept: String }
        "rejected_xfam" "xfam {got} is not among the {allowed} that the policy allows"
        means "The virtual machine was started with other CPU features than expected."
        remedy "Add the value to a policy of your own if you know why it changed.";

    SpkiMismatch { live: String, attested: String }
        "rejected_spki_mismatch" "this connection's TLS key is {live}, the report attests {attested}"
        means "The evidence is about another TLS key than the one of this connection. A certificate rotation looks like this for some hours; so does somebody in the middle."
        remedy "Try again: a new connection may reach an instance whose rotation is complete.";
    Nonce { sent: String, got: String }
        "rejected_nonce" "the nonce sent was {sent}, the evidence has {got}"
        means "The evidence was made for another request: a replay, or an answer from a cache."
        remedy "Try again; if it stays, do not use this backend.";
    ReportData { expected: String, got: String }
        "rejected_report_data" "report_data binds {got}, signing key and TLS key give {expected}"
        means "The quote does not vouch for the keys that the report names."
        remedy "Do not use this backend; report it to its operator.";

    EventDigest { index: usize, event: String }
        "rejected_event_digest" "event {index} ({event}) has a digest that its payload does not give"
        means "The event log was edited: what it says is not what was measured."
        remedy "Do not use this backend; report it to its operator.";
    RtmrReplay { register: u8, replayed: String, quoted: String }
        "rejected_rtmr_replay" "the event log replays to {replayed} for RTMR{register}, the quote has {quoted}"
        means "The event log is not the one that was measured: an event is missing, added, changed or out of order."
        remedy "Do not use this backend; report it to its operator.";
    BootEvents { detail: String }
        "rejected_boot_events" "the boot events of RTMR3 are not those of a dstack guest: {detail}"
        means "The machine did not record its identity as the expected operating system does, in order and once each."
        remedy "The backend may run a newer dstack: look for a newer proxy.";
    ComposeHash { what: &'static str, got: String, expected: String }
        "rejected_compose_hash" "{what} is {got}, the compose text hashes to {expected}"
        means "The application description in the report is not the one that was measured."
        remedy "Do not use this backend; report it to its operator.";
    MrConfigId { got: String, expected: String }
        "rejected_mr_config_id" "mr_config_id is {got}, the compose text gives {expected}"
        means "The virtual machine was started for another application description."
        remedy "Do not use this backend; report it to its operator.";

    OsImage { mrtd: String, rtmr1: String, rtmr2: String, os_image_hash: String, allowed: usize, accept: String }
        "rejected_os_image" "the OS image is not among the {allowed} that the policy allows: MRTD {mrtd}, RTMR1 {rtmr1}, RTMR2 {rtmr2}, os-image-hash {os_image_hash}"
        means "The machine booted other firmware, kernel, initrd or command line than expected."
        remedy "Wait for a policy that knows the new image, or accept it in a policy of your own after checking where it comes from.";
    Firmware { event: &'static str, got: String, accept: String }
        "rejected_firmware" "RTMR0 event {event} is {got}, which is in no firmware that the policy allows"
        means "The machine booted with another firmware configuration than expected."
        remedy "Accept it in a policy of your own after checking where it comes from.";
    TdHob { got: String, expected: String, memory_size: u64 }
        "rejected_td_hob" "the TD HOB was measured as {got}, memory of {memory_size} bytes gives {expected}"
        means "The host handed the firmware another memory map than the machine's size explains."
        remedy "Do not use this backend; report it to its operator.";
    Acpi { loader: String, rsdp: String, tables: String, allowed: usize, accept: String }
        "rejected_acpi" "the ACPI tables match none of the {allowed} machine shapes that the policy allows: loader {loader}, RSDP {rsdp}, tables {tables}"
        means "The host gave the guest ACPI tables that nobody has vouched for; such tables can hold code that the guest runs."
        remedy "A machine of a new shape looks like this too: accept it in a policy of your own after asking the operator.";
    AppCertMissing {}
        "rejected_app_cert_missing" "the report has no identity certificate (info.app_cert)"
        means "Nothing signed by the key management service says which application this is."
        remedy "Just after boot the certificate may not be there yet: try again in a minute.";
    AppCert { detail: String }
        "rejected_app_cert" "the identity certificate does not verify: {detail}"
        means "The application's certificate is damaged, expired, or not signed as it claims."
        remedy "Do not use this backend; report it to its operator.";
    KmsRoot { got: String, allowed: usize, accept: String }
        "rejected_kms_root" "the identity certificate is of the KMS {got}, which none of the {allowed} identities of the policy names"
        means "Another key management service than the expected one vouches for this machine."
        remedy "Do not use this backend unless its operator announced a new key management service.";
    AppId { got: String, accept: String }
        "rejected_app_id" "the KMS signed for the app-id {got}, which the policy does not name together with this KMS"
        means "The machine runs as another application than the expected one."
        remedy "Do not use this backend unless its operator announced a new application id.";
    AppCertUsage { certificate: &'static str, got: String, expected: &'static str }
        "rejected_app_cert_usage" "the {certificate} certificate is for {got}, expected {expected}"
        means "A certificate issued for another purpose is used as the application's identity."
        remedy "Do not use this backend; report it to its operator.";
    AppCertQuote { register: &'static str, got: String, expected: String }
        "rejected_app_cert_quote" "the identity certificate was issued for {register} {got}, this machine has {expected}"
        means "The key management service vouched for a machine in another state than this one."
        remedy "Do not use this backend; report it to its operator.";
    AppCertReportData {}
        "rejected_app_cert_report_data" "the quote inside the identity certificate does not bind the certificate's key"
        means "The identity certificate was issued for a key that its quote does not vouch for."
        remedy "Do not use this backend; report it to its operator.";
    AppIdDisagrees { rtmr3: String, signed: String }
        "rejected_app_id_disagrees" "RTMR3 records the app-id {rtmr3}, the KMS signed for {signed}"
        means "The machine noted another application id than the one its certificate was issued for."
        remedy "Do not use this backend; report it to its operator.";
    KeyProvider { got: String, expected: String }
        "rejected_key_provider" "RTMR3 records the key provider {got}, expected {expected}"
        means "The machine got its keys from another key management service than the one that signed its certificate, or from none."
        remedy "Do not use this backend; report it to its operator.";
    Pin { what: &'static str, got: String, allowed: usize, accept: String }
        "rejected_pin" "{what} is {got}, which is not among the {allowed} that the policy pins"
        means "A value that your own policy pins has changed."
        remedy "Change the pin in your policy if the change is expected.";
    Model { got: String, expected: String }
        "rejected_model" "the backend serves {got}, the endpoint list gives this domain {expected}"
        means "The machine is genuine but serves another model than the one asked for."
        remedy "Try again later; the endpoint list and the backend disagree.";
}

impl Rejected {
    /// What the reader can do: the exact policy line where one would accept
    /// what was seen, else the general remedy.
    #[must_use]
    pub fn hint(&self) -> String {
        let line = match self {
            Self::TdAttributes { accept, .. }
            | Self::Xfam { accept, .. }
            | Self::OsImage { accept, .. }
            | Self::Firmware { accept, .. }
            | Self::Acpi { accept, .. }
            | Self::KmsRoot { accept, .. }
            | Self::AppId { accept, .. }
            | Self::Pin { accept, .. } => Some(accept.clone()),
            Self::TcbPlatform { level } => level.accepting_line(Component::Platform),
            Self::TcbModule { level } => level.accepting_line(Component::Module),
            Self::TcbQe { level } => level.accepting_line(Component::Qe),
            Self::Gpu(inner) => inner.accept(),
            Self::Deployment(inner) => inner.accept(),
            _ => None,
        };
        let remedy = self.explanation().remedy;
        let mut hint = remedy.to_owned();
        if let Self::TcbPlatform { level } | Self::TcbModule { level } | Self::TcbQe { level } =
            self
            && let Some(option) = level.accepting_option()
        {
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
