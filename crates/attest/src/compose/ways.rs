//! The settings that tell programs on the prompt's way where to send requests ("ways"),
//! and whether those addresses are outside of the machine.
//!
//! A helper's name is searched for in all of them. An address is judged only where it
//! is known that requests go to it; elsewhere it may mean anything, and is a finding.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::fmt;

use super::rules::{FileRules, Helpers, Role};
use super::service::Service;
use super::{ComposeDocument, nginx};
use crate::base::text::quoted;

/// The longest name that can be resolved: a label of the DNS (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// Options of vLLM and sglang, and how sglang once spelled it.
const TRACES: &[&str] = &["--otlp-traces-endpoint", "--oltp-traces-endpoint"];

/// A text that may name where prompts go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) by: &'a Service,
    /// It runs an engine.
    engine: bool,
    pub(super) place: Place<'a>,
    pub(super) text: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// A config or secret that it mounts.
    Config(&'a str),
    /// Entry point, command and health check.
    Command,
    /// The recipe that its image is built by.
    Recipe,
    /// A variable of its environment.
    Variable(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(name) => write!(f, "its config {}", quoted(name)),
            Self::Command => f.write_str("its command"),
            Self::Recipe => f.write_str("the recipe of its image"),
            Self::Variable(name) => write!(f, "its variable {}", quoted(name)),
        }
    }
}

/// The ways of some services. A config that many services mount is read once.
pub(super) fn of<'a>(
    document: &'a ComposeDocument,
    services: impl IntoIterator<Item = &'a Service>,
    rules: &FileRules,
) -> Vec<Way<'a>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for by in services {
        let engine = matches!(rules.role(by), Role::Engine | Role::Built);
        let mut add = |place, text| {
            all.push(Way {
                by,
                engine,
                place,
                text,
            });
        };
        for name in &by.configs {
            if let Some(content) = document.configs.get(name)
                && seen.insert(name)
            {
                add(Place::Config(name), content);
            }
        }
        add(Place::Command, &by.command);
        if let Some(build) = &by.build {
            add(Place::Recipe, &build.recipe);
        }
        for (name, value) in &by.environment {
            if let Some(value) = value {
                add(Place::Variable(name), value);
            }
        }
    }
    all
}

/// Where a way leads to.
#[derive(Debug)]
pub(super) struct Sent {
    /// The directive or variable that says so.
    pub(super) by: String,
    pub(super) address: String,
    pub(super) leads: Leads,
}

impl<'a> Way<'a> {
    /// A helper that is named there. Telemetry may go to one: that is a finding.
    pub(super) fn helper(&self, helpers: &Helpers<'a>) -> Option<&'a Service> {
        match self.place {
            Place::Variable(name) if is_telemetry(name) || lower(name) == "no_proxy" => None,
            Place::Command if self.traces() => {
                let words = self.command().into_iter();
                let mut words = words.filter(|(_, telemetry)| !telemetry);
                words.find_map(|(word, _)| named_in(word, helpers))
            }
            _ => named_in(self.text, helpers),
        }
    }

    /// Whether it names where traces go; most commands do not.
    fn traces(&self) -> bool {
        self.engine && TRACES.iter().any(|option| self.text.contains(option))
    }

    /// The words of a command, and whether each is where an engine sends traces, in
    /// which there are no prompts.
    fn command(&self) -> Vec<(&'a str, bool)> {
        let in_address = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
        let mut traces = false;
        let words = self.text.split_whitespace();
        words
            .map(|word| {
                let telemetry = traces && word.chars().all(in_address);
                traces = TRACES.contains(&word);
                (word, telemetry)
            })
            .collect()
    }

    /// Where an engine's command sends traces.
    pub(super) fn telemetry(&self) -> BTreeSet<&'a str> {
        if !self.traces() {
            return BTreeSet::new();
        }
        let words = self.command().into_iter();
        words
            .filter_map(|(word, telemetry)| telemetry.then_some(word))
            .collect()
    }

    /// The addresses to which it sends requests.
    pub(super) fn sends(&self, inside: &Inside) -> Vec<Sent> {
        let none = BTreeSet::new();
        let sent = |groups: &BTreeSet<String>, by: &str, address: &str| Sent {
            by: by.to_owned(),
            address: address.to_owned(),
            leads: inside.leads(address, self.by, groups),
        };
        match self.place {
            Place::Config(_) => {
                let config = nginx::read(self.text);
                let sends = config.sends.iter();
                let sends = sends.map(|(by, address)| sent(&config.groups, by, address));
                // To its own host by another scheme is usual.
                let redirects = config
                    .redirects
                    .iter()
                    .map(|(by, url)| sent(&none, by, url));
                let redirects = redirects.filter(|sent| sent.leads == Leads::Outside);
                sends.chain(redirects).collect()
            }
            Place::Command | Place::Recipe if !self.text.contains("_pass") => Vec::new(),
            Place::Command | Place::Recipe => {
                let mut all = Vec::new();
                let mut words = words(self.text);
                while let Some(word) = words.next() {
                    if nginx::PASSES.contains(&word) {
                        all.push(sent(&none, word, words.next().unwrap_or_default()));
                    }
                }
                all
            }
            Place::Variable(name) if is_proxy(name) || sends_prompts(name) => {
                let bare = is_proxy(name) || is_place(name);
                let all = self.text.split(|c: char| c == ',' || c.is_whitespace());
                all.filter(|one| one.contains("://") || (bare && !one.is_empty()))
                    .map(|one| sent(&none, name, one))
                    .collect()
            }
            Place::Variable(_) => Vec::new(),
        }
    }
}

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leads {
    Inside,
    Outside,
    /// A variable decides, or the DNS server for names that no service has.
    Unknown,
}

/// The names of programs on the prompt's way, in lower case.
pub(super) struct Inside(BTreeSet<String>);

impl Inside {
    pub(super) fn of(document: &ComposeDocument, rules: &FileRules) -> Self {
        let services = document.services.iter();
        let services = services.filter(|service| !rules.role(service).is_helper());
        Self(
            services
                .flat_map(Service::names_inside)
                .map(lower)
                .collect(),
        )
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&lower(name))
    }

    /// Where an address leads that a service uses. `groups` are the names of nginx's
    /// groups of servers.
    pub(super) fn leads(&self, address: &str, by: &Service, groups: &BTreeSet<String>) -> Leads {
        if address.starts_with("unix:") {
            return Leads::Inside;
        }
        // Some readers end the host there, others go on to an `@`.
        if address.contains('\\') {
            return Leads::Outside;
        }
        // nginx's paths begin with a slash.
        let paths = ["$request_uri", "$uri"];
        let address = paths.iter().fold(address, |address, path| {
            address.split(path).next().unwrap_or_default()
        });
        let host = host(address);
        let host = match host.split_once('$') {
            // `http://a.example$x`, and not `http://api.$host`.
            Some((known, _)) if known.contains('.') && !known.ends_with('.') => known,
            _ => host,
        };
        let host = lower(host.trim_end_matches('.'));
        if let Some(at) = by.hosts.get(&host) {
            return if is_here(at) {
                Leads::Inside
            } else {
                Leads::Outside
            };
        }
        if host.is_empty() || is_here(&host) || groups.contains(&host) || self.0.contains(&host) {
            return Leads::Inside;
        }
        if host.contains('$') {
            return Leads::Unknown;
        }
        // `<service>.<network>`, and no top level has an underscore.
        if let Some((name, network)) = host.split_once('.')
            && self.0.contains(name)
            && network.contains('_')
            && !network.contains('.')
        {
            return Leads::Inside;
        }
        // A number is an IPv4 address as well.
        let numeric = host.starts_with(|c: char| c.is_ascii_digit())
            && host.chars().all(|c| c.is_ascii_hexdigit() || c == 'x');
        if host.contains(['.', ':', '%']) || numeric {
            return Leads::Outside;
        }
        Leads::Unknown
    }
}

/// The addresses in a text that are outside of the machine: hosts of URLs, and IPv4
/// addresses.
pub(super) fn outside<'a>(
    text: &'a str,
    by: &Service,
    inside: &Inside,
    groups: &BTreeSet<String>,
) -> BTreeSet<&'a str> {
    let urls = text.split("://").skip(1).map(host);
    let numbers = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|word| word.len() > 6 && word.parse::<Ipv4Addr>().is_ok());
    urls.chain(numbers)
        .filter(|host| !host.contains('$'))
        .filter(|host| inside.leads(host, by, groups) != Leads::Inside)
        .collect()
}

/// The host of an address, with or without a scheme.
pub(super) fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let ends = |c: char| {
        c.is_whitespace() || matches!(c, '/' | ',' | '"' | '\'' | '?' | '#' | '}' | ';' | ')')
    };
    let authority = rest.split(ends).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// The machine itself, and the manager that the measured application starts.
pub(super) fn is_here(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => matches!(host, "localhost" | "compose-manager" | "host-gateway"),
    }
}

/// The words of a shell's text, whatever quotes are around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '{' | '}');
    text.split(ends).filter(|word| !word.is_empty())
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Variables that many programs use for all their requests (proxies).
fn is_proxy(name: &str) -> bool {
    let name = lower(name);
    name.ends_with("_proxy") && name != "no_proxy"
}

/// Variables that tell proxies and engines of each other.
fn sends_prompts(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["VLLM_", "SGLANG_", "OPENAI_"]
        .iter()
        .any(|start| name.starts_with(start))
        || name.contains("BACKEND")
        || name.contains("UPSTREAM")
}

/// Names of variables whose values are addresses.
fn is_place(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let one = name.strip_suffix('S').unwrap_or(&name);
    [
        "URL", "URI", "ENDPOINT", "ADDR", "ADDRES", "ADDRESSE", "_HOST",
    ]
    .iter()
    .any(|end| one.ends_with(end))
}

/// Variables that name where traces, metrics and logs go.
pub(super) fn is_telemetry(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.starts_with("OTEL_") || name.starts_with("DD_")
}

fn named_in<'a>(text: &str, names: &Helpers<'a>) -> Option<&'a Service> {
    if names.is_empty() {
        return None;
    }
    let text = lower(text);
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut words = text.split(|c| !inside(c)).filter(|word| !word.is_empty());
    words.find_map(|word| {
        let of_container = || of_container(word).find_map(|name| names.named(name));
        names.named(word).or_else(of_container)
    })
}

/// The services that a container without a name of its own may be of: Compose
/// calls it `<project>-<service>-<number>`, and once wrote `_`.
fn of_container(word: &str) -> impl Iterator<Item = &str> {
    let can_be_asked_for = word.len() <= MAX_LABEL;
    let without_number = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let service = without_number.strip_suffix(['-', '_']);
    let service = service.filter(|_| can_be_asked_for && without_number != word);
    let service = service.unwrap_or_default();
    let dashes = service.match_indices(['-', '_']);
    dashes.filter_map(|(at, _)| service.get(at..)?.get(1..))
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
            let hosts: Vec<_> = text.split("://").skip(1).map(host).collect();
            assert_eq!(hosts, of, "{text}");
        }
    }

    #[test]
    fn an_address_leads_where_its_host_is() {
        use Leads::{Inside as In, Outside as Out, Unknown};
        let inside = Inside(BTreeSet::from(["proxy".to_owned(), "qwen3.5".to_owned()]));
        let hosts = [("pinned", "192.0.2.1"), ("gate", "host-gateway")];
        let by = Service {
            hosts: hosts
                .map(|(name, at)| (name.to_owned(), at.to_owned()))
                .into(),
            ..Service::default()
        };
        for (address, leads) in [
            ("", In),
            ("proxy", In),
            ("Proxy:8000", In),
            ("http://proxy:8000/v1", In),
            ("http://proxy.:8000", In),
            ("http://qwen3.5:8000", In),
            ("http://proxy.dstack_default:8000", In),
            ("http://group", In),
            ("http://localhost:1", In),
            ("127.0.0.2:1", In),
            ("0.0.0.0", In),
            ("http://[::1]:1", In),
            ("http://compose-manager:8080", In),
            ("unix:/run/a.sock:/b", In),
            ("gate:1", In),
            ("/path", In),
            ("http://other:8000", Unknown),
            ("http://$host", Unknown),
            ("http://$host$request_uri", Unknown),
            ("http://api.$host", Unknown),
            ("http://other$x", Unknown),
            ("http://proxy$request_uri", In),
            ("http://evil.example$uri", Out),
            ("http://evil.example$x", Out),
            ("${URL:-x}", Unknown),
            ("http://evil.example", Out),
            ("evil.example:443", Out),
            ("http://proxy.example", Out),
            ("http://proxy.evil_x.example", Out),
            ("http://evil.dstack_default", Out),
            ("http://proxy:8000@evil.example/", Out),
            ("http://evil.example\\@proxy", Out),
            ("http://proxy\\@evil.example", Out),
            ("${URL:-http://evil.example}", Out),
            ("192.0.2.1:80", Out),
            ("http://3221225985", Out),
            ("http://0xc0000201", Out),
            ("http://[2001:db8::1]:1", Out),
            ("http://[::ffff:192.0.2.1]", Out),
            ("pinned:80", Out),
        ] {
            let groups = BTreeSet::from(["group".to_owned()]);
            assert_eq!(inside.leads(address, &by, &groups), leads, "{address}");
        }
    }

    #[test]
    fn a_container_is_found_by_its_service_and_number() {
        for (word, services) in [
            ("work-a-1", &["a"][..]),
            ("work_a_12", &["a"]),
            ("work-a-b-1", &["a-b", "b"]),
            ("work-a", &[]),
            ("1", &[]),
            ("-1", &[]),
        ] {
            assert_eq!(of_container(word).collect::<Vec<_>>(), services, "{word}");
        }
        let of_len = |len: usize| format!("w-a-{}", "1".repeat(len - 4));
        assert_eq!(of_container(&of_len(63)).count(), 1);
        assert_eq!(of_container(&of_len(64)).count(), 0);
    }
}
