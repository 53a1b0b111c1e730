//! Volumes that a file declares.

use super::faults::{Faults, Place};
use crate::base::text::quoted;
use crate::compose::yaml::Node;

/// A volume that the file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Its name outside of this project, if the file states one.
    pub(crate) name: Option<String>,
    pub(crate) external: bool,
    /// A driver or options by which it may be a path of the machine or on another
    /// machine.
    pub(crate) driven: Option<String>,
}

/// Mount options of a tmpfs. Others change what is mounted: with `bind` the kernel
/// ignores the type.
const OF_MEMORY: &[&str] = &["gid", "mode", "nr_inodes", "size", "uid"];

impl Faults<'_> {
    pub(super) fn volume(&mut self, name: &str, node: &Node) -> Volume {
        let place = Place {
            kind: "volume",
            name,
        };
        let mut volume = Volume {
            name: None,
            external: false,
            driven: None,
        };
        for (setting, value) in self.entries(place, node) {
            if value.is_null() || setting.starts_with("x-") {
                continue;
            }
            match setting.as_str() {
                "name" => {
                    let text = self.fixed(place, setting, value);
                    volume.name = text.map(str::to_owned);
                }
                // `external: {name: x}` is the old way to say both.
                "external" => match value.get("name") {
                    Some(old) => {
                        volume.external = true;
                        let text = self.fixed(place, setting, old);
                        volume.name = text.map(str::to_owned);
                    }
                    None => volume.external = self.fixed(place, setting, value) != Some("false"),
                },
                "labels" => {}
                "driver" if self.fixed(place, setting, value) == Some("local") => {}
                "driver_opts" if self.is_memory(place, value) => {}
                "driver_opts" => {
                    let device = match value.get("device") {
                        Some(Node::Scalar(device)) => quoted(&device.text),
                        _ => "something".to_owned(),
                    };
                    volume.driven = Some(format!(
                        "its options make it {device}, of this machine or another"
                    ));
                }
                other => volume.driven = Some(format!("it has the setting {}", quoted(other))),
            }
        }
        volume
    }

    /// A tmpfs: memory of this machine only.
    fn is_memory(&mut self, place: Place<'_>, options: &Node) -> bool {
        let mut memory = false;
        for (name, value) in self.entries(place, options) {
            let value = self.fixed(place, name, value).unwrap_or_default();
            match (name.as_str(), value) {
                ("type", "tmpfs") => memory = true,
                ("device", "tmpfs") => {}
                ("o", all)
                    if all.split(',').all(|one| {
                        let option = one.split('=').next().unwrap_or_default();
                        OF_MEMORY.contains(&option)
                    }) => {}
                _ => return false,
            }
        }
        memory
    }
}
