//! One service, as far as rules and findings ask.
//!
//! The settings are a list of what is known. A setting that is not on it is a
//! fault, as is a judged one that a variable fills in: Compose learns new
//! settings that give rights (`use_api_socket`, `post_start`, `provider`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::image::ImageReference;
use super::mount::{self, Mount};
use super::rejected::ComposeRejected as Refused;
use super::variables::variables;
use crate::text::quoted;
use crate::yaml::{Node, Scalar};

/// Settings that give no right and lead nowhere, whatever their value.
const HARMLESS: &[&str] = &[
    "annotations",
    "attach",
    "cap_drop",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    "domainname",
    "expose",
    "group_add",
    "init",
    "labels",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "oom_kill_disable",
    "oom_score_adj",
    "pids_limit",
    "platform",
    "pull_policy",
    "read_only",
    "restart",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "working_dir",
];

/// A service. Texts are as they stand in the file, variables not filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) container_name: Option<String>,
    /// Docker answers to it as to the container's name.
    pub(crate) hostname: Option<String>,
    pub(crate) image: Option<Image>,
    pub(crate) build: Option<Build>,
    pub(crate) depends_on: BTreeSet<String>,
    pub(crate) privileged: bool,
    pub(crate) security_opt: Vec<String>,
    pub(crate) capabilities: BTreeSet<String>,
    /// Setting and value of what it shares with the machine or other containers.
    pub(crate) shared: Vec<(&'static str, String)>,
    pub(crate) gpu: bool,
    /// Those that are no GPU.
    pub(crate) devices: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    /// The configs and secrets that it mounts, by their keys.
    pub(crate) configs: BTreeSet<String>,
    /// Name and value; no value means that of the variable of this name.
    pub(crate) environment: Vec<(String, Option<String>)>,
    pub(crate) env_files: bool,
    /// Entry point, command and health check, in one text.
    pub(crate) command: String,
    pub(crate) log_driver: Option<String>,
    /// Ways to decide what a name means inside: `extra_hosts` and `dns`.
    pub(crate) names: Vec<String>,
    pub(crate) ports: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Image {
    Fixed(ImageReference),
    /// A variable decides.
    Variable(String),
}

/// An image that is built where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    /// From a recipe that stands in the compose file itself.
    pub(crate) inline: bool,
}

impl Service {
    /// The names that it answers to inside the machine.
    pub(crate) fn names_inside(&self) -> impl Iterator<Item = &str> {
        let more = [&self.container_name, &self.hostname];
        let more = more.into_iter().filter_map(Option::as_deref);
        std::iter::once(self.name.as_str()).chain(more)
    }

    /// The image for a message.
    pub(crate) fn image_text(&self) -> String {
        match (&self.image, &self.build) {
            (_, Some(_)) => "built in the machine".to_owned(),
            (Some(Image::Fixed(image)), None) => crate::text::shown(&image.to_string()),
            (Some(Image::Variable(text)), None) => quoted(text),
            (None, None) => "no image".to_owned(),
        }
    }
}

/// Reads services and keeps what cannot be judged.
pub(crate) struct Faults<'a> {
    pub(crate) file: &'a str,
    pub(crate) list: Vec<Refused>,
}

/// A place in the file for messages.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, quoted(self.name))
    }
}

impl Faults<'_> {
    pub(crate) fn shape(&mut self, place: Place<'_>, expected: &'static str, got: &Node) {
        self.list.push(Refused::Shape {
            file: quoted(self.file),
            place: place.to_string(),
            expected,
            got: got.kind(),
        });
    }

    pub(crate) fn setting(&mut self, place: Place<'_>, setting: &str) {
        self.list.push(Refused::Setting {
            file: quoted(self.file),
            place: place.to_string(),
            setting: quoted(setting),
        });
    }

    pub(crate) fn elsewhere(&mut self, place: Place<'_>, what: &'static str) {
        self.list.push(Refused::Elsewhere {
            file: quoted(self.file),
            place: place.to_string(),
            what,
        });
    }

    /// A text that no variable decides. Also `$$`, which no judged setting needs.
    pub(crate) fn fixed<'n>(
        &mut self,
        place: Place<'_>,
        setting: &str,
        node: &'n Node,
    ) -> Option<&'n str> {
        let Node::Scalar(Scalar { text, .. }) = node else {
            self.shape(place, "a text", node);
            return None;
        };
        if text.contains('$') {
            self.list.push(Refused::Variable {
                file: quoted(self.file),
                place: place.to_string(),
                setting: quoted(setting),
                got: quoted(text),
            });
            return None;
        }
        Some(text)
    }

    /// A list of texts, or nothing.
    fn fixed_list<'n>(&mut self, place: Place<'_>, setting: &str, node: &'n Node) -> Vec<&'n str> {
        items(node)
            .unwrap_or_else(|| {
                self.shape(place, "a list", node);
                &[]
            })
            .iter()
            .filter_map(|item| self.fixed(place, setting, item))
            .collect()
    }

    pub(crate) fn service(&mut self, name: &str, node: &Node) -> Service {
        let place = Place {
            kind: "service",
            name,
        };
        let mut service = Service {
            name: name.to_owned(),
            ..Service::default()
        };
        let Node::Mapping(settings) = node else {
            self.shape(place, "a mapping", node);
            return service;
        };
        for (setting, value) in settings {
            // An extension is nobody's setting; a null is a setting not made.
            if !setting.starts_with("x-") && !value.is_null() {
                self.one(place, setting, value, &mut service);
            }
        }
        if service.image.is_none() && service.build.is_none() {
            self.shape(place, "an image or a build", &Node::Mapping(Vec::new()));
        }
        service
    }

    fn one(&mut self, place: Place<'_>, setting: &str, value: &Node, service: &mut Service) {
        match setting {
            "image" => self.image(place, value, service),
            "build" => self.build(place, value, service),
            "container_name" => {
                let name = self.fixed(place, setting, value);
                service.container_name = name.map(str::to_owned);
            }
            "hostname" => {
                let name = self.fixed(place, setting, value);
                service.hostname = name.map(str::to_owned);
            }
            "privileged" => {
                if let Some(text) = self.fixed(place, setting, value) {
                    service.privileged = !is_false(text);
                }
            }
            "security_opt" => {
                let all = self.fixed_list(place, setting, value).into_iter();
                service.security_opt = all
                    .filter(|option| {
                        !matches!(*option, "no-new-privileges" | "no-new-privileges:true")
                    })
                    .map(str::to_owned)
                    .collect();
            }
            "cap_add" => {
                let all = self.fixed_list(place, setting, value).into_iter();
                service.capabilities = all.map(capability).collect();
            }
            "network_mode" | "pid" | "ipc" => self.namespace(place, setting, value, service),
            "runtime" => match self.fixed(place, setting, value) {
                Some("nvidia") => service.gpu = true,
                Some("runc") | None => {}
                Some(other) => self.setting(place, &format!("runtime: {other}")),
            },
            "gpus" => service.gpu = true,
            "deploy" => service.gpu |= has_devices(value),
            "devices" => self.devices(place, value, service),
            "volumes" => self.mounts(place, value, service),
            "configs" | "secrets" => self.configs(place, value, service),
            "environment" => self.environment(place, value, service),
            "env_file" => service.env_files = true,
            "command" | "entrypoint" | "healthcheck" => {
                append_text(value, &mut service.command);
            }
            "depends_on" | "links" => self.depends_on(place, value, service),
            "logging" => {
                let driver = value.get("driver");
                service.log_driver = driver.map(|driver| match driver {
                    Node::Scalar(scalar) => scalar.text.clone(),
                    other => other.kind(),
                });
            }
            "extra_hosts" | "dns" | "dns_search" | "dns_opt" => {
                let mut text = String::new();
                append_text(value, &mut text);
                service.names.push(text);
            }
            "ports" => self.ports(place, value, service),
            "networks" => self.networks(place, value),
            "extends" => self.elsewhere(place, "settings (extends)"),
            harmless if HARMLESS.contains(&harmless) => {}
            other => self.setting(place, other),
        }
    }

    fn image(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        if let Some(text) = self.fixed(place, "image", value) {
            match ImageReference::read(text) {
                Some(image) => service.image = Some(Image::Fixed(image)),
                None => self.list.push(Refused::Image {
                    file: quoted(self.file),
                    service: quoted(place.name),
                    image: quoted(text),
                }),
            }
        } else if let Node::Scalar(scalar) = value {
            service.image = Some(Image::Variable(scalar.text.clone()));
        }
        if service.image.is_none() {
            // Named already; "no image" would be a second fault of one cause.
            service.image = Some(Image::Variable(String::new()));
        }
    }

    fn build(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        const KNOWN: &[&str] = &[
            "args",
            "cache_from",
            "context",
            "dockerfile",
            "dockerfile_inline",
            "labels",
            "network",
            "no_cache",
            "platforms",
            "pull",
            "shm_size",
            "tags",
            "target",
        ];
        service.build = Some(Build {
            inline: value.get("dockerfile_inline").is_some(),
        });
        let Node::Mapping(settings) = value else {
            return;
        };
        for (setting, value) in settings {
            if !KNOWN.contains(&setting.as_str()) && !value.is_null() {
                self.setting(place, &format!("build.{setting}"));
            }
        }
        if let Some(network) = self.fixed_child(place, "build.network", value.get("network"))
            && !matches!(network, "none" | "default" | "bridge")
        {
            service.shared.push(("build.network", network.to_owned()));
        }
    }

    /// Docker's own forms share nothing.
    fn namespace(&mut self, place: Place<'_>, setting: &str, value: &Node, service: &mut Service) {
        let Some(text) = self.fixed(place, setting, value) else {
            return;
        };
        if let Some(other) = text.strip_prefix("service:") {
            service.depends_on.insert(other.to_owned());
        }
        let setting = match (setting, text) {
            ("network_mode", "none" | "bridge" | "default" | "private") => return,
            ("ipc", "none" | "private" | "shareable") => return,
            ("network_mode", _) => "network_mode",
            ("pid", _) => "pid",
            _ => "ipc",
        };
        service.shared.push((setting, text.to_owned()));
    }

    fn devices(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        for device in self.fixed_list(place, "devices", value) {
            let source = device.split(':').next().unwrap_or(device);
            let path = mount::normal_path(source);
            let rest = path.strip_prefix("/dev/nvidia");
            // /dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm; not another folder.
            if rest.is_some_and(|rest| !rest.contains('/')) || source.starts_with("nvidia.com/") {
                service.gpu = true;
            } else {
                service.devices.push(device.to_owned());
            }
        }
    }

    fn mounts(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        for item in self.list_of(place, value) {
            if let Node::Scalar(_) = item.as_ref() {
                let Some(text) = self.fixed(place, "volumes", item) else {
                    continue;
                };
                match mount::short(text) {
                    Some(mount) => service.mounts.push(mount),
                    None => self.shape(place, "SOURCE:TARGET[:MODE] as a volume", item),
                }
                continue;
            }
            match self.fixed_child(place, "volumes.type", item.get("type")) {
                Some(kind @ ("bind" | "volume")) => {
                    let read_only = match item.get("read_only") {
                        Some(Node::Scalar(scalar)) => scalar.text == "true",
                        _ => false,
                    };
                    let source = match item.get("source") {
                        None => item.get("src"),
                        source => source,
                    };
                    match source {
                        None => service.mounts.push(Mount::Own),
                        Some(source) => {
                            if let Some(source) = self.fixed(place, "volumes.source", source) {
                                service.mounts.push(if kind == "bind" {
                                    mount::host(source, read_only)
                                } else {
                                    mount::from_source(source, read_only)
                                });
                            }
                        }
                    }
                }
                Some("tmpfs") => service.mounts.push(Mount::Own),
                Some(other) => self.setting(place, &format!("volumes.type: {other}")),
                None => self.shape(place, "a volume with its type", item),
            }
        }
    }

    fn configs(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        for item in self.list_of(place, value) {
            let source = match item.as_ref() {
                Node::Mapping(_) => item.get("source"),
                other => Some(other),
            };
            if let Some(name) = self.fixed_child(place, "configs", source) {
                service.configs.insert(name.to_owned());
            }
        }
    }

    fn environment(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        match value {
            Node::Mapping(entries) => {
                for (name, value) in entries {
                    let value = match value.as_ref() {
                        value if value.is_null() => None,
                        Node::Scalar(scalar) => Some(scalar.text.clone()),
                        other => {
                            self.shape(place, "a text in environment", other);
                            continue;
                        }
                    };
                    service.environment.push((name.clone(), value));
                }
            }
            _ => {
                for item in self.list_of(place, value) {
                    let Node::Scalar(Scalar { text, .. }) = item.as_ref() else {
                        self.shape(place, "NAME=VALUE in environment", item);
                        continue;
                    };
                    service.environment.push(match text.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (text.clone(), None),
                    });
                }
            }
        }
    }

    fn depends_on(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        if let Node::Mapping(entries) = value {
            let names = entries.iter().map(|(name, _)| name.clone());
            service.depends_on.extend(names);
            return;
        }
        for name in self.fixed_list(place, "depends_on", value) {
            // A link with another name for its target hides who is sent requests.
            if name.contains(':') {
                self.setting(place, &format!("links: {name}"));
            }
            service.depends_on.insert(name.to_owned());
        }
    }

    fn ports(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        for item in self.list_of(place, value) {
            service.ports.push(match item.as_ref() {
                Node::Scalar(scalar) => scalar.text.clone(),
                other => {
                    let part = |name| match other.get(name) {
                        Some(Node::Scalar(scalar)) => scalar.text.as_str(),
                        _ => "?",
                    };
                    format!("{}:{}", part("published"), part("target"))
                }
            });
        }
    }

    /// Another name on a network would hide who is sent requests.
    fn networks(&mut self, place: Place<'_>, value: &Node) {
        if let Node::Mapping(networks) = value
            && networks.iter().any(|(_, settings)| !settings.is_null())
        {
            self.setting(place, "networks");
        }
    }

    fn list_of<'n>(&mut self, place: Place<'_>, node: &'n Node) -> &'n [Arc<Node>] {
        items(node).unwrap_or_else(|| {
            self.shape(place, "a list", node);
            &[]
        })
    }

    fn fixed_child<'n>(
        &mut self,
        place: Place<'_>,
        setting: &str,
        node: Option<&'n Node>,
    ) -> Option<&'n str> {
        node.and_then(|node| self.fixed(place, setting, node))
    }

    pub(crate) fn config(&mut self, kind: &'static str, name: &str, node: &Node) -> Option<String> {
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

/// The names in a service's environment whose values come from variables.
pub(crate) fn environment_variables(service: &Service) -> BTreeSet<&str> {
    let from_outside = |value: &Option<String>| match value {
        None => true,
        Some(value) => !variables(value).is_empty(),
    };
    let environment = service.environment.iter();
    environment
        .filter(|(_, value)| from_outside(value))
        .map(|(name, _)| name.as_str())
        .collect()
}

fn items(node: &Node) -> Option<&[Arc<Node>]> {
    match node {
        Node::Sequence(items) => Some(items),
        _ => None,
    }
}

/// What Compose takes for false in a text; everything else counts as true here.
fn is_false(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "false" | "0" | "f" | "n" | "no" | "off"
    )
}

/// `CAP_SYS_ADMIN` and `sys_admin` are one.
fn capability(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// `deploy.resources.reservations.devices`: GPUs, or what we cannot tell from them.
fn has_devices(deploy: &Node) -> bool {
    let devices = deploy
        .get("resources")
        .and_then(|node| node.get("reservations"))
        .and_then(|node| node.get("devices"));
    devices.is_some_and(|node| !node.is_null())
}

fn append_text(node: &Node, text: &mut String) {
    match node {
        Node::Scalar(scalar) => {
            text.push_str(&scalar.text);
            text.push(' ');
        }
        Node::Sequence(items) => items.iter().for_each(|item| append_text(item, text)),
        Node::Mapping(entries) => entries
            .iter()
            .for_each(|(_, value)| append_text(value, text)),
    }
}
