//! The newest collateral seen, by this process and those before it.

use std::sync::{Arc, Mutex};

use attest::{FloorSeen, Floors};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::StateDir;
use super::keeper::Kept;
use crate::lock::lock;

impl Kept for Floors {
    type Seen = FloorSeen;

    const FILE: &'static str = "floors.json";
    /// A platform family has some hundred bytes.
    const MAX_BYTES: u64 = 1 << 20;
    /// In layout 1 floors were by the channel that was asked; it is read, and replaced when
    /// the next floor rises.
    const LAYOUT: u32 = 2;
    /// A file that can no longer be read is left as it is: the next start refuses it.
    const REPLACES_DAMAGED: bool = false;

    fn add(&mut self, seen: &FloorSeen) -> bool {
        self.raise(seen)
    }

    fn parse(bytes: &[u8], layout: Option<u64>) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File<'a> {
            #[serde(rename = "version")]
            _version: u32,
            #[serde(borrow)]
            floors: &'a RawValue,
        }
        if layout == Some(0) {
            return Err("there is no layout 0".to_owned());
        }
        let file: File<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Self::from_json(file.floors.get().as_bytes())
    }

    fn without_file(_: &StateDir) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// Floors only rise, in memory too.
    fn merge(memory: &Mutex<Arc<Self>>, on_disk: Option<Self>, _: &[FloorSeen]) -> Self {
        let mut memory = lock(memory);
        if let Some(on_disk) = on_disk {
            Arc::make_mut(&mut memory).merge(&on_disk);
        }
        Self::clone(&memory)
    }

    fn to_file(&self) -> String {
        format!(
            "{{\"version\": {}, \"floors\": {}}}\n",
            Self::LAYOUT,
            self.to_json()
        )
    }
}
