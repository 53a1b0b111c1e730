//! Where a test reaches in: closures that run at each stage of [`Spec::forge`](crate::Spec::forge).

use std::fmt;
use std::sync::Arc;

use rcgen::CertificateParams;

use crate::challenge::Challenge;
use crate::collateral::Collateral;
use crate::event_log::Event;
use crate::kms::AppCert;
use crate::quote::{EnclaveReport, SignedQuote, TdReport, UnsignedQuote};

type Change<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// Changes to one stage, applied in the order in which they were added.
pub struct Hook<T>(Vec<Change<T>>);

impl<T> Hook<T> {
    /// Adds a change.
    pub fn push(&mut self, change: impl Fn(&mut T) + Send + Sync + 'static) {
        self.0.push(Arc::new(change));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn apply(&self, value: &mut T) {
        for change in &self.0 {
            change(value);
        }
    }
}

impl<T> Default for Hook<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Clone for Hook<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Hook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.0.len())
    }
}

/// All stages, in the order in which they run.
#[derive(Debug, Default, Clone)]
pub struct Hooks {
    /// The nonce and TLS key that the report answers to.
    pub challenge: Hook<Challenge>,
    /// The event log before it is replayed: the registers follow.
    pub events: Hook<Vec<Event>>,
    /// The event log after the registers were fixed: the log no longer matches.
    pub events_after: Hook<Vec<Event>>,
    /// The main quote's TD report, complete, before it is signed. The quote in
    /// the app certificate is not touched: see `app_td_report`.
    pub td_report: Hook<TdReport>,
    /// The same for the quote inside the app certificate.
    pub app_td_report: Hook<TdReport>,
    /// The quoting enclave's report before the PCK signs it (both quotes).
    pub qe_report: Hook<EnclaveReport>,
    /// The main quote's header and encoded body before the attestation key signs them.
    pub unsigned_quote: Hook<UnsignedQuote>,
    /// The main quote's parts after all signatures, before they are put together.
    pub signed_quote: Hook<SignedQuote>,
    /// The main quote's bytes.
    pub quote_bytes: Hook<Vec<u8>>,
    /// The TD report of the compose-manager's quote, complete, before it is signed.
    pub manager_td_report: Hook<TdReport>,
    /// The compose-manager's quote after all signatures, before it is put together.
    pub manager_signed_quote: Hook<SignedQuote>,
    /// PCK certificate, before it is signed.
    pub pck_cert: Hook<CertificateParams>,
    /// PCK platform CA certificate, before it is signed.
    pub platform_ca_cert: Hook<CertificateParams>,
    /// TCB signing certificate, before it is signed.
    pub tcb_signer_cert: Hook<CertificateParams>,
    /// The TCB info's text, before it is signed.
    pub tcb_info_json: Hook<String>,
    /// The QE identity's text, before it is signed.
    pub qe_identity_json: Hook<String>,
    /// The text of the list of editions, before it is signed.
    pub evaluation_numbers_json: Hook<String>,
    /// All collateral, after it was signed.
    pub collateral: Hook<Collateral>,
    /// The app certificate's leaf, before it is signed.
    pub app_leaf: Hook<AppCert>,
    /// The app CA, before it is signed.
    pub app_ca: Hook<AppCert>,
    /// The KMS root certificate, before it is signed.
    pub kms_root: Hook<AppCert>,
    /// The app certificate's chain in DER (leaf, app CA, root), after it was signed.
    pub app_chain: Hook<Vec<Vec<u8>>>,
    /// The finished report.
    pub report: Hook<serde_json::Value>,
    /// The finished report's bytes: for what no JSON value can say, such as a repeated key.
    pub report_bytes: Hook<Vec<u8>>,
}
