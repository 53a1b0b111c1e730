//! The compose-manager's log under a quote of its own.

use serde_json::{Map, Value, json};

use crate::Error;
use crate::challenge::Challenge;
use crate::deployment::ComposeManager;
use crate::event_log::Event;
use crate::hash::sha256;
use crate::pki::Issued;
use crate::quote::{self, TdReport};
use crate::spec::Spec;

impl Spec {
    /// `compose_manager_attestation`, over the TD of the main quote.
    pub(crate) fn compose_manager_attestation(
        &self,
        manager: &ComposeManager,
        issued: &Issued,
        challenge: &Challenge,
        mut td: TdReport,
        events: &[Event],
    ) -> Result<Value, Error> {
        let actions_hash = sha256(manager.canonical().as_bytes());
        let nonce = manager.nonce.unwrap_or(challenge.nonce);
        td.report_data[..32].copy_from_slice(&actions_hash);
        td.report_data[32..].copy_from_slice(&nonce);
        self.hooks.manager_td_report.apply(&mut td);
        let unsigned = quote::unsigned(&self.quote, &td, self.platform.cpu_svn);
        let mut signed = self.sign_quote(issued, unsigned, manager.signer)?;
        self.hooks.manager_signed_quote.apply(&mut signed);
        let actions: Vec<Value> = manager
            .actions
            .iter()
            .map(|action| Value::Object(action.iter().cloned().collect::<Map<_, _>>()))
            .collect();
        Ok(json!({
            "actions": actions,
            "actions_hash": hex::encode(actions_hash),
            "nonce": hex::encode(nonce),
            "nonce_source": manager.nonce_source,
            "quote": hex::encode(signed.encode()),
            "event_log": serde_json::to_string(events)?,
            "report_data": hex::encode(td.report_data),
            "vm_config": serde_json::to_string(&self.vm_config)?,
        }))
    }
}
