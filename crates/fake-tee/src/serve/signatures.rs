//! Signed answers, as an instance remembers them. protocol.md, "Chat signatures".

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::lock;

/// As real ones do.
const MAX_KEPT: usize = 10_000;

#[derive(Debug, Default)]
struct Kept {
    /// The texts by the ids of the answers.
    texts: HashMap<String, String>,
    /// The ids, oldest first.
    ids: VecDeque<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Signatures(Arc<Mutex<Kept>>);

impl Signatures {
    pub(super) fn keep(&self, id: &str, text: String) {
        let mut kept = lock(&self.0);
        if kept.ids.len() >= MAX_KEPT
            && let Some(oldest) = kept.ids.pop_front()
        {
            kept.texts.remove(&oldest);
        }
        kept.ids.push_back(id.to_owned());
        kept.texts.insert(id.to_owned(), text);
    }

    pub(super) fn text(&self, id: &str) -> Option<String> {
        lock(&self.0).texts.get(id).cloned()
    }
}
