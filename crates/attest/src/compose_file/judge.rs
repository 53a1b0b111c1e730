//! What a deployed file must not do.

use std::collections::BTreeSet;

use super::mount::{self, Mount};
use super::rejected::ComposeRejected as Refused;
use super::rules::{FileRules, Helpers, Role};
use super::service::{Image, Service};
use super::{ComposeDocument, warnings};
use crate::finding::{Finding, Findings};
use crate::text::quoted;

/// Capabilities that reach no further than the container: priorities, locked
/// memory, and what every container has anyway.
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

/// The volume of the manager's log, by its key in the measured application. Of a
/// file's volumes Docker has `<project>_<key>`, and whoever calls the manager can set
/// the project without any trace in the log.
const MANAGERS_VOLUME: &str = "work";

/// Judges a file that was read by [`ComposeDocument::read`].
///
/// # Errors
/// The first rule that does not hold, with a code `rejected_compose_*`.
pub fn judge_compose(
    document: &ComposeDocument,
    rules: &FileRules,
) -> Result<Vec<Finding>, Refused> {
    judge_started(document, &document.names(), &Helpers::new(), rules)
}

/// As [`judge_compose`], where only some services were started. `elsewhere` are
/// helpers that other files started: all files share one network, and what they
/// started may still run.
pub(crate) fn judge_started(
    document: &ComposeDocument,
    started: &BTreeSet<&str>,
    elsewhere: &Helpers<'_>,
    rules: &FileRules,
) -> Result<Vec<Finding>, Refused> {
    let services = document.services.iter();
    let judge = Judge {
        document,
        started: services
            .filter(|service| started.contains(service.name.as_str()))
            .collect(),
        rules,
    };
    judge.volumes()?;
    for service in &judge.started {
        judge.mounts(service)?;
        judge.rights(service)?;
        judge.image(service)?;
    }
    judge.helpers_serve_nobody(&rules.helpers_of(&document.services))?;
    judge.helpers_serve_nobody(elsewhere)?;
    let mut findings = Findings::default();
    let services = judge.started.iter();
    let inside: BTreeSet<&str> = services
        .flat_map(|service| service.names_inside())
        .collect();
    for service in &judge.started {
        warnings::of_service(&inside, service, rules.role(service), &mut findings);
    }
    warnings::of_configs(document, &mut findings);
    Ok(findings.into_vec())
}

struct Judge<'a> {
    document: &'a ComposeDocument,
    started: Vec<&'a Service>,
    rules: &'a FileRules,
}

impl Judge<'_> {
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
            if volume.driven {
                return Err(refuse("it has a driver or options of its own".to_owned()));
            }
            let name = volume.name.as_ref().unwrap_or(key);
            if (volume.external || volume.name.is_some()) && name != certs {
                let name = quoted(name);
                return Err(refuse(format!("it is {name} of outside the file")));
            }
            if name == MANAGERS_VOLUME {
                return Err(refuse("its key is that of the manager's own".to_owned()));
            }
        }
        Ok(())
    }

    fn mounts(&self, service: &Service) -> Result<(), Refused> {
        let role = self.rules.role(service);
        for mount in &service.mounts {
            match mount {
                Mount::Own => {}
                Mount::Volume { key } => {
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
        // Engines share memory with their own workers, prompts in it: usual among
        // those that see prompts anyway.
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
        let refuse = || (self.file(), quoted(&service.name), service.image_text());
        if role == Role::Unknown {
            let (file, service, image) = refuse();
            return Err(Refused::Repository {
                file,
                service,
                image,
            });
        }
        if role.is_helper() {
            return Ok(());
        }
        let digest = match &service.image {
            Some(Image::Fixed(image)) if role != Role::Built => image.digest.as_ref(),
            _ => None,
        };
        if digest.is_none() && role != Role::Built {
            let (file, service, image) = refuse();
            return Err(Refused::NotPinned {
                file,
                service,
                image,
            });
        }
        // What is built has no digest, so no list of digests allows it.
        if let Some(allowed) = &self.rules.digests
            && !digest.is_some_and(|digest| allowed.contains(digest))
        {
            let (file, service, image) = refuse();
            return Err(Refused::Digest {
                file,
                service,
                image,
                allowed: allowed.len(),
            });
        }
        Ok(())
    }

    /// No helper is named in the configuration of web servers and proxies, nor
    /// where proxies and engines are told of each other.
    fn helpers_serve_nobody(&self, helpers: &Helpers<'_>) -> Result<(), Refused> {
        let mut seen = BTreeSet::new();
        for service in &self.started {
            if self.rules.role(service).is_helper() {
                continue;
            }
            let configs = service.configs.iter().filter(|name| seen.insert(*name));
            let configs = configs.filter_map(|name| self.document.configs.get(name));
            let addresses = service.environment.iter().filter_map(|(name, value)| {
                let value = value.as_ref()?;
                name.starts_with("VLLM_").then_some(value)
            });
            for text in configs.chain(addresses) {
                if let Some(helper) = named_in(text, helpers) {
                    return Err(Refused::SidecarServes {
                        file: self.file(),
                        service: quoted(&helper.name),
                        image: helper.image_text(),
                        by: quoted(&service.name),
                    });
                }
            }
        }
        Ok(())
    }
}

fn named_in<'a>(text: &str, names: &Helpers<'a>) -> Option<&'a Service> {
    let text = text.to_ascii_lowercase();
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut words = text.split(|c| !inside(c)).filter(|word| !word.is_empty());
    words.find_map(|word| {
        let of_container = || of_container(word).find_map(|name| names.get(name));
        names.get(word).or_else(of_container).copied()
    })
}

/// The services that a container without a name of its own may be of: Compose
/// calls it `<project>-<service>-<number>`, and once wrote `_`.
fn of_container(word: &str) -> impl Iterator<Item = &str> {
    let without_number = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let service = without_number.strip_suffix(['-', '_']);
    let service = service.filter(|_| without_number != word).unwrap_or("");
    let dashes = service.match_indices(['-', '_']);
    dashes.filter_map(|(at, _)| service.get(at..)?.get(1..))
}
