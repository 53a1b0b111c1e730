//! The containers that the measured description starts.

use std::collections::BTreeSet;

use super::FILE;
use crate::base::finding::{Findings, Severity};
use crate::base::text::{quoted, shown};
use crate::compose::{
    ComposeDocument, Image, ImageReference, Mount, Service, environment_variables,
    holds_docker_socket, is_address, is_dstack_socket, listed, variables,
};
use crate::refusals::compose::ComposeRejected;

/// The names of a list that a message repeats.
const SHOWN: usize = 12;

pub(crate) fn findings(text: &str, envs: &BTreeSet<String>, findings: &mut Findings) {
    let (document, faults) = match ComposeDocument::read_all(FILE, text.as_bytes()) {
        Ok(read) => read,
        Err(rejected) => {
            findings.add(
                Severity::Danger,
                "app_compose_unreadable",
                rejected.to_string(),
            );
            return;
        }
    };
    for fault in faults {
        // Said with the image itself.
        let image = matches!(&fault, ComposeRejected::Variable { setting, .. }
            if setting == "\"image\"");
        if !image {
            findings.add(Severity::Danger, "app_not_understood", fault.to_string());
        }
    }
    for service in &document.services {
        Of { service, envs }.all(findings);
    }
    for (key, volume) in &document.volumes {
        if let Some(driven) = &volume.driven {
            findings.add(
                Severity::Warning,
                "app_volume",
                format!("volume {}: {driven}", quoted(key)),
            );
        }
    }
    for (name, content) in &document.configs {
        let from: BTreeSet<&str> = variables(content).into_iter().collect();
        if !from.is_empty() {
            findings.add(
                Severity::Warning,
                "app_unmeasured_config",
                format!(
                    "config {} is filled in by {}",
                    quoted(name),
                    listed(from, SHOWN)
                ),
            );
        }
    }
}

struct Of<'a> {
    service: &'a Service,
    envs: &'a BTreeSet<String>,
}

impl Of<'_> {
    fn add(&self, findings: &mut Findings, severity: Severity, topic: &'static str, detail: &str) {
        let name = quoted(&self.service.name);
        findings.add(severity, topic, format!("service {name}: {detail}"));
    }

    fn all(&self, findings: &mut Findings) {
        self.image(findings);
        for mount in &self.service.mounts {
            self.mount(mount, findings);
        }
        self.rights(findings);
        self.logs(findings);
        self.inputs(findings);
    }

    fn image(&self, findings: &mut Findings) {
        if self.service.build.is_some() {
            let detail = "its image is built in the machine";
            self.add(findings, Severity::Danger, "app_image_built", detail);
            return;
        }
        match &self.service.image {
            Some(Image::Fixed(image)) if image.digest.is_some() => {
                let image = shown(&image.to_string());
                self.add(findings, Severity::Info, "app_image_pinned", &image);
            }
            Some(Image::Fixed(image)) => {
                let detail = format!("{} is not pinned by a digest", shown(&image.to_string()));
                self.add(findings, Severity::Danger, "app_image_not_pinned", &detail);
            }
            Some(image @ (Image::Default { text, .. } | Image::Variable(text))) => {
                let open = variables(text).iter().any(|name| self.envs.contains(*name));
                let default = image.named().map(|image| shown(&image.to_string()));
                let severity = if open || default.is_none() {
                    Severity::Danger
                } else {
                    Severity::Warning
                };
                let default =
                    default.map_or(String::new(), |image| format!(", by default {image}"));
                let who = if open {
                    "the host may set the variable"
                } else {
                    "the host cannot set the variable, but another container can"
                };
                let detail = format!("its image is {}{default}; {who}", quoted(text));
                self.add(findings, severity, "app_image_variable", &detail);
            }
            None => {}
        }
    }

    fn mount(&self, mount: &Mount, findings: &mut Findings) {
        let (path, read_only) = match mount {
            Mount::Host { path, read_only } => (path, *read_only),
            Mount::Volume { key, .. } if key == "certs" => {
                let detail = "it holds the TLS key";
                self.add(findings, Severity::Notice, "app_tls_key", detail);
                return;
            }
            Mount::Volume { .. } | Mount::Own => return,
        };
        let how = if read_only { ", read-only" } else { "" };
        if holds_docker_socket(path) {
            let detail = format!(
                "it mounts {}{how}: it can start any container, also over a read-only socket",
                quoted(path)
            );
            self.add(findings, Severity::Danger, "app_docker_socket", &detail);
        } else if is_dstack_socket(path) {
            let detail = format!(
                "it mounts {}{how}: it can have any quote and the application's keys made",
                quoted(path)
            );
            self.add(findings, Severity::Danger, "app_dstack_socket", &detail);
        } else if path.starts_with("/dstack") {
            let detail = format!("it mounts {}{how}: secrets of the machine", quoted(path));
            self.add(findings, Severity::Warning, "app_secrets", &detail);
        } else {
            let severity = if read_only {
                Severity::Notice
            } else {
                Severity::Warning
            };
            let detail = format!("it mounts {}{how}", quoted(path));
            self.add(findings, severity, "app_host_path", &detail);
        }
    }

    fn rights(&self, findings: &mut Findings) {
        let service = self.service;
        if service.privileged {
            let detail = "it is privileged";
            self.add(findings, Severity::Danger, "app_privileged", detail);
        }
        if !service.security_opt.is_empty() {
            let options = service.security_opt.iter().map(String::as_str);
            let detail = format!("it has security_opt {}", listed(options, SHOWN));
            self.add(findings, Severity::Warning, "app_security_opt", &detail);
        }
        if !service.capabilities.is_empty() {
            let names = service.capabilities.iter().map(String::as_str);
            let detail = format!("it has the capabilities {}", listed(names, SHOWN));
            self.add(findings, Severity::Danger, "app_capabilities", &detail);
        }
        for (setting, value) in &service.shared {
            let (severity, topic) = match *setting {
                "pid" => (Severity::Danger, "app_pid"),
                _ => (Severity::Warning, "app_network"),
            };
            let detail = format!("it has {setting} {}", quoted(value));
            self.add(findings, severity, topic, &detail);
        }
        if !service.devices.is_empty() {
            let devices = service.devices.iter().map(String::as_str);
            let detail = format!("it has the devices {}", listed(devices, SHOWN));
            self.add(findings, Severity::Warning, "app_devices", &detail);
        }
        if !service.ports.is_empty() {
            let ports = service.ports.iter().map(String::as_str);
            let detail = format!("it listens on {}", listed(ports, SHOWN));
            self.add(findings, Severity::Notice, "app_port", &detail);
        }
    }

    fn logs(&self, findings: &mut Findings) {
        let image = self.service.image.as_ref().and_then(Image::named);
        let Some(ImageReference { repository, .. }) = image else {
            return;
        };
        let name = repository.as_str();
        if !name.contains("datadog/") && !name.contains("opentelemetry") {
            return;
        }
        let every = self.service.environment.iter().any(|(name, value)| {
            name == "DD_LOGS_CONFIG_CONTAINER_COLLECT_ALL" && value.as_deref() == Some("true")
        });
        let what = if every {
            "it sends the output of all containers out of the machine"
        } else {
            "it sends logs or metrics out of the machine"
        };
        self.add(findings, Severity::Warning, "app_log_shipper", what);
    }

    fn inputs(&self, findings: &mut Findings) {
        let service = self.service;
        let from = environment_variables(service);
        if !from.is_empty() {
            let address = from.iter().any(|name| is_address(name));
            let severity = if address {
                Severity::Warning
            } else {
                Severity::Notice
            };
            let detail = format!("from outside the measurement: {}", listed(from, SHOWN));
            self.add(findings, severity, "app_unmeasured_setting", &detail);
        }
        if service.env_files {
            let detail = "its environment also comes from a file";
            self.add(findings, Severity::Warning, "app_env_file", detail);
        }
        let in_command: BTreeSet<&str> = variables(&service.command).into_iter().collect();
        if !in_command.is_empty() {
            let detail = format!("its command is filled in by {}", listed(in_command, SHOWN));
            self.add(
                findings,
                Severity::Danger,
                "app_unmeasured_command",
                &detail,
            );
        }
        for (name, value) in &service.environment {
            let value = value.as_deref().unwrap_or_default();
            if name.ends_with("MIN_TAG_AGE_HOURS") {
                let measured = variables(value).is_empty();
                let severity = if measured {
                    Severity::Info
                } else {
                    Severity::Warning
                };
                let detail = format!("{} is {}", shown(name), quoted(value));
                self.add(findings, severity, "app_min_tag_age", &detail);
            }
            if name.contains("COSIGN_IDENTITY") {
                let detail = format!(
                    "it replaces containers by whatever is signed as {}",
                    quoted(value)
                );
                self.add(findings, Severity::Danger, "app_replaces_images", &detail);
            }
        }
    }
}
