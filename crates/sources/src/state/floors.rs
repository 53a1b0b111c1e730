//! The newest collateral seen, by this process and those before it.

use std::sync::{Arc, Mutex};

use attest::{FloorSeen, Floors};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::keeper::Kept;
use super::{StateDir, Version};
use crate::lock::lock;

/// Of the file's layout. A newer layout is neither read nor replaced. In layout 1
/// floors were by the channel that was asked; it is read, and replaced when the next
/// floor rises.
const FLOORS_VERSION: u32 = 2;

impl Kept for Floors {
    type Seen = FloorSeen;

    const FILE: &'static str = "floors.json";
    /// A platform family has some hundred bytes.
    const MAX_BYTES: u64 = 1 << 20;

    fn add(&mut self, seen: &FloorSeen) -> bool {
        self.raise(seen)
    }

    fn parse(bytes: Option<&[u8]>, _: &StateDir) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File<'a> {
            #[serde(rename = "version")]
            _version: u32,
            #[serde(borrow)]
            floors: &'a RawValue,
        }
        let Some(bytes) = bytes else {
            return Ok(Self::default());
        };
        let unreadable = |error: serde_json::Error| error.to_string();
        let Version { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !(1..=FLOORS_VERSION).contains(&version) {
            return Err(format!(
                "it has layout {version}, this program reads 1 to {FLOORS_VERSION}; use the program that wrote it"
            ));
        }
        let file: File<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
        Self::from_json(file.floors.get().as_bytes())
    }

    /// Floors only rise, in memory too. A file that can no longer be read is left as it
    /// is: the next start refuses it.
    fn merge(
        memory: &Mutex<Arc<Self>>,
        on_disk: Result<Self, String>,
        _: &[FloorSeen],
        _: &StateDir,
    ) -> Result<Self, String> {
        let on_disk = on_disk?;
        let mut memory = lock(memory);
        Arc::make_mut(&mut memory).merge(&on_disk);
        Ok(Self::clone(&memory))
    }

    fn to_file(&self) -> String {
        format!(
            "{{\"version\": {FLOORS_VERSION}, \"floors\": {}}}\n",
            self.to_json()
        )
    }
}
