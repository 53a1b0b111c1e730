//! From a service's settings to a [`Service`].
//!
//! This module lists the settings that it knows. Any other setting is a fault, since
//! Compose gets new settings that give rights (`use_api_socket`, `post_start`,
//! `provider`). A judged setting that a variable fills in is a fault too.

use super::faults::{Faults, Place};
use super::image::ImageReference;
use super::mount;
use super::service::{Build, Image, Service};
use super::ways;
use crate::base::text::quoted;
use crate::compose::yaml::{Node, Scalar};
use crate::refusals::compose::ComposeRejected as Refused;

/// Settings that give no right and send nothing anywhere, whatever their value.
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

impl Faults<'_> {
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
            // An extension (`x-`) has no effect; a null is a setting that is not made.
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
            "volumes" => service.mounts.extend(self.mounts(place, value)),
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
            "extra_hosts" => self.hosts(place, value, service),
            "dns" | "dns_search" | "dns_opt" => {
                let mut text = String::new();
                append_text(value, &mut text);
                service.dns.push(text.trim_end().to_owned());
            }
            "ports" => self.ports(place, value, service),
            "networks" => self.networks(place, value),
            "extends" => self.elsewhere(place, "settings (extends)"),
            harmless if HARMLESS.contains(&harmless) => {}
            other => self.setting(place, other),
        }
    }

    fn image(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        if let Node::Scalar(Scalar { text, .. }) = value
            && let Some(image) = ImageReference::by_default(text)
        {
            let text = text.clone();
            service.image = Some(Image::Default { text, image });
            return;
        }
        // Already a fault; "no image" would be a second one with the same cause.
        service.image = Some(Image::Variable(match value {
            Node::Scalar(scalar) if scalar.text.contains('$') => scalar.text.clone(),
            _ => String::new(),
        }));
        if let Some(text) = self.fixed(place, "image", value) {
            match ImageReference::read(text) {
                Some(image) => service.image = Some(Image::Fixed(image)),
                None => self.list.push(Refused::Image {
                    file: quoted(self.file),
                    service: quoted(place.name),
                    image: quoted(text),
                }),
            }
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
        let mut recipe = String::new();
        for part in ["dockerfile_inline", "args"] {
            if let Some(part) = value.get(part) {
                append_text(part, &mut recipe);
            }
        }
        service.build = Some(Build {
            inline: value.get("dockerfile_inline").is_some(),
            recipe,
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
            // A link that renames its target hides which service gets the requests.
            if name.contains(':') {
                self.setting(place, &format!("links: {name}"));
            }
            service.depends_on.insert(name.to_owned());
        }
    }

    /// `NAME:ADDRESS`, `NAME=ADDRESS`, or a mapping, of one address or several.
    fn hosts(&mut self, place: Place<'_>, value: &Node, service: &mut Service) {
        let mut add = |name: &str, address: &str| {
            let known = service.hosts.entry(name.to_ascii_lowercase());
            let known = known.or_insert_with(|| address.to_owned());
            if ways::is_here(known) {
                address.clone_into(known);
            }
        };
        for (name, addresses) in value.entries() {
            let all = match addresses.as_ref() {
                Node::Sequence(all) => all.as_slice(),
                _ => std::slice::from_ref(addresses),
            };
            for address in all {
                if let Some(address) = self.fixed(place, "extra_hosts", address) {
                    add(name, address);
                }
            }
        }
        if matches!(value, Node::Mapping(_)) {
            return;
        }
        for entry in self.fixed_list(place, "extra_hosts", value) {
            match entry.split_once('=').or_else(|| entry.split_once(':')) {
                Some((name, address)) => add(name, address),
                None => self.setting(place, &format!("extra_hosts: {entry}")),
            }
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

    /// Another name on a network would hide which service gets the requests.
    fn networks(&mut self, place: Place<'_>, value: &Node) {
        if let Node::Mapping(networks) = value
            && networks.iter().any(|(_, settings)| !settings.is_null())
        {
            self.setting(place, "networks");
        }
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

/// `deploy.resources.reservations.devices`: GPUs, or entries that could be GPUs.
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
