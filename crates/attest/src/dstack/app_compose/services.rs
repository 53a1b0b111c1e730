//! The containers that the measured description starts.

use std::collections::BTreeSet;

use super::FILE;
use crate::base::finding::{About, Findings, Severity};
use crate::base::text::{quoted, shown};
use crate::compose::{
    ComposeDocument, Image, ImageReference, Mount, SHOWN_NAMES, Service, env_file,
    environment_variables, filled_in, holds_docker_socket, is_address, is_dstack_socket, listed,
    of_configs, variables,
};
use crate::refusals::compose::ComposeRejected;

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
        // The finding about the image says it.
        let image = matches!(&fault, ComposeRejected::Variable { setting, .. }
            if setting == "\"image\"");
        if !image {
            findings.add(Severity::Danger, "app_not_understood", fault.to_string());
        }
    }
    for service in &document.services {
        let about = &mut findings.about(format!("service {}:", quoted(&service.name)));
        image(service, envs, about);
        for mounted in &service.mounts {
            mount(mounted, about);
        }
        rights(service, about);
        logs(service, about);
        inputs(service, about);
    }
    for (key, volume) in &document.volumes {
        if let Some(driven) = &volume.driven {
            let mut about = findings.about(format!("volume {}:", quoted(key)));
            about.warning("app_volume", driven);
        }
    }
    of_configs(&document, "app_unmeasured_config", findings);
}

fn image(service: &Service, envs: &BTreeSet<String>, about: &mut About<'_>) {
    if service.build.is_some() {
        about.danger("app_image_built", "its image is built in the machine");
        return;
    }
    match &service.image {
        Some(Image::Fixed(image)) => {
            let text = shown(&image.to_string());
            if image.digest.is_some() {
                about.add(Severity::Info, "app_image_pinned", &text);
            } else {
                let detail = format!("{text} is not pinned by a digest");
                about.danger("app_image_not_pinned", &detail);
            }
        }
        Some(image @ (Image::Default { text, .. } | Image::Variable(text))) => {
            let open = variables(text).iter().any(|name| envs.contains(*name));
            let default = image.named().map(|image| shown(&image.to_string()));
            let severity = if open || default.is_none() {
                Severity::Danger
            } else {
                Severity::Warning
            };
            let default = default.map_or(String::new(), |image| format!(", by default {image}"));
            let who = if open {
                "the host may set the variable"
            } else {
                "the host cannot set the variable, but another container can"
            };
            let detail = format!("its image is {}{default}; {who}", quoted(text));
            about.add(severity, "app_image_variable", &detail);
        }
        None => {}
    }
}

fn mount(mount: &Mount, about: &mut About<'_>) {
    let (path, read_only) = match mount {
        Mount::Host { path, read_only } => (path, *read_only),
        Mount::Volume { key, .. } if key == "certs" => {
            about.notice("app_tls_key", "it holds the TLS key");
            return;
        }
        Mount::Volume { .. } | Mount::Own => return,
    };
    let how = if read_only { ", read-only" } else { "" };
    let (severity, topic, so) = if holds_docker_socket(path) {
        let so = ": it can start any container, also over a read-only socket";
        (Severity::Danger, "app_docker_socket", so)
    } else if is_dstack_socket(path) {
        let so = ": it can get any quote and the application's keys from dstack";
        (Severity::Danger, "app_dstack_socket", so)
    } else if path.starts_with("/dstack") {
        (Severity::Warning, "app_secrets", ": secrets of the machine")
    } else if read_only {
        (Severity::Notice, "app_host_path", "")
    } else {
        (Severity::Warning, "app_host_path", "")
    };
    about.add(
        severity,
        topic,
        &format!("it mounts {}{how}{so}", quoted(path)),
    );
}

fn rights(service: &Service, about: &mut About<'_>) {
    let several = |names: &mut dyn Iterator<Item = &String>| {
        let names: Vec<&str> = names.map(String::as_str).collect();
        (!names.is_empty()).then(|| listed(names, SHOWN_NAMES))
    };
    if service.privileged {
        about.danger("app_privileged", "it is privileged");
    }
    if let Some(options) = several(&mut service.security_opt.iter()) {
        about.warning(
            "app_security_opt",
            &format!("it has security_opt {options}"),
        );
    }
    if let Some(names) = several(&mut service.capabilities.iter()) {
        about.danger(
            "app_capabilities",
            &format!("it has the capabilities {names}"),
        );
    }
    for (setting, value) in &service.shared {
        let (severity, topic) = match *setting {
            "pid" => (Severity::Danger, "app_pid"),
            _ => (Severity::Warning, "app_network"),
        };
        about.add(
            severity,
            topic,
            &format!("it has {setting} {}", quoted(value)),
        );
    }
    if let Some(devices) = several(&mut service.devices.iter()) {
        about.warning("app_devices", &format!("it has the devices {devices}"));
    }
    if let Some(ports) = several(&mut service.ports.iter()) {
        about.notice("app_port", &format!("it listens on {ports}"));
    }
}

fn logs(service: &Service, about: &mut About<'_>) {
    let image = service.image.as_ref().and_then(Image::named);
    let Some(ImageReference { repository, .. }) = image else {
        return;
    };
    let name = repository.as_str();
    if !name.contains("datadog/") && !name.contains("opentelemetry") {
        return;
    }
    let every = service.environment.iter().any(|(name, value)| {
        name == "DD_LOGS_CONFIG_CONTAINER_COLLECT_ALL" && value.as_deref() == Some("true")
    });
    let what = if every {
        "it sends the output of all containers out of the machine"
    } else {
        "it sends logs or metrics out of the machine"
    };
    about.warning("app_log_shipper", what);
}

fn inputs(service: &Service, about: &mut About<'_>) {
    let from = environment_variables(service);
    if !from.is_empty() {
        let severity = if from.iter().any(|name| is_address(name)) {
            Severity::Warning
        } else {
            Severity::Notice
        };
        let detail = format!(
            "it gets settings from outside the measurement: {}",
            listed(from, SHOWN_NAMES)
        );
        about.add(severity, "app_unmeasured_setting", &detail);
    }
    env_file(service, "app_env_file", about);
    if let Some(names) = filled_in(&service.command) {
        let detail = format!("variables fill in its command: {names}");
        about.danger("app_unmeasured_command", &detail);
    }
    for (name, value) in &service.environment {
        let value = value.as_deref().unwrap_or_default();
        if name.ends_with("MIN_TAG_AGE_HOURS") {
            let severity = if variables(value).is_empty() {
                Severity::Info
            } else {
                Severity::Warning
            };
            let detail = format!("{} is {}", shown(name), quoted(value));
            about.add(severity, "app_min_tag_age", &detail);
        }
        if name.contains("COSIGN_IDENTITY") {
            let signer = quoted(value);
            let detail = format!("it replaces containers by any image that {signer} signed");
            about.danger("app_replaces_images", &detail);
        }
    }
}
