//! What a reader should know of a file that keeps the rules.

use std::collections::BTreeSet;

use super::rules::Role;
use super::service::{Image, Service, environment_variables};
use super::{ComposeDocument, Mount, variables};
use crate::finding::{Findings, Severity};
use crate::text::{quoted, shown};

/// The names of a list that a message repeats.
const SHOWN_NAMES: usize = 12;

/// The hosts of one service that are looked at.
const MAX_HOSTS: usize = 100;

/// Log drivers whose logs stay in the machine.
const LOCAL_LOGS: &[&str] = &["json-file", "local", "journald", "none"];

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

pub(crate) fn of_service(
    inside: &BTreeSet<&str>,
    service: &Service,
    role: Role,
    findings: &mut Findings,
) {
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
    inside: &BTreeSet<&str>,
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
    for text in &service.names {
        if text.trim() != "compose-manager:host-gateway" {
            warn(
                Severity::Warning,
                "compose_names",
                format!("what names mean to it is changed: {}", quoted(text.trim())),
            );
        }
    }
    let values = service.environment.iter();
    let outside: BTreeSet<&str> = values
        .filter_map(|(_, value)| value.as_deref())
        .flat_map(hosts)
        .take(MAX_HOSTS)
        .filter(|host| !is_inside(inside, host))
        .collect();
    if !outside.is_empty() {
        warn(
            Severity::Notice,
            "compose_outside_address",
            format!("its environment names {}", listed(outside, SHOWN_NAMES)),
        );
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

/// The hosts of the `http` and `https` URLs in a text.
fn hosts(text: &str) -> impl Iterator<Item = &str> {
    text.split("://").skip(1).map(|rest| {
        let authority = rest
            .split(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | '"' | '\'' | '?' | '#'))
            .next()
            .unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        host.split(':').next().unwrap_or_default()
    })
}

fn is_inside(inside: &BTreeSet<&str>, host: &str) -> bool {
    host.is_empty()
        || host.contains('$')
        || matches!(
            host,
            "localhost" | "127.0.0.1" | "0.0.0.0" | "compose-manager"
        )
        || inside.contains(host)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|one| one == word)
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
    fn hosts_end_where_urls_say() {
        for (text, of) in [
            ("a.example", &[][..]),
            ("http://a.example", &["a.example"]),
            ("http://a.example/b?c", &["a.example"]),
            ("http://a.example?b/c", &["a.example"]),
            ("http://a.example b", &["a.example"]),
            ("http://a.example\nb", &["a.example"]),
            ("'http://a.example'#", &["a.example"]),
            ("https://u:p@a.example:1/b", &["a.example"]),
            ("http://a,https://b:2", &["a", "b"]),
            ("http://", &[""]),
        ] {
            assert_eq!(hosts(text).collect::<Vec<_>>(), of, "{text}");
        }
    }

    #[test]
    fn a_host_inside_is_known_by_its_name() {
        let inside = BTreeSet::from(["proxy"]);
        for host in [
            "",
            "${HOST}",
            "localhost",
            "127.0.0.1",
            "0.0.0.0",
            "compose-manager",
            "proxy",
        ] {
            assert!(is_inside(&inside, host), "{host}");
        }
        for host in ["a.example", "proxy.example", "Proxy", "127.0.0.2"] {
            assert!(!is_inside(&inside, host), "{host}");
        }
    }

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
