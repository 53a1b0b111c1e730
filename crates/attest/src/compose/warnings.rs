//! Findings about a file.

use std::collections::BTreeSet;

use super::rules::Helpers;
use super::rules::Role;
use super::service::{Image, Service, environment_variables};
use super::ways::{self, Inside, Leads, Place, Way};
use super::{ComposeDocument, Mount, nginx, variables};
use crate::base::finding::{About, Findings, Severity};
use crate::base::text::{quoted, shown};

/// The most names of a list that a message repeats.
pub(crate) const SHOWN_NAMES: usize = 12;

/// Sets the variables of a file.
const OPERATOR: &str = "the machine's operator";

/// The most hosts of one service that are checked.
const MAX_HOSTS: usize = 100;

/// Log drivers that keep logs in the machine.
const LOCAL_LOGS: &[&str] = &["json-file", "local", "journald", "none"];

/// Programs that fetch other programs.
const INSTALLERS: &[&str] = &[
    "apk", "apt", "apt-get", "conda", "git", "npm", "npx", "pip", "pip3", "uv", "uvx",
];

/// Folders of models in containers of engines.
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
    let about = &mut findings.about(format!("service {}:", quoted(&service.name)));
    let image = service.image_text();
    let pinned = matches!(&service.image, Some(Image::Fixed(image)) if image.digest.is_some());
    match (role, &service.build) {
        (Role::Built, Some(build)) if build.inline => about.warning(
            "compose_built_in_machine",
            "its image is built in the machine: no digest says what it is",
        ),
        (Role::Built, _) => about.danger(
            "compose_built_in_machine",
            "its image is built in the machine, from files that no hash covers",
        ),
        (Role::Helper | Role::GpuHelper, _) if !pinned => about.warning(
            "compose_helper_not_pinned",
            &format!("{image} is not pinned by a digest"),
        ),
        _ => {}
    }
    if let Some(Image::Default { text, .. }) = &service.image {
        // The rules bound what a helper may do, whatever image it has.
        let severity = match role {
            Role::Helper | Role::GpuHelper => Severity::Warning,
            _ => Severity::Danger,
        };
        let detail = format!("{OPERATOR} may replace its image: {}", quoted(text));
        about.add(severity, "compose_image_variable", &detail);
    }
    rights(service, about);
    if service.gpu && matches!(role, Role::Engine | Role::Built) {
        engine(&service.command, about);
    }
    if role == Role::Helper && has_word(&service.command, "uvx") {
        about.warning(
            "compose_unpinned_program",
            "it runs a program that is downloaded at each start (uvx)",
        );
    }
    logs(service, role, about);
    if !matches!(role, Role::Helper | Role::GpuHelper) {
        inputs(inside, service, about);
    }
}

fn rights(service: &Service, about: &mut About<'_>) {
    if service.privileged {
        about.notice("compose_privileged", "it has every right over the machine");
    }
    if service.capabilities.contains("SYS_ADMIN") {
        let detail = format!("{} has the capability SYS_ADMIN", service.image_text());
        about.warning("compose_sys_admin", &detail);
    }
    for mount in &service.mounts {
        if let Mount::Host { path, .. } = mount
            && !super::is_dstack_socket(path)
        {
            let detail = format!("it reads {} of the machine", quoted(path));
            about.warning("compose_host_path", &detail);
        }
    }
}

fn engine(command: &str, about: &mut About<'_>) {
    if !has_option(command, "--revision") {
        about.warning(
            "compose_no_revision",
            "it names no revision of the model's files: their server decides which it gets",
        );
    }
    if has_option(command, "--trust-remote-code") {
        about.warning(
            "compose_trust_remote_code",
            "it runs code that comes with the model's files",
        );
    }
}

fn logs(service: &Service, role: Role, about: &mut About<'_>) {
    if let Some(driver) = &service.log_driver
        && !LOCAL_LOGS.contains(&driver.as_str())
    {
        let detail = format!("its output goes to the log driver {}", quoted(driver));
        about.warning("compose_log_driver", &detail);
    }
    let image = service.image_text();
    if role == Role::Helper && (image.contains("datadog/") || image.contains("opentelemetry")) {
        let detail = format!("{image} sends logs or metrics out of the machine");
        about.warning("compose_log_shipper", &detail);
    }
}

/// What a program on the prompt's way gets from outside the file.
fn inputs(inside: &Inside, service: &Service, about: &mut About<'_>) {
    let from = environment_variables(service);
    let (addresses, others): (Vec<&str>, Vec<&str>) =
        from.into_iter().partition(|name| is_address(name));
    for (severity, topic, names) in [
        (Severity::Warning, "compose_unmeasured_address", addresses),
        (Severity::Notice, "compose_unmeasured_environment", others),
    ] {
        if !names.is_empty() {
            let names = listed(names, SHOWN_NAMES);
            about.add(severity, topic, &format!("{OPERATOR} sets {names}"));
        }
    }
    env_file(service, "compose_env_file", about);
    if let Some(names) = filled_in(&service.command) {
        let detail = format!("{OPERATOR} fills {names} into its command");
        about.warning("compose_unmeasured_command", &detail);
    }
    for (name, address) in &service.hosts {
        let usual = name == "compose-manager" && address == "host-gateway";
        if !usual {
            // A helper may answer at the machine's own address.
            let severity = if inside.contains(name) {
                Severity::Danger
            } else {
                Severity::Warning
            };
            names_changed(severity, &format!("{name}:{address}"), about);
        }
    }
    for text in &service.dns {
        names_changed(Severity::Warning, text, about);
    }
    let values = service.environment.iter();
    let outside: BTreeSet<&str> = values
        .filter(|(name, _)| !ways::is_telemetry(name))
        .filter_map(|(_, value)| value.as_deref())
        .flat_map(|value| ways::outside(value, service, inside, &BTreeSet::new()))
        .take(MAX_HOSTS)
        .collect();
    if !outside.is_empty() {
        let detail = format!("its environment names {}", listed(outside, SHOWN_NAMES));
        about.notice("compose_outside_address", &detail);
    }
}

fn names_changed(severity: Severity, entry: &str, about: &mut About<'_>) {
    let detail = format!("its name resolution is changed: {}", quoted(entry));
    about.add(severity, "compose_names", &detail);
}

/// Environment files: neither the file nor its hash is measured.
pub(crate) fn env_file(service: &Service, topic: &'static str, about: &mut About<'_>) {
    if service.env_files {
        let detail = "its environment also comes from a file that no hash covers";
        about.warning(topic, detail);
    }
}

/// The variables in a text, for a message; `None` if there are none.
pub(crate) fn filled_in(text: &str) -> Option<String> {
    let names: BTreeSet<&str> = variables(text).into_iter().collect();
    (!names.is_empty()).then(|| listed(names, SHOWN_NAMES))
}

/// Places where prompts may go and no rule can tell.
pub(crate) fn of_way(inside: &Inside, way: &Way<'_>, findings: &mut Findings) {
    let Way {
        by, place, text, ..
    } = *way;
    let about = &mut findings.about(format!("service {}: {place}", quoted(&by.name)));
    for sent in way.sends(inside) {
        if sent.leads == Leads::Unknown {
            let detail = format!(
                "sends requests to {} ({}): no service of the file has that name",
                quoted(&sent.address),
                quoted(&sent.by)
            );
            about.danger("compose_unknown_address", &detail);
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
                about.add(severity, topic, &format!("says {}", quoted(&directive)));
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
                about.danger("compose_unpinned_program", &detail);
            }
            for address in way.telemetry() {
                telemetry(address, about);
            }
            if logs_prompts(text) {
                let detail = "logs requests, which include prompts";
                about.danger("compose_logs_prompts", detail);
            }
            Severity::Danger
        }
        Place::Variable(variable) if ways::is_telemetry(variable) => {
            let content = variable
                .to_ascii_uppercase()
                .contains("CAPTURE_MESSAGE_CONTENT");
            if content && text.eq_ignore_ascii_case("true") {
                about.danger("compose_logs_prompts", "puts prompts into telemetry");
            }
            if text.contains("://") {
                telemetry(text, about);
            }
            return;
        }
        // There is a finding about the whole environment, and one about each image
        // that is built.
        Place::Variable(_) | Place::Recipe => return,
    };
    let outside = ways::outside(text, by, inside, &groups);
    if !outside.is_empty() {
        let detail = format!("names {}", listed(outside, SHOWN_NAMES));
        about.add(severity, "compose_outside_address", &detail);
    }
}

fn telemetry(address: &str, about: &mut About<'_>) {
    let detail = format!("sends telemetry to {}", quoted(address));
    about.warning("compose_telemetry", &detail);
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
            // The model's files, and files that are made from them.
            let files = target.split('/').any(|part| MODEL_FOLDERS.contains(&part));
            let severity = if files {
                Severity::Warning
            } else {
                Severity::Danger
            };
            if let Some(helper) = helpers.writer(key) {
                let detail = format!(
                    "the helper {} ({}) can change its files at {}",
                    quoted(&helper.name),
                    helper.image_text(),
                    quoted(target)
                );
                let mut about = findings.about(format!("service {}:", quoted(&service.name)));
                about.add(severity, "compose_shared_volume", &detail);
            }
        }
    }
}

/// Configs that a variable fills in.
pub(crate) fn of_configs(document: &ComposeDocument, topic: &'static str, findings: &mut Findings) {
    for (name, content) in &document.configs {
        if let Some(names) = filled_in(content) {
            let mut about = findings.about(format!("config {}:", quoted(name)));
            about.warning(topic, &format!("{OPERATOR} fills in {names}"));
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
