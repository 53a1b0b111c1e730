//! Where a configuration of nginx sends requests.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

/// Directives that send a request to the address behind them.
pub(super) const PASSES: &[&str] = &[
    "fastcgi_pass",
    "grpc_pass",
    "memcached_pass",
    "proxy_pass",
    "scgi_pass",
    "uwsgi_pass",
];

/// A directive, its arguments, and the blocks around it.
struct Statement {
    name: String,
    values: Vec<String>,
    block: Option<usize>,
}

/// What a configuration does with requests; texts as the file has them.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// Directive and address to which nginx sends requests.
    pub(super) sends: Vec<(String, String)>,
    /// Directive and address to which nginx redirects clients.
    pub(super) redirects: Vec<(String, String)>,
    /// Groups of servers (`upstream`), by the name that is used as an address.
    pub(super) groups: BTreeSet<String>,
    /// A finding's topic, and the directive that it is about.
    pub(super) remarks: Vec<(&'static str, String)>,
}

/// Reads a text that Compose fills variables into: `$$` is a dollar.
pub(super) fn read(text: &str) -> Config {
    let statements = statements(&text.replace("$$", "$"));
    let blocks: Vec<_> = statements
        .iter()
        .map(|one| (one, one.block.and_then(|at| statements.get(at))))
        .collect();
    let mut variables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (Statement { name, values, .. }, block) in &blocks {
        let (variable, value) = match block {
            _ if name == "set" => (values.first(), values.get(1)),
            // By another variable: `map $a $b { x 1; y 2; }`.
            Some(map) if ["map", "geo", "split_clients"].contains(&map.name.as_str()) => {
                (map.values.last(), values.last())
            }
            _ => continue,
        };
        if let (Some(variable), Some(value)) = (variable, value) {
            variables.entry(variable).or_default().insert(value);
        }
    }
    let mut config = Config::default();
    for (Statement { name, values, .. }, block) in &blocks {
        let first = values.first().map(String::as_str).unwrap_or_default();
        let said = || format!("{name} {}", values.join(" "));
        match name.as_str() {
            pass if PASSES.contains(&pass) => {
                // The values of a variable count once, however many directives use it.
                match variables
                    .get_mut(variable(first).as_str())
                    .map(std::mem::take)
                {
                    Some(known) => {
                        let known = known.into_iter().map(str::to_owned);
                        config
                            .sends
                            .extend(known.map(|value| (name.clone(), value)));
                    }
                    None => config.sends.push((name.clone(), first.to_owned())),
                }
            }
            "server" if block.is_some_and(|block| block.name == "upstream") => {
                config.sends.push((name.clone(), first.to_owned()));
            }
            "upstream" => drop(config.groups.insert(first.to_ascii_lowercase())),
            "error_page" | "return" | "rewrite" => {
                let urls = values.iter().filter(|value| value.contains("://"));
                let urls = urls.map(|url| (name.clone(), url.clone()));
                config.redirects.extend(urls);
            }
            "log_format" if values.iter().any(|value| value.contains("$request_body")) => {
                config.remarks.push(("compose_logs_prompts", said()));
            }
            "access_log" | "error_log" if first.starts_with("syslog:") => {
                config.remarks.push(("compose_log_driver", said()));
            }
            "mirror" if first != "off" => config.remarks.push(("compose_mirror", said())),
            "resolver" => config.remarks.push(("compose_names", said())),
            "include" if !is_of_the_image(first) => {
                config.remarks.push(("compose_front_code", said()));
            }
            code if is_code(code) => config.remarks.push(("compose_front_code", said())),
            _ => {}
        }
    }
    config
}

/// The variable that an address's host is, if it is one: `$a` of `http://${a}:80`.
fn variable(address: &str) -> String {
    let host = address.rsplit("://").next().unwrap_or_default();
    let host = host.split([':', '/', '?']).next().unwrap_or_default();
    host.replace(['{', '}'], "")
}

/// Files that come with the image or as a config of the file.
fn is_of_the_image(path: &str) -> bool {
    let inside = path.strip_prefix("/etc/nginx/").unwrap_or(path);
    !inside.starts_with('/') && !inside.contains("..")
}

/// Directives by which nginx runs code that is not its own.
fn is_code(directive: &str) -> bool {
    directive == "load_module"
        || directive.starts_with("js_")
        || directive.starts_with("perl")
        || directive.contains("_by_lua")
}

/// Reads as nginx does (`ngx_conf_read_token`).
fn statements(text: &str) -> Vec<Statement> {
    let mut all: Vec<Statement> = Vec::new();
    let mut blocks: Vec<usize> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' | '{' | '}' => {
                let at = all.len();
                let mut of = std::mem::take(&mut words).into_iter();
                all.extend(of.next().map(|name| Statement {
                    name,
                    values: of.collect(),
                    block: blocks.last().copied(),
                }));
                match c {
                    '{' => blocks.push(at),
                    '}' => drop(blocks.pop()),
                    _ => {}
                }
            }
            first => words.push(word(first, &mut chars)),
        }
    }
    all
}

/// A word. Quotes count only at its beginning. `{` ends it, except in `${`.
fn word(first: char, rest: &mut Peekable<Chars<'_>>) -> String {
    let quote = matches!(first, '"' | '\'').then_some(first);
    let mut word = String::new();
    let mut next = if quote.is_some() {
        rest.next()
    } else {
        Some(first)
    };
    while let Some(c) = next {
        if quote == Some(c) {
            break;
        }
        let c = if c == '\\' {
            rest.next().unwrap_or(c)
        } else {
            c
        };
        word.push(c);
        next = match quote {
            Some(_) => rest.next(),
            None => rest.next_if(|next| match next {
                ' ' | '\t' | '\r' | '\n' | ';' => false,
                '{' => c == '$',
                _ => true,
            }),
        };
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(text: &str) -> Vec<String> {
        let config = read(text);
        let all = config.sends.into_iter();
        all.map(|(directive, address)| format!("{directive} {address}"))
            .collect()
    }

    #[test]
    fn addresses_are_found_as_nginx_reads_them() {
        for (text, expected) in [
            ("proxy_pass http://a;", &["proxy_pass http://a"][..]),
            ("proxy_pass\n  'http://a'  ;", &["proxy_pass http://a"]),
            ("\"proxy_pass\" \"http://a\";", &["proxy_pass http://a"]),
            ("pro\\xy_pass http://a;", &["proxy_pass http://a"]),
            ("x { grpc_pass a:1; }", &["grpc_pass a:1"]),
            // A comment begins only where a word can begin, and never inside of quotes.
            ("# proxy_pass http://a;", &[]),
            ("x a#; proxy_pass http://a;", &["proxy_pass http://a"]),
            (
                "x \"a # b\"; proxy_pass http://a;",
                &["proxy_pass http://a"],
            ),
            (
                "x it's; proxy_pass http://a; y it's;",
                &["proxy_pass http://a"],
            ),
            ("x 'proxy_pass http://a;';", &[]),
            ("x \"\\\"; proxy_pass http://a;\";", &[]),
            // A server of a group, and not a `server` block.
            ("upstream u { server a:1 weight=2; }", &["server a:1"]),
            ("server { server_name a; }", &[]),
            // By variables.
            ("set $$b c; proxy_pass http://$$b:1;", &["proxy_pass c"]),
            ("set $$b c; proxy_pass ${b};", &["proxy_pass c"]),
            (
                "map $$a $$b { x c; default d; } proxy_pass $$b;",
                &["proxy_pass c", "proxy_pass d"],
            ),
            ("proxy_pass http://$$b;", &["proxy_pass http://$b"]),
            ("proxy_pass_header X; proxy_pass_request_body off;", &[]),
        ] {
            assert_eq!(sends(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_configuration_end() {
        for text in [
            "",
            "}",
            "}}{{",
            "{;}",
            "\"",
            "a \\",
            "${",
            "a ${",
            "#",
            "upstream {",
        ] {
            assert_eq!(sends(text), [""; 0], "{text}");
        }
    }
}
