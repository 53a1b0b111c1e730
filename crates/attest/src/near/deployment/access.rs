//! Whether a file's programs could take what outlives them.

use std::collections::BTreeSet;

use super::actions::{Action, ComposeFile, Kind};
use super::files::FilesAtHand;
use crate::compose::{
    ComposeDocument, FileRules, Mount, Service, holds_docker_socket, is_dstack_socket,
};

/// True if what some actions started of a file had Docker's or dstack's socket,
/// privilege, the TLS key, another's volume, the machine's own files or network: keys
/// that were read there are known for good. `None` where the file was not given, or
/// cannot be read.
pub(crate) fn reaches_secrets(
    actions: &[Action],
    of: &ComposeFile,
    files: &FilesAtHand,
    rules: &FileRules,
) -> Option<bool> {
    let document = files.get(of)?.as_ref().ok()?;
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for action in actions {
        match &action.kind {
            Kind::Up { source, services } if source.as_ref() == of => {
                if services.is_empty() {
                    named = document.names();
                }
                named.extend(services.iter().map(String::as_str));
            }
            _ => {}
        }
    }
    let started = document.with_dependencies(&named);
    let mut services = document.services.iter();
    Some(services.any(|service| {
        started.contains(service.name.as_str()) && has_access(document, service, rules)
    }))
}

fn has_access(document: &ComposeDocument, service: &Service, rules: &FileRules) -> bool {
    // Shared memory is what an engine has with its own workers.
    let mut shared = service.shared.iter();
    service.privileged
        || !service.security_opt.is_empty()
        || shared.any(|(setting, _)| *setting != "ipc")
        || service.mounts.iter().any(|mount| match mount {
            Mount::Own => false,
            Mount::Host { path, read_only } => {
                holds_docker_socket(path) || is_dstack_socket(path) || !read_only
            }
            Mount::Volume { key, .. } => {
                let mut volume = document.volumes.get(key).into_iter();
                // Of another application, or a path of the machine.
                *key == rules.certs_volume
                    || volume.any(|of| of.external || of.driven.is_some() || of.name.is_some())
            }
        })
}
