//! Compose files that a deployment log names: what they start, judged by rules.
//!
//! The caller has found a file by commit and hash. [`ComposeDocument::read`] reads it
//! as Docker Compose does or refuses it, and [`judge_compose`] judges it by
//! [`FileRules`]. It refuses what would let another program read prompts or make
//! evidence in the machine's name. What only weakens a statement comes back as
//! [`Finding`](crate::Finding)s.
//!
//! A service is on the prompt's way unless its image is of a repository known as a
//! helper: the strict rules apply unless a service is known, whatever its ports and
//! names are. A program without the TLS key gets prompts only from one that has it. So
//! no setting that tells a program on the prompt's way where to send requests may name
//! a helper. This check compares whole names. It misses a name that the file builds out
//! of pieces; a person who reads the file sees it.

mod faults;
mod image;
mod judge;
mod mount;
mod nginx;
mod rules;
mod service;
mod settings;
mod variables;
mod volume;
mod warnings;
mod ways;
pub(crate) mod yaml;

use std::collections::{BTreeMap, BTreeSet};

pub use self::image::{ImageDigest, ImageReference, Repository};
pub use self::judge::judge_compose;
pub use self::rules::FileRules;

pub(crate) use self::judge::{judge_started, warnings_of_started};
pub(crate) use self::mount::{Mount, holds_docker_socket, is_dstack_socket};
pub(crate) use self::rules::Helpers;
pub(crate) use self::service::{Image, Service, environment_variables};
pub(crate) use self::variables::variables;
pub(crate) use self::warnings::{SHOWN_NAMES, env_file, filled_in, is_address, listed, of_configs};

use self::faults::{Faults, Place};
use self::volume::Volume;
use self::yaml::Node;
use crate::base::text::quoted;
use crate::refusals::compose::ComposeRejected;

/// The most dependencies between services of one file; they are followed for each start
/// in a log. NEAR's files have some 10.
const MAX_DEPENDENCIES: usize = 1_000;

/// A compose file that has been read; nothing in it is judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeDocument {
    pub(crate) file: String,
    pub(crate) services: Vec<Service>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// The configs and secrets whose content is in the file, by their keys.
    pub(crate) configs: BTreeMap<String, String>,
}

/// What one service of a file runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceImage {
    /// The service.
    pub service: String,
    /// Its image; none if it is built without a name.
    pub image: Option<ImageReference>,
    /// It is built in the machine: the image's name does not identify it.
    pub built: bool,
    /// A variable may name another image; this one runs if the variable is not set.
    pub by_default: bool,
}

impl ComposeDocument {
    /// Reads a file. `file` is its name in messages.
    ///
    /// # Errors The first fault that keeps the file from being read or judged, with a
    /// code `evidence_compose_*`.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, ComposeRejected> {
        let (document, faults) = Self::read_all(file, bytes)?;
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(document),
        }
    }

    /// The file's name, as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Each service with what it depends on, for
    /// [`ComposeFiles::insert`](crate::ComposeFiles::insert).
    pub fn services(&self) -> impl Iterator<Item = (String, BTreeSet<String>)> {
        let services = self.services.iter();
        services.map(|service| (service.name.clone(), service.depends_on.clone()))
    }

    /// The names of all services.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let services = self.services.iter();
        services.map(|service| service.name.as_str()).collect()
    }

    /// The services of these names, and what they depend on.
    pub(crate) fn with_dependencies<'a>(&'a self, names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let by_name: BTreeMap<&str, &Service> = self
            .services
            .iter()
            .map(|service| (service.name.as_str(), service))
            .collect();
        with_dependencies(names.iter().copied(), |name| {
            by_name.get(name).map(|service| &service.depends_on)
        })
    }

    /// What each service runs, in the order of the file.
    pub fn images(&self) -> impl Iterator<Item = ServiceImage> {
        self.services.iter().map(|service| ServiceImage {
            service: service.name.clone(),
            image: service.image.as_ref().and_then(Image::named).cloned(),
            built: service.build.is_some(),
            by_default: matches!(service.image, Some(Image::Default { .. })),
        })
    }

    /// As [`Self::read`], but returns all that can be judged, and a list of what
    /// cannot.
    pub(crate) fn read_all(
        file: &str,
        bytes: &[u8],
    ) -> Result<(Self, Vec<ComposeRejected>), ComposeRejected> {
        let root = yaml::read(file, bytes)?;
        let mut faults = Faults {
            file,
            list: Vec::new(),
        };
        let mut document = Self {
            file: file.to_owned(),
            services: Vec::new(),
            volumes: BTreeMap::new(),
            configs: BTreeMap::new(),
        };
        let top = Place {
            kind: "file",
            name: file,
        };
        let Node::Mapping(parts) = root.as_ref() else {
            faults.shape(top, "a mapping", &root);
            return Ok((document, faults.list));
        };
        for (part, value) in parts {
            match part.as_str() {
                // Compose 2 and later ignore a version.
                "version" => {}
                "networks" => {
                    for (name, value) in faults.entries(top, value) {
                        faults.network(name, value);
                    }
                }
                "services" => {
                    for (name, value) in faults.entries(top, value) {
                        let service = faults.service(name, value);
                        document.services.push(service);
                    }
                }
                "volumes" => {
                    for (name, value) in faults.entries(top, value) {
                        let volume = faults.volume(name, value);
                        document.volumes.insert(name.clone(), volume);
                    }
                }
                "configs" | "secrets" => {
                    for (name, value) in faults.entries(top, value) {
                        if let Some(content) = faults.config("config or secret", name, value) {
                            let before = document.configs.insert(name.clone(), content);
                            // The rules would see only one of a config and a secret of
                            // the same name.
                            if before.is_some() {
                                faults.setting(top, part);
                            }
                        }
                    }
                }
                // A project's name: the volumes of the file would be those of any other
                // application, such as `work` of the manager, where its log lies.
                "name" => faults.setting(top, part),
                "include" => faults.elsewhere(top, "services (include)"),
                extension if extension.starts_with("x-") => {}
                other => faults.setting(top, other),
            }
        }
        let services = document.services.iter();
        let dependencies: usize = services.map(|service| service.depends_on.len()).sum();
        if dependencies > MAX_DEPENDENCIES {
            faults.list.push(ComposeRejected::TooComplex {
                file: quoted(file),
                detail: format!("{dependencies} dependencies, at most {MAX_DEPENDENCIES} are read"),
            });
        }
        if document.services.is_empty() && faults.list.is_empty() {
            faults.shape(top, "services", &root);
        }
        Ok((document, faults.list))
    }
}

/// Those of some names that are defined, and what these depend on. `needs` says what
/// a defined name itself depends on.
pub(crate) fn with_dependencies<'a>(
    names: impl IntoIterator<Item = &'a str>,
    needs: impl Fn(&str) -> Option<&'a BTreeSet<String>>,
) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut next: Vec<&str> = names.into_iter().collect();
    while let Some(name) = next.pop() {
        if let Some(needed) = needs(name)
            && all.insert(name)
        {
            next.extend(needed.iter().map(String::as_str));
        }
    }
    all
}

impl Faults<'_> {
    fn entries<'n>(
        &mut self,
        place: Place<'_>,
        node: &'n Node,
    ) -> &'n [(String, std::sync::Arc<Node>)] {
        match node {
            Node::Mapping(entries) => entries,
            node if node.is_null() => &[],
            node => {
                self.shape(place, "a mapping", node);
                &[]
            }
        }
    }

    /// A bridge; not the machine's own network under another name.
    fn network(&mut self, name: &str, node: &Node) {
        let place = Place {
            kind: "network",
            name,
        };
        if name == "host" {
            self.setting(place, name);
        }
        for (setting, value) in self.entries(place, node) {
            if value.is_null() || setting.starts_with("x-") {
                continue;
            }
            let fits = match setting.as_str() {
                "name" => self.fixed(place, setting, value) != Some("host"),
                "driver" => self.fixed(place, setting, value) == Some("bridge"),
                "external" => self.fixed(place, setting, value).is_some(),
                other => matches!(other, "attachable" | "enable_ipv6" | "internal" | "labels"),
            };
            if !fits {
                self.setting(place, setting);
            }
        }
    }

    fn config(&mut self, kind: &'static str, name: &str, node: &Node) -> Option<String> {
        let place = Place { kind, name };
        let Node::Mapping(settings) = node else {
            self.shape(place, "a mapping", node);
            return None;
        };
        for (setting, _) in settings {
            if !matches!(setting.as_str(), "content" | "name") && !setting.starts_with("x-") {
                self.elsewhere(place, "its content");
                return None;
            }
        }
        match node.get("content") {
            Some(Node::Scalar(scalar)) => Some(scalar.text.clone()),
            _ => {
                self.shape(place, "its content", node);
                None
            }
        }
    }
}
