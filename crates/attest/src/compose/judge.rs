//! What a deployed file must not do.

use std::collections::BTreeSet;

use super::mount::{self, Mount};
use super::rules::{FileRules, Helpers, Role};
use super::service::{Image, Service};
use super::ways::{self, Inside, Leads, Sent, Way};
use super::{ComposeDocument, warnings};
use crate::base::finding::{Finding, Findings};
use crate::base::text::quoted;
use crate::refusals::compose::ComposeRejected as Refused;

/// Capabilities that act inside the container only: priorities, locked memory, and
/// those that every container has anyway.
const HARMLESS_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "IPC_LOCK",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
    "SYS_NICE",
    "SYS_RESOURCE",
];

/// The volume of the manager's log, by its key in the measured application. Docker
/// calls a file's volumes `<project>_<key>`, and a caller of the manager can set the
/// project without leaving a trace in the log.
const MANAGERS_VOLUME: &str = "work";

/// Judges a file that was read by [`ComposeDocument::read`].
///
/// # Errors
/// The first rule that does not hold, with a code `rejected_compose_*`.
pub fn judge_compose(
    document: &ComposeDocument,
    rules: &FileRules,
) -> Result<Vec<Finding>, Refused> {
    let all = document.names();
    judge_started(document, &all, &Helpers::new(), rules)?;
    Ok(warnings_of_started(document, &all, &Helpers::new(), rules))
}

/// As [`judge_compose`], where only some services were started. `elsewhere` are
/// helpers that other files started: all files share one network, and what they
/// started may still run.
pub(crate) fn judge_started(
    document: &ComposeDocument,
    started: &BTreeSet<&str>,
    elsewhere: &Helpers<'_>,
    rules: &FileRules,
) -> Result<(), Refused> {
    let judge = Judge::of(document, started, rules);
    judge.volumes()?;
    for service in &judge.started {
        judge.mounts(service)?;
        judge.rights(service)?;
        judge.image(service)?;
    }
    let inside = Inside::of(document, rules);
    for helpers in [&rules.helpers_of(&document.services), elsewhere] {
        judge.helpers_serve_nobody(helpers)?;
        judge.helpers_write_nothing(helpers)?;
    }
    judge.nothing_leaves(&inside)
}

/// The findings about the services that were started, whether or not these keep the
/// rules. Otherwise a file could hide a finding that the policy refuses by breaking a
/// rule that the policy only reports.
pub(crate) fn warnings_of_started(
    document: &ComposeDocument,
    started: &BTreeSet<&str>,
    elsewhere: &Helpers<'_>,
    rules: &FileRules,
) -> Vec<Finding> {
    let judge = Judge::of(document, started, rules);
    let inside = Inside::of(document, rules);
    let mut findings = Findings::default();
    for service in &judge.started {
        warnings::of_service(&inside, service, rules.role(service), &mut findings);
    }
    for way in &judge.ways {
        warnings::of_way(&inside, way, &mut findings);
    }
    for helpers in [&rules.helpers_of(&document.services), elsewhere] {
        warnings::of_shared(judge.on_the_way(), helpers, &mut findings);
    }
    warnings::of_configs(document, "compose_unmeasured_config", &mut findings);
    findings.into_vec()
}

struct Judge<'a> {
    document: &'a ComposeDocument,
    started: Vec<&'a Service>,
    /// The ways of the services that are started and on the prompt's way.
    ways: Vec<Way<'a>>,
    rules: &'a FileRules,
}

impl<'a> Judge<'a> {
    fn of(document: &'a ComposeDocument, started: &BTreeSet<&str>, rules: &'a FileRules) -> Self {
        let services = document.services.iter();
        let started: Vec<_> = services
            .filter(|service| started.contains(service.name.as_str()))
            .collect();
        let on_the_way = started.iter().copied();
        let on_the_way = on_the_way.filter(|service| !rules.role(service).is_helper());
        Self {
            document,
            ways: ways::of(document, on_the_way, rules),
            started,
            rules,
        }
    }

    fn on_the_way(&self) -> impl Iterator<Item = &'a Service> {
        let started = self.started.iter().copied();
        started.filter(|service| !self.rules.role(service).is_helper())
    }

    fn file(&self) -> String {
        quoted(&self.document.file)
    }

    /// A volume of another application may hold the manager's own log; one with
    /// a driver may be a path of the machine (`o: bind`).
    fn volumes(&self) -> Result<(), Refused> {
        let certs = &self.rules.certs_volume;
        for (key, volume) in &self.document.volumes {
            let refuse = |detail: String| Refused::Volume {
                file: self.file(),
                volume: quoted(key),
                detail,
            };
            if let Some(driven) = &volume.driven {
                return Err(refuse(driven.clone()));
            }
            let name = volume.name.as_ref().unwrap_or(key);
            if (volume.external || volume.name.is_some()) && name != certs {
                let name = quoted(name);
                return Err(refuse(format!("it is {name}, from outside the file")));
            }
            if name == MANAGERS_VOLUME {
                return Err(refuse(
                    "its key is that of the manager's own volume".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn mounts(&self, service: &Service) -> Result<(), Refused> {
        let role = self.rules.role(service);
        for mount in &service.mounts {
            match mount {
                Mount::Own => {}
                Mount::Volume { key, .. } => {
                    let name = self.document.volumes.get(key);
                    let name = name.and_then(|volume| volume.name.as_ref()).unwrap_or(key);
                    let certs = &self.rules.certs_volume;
                    let holds_key = key == certs || name == certs;
                    if holds_key && !matches!(role, Role::Front | Role::Proxy) {
                        return Err(Refused::Certs {
                            file: self.file(),
                            service: quoted(&service.name),
                            image: service.image_text(),
                            volume: quoted(key),
                        });
                    }
                }
                Mount::Host { path, read_only } => {
                    self.host_path(service, role, path, *read_only)?;
                }
            }
        }
        Ok(())
    }

    fn host_path(
        &self,
        service: &Service,
        role: Role,
        path: &str,
        read_only: bool,
    ) -> Result<(), Refused> {
        if mount::holds_docker_socket(path) {
            return Err(Refused::DockerSocket {
                file: self.file(),
                service: quoted(&service.name),
                path: quoted(path),
            });
        }
        if mount::is_dstack_socket(path) {
            if role == Role::Proxy {
                return Ok(());
            }
            return Err(Refused::DstackSocket {
                file: self.file(),
                service: quoted(&service.name),
                image: service.image_text(),
                path: quoted(path),
            });
        }
        if read_only && self.rules.read_only_paths.contains(path) {
            return Ok(());
        }
        Err(Refused::HostPath {
            file: self.file(),
            service: quoted(&service.name),
            path: quoted(path),
        })
    }

    fn rights(&self, service: &Service) -> Result<(), Refused> {
        let role = self.rules.role(service);
        let setting = match service.security_opt.first() {
            _ if service.privileged => Some("privileged".to_owned()),
            Some(option) => Some(format!("security_opt {}", quoted(option))),
            None => None,
        };
        if let Some(setting) = setting
            && role != Role::Proxy
        {
            return Err(Refused::Privileged {
                file: self.file(),
                service: quoted(&service.name),
                image: service.image_text(),
                setting,
            });
        }
        for capability in &service.capabilities {
            let watches = role == Role::GpuHelper && capability == "SYS_ADMIN";
            if !watches && !HARMLESS_CAPABILITIES.contains(&capability.as_str()) {
                return Err(Refused::Capability {
                    file: self.file(),
                    service: quoted(&service.name),
                    image: service.image_text(),
                    capability: quoted(capability),
                });
            }
        }
        // Engines share memory, which holds prompts, with their own workers: usual
        // among services that see prompts anyway.
        let mut shared = service.shared.iter();
        let shared = shared
            .find(|(setting, value)| role.is_helper() || *setting != "ipc" || value != "host");
        if let Some((setting, value)) = shared {
            return Err(Refused::Namespace {
                file: self.file(),
                service: quoted(&service.name),
                setting: format!("{setting} {}", quoted(value)),
            });
        }
        if let Some(device) = service.devices.first() {
            return Err(Refused::Device {
                file: self.file(),
                service: quoted(&service.name),
                device: quoted(device),
            });
        }
        if service.gpu && role == Role::Helper {
            return Err(Refused::SidecarGpu {
                file: self.file(),
                service: quoted(&service.name),
                image: service.image_text(),
            });
        }
        Ok(())
    }

    fn image(&self, service: &Service) -> Result<(), Refused> {
        let role = self.rules.role(service);
        let (file, image) = (self.file(), service.image_text());
        let service_name = quoted(&service.name);
        if role == Role::Unknown {
            return Err(Refused::Repository {
                file,
                service: service_name,
                image,
            });
        }
        let named = service.image.as_ref().and_then(Image::named);
        let named = named.filter(|_| role != Role::Built);
        let digest = named.and_then(|image| image.digest.as_ref());
        let needs_digest = !role.is_helper() && role != Role::Built;
        // The role is the default image's: a variable may name any program instead.
        let may_change = matches!(service.image, Some(Image::Default { .. }));
        if may_change || needs_digest && digest.is_none() {
            return Err(Refused::NotPinned {
                file,
                service: service_name,
                image,
            });
        }
        // What is built has no digest: no list of digests allows it.
        if let Some(allowed) = &self.rules.digests
            && !role.is_helper()
            && !digest.is_some_and(|digest| allowed.contains(digest))
        {
            return Err(Refused::Digest {
                file,
                service: service_name,
                image,
                allowed: allowed.len(),
            });
        }
        Ok(())
    }

    /// No setting that tells a program on the prompt's way where to send requests names
    /// a helper.
    fn helpers_serve_nobody(&self, helpers: &Helpers<'_>) -> Result<(), Refused> {
        for way in &self.ways {
            if let Some(helper) = way.helper(helpers) {
                return Err(Refused::SidecarServes {
                    file: self.file(),
                    service: quoted(&helper.name),
                    image: helper.image_text(),
                    by: quoted(&way.by.name),
                    place: way.place.to_string(),
                });
            }
        }
        Ok(())
    }

    /// No helper may write what web servers and proxies read: it could be their
    /// configuration. Engines get the model's files from one.
    fn helpers_write_nothing(&self, helpers: &Helpers<'_>) -> Result<(), Refused> {
        for service in &self.started {
            if !matches!(self.rules.role(service), Role::Front | Role::Proxy) {
                continue;
            }
            for mount in &service.mounts {
                if let Mount::Volume { key, .. } = mount
                    && let Some(helper) = helpers.writer(key)
                {
                    return Err(Refused::SharedVolume {
                        file: self.file(),
                        service: quoted(&service.name),
                        volume: quoted(key),
                        helper: quoted(&helper.name),
                        image: helper.image_text(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Nothing that sends prompts sends them to an address outside.
    fn nothing_leaves(&self, inside: &Inside) -> Result<(), Refused> {
        let refuse = |service: &Service, place: String, address: &str| Refused::Outside {
            file: self.file(),
            service: quoted(&service.name),
            place,
            address: quoted(address),
        };
        for way in &self.ways {
            let mut sent = way.sends(inside).into_iter();
            let sent = sent.find(|sent| sent.leads == Leads::Outside);
            if let Some(Sent { by, address, .. }) = sent {
                let place = format!("{}, {}", way.place, quoted(&by));
                return Err(refuse(way.by, place, &address));
            }
        }
        for service in self.on_the_way() {
            for (name, address) in &service.hosts {
                if inside.contains(name) && !ways::is_here(address) {
                    let place = format!("its extra_hosts, {}", quoted(name));
                    return Err(refuse(service, place, address));
                }
            }
        }
        Ok(())
    }
}
