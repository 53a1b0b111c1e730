//! What a container sees of the machine's files and of volumes.

/// A mounted place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A named volume, by its key in the file.
    Volume { key: String },
    /// A path of the machine, or of the folder that the file lies in.
    Host { path: String, read_only: bool },
    /// A volume without a name, or memory: of this container alone.
    Own,
}

/// Reads the short syntax `[SOURCE:]TARGET[:MODE]`; `None` if it is something else.
pub(crate) fn short(text: &str) -> Option<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, modes) = match parts.as_slice() {
        [target] => return target.starts_with('/').then_some(Mount::Own),
        [source, target] => (*source, *target, ""),
        [source, target, modes] => (*source, *target, *modes),
        _ => return None,
    };
    if source.is_empty() || !target.starts_with('/') {
        return None;
    }
    let read_only = modes.split(',').any(|mode| mode == "ro");
    Some(from_source(source, read_only))
}

/// A volume only by what Docker takes for a volume's name: Compose has further
/// forms of paths, such as those that begin with `\\`.
pub(crate) fn from_source(source: &str, read_only: bool) -> Mount {
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if source.starts_with('.') || !source.chars().all(in_names) {
        return host(source, read_only);
    }
    Mount::Volume {
        key: source.to_owned(),
    }
}

/// The long syntax with `type: bind`, where `a` is the folder `./a`.
pub(crate) fn host(source: &str, read_only: bool) -> Mount {
    Mount::Host {
        path: normal_path(source),
        read_only,
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

/// True if a path is, holds, or is said to be Docker's or containerd's socket.
pub(crate) fn holds_docker_socket(path: &str) -> bool {
    holds(path, "/run/docker.sock")
        || holds(path, "/run/containerd/containerd.sock")
        || holds(path, "/var/run")
        || path.contains("docker.sock")
        || path.contains("containerd.sock")
}

/// True for the guest agent's socket by any of its names.
pub(crate) fn is_dstack_socket(path: &str) -> bool {
    matches!(path, "/run/dstack.sock" | "/run/tappd.sock")
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

    fn at(path: &str, read_only: bool) -> Option<Mount> {
        let path = path.to_owned();
        Some(Mount::Host { path, read_only })
    }

    #[test]
    fn sources_are_told_apart_as_compose_does() {
        let volume = |key: &str| {
            Some(Mount::Volume {
                key: key.to_owned(),
            })
        };
        assert_eq!(short("certs:/etc/letsencrypt:ro"), volume("certs"));
        assert_eq!(short("/data"), Some(Mount::Own));
        assert_eq!(short("/a/:/b"), at("/a", false));
        assert_eq!(short("./a:/b:z,ro"), at("./a", true));
        assert_eq!(short("~/a:/b"), at("~/a", false));
        for path in ["a/b", "\\\\a/../..", "a b"] {
            assert_eq!(short(&format!("{path}:/b")), at(path, false));
        }
        for text in ["", "a", "a:b", ":/b", "a:/b:ro:x", "c:\\a:/b:ro:z"] {
            assert_eq!(short(text), None, "{text:?}");
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
