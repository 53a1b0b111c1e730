//! The connection that a request came on.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::State;
use super::instance::Instance;
use super::raw::Raw;
use super::received::Kept;

/// What a request came on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: Arc<State>,
    pub(super) instance: Arc<Instance>,
    pub(super) record: Option<Arc<Kept>>,
    /// Takes the connection away from HTTP; there is none with HTTP/2.
    pub(super) raw: Option<mpsc::UnboundedSender<Raw>>,
}

impl Link {
    /// Whether answers are signed: where nothing is recorded, nothing is hashed either.
    pub(super) fn signs(&self) -> bool {
        self.record.is_some()
    }

    /// Answers with bytes that HTTP would not. Only over HTTP/1.1: then it does not return.
    pub(super) async fn play(&self, raw: Raw) {
        if let Some(to) = &self.raw
            && to.send(raw).is_ok()
        {
            std::future::pending::<()>().await;
        }
    }
}
