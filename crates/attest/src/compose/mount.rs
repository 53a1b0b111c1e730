//! What a container sees of the machine's files and of volumes.

use std::collections::BTreeSet;

use super::faults::{Faults, Place};
use crate::compose::yaml::Node;

/// A mounted place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A named volume, by its key in the file, and where the container has it.
    Volume {
        key: String,
        target: String,
        read_only: bool,
    },
    /// A path of the machine, or of the folder that the file lies in.
    Host { path: String, read_only: bool },
    /// A volume without a name, or memory: of this container alone.
    Own,
}

/// Why the short syntax cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum Wrong<'a> {
    Form,
    Mode(&'a str),
}

/// Reads the short syntax `[SOURCE:]TARGET[:MODE]`.
fn short(text: &str) -> Result<Mount, Wrong<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, modes) = match parts.as_slice() {
        [target] if target.starts_with('/') => return Ok(Mount::Own),
        [source, target] => (*source, *target, None),
        [source, target, modes] => (*source, *target, Some(*modes)),
        _ => return Err(Wrong::Form),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(Wrong::Form);
    }
    let read_only = modes.map_or(Ok(false), read_only).map_err(Wrong::Mode)?;
    Ok(from_source(source, target, read_only))
}

/// Whether modes say "read-only", or the first mode that is unknown or contradicts
/// another: of `ro,rw` Compose takes the last, and it skips unknown modes.
fn read_only(modes: &str) -> Result<bool, &str> {
    let mut seen = BTreeSet::new();
    for mode in modes.split(',') {
        let about = match mode {
            "ro" | "rw" => "ro",
            "z" | "Z" => "z",
            "private" | "rprivate" => "private",
            "cached" | "consistent" | "delegated" => "cached",
            "nocopy" => mode,
            _ => return Err(mode),
        };
        if !seen.insert(about) {
            return Err(mode);
        }
    }
    Ok(modes.split(',').any(|mode| mode == "ro"))
}

/// A source is a volume only if it has the form of a volume's name in Docker: Compose
/// has further forms of paths, such as those that begin with `\\`.
fn from_source(source: &str, target: &str, read_only: bool) -> Mount {
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if source.starts_with('.') || !source.chars().all(in_names) {
        return host(source, read_only);
    }
    Mount::Volume {
        key: source.to_owned(),
        target: normal_path(target),
        read_only,
    }
}

/// The long syntax with `type: bind`, where `a` is the folder `./a`.
fn host(source: &str, read_only: bool) -> Mount {
    Mount::Host {
        path: normal_path(source),
        read_only,
    }
}

impl Faults<'_> {
    pub(crate) fn mounts(&mut self, place: Place<'_>, value: &Node) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for item in self.list_of(place, value) {
            let mount = if let Node::Scalar(_) = item.as_ref() {
                self.fixed(place, "volumes", item)
                    .and_then(|text| match short(text) {
                        Ok(mount) => Some(mount),
                        Err(Wrong::Mode(mode)) => {
                            self.setting(place, &format!("volumes: {mode}"));
                            None
                        }
                        Err(Wrong::Form) => {
                            self.shape(place, "SOURCE:TARGET[:MODE] as a volume", item);
                            None
                        }
                    })
            } else {
                self.long(place, item)
            };
            mounts.extend(mount);
        }
        mounts
    }

    fn long(&mut self, place: Place<'_>, item: &Node) -> Option<Mount> {
        let Some(kind) = self.fixed_child(place, "volumes.type", item.get("type")) else {
            self.shape(place, "a volume with its type", item);
            return None;
        };
        if !matches!(kind, "bind" | "volume" | "tmpfs") {
            self.setting(place, &format!("volumes.type: {kind}"));
            return None;
        }
        let submounts = self.options(place, item);
        if kind == "tmpfs" {
            return Some(Mount::Own);
        }
        let read_only = submounts
            && match item.get("read_only") {
                Some(Node::Scalar(scalar)) => scalar.text == "true",
                _ => false,
            };
        let source = item.get("source").or_else(|| item.get("src"));
        let Some(source) = source else {
            return Some(Mount::Own);
        };
        let source = self.fixed(place, "volumes.source", source)?;
        if kind == "bind" {
            return Some(host(source, read_only));
        }
        let target = self.fixed_child(place, "volumes.target", item.get("target"));
        Some(from_source(source, target.unwrap_or_default(), read_only))
    }

    /// Reads the other settings of the long syntax. False if mounts below a read-only
    /// path stay writable.
    fn options(&mut self, place: Place<'_>, item: &Node) -> bool {
        const KNOWN: &[&str] = &[
            "bind.create_host_path",
            "bind.propagation",
            "bind.recursive",
            "bind.selinux",
            "tmpfs.mode",
            "tmpfs.size",
            "volume.labels",
            "volume.nocopy",
            "volume.subpath",
        ];
        let mut submounts = true;
        let Node::Mapping(settings) = item else {
            return submounts;
        };
        for (setting, value) in settings {
            let more = match setting.as_str() {
                "consistency" | "read_only" | "source" | "src" | "target" | "type" => continue,
                setting if value.is_null() || setting.starts_with("x-") => continue,
                _ => value.entries(),
            };
            if more.is_empty() {
                self.setting(place, &format!("volumes.{setting}"));
            }
            for (name, value) in more {
                let name = format!("{setting}.{name}");
                if !KNOWN.contains(&name.as_str()) {
                    self.setting(place, &format!("volumes.{name}"));
                }
                let fits = match name.as_str() {
                    "bind.recursive" => match self.fixed(place, "volumes.bind.recursive", value) {
                        Some("writable") => {
                            submounts = false;
                            true
                        }
                        other => matches!(other, None | Some("disabled" | "enabled" | "readonly")),
                    },
                    // Others let a container put mounts into the machine.
                    "bind.propagation" => matches!(
                        self.fixed(place, "volumes.bind.propagation", value),
                        None | Some("private" | "rprivate")
                    ),
                    _ => true,
                };
                if !fits {
                    self.setting(place, &format!("volumes.{name}"));
                }
            }
        }
        submounts
    }
}

/// Without `.`, `..` and doubled slashes, and with `/run` for `/var/run`, which
/// is a link to it.
pub(crate) fn normal_path(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if let ["var", "run", ..] = parts.as_slice() {
        parts.remove(0);
    }
    format!("/{}", parts.join("/"))
}

/// True if a path is Docker's or containerd's socket by its name, or a folder that
/// holds it.
pub(crate) fn holds_docker_socket(path: &str) -> bool {
    holds(path, "/run/docker.sock")
        || holds(path, "/run/containerd/containerd.sock")
        || holds(path, "/var/run")
        || path.contains("docker.sock")
        || path.contains("containerd.sock")
}

/// True for the guest agent's socket by any of its names, and for the folder that
/// newer images have it in.
pub(crate) fn is_dstack_socket(path: &str) -> bool {
    matches!(
        path,
        "/run/dstack.sock" | "/run/tappd.sock" | "/run/dstack" | "/run/dstack/dstack.sock"
    )
}

fn holds(path: &str, inner: &str) -> bool {
    path == "/"
        || inner
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, read_only: bool) -> Result<Mount, Wrong<'static>> {
        let path = path.to_owned();
        Ok(Mount::Host { path, read_only })
    }

    #[test]
    fn sources_are_told_apart_as_compose_does() {
        let certs = Mount::Volume {
            key: "certs".to_owned(),
            target: "/etc/letsencrypt".to_owned(),
            read_only: true,
        };
        assert_eq!(short("certs:/etc/letsencrypt:ro"), Ok(certs));
        assert_eq!(short("/data"), Ok(Mount::Own));
        assert_eq!(short("/a/:/b"), at("/a", false));
        assert_eq!(short("./a:/b:z,ro"), at("./a", true));
        assert_eq!(short("~/a:/b"), at("~/a", false));
        for path in ["a/b", "\\\\a/../..", "a b"] {
            assert_eq!(short(&format!("{path}:/b")), at(path, false));
        }
        for text in ["", "a", "a:b", ":/b", "a:/b:ro:x", "c:\\a:/b:ro:z"] {
            assert_eq!(short(text), Err(Wrong::Form), "{text:?}");
        }
    }

    #[test]
    fn modes_are_known_and_stand_once() {
        for (modes, expected) in [
            ("ro", Ok(true)),
            ("rw", Ok(false)),
            ("z,ro", Ok(true)),
            ("Z,rw,nocopy,rprivate,cached", Ok(false)),
            ("ro,rw", Err("rw")),
            ("rw,ro", Err("ro")),
            ("ro,ro", Err("ro")),
            ("ro,z,Z", Err("Z")),
            ("RO", Err("RO")),
            ("ro,rshared", Err("rshared")),
            ("ro,from_the_future", Err("from_the_future")),
            ("ro,", Err("")),
            ("", Err("")),
            // Compose takes `c:/a` for a drive's path.
            ("/b", Err("/b")),
        ] {
            assert_eq!(read_only(modes), expected, "{modes:?}");
        }
    }

    #[test]
    fn paths_have_one_form() {
        for (path, normal) in [
            ("/var/run/docker.sock", "/run/docker.sock"),
            ("//var/./run//x/", "/run/x"),
            ("/a/../../run", "/run"),
            ("/", "/"),
            ("/..", "/"),
        ] {
            assert_eq!(normal_path(path), normal);
        }
    }

    #[test]
    fn a_socket_is_found_in_its_folders() {
        for path in [
            "/",
            "/run",
            "/var",
            "/run/docker.sock",
            "/run/containerd",
            "/mnt/docker.sock",
        ] {
            assert!(holds_docker_socket(path), "{path}");
        }
        for path in ["/run/dstack.sock", "/var/lib", "/ru", "/data"] {
            assert!(!holds_docker_socket(path), "{path}");
        }
    }
}
