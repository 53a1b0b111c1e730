//! `verified-proxy image list`: the images that this program knows.

use std::process::ExitCode;

use attest::image::{KnownImage, Weakness, known, known_advisories};
use attest::{Policy, Severity, UnixTime};
use serde_json::{Value, json};
use sources::clock::Clock;

use super::NO_PROOF;
use crate::cli::print;
use crate::cli::read_files::{self, Failure};

/// List the OS images that this program knows, and which of them a policy accepts
///
/// Exit codes: 0 listed, 2 wrong usage, 3 the policy could not be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy: "near", "near-strict", "hardware" or a TOML file
    #[arg(
        long,
        value_name = "near|near-strict|hardware|FILE",
        default_value = "near"
    )]
    policy: String,

    /// Print them as JSON, with whole hashes and registers
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let policy = read_files::policy(&args.policy, &[])?;
    let now = Clock::system().now();
    print(&if args.json {
        as_json(&policy, now)
    } else {
        as_text(&policy, now)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of an image's registers, in a word or two.
fn registers(image: &KnownImage) -> &'static str {
    match (image.registers.is_some(), image.seen_on_hardware()) {
        (_, true) => "known, seen",
        (true, false) => "known",
        (false, false) => "-",
    }
}

fn decision(image: &KnownImage, policy: &Policy, now: UnixTime) -> &'static str {
    if policy.names_image(image, now) {
        "accepted"
    } else if image.refuse.is_some() {
        "refuse"
    } else if image.dev {
        "development"
    } else if image.prerelease {
        "candidate"
    } else {
        "-"
    }
}

/// How many weaknesses an image has, by severity, the worst first; then those of which
/// its release does not state whether they are fixed.
fn weaknesses(image: &KnownImage) -> String {
    let count = |wanted: Option<Severity>| {
        let weaknesses = image.weaknesses();
        let wanted = weaknesses.filter(|(advisory, weakness)| match wanted {
            Some(severity) => *weakness == Weakness::Open && advisory.severity == severity,
            None => *weakness == Weakness::NotStated,
        });
        wanted.count()
    };
    let severities = Severity::ALL.into_iter().rev();
    let words: Vec<_> = severities
        .map(|severity| (count(Some(severity)), severity.as_str()))
        .chain([(count(None), "not stated")])
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if words.is_empty() {
        "none known".to_owned()
    } else {
        words.join(", ")
    }
}

fn as_text(policy: &Policy, now: UnixTime) -> String {
    let mut text = format!(
        "{:25} {:10}  {:12}  {:11}  {:11}  {}\n",
        "IMAGE", "RELEASED", "HASH", "REGISTERS", "POLICY", "WEAKNESSES"
    );
    for image in known() {
        let released = image.released.map(|day| day.to_string());
        let hash = image.os_image_hash.map(hex::encode);
        let hash = hash.as_deref().and_then(|hash| hash.get(..12));
        line!(
            text,
            "{:25} {:10}  {:12}  {:11}  {:11}  {}",
            image.name,
            released.as_deref().unwrap_or("-"),
            hash.unwrap_or("-"),
            registers(image),
            decision(image, policy, now),
            weaknesses(image),
        );
    }
    line!(
        text,
        "\nPOLICY: \"accepted\" by \"{}\" of {}; \"refuse\" for an image that nobody should accept:",
        policy.name(),
        policy.date()
    );
    for image in known() {
        if let Some(why) = &image.refuse {
            line!(text, "  {}: {why}", image.name);
        }
    }
    text.push_str(
        "\nREGISTERS: \"seen\" if quotes of NEAR AI's machines under Intel's root had them.\n",
    );
    text.push_str("\nWEAKNESSES, if prompts have to be secret from the machine's owner:\n");
    let mut advisories: Vec<_> = known_advisories().iter().collect();
    advisories.sort_by_key(|advisory| std::cmp::Reverse(advisory.severity));
    for advisory in advisories {
        line!(
            text,
            "  {} ({}): {}; {}",
            advisory.id,
            advisory.severity,
            advisory.what,
            advisory.fixed()
        );
    }
    line!(
        text,
        "\n{NO_PROOF}. The JSON (--json) says which parties confirm each hash."
    );
    text
}

fn as_json(policy: &Policy, now: UnixTime) -> String {
    let images = known().iter().map(|image| {
        let mut weaknesses: Vec<_> = image.weaknesses().collect();
        weaknesses.sort_by_key(|(advisory, _)| std::cmp::Reverse(advisory.severity));
        let weaknesses = weaknesses.into_iter().map(|(advisory, weakness)| {
            json!({
                "id": advisory.id,
                "severity": advisory.severity,
                "open": match weakness {
                    Weakness::Open => Value::Bool(true),
                    Weakness::NotStated => Value::Null,
                    Weakness::Closed => Value::Bool(false),
                },
            })
        });
        json!({
            "name": image.name,
            "version": image.version,
            "released": image.released,
            "dev": image.dev,
            "prerelease": image.prerelease,
            "refuse": image.refuse,
            "accepted": policy.names_image(image, now),
            "os_image_hash": image.os_image_hash.map(hex::encode),
            "registers": image.registers.map(|own| json!({
                "mrtd": hex::encode(own.mrtd),
                "mrtd_two_pass": own.mrtd_two_pass.map(hex::encode),
                "rtmr1": hex::encode(own.rtmr1),
                "rtmr2": hex::encode(own.rtmr2),
            })),
            "seen_on_hardware": image.seen_on_hardware(),
            "mrtd_published": image.mrtd_published.map(hex::encode),
            "ovmf_variant": image.ovmf_variant,
            "kernel_header_normalized": image.kernel_header_normalized,
            "confirmed_by": image.confirmed_by,
            "advisories": weaknesses.collect::<Vec<_>>(),
        })
    });
    let advisories = known_advisories().iter().map(|advisory| {
        json!({
            "id": advisory.id,
            "severity": advisory.severity,
            "what": advisory.what,
            "fixed": advisory.fixed(),
        })
    });
    let json = json!({
        "policy": { "name": policy.name(), "date": policy.date() },
        "images": images.collect::<Vec<_>>(),
        "advisories": advisories.collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}
