//! The edges of a compose file: the last value that is taken, and the first that
//! is not.

use attest::app_compose_findings;

use super::code;
use super::measured::quiet;
use crate::support::{QUOTES, QUOTES_FOR_THE_MOST, cost, cost_of_a_quote};

/// One helper, in 10 nodes.
const FILE: &str = "services: {a: {image: alpine}}\n";

const COMPLEX: &str = "evidence_compose_too_complex";

#[test]
fn a_file_of_256_kib_is_read_and_one_byte_more_is_not() {
    for (len, expected) in [
        (256 << 10, "accepted"),
        ((256 << 10) + 1, "evidence_compose_too_large"),
        (300 << 10, "evidence_compose_too_large"),
    ] {
        let comment = "x".repeat(len - FILE.len() - 2);
        assert_eq!(code(&format!("{FILE}#{comment}\n")), expected, "{len}");
    }
}

#[test]
fn a_file_of_6000_nodes_is_read_and_one_more_is_not() {
    for (nodes, expected) in [(6_000, "accepted"), (6_001, COMPLEX), (6_100, COMPLEX)] {
        // A key, and a list's start and end.
        let items = "1,".repeat(nodes - 10 - 3);
        assert_eq!(
            code(&format!("{FILE}x-a: [{items}]\n")),
            expected,
            "{nodes}"
        );
    }
}

/// A text of some length four times: once as written, and by three aliases.
#[test]
fn a_file_that_expands_to_512_kib_is_read_and_one_byte_more_is_not() {
    // A node weighs 16, and each byte of keys and texts one.
    let file = 16 + 8 + (16 + 1 + (16 + 5 + (16 + 6)));
    for (key, expected) in [("x-b", "accepted"), ("x-bc", COMPLEX)] {
        let others = file + 5 + 3 + 16;
        let len = ((512 << 10) - others - 4 * 16) / 4;
        let text = format!("{FILE}x-aaa: &a {}\n{key}: [*a, *a, *a]\n", "t".repeat(len));
        assert_eq!(others + 4 * (16 + len), 512 << 10);
        assert_eq!(code(&text), expected, "{key}");
    }
}

#[test]
fn a_file_of_1000_dependencies_is_read_and_one_more_is_not() {
    for (count, expected) in [(1_000, "accepted"), (1_001, COMPLEX), (1_100, COMPLEX)] {
        let names: String = (0..count).map(|n| format!("a{n},")).collect();
        let file = format!("services: {{a: {{image: alpine, depends_on: [{names}]}}}}\n");
        assert_eq!(code(&file), expected, "{count}");
    }
}

#[test]
fn a_file_of_32_levels_is_read_and_one_more_is_not() {
    // Within the document's own mapping.
    for (depth, expected) in [(31, "accepted"), (32, COMPLEX)] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(code(&format!("{FILE}x-a: {deep}\n")), expected, "{depth}");
    }
}

#[test]
fn a_description_of_512_kib_is_read_and_one_byte_more_is_not() {
    for (len, read) in [
        (512 << 10, true),
        ((512 << 10) + 1, false),
        (600 << 10, false),
    ] {
        let mut text = quiet().to_string();
        text += &" ".repeat(len - text.len());
        let findings = app_compose_findings(&text);
        let topics: Vec<_> = findings.iter().map(|finding| finding.topic).collect();
        let expected = if read {
            "app_image_pinned"
        } else {
            "app_compose_unreadable"
        };
        assert_eq!(topics, [expected], "{len}");
    }
}

/// What a file may cost: as much as reading so many times a file of 512 KiB in which
/// there is nothing to find. Variables of nginx cost the most, 3.4 times, optimised.
const TIMES: u32 = 5;

#[test]
fn hostile_files_cost_no_more_than_others_of_their_size() {
    let quote = cost_of_a_quote();
    let engine = format!("image: \"vllm/vllm-openai@{}\"", super::digest('a'));
    let many =
        |count: usize, unit: &dyn Fn(usize) -> String| -> String { (0..count).map(unit).collect() };
    let of_engine = |settings: &str, helpers: &str| {
        format!("services:\n  e: {{{engine}, {settings}}}\n{helpers}")
    };
    let helper = |name: &str| format!("  \"{name}\": {{image: alpine}}\n");
    let front = |config: &str| {
        let image = format!("image: \"nginx@{}\"", super::digest('a'));
        format!(
            "services: {{e: {{{image}, configs: [c]}}}}\nconfigs: {{c: {{content: '{config}'}}}}\n"
        )
    };
    let plain = {
        let words = format!("x-w: &w \"{}\"\n", "a ".repeat(60_000));
        words + &of_engine("command: [*w, *w, *w]", &helper("h"))
    };
    assert_eq!(code(&plain), "accepted");
    let plain = cost(|| assert_eq!(code(&plain), "accepted"));
    let long = "-a".repeat(50_000);
    let dashes = "-".repeat(62);
    for (what, text) in [
        (
            "a helper's name of 100 KB, against three words as long",
            format!(
                "x-w: &w \"w{long}-1\"\n{}",
                of_engine(
                    "command: [*w, *w, *w]",
                    &format!("  h: {{image: alpine, container_name: \"{long}\"}}\n")
                )
            ),
        ),
        (
            "many names against many words",
            of_engine(
                &format!("command: \"{}\"", format!("{dashes}1 ").repeat(2_000)),
                &many(900, &|n| helper(&format!("{}{n}", "-".repeat(n % 60)))),
            ),
        ),
        (
            "many addresses against many names",
            of_engine(
                &format!(
                    "extra_hosts: [{}], environment: {{VLLM_URLS: \"{}\"}}",
                    many(2_000, &|n| format!("\"h{n}:127.0.0.1\",")),
                    many(8_000, &|n| format!("http://h{n},")),
                ),
                "",
            ),
        ),
        (
            "many values of a variable of nginx, used often",
            front(&(many(7_000, &|n| format!("set $$a a{n};")) + &"proxy_pass $$a;".repeat(7_000))),
        ),
        (
            "many groups of servers, used often",
            front(&many(4_000, &|n| {
                format!("upstream a{n} {{}} proxy_pass http://a{n};")
            })),
        ),
        (
            "many volumes, shared by many",
            format!(
                "x-v: &v [{}]\nservices:\n{}{}",
                many(100, &|n| format!("\"v{n}:/v\",")),
                many(90, &|n| format!("  e{n}: {{{engine}, volumes: *v}}\n")),
                many(90, &|n| format!("  h{n}: {{image: alpine, volumes: *v}}\n")),
            ),
        ),
    ] {
        assert!(code(&text) == "accepted", "{what}: {}", code(&text));
        let took = cost(|| assert_eq!(code(&text), "accepted"));
        let costs = format!("{what}: {took:?}, plain {plain:?}, quote {quote:?}");
        println!("{costs}");
        // The plain file alone costs as much as three quotes.
        let quotes = match what {
            "a helper's name of 100 KB, against three words as long" => QUOTES,
            _ => QUOTES_FOR_THE_MOST,
        };
        assert!(took < plain * TIMES && took < quote * quotes, "{costs}");
    }
}
