//! What a reader should know of a file that keeps the rules.

use std::collections::BTreeSet;

use super::rules::Helpers;
use super::rules::Role;
use super::service::{Image, Service, environment_variables};
use super::ways::{self, Inside, Leads, Place, Way};
use super::{ComposeDocument, Mount, nginx, variables};
use crate::base::finding::{Findings, Severity};
use crate::base::text::{quoted, shown};

/// The names of a list that a message repeats.
const SHOWN_NAMES: usize = 12;

/// The hosts of one service that are looked at.
const MAX_HOSTS: usize = 100;

/// Log drivers whose logs stay in the machine.
const LOCAL_LOGS: &[&str] = &["json-file", "local", "journald", "none"];

/// Programs that fetch other programs.
const INSTALLERS: &[&str] = &[
    "apk", "apt", "apt-get", "conda", "git", "npm", "npx", "pip", "pip3", "uv", "uvx",
];

/// Folders of models, in containers of engines.
const MODEL_FOLDERS: &[&str] = &[".cache", "cache", "data", "models"];

/// The bytes after which a list in a message ends.
const SHOWN_BYTES: usize = 2000;

/// A list of foreign names for a message, and how many more there are.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>, max: usize) -> String {
    let mut text = String::new();
    let mut more = 0_usize;
    for (index, name) in names.into_iter().enumerate() {
        if index >= max || text.len() > SHOWN_BYTES {
            more = more.saturating_add(1);
            continue;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&shown(name));
    }
    if more > 0 {
        text.push_str(&format!(", {more} more"));
    }
    text
}

pub(crate) fn of_service(inside: &Inside, service: &Service, role: Role, findings: &mut Findings) {
    let name = quoted(&service.name);
    let mut warn = |severity, topic, detail: String| {
        findings.add(severity, topic, format!("service {name}: {detail}"));
    };
    let image = service.image_text();
    let pinned = matches!(&service.image, Some(Image::Fixed(image)) if image.digest.is_some());
    match (role, &service.build) {
        (Role::Built, Some(build)) if build.inline => warn(
            Severity::Warning,
            "compose_built_in_machine",
            "its image is built in the machine: no digest says what it is".to_owned(),
        ),
        (Role::Built, _) => warn(
            Severity::Danger,
            "compose_built_in_machine",
            "its image is built in the machine, from files that no hash covers".to_owned(),
        ),
        (Role::Helper | Role::GpuHelper, _) if !pinned => warn(
            Severity::Warning,
            "compose_helper_not_pinned",
            format!("{image} is not pinned by a digest"),
        ),
        _ => {}
    }
    if let Some(Image::Default { text, .. }) = &service.image {
        // What a helper may do is bounded, whatever it is.
        let severity = match role {
            Role::Helper | Role::GpuHelper => Severity::Warning,
            _ => Severity::Danger,
        };
        let detail = format!(
            "whoever runs the machine may replace its image: {}",
            quoted(text)
        );
        warn(severity, "compose_image_variable", detail);
    }
    rights(service, &mut warn);
    if service.gpu && matches!(role, Role::Engine | Role::Built) {
        engine(&service.command, &mut warn);
    }
    if role == Role::Helper && has_word(&service.command, "uvx") {
        warn(
            Severity::Warning,
            "compose_unpinned_program",
            "it runs a program that is downloaded at each start (uvx)".to_owned(),
        );
    }
    logs(service, role, &mut warn);
    if !matches!(role, Role::Helper | Role::GpuHelper) {
        inputs(inside, service, &mut warn);
    }
}

fn rights(service: &Service, warn: &mut impl FnMut(Severity, &'static str, String)) {
    if service.privileged {
        warn(
            Severity::Notice,
            "compose_privileged",
            "it has every right over the machine".to_owned(),
        );
    }
    if service.capabilities.contains("SYS_ADMIN") {
        warn(
            Severity::Warning,
            "compose_sys_admin",
            format!("{} has the capability SYS_ADMIN", service.image_text()),
        );
    }
    for mount in &service.mounts {
        if let Mount::Host { path, .. } = mount
            && !super::is_dstack_socket(path)
        {
            warn(
                Severity::Warning,
                "compose_host_path",
                format!("it reads {} of the machine", quoted(path)),
            );
        }
    }
}

fn engine(command: &str, warn: &mut impl FnMut(Severity, &'static str, String)) {
    if !has_option(command, "--revision") {
        warn(
            Severity::Warning,
            "compose_no_revision",
            "no revision of the model's files is given: they are what their host serves".to_owned(),
        );
    }
    if has_option(command, "--trust-remote-code") {
        warn(
            Severity::Warning,
            "compose_trust_remote_code",
            "it runs code that comes with the model's files".to_owned(),
        );
    }
}

fn logs(service: &Service, role: Role, warn: &mut impl FnMut(Severity, &'static str, String)) {
    if let Some(driver) = &service.log_driver
        && !LOCAL_LOGS.contains(&driver.as_str())
    {
        warn(
            Severity::Warning,
            "compose_log_driver",
            format!("its output goes to the log driver {}", quoted(driver)),
        );
    }
    let image = service.image_text();
    if role == Role::Helper && (image.contains("datadog/") || image.contains("opentelemetry")) {
        warn(
            Severity::Warning,
            "compose_log_shipper",
            format!("{image} sends logs or metrics out of the machine"),
        );
    }
}

/// What is not in the file and still decides what a program on the prompt's way does.
fn inputs(
    inside: &Inside,
    service: &Service,
    warn: &mut impl FnMut(Severity, &'static str, String),
) {
    let from = environment_variables(service);
    let (addresses, others): (Vec<&str>, Vec<&str>) =
        from.into_iter().partition(|name| is_address(name));
    if !addresses.is_empty() {
        warn(
            Severity::Warning,
            "compose_unmeasured_address",
            format!(
                "whoever runs the machine decides {}",
                listed(addresses, SHOWN_NAMES)
            ),
        );
    }
    if !others.is_empty() {
        warn(
            Severity::Notice,
            "compose_unmeasured_environment",
            format!(
                "whoever runs the machine decides {}",
                listed(others, SHOWN_NAMES)
            ),
        );
    }
    if service.env_files {
        warn(
            Severity::Warning,
            "compose_env_file",
            "its environment also comes from a file that no hash covers".to_owned(),
        );
    }
    let in_command: BTreeSet<&str> = variables(&service.command).into_iter().collect();
    if !in_command.is_empty() {
        warn(
            Severity::Warning,
            "compose_unmeasured_command",
            format!(
                "whoever runs the machine fills {} into its command",
                listed(in_command, SHOWN_NAMES)
            ),
        );
    }
    for (name, address) in &service.hosts {
        let usual = name == "compose-manager" && address == "host-gateway";
        if !usual {
            // Who answers at the machine's own address may be a helper.
            let severity = if inside.contains(name) {
                Severity::Danger
            } else {
                Severity::Warning
            };
            let entry = quoted(&format!("{name}:{address}"));
            let detail = format!("its name resolution is changed: {entry}");
            warn(severity, "compose_names", detail);
        }
    }
    for text in &service.dns {
        warn(
            Severity::Warning,
            "compose_names",
            format!("its name resolution is changed: {}", quoted(text)),
        );
    }
    let values = service.environment.iter();
    let outside: BTreeSet<&str> = values
        .filter(|(name, _)| !ways::is_telemetry(name))
        .filter_map(|(_, value)| value.as_deref())
        .flat_map(|value| ways::outside(value, service, inside, &BTreeSet::new()))
        .take(MAX_HOSTS)
        .collect();
    if !outside.is_empty() {
        warn(
            Severity::Notice,
            "compose_outside_address",
            format!("its environment names {}", listed(outside, SHOWN_NAMES)),
        );
    }
}

/// Where prompts may go that no rule can tell.
pub(crate) fn of_way(inside: &Inside, way: &Way<'_>, findings: &mut Findings) {
    let Way {
        by, place, text, ..
    } = *way;
    let name = quoted(&by.name);
    let mut warn = |severity, topic, detail: String| {
        findings.add(severity, topic, format!("service {name}: {place} {detail}"));
    };
    for sent in way.sends(inside) {
        if sent.leads == Leads::Unknown {
            warn(
                Severity::Danger,
                "compose_unknown_address",
                format!(
                    "sends requests to {} ({}): no service of the file has that name",
                    quoted(&sent.address),
                    quoted(&sent.by)
                ),
            );
        }
    }
    let mut groups = BTreeSet::new();
    let severity = match place {
        Place::Config(_) => {
            let config = nginx::read(text);
            groups = config.groups;
            for (topic, directive) in config.remarks {
                let severity = match topic {
                    "compose_front_code" | "compose_logs_prompts" => Severity::Danger,
                    _ => Severity::Warning,
                };
                warn(severity, topic, format!("says {}", quoted(&directive)));
            }
            Severity::Warning
        }
        Place::Command => {
            let words = text.split_whitespace();
            let installs = words.filter(|word| INSTALLERS.contains(word));
            let installs: BTreeSet<_> = installs.collect();
            if !installs.is_empty() {
                let installs = listed(installs, SHOWN_NAMES);
                let detail = format!("may install programs when it starts ({installs})");
                warn(Severity::Danger, "compose_unpinned_program", detail);
            }
            for address in way.telemetry() {
                let detail = format!("sends telemetry to {}", quoted(address));
                warn(Severity::Warning, "compose_telemetry", detail);
            }
            if logs_prompts(text) {
                let detail = "logs requests, which include prompts".to_owned();
                warn(Severity::Danger, "compose_logs_prompts", detail);
            }
            Severity::Danger
        }
        Place::Variable(variable) if ways::is_telemetry(variable) => {
            let content = variable
                .to_ascii_uppercase()
                .contains("CAPTURE_MESSAGE_CONTENT");
            if content && text.eq_ignore_ascii_case("true") {
                let detail = "puts prompts into telemetry".to_owned();
                warn(Severity::Danger, "compose_logs_prompts", detail);
            }
            if text.contains("://") {
                let detail = format!("sends telemetry to {}", quoted(text));
                warn(Severity::Warning, "compose_telemetry", detail);
            }
            return;
        }
        // Said of the whole environment, and of every image that is built.
        Place::Variable(_) | Place::Recipe => return,
    };
    let outside = ways::outside(text, by, inside, &groups);
    if !outside.is_empty() {
        let outside = listed(outside, SHOWN_NAMES);
        warn(
            severity,
            "compose_outside_address",
            format!("names {outside}"),
        );
    }
}

/// Volumes that helpers may write and programs on the prompt's way read.
pub(crate) fn of_shared<'a>(
    services: impl Iterator<Item = &'a Service>,
    helpers: &Helpers<'_>,
    findings: &mut Findings,
) {
    for service in services {
        for mount in &service.mounts {
            let Mount::Volume { key, target, .. } = mount else {
                continue;
            };
            // The model's files, and what is made of them.
            let files = target.split('/').any(|part| MODEL_FOLDERS.contains(&part));
            let severity = if files {
                Severity::Warning
            } else {
                Severity::Danger
            };
            if let Some(helper) = helpers.writer(key) {
                findings.add(
                    severity,
                    "compose_shared_volume",
                    format!(
                        "service {}: its files at {} can be changed by {} ({})",
                        quoted(&service.name),
                        quoted(target),
                        quoted(&helper.name),
                        helper.image_text()
                    ),
                );
            }
        }
    }
}

/// Configs that a variable fills in.
pub(crate) fn of_configs(document: &ComposeDocument, findings: &mut Findings) {
    for (name, content) in &document.configs {
        let from: BTreeSet<&str> = variables(content).into_iter().collect();
        if !from.is_empty() {
            let name = quoted(name);
            findings.add(
                Severity::Warning,
                "compose_unmeasured_config",
                format!(
                    "config {name}: whoever runs the machine fills in {}",
                    listed(from, SHOWN_NAMES)
                ),
            );
        }
    }
}

/// Names of variables that say where data goes.
pub(crate) fn is_address(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["URL", "URI", "ENDPOINT", "ADDRESS", "DOMAIN", "PROXY"]
        .iter()
        .any(|part| name.contains(part))
        || name.ends_with("_HOST")
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|one| one == word)
}

/// Whether options of sglang or vLLM have the content of requests logged: sglang does
/// from level 2 on, which is its default.
fn logs_prompts(command: &str) -> bool {
    let levels = command.split("--log-requests-level").skip(1);
    let mut quiet = levels.map(|rest| {
        let level = rest.trim_start_matches([' ', '=']);
        level.starts_with(['0', '1'])
    });
    let asked = [
        "--log-requests",
        "--enable-log-requests",
        "--enable-log-outputs",
    ];
    match quiet.next() {
        Some(first) => !(first && quiet.all(|one| one)),
        None => asked.iter().any(|one| has_option(command, one)),
    }
}

fn has_option(text: &str, option: &str) -> bool {
    text.split_whitespace().any(|one| {
        one.strip_prefix(option)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_after_so_many_names_or_bytes() {
        for (max, text) in [
            (0, ", 3 more"),
            (1, "a, 2 more"),
            (2, "a, b, 1 more"),
            (3, "a, b, c"),
        ] {
            assert_eq!(listed(["a", "b", "c"], max), text);
        }
        assert_eq!(listed([], 3), "");
        // Nineteen names and commas are 1900 bytes.
        let name = "n".repeat(98);
        for (len, end) in [(100, "l, z"), (101, "l, 1 more"), (150, "l, 1 more")] {
            let long = "l".repeat(len);
            let names = [vec![name.as_str(); 19], vec![&long, "z"]].concat();
            assert!(listed(names, 100).ends_with(end), "{len}");
        }
    }
}
