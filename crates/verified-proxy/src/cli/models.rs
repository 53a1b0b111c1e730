//! `verified-proxy models`: the endpoint list's models and their domains.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use attest::UnixTime;
use proxy::examine::Examiner;
use proxy::respond::Failure as Unserved;
use serde_json::json;
use sources::endpoints::EndpointList;

use super::LAST_WORDS;
use super::options::Shared;
use super::print;
use super::read_files::Failure;
use super::verify::unserved;

/// List the models of the endpoint list, and the domains that serve them
///
/// If the list cannot be fetched, the one on disk is shown, and stderr says so. Exit codes: 0
/// listed, 2 wrong usage, 3 there is no list.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Print them as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    shared: Shared,
}

pub(super) fn main(args: Args) -> Result<ExitCode, Failure> {
    args.shared.logs.init();
    let json = args.json;
    let (examiner, runtime) = args.shared.examiner()?;
    let found = runtime.block_on(newest(&examiner));
    runtime.shutdown_timeout(LAST_WORDS);
    let (list, since) = found?;
    print(&if json {
        as_json(&list, since)
    } else {
        as_text(&list)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The list, and when it was fetched if that was not just now.
async fn newest(examiner: &Examiner) -> Result<(Arc<EndpointList>, Option<UnixTime>), Failure> {
    let error = match examiner.endpoints.renewed().await {
        Ok(list) => return Ok((list, None)),
        Err(error) => error,
    };
    match examiner.endpoints.kept() {
        Some((list, since)) => {
            let _ = writeln!(
                std::io::stderr(),
                "note: this is the list of {since}, from disk; a newer one cannot be fetched: {error}"
            );
            Ok((list, Some(since)))
        }
        None => Err(unserved(Unserved::Endpoints(error))),
    }
}

/// The most columns for a model; real names have about thirty. A longer name shifts its own
/// domains only: otherwise a name as long as a list may be would pad every line.
const MAX_WIDTH: usize = 60;

/// A model a line, then its domains.
fn as_text(list: &EndpointList) -> String {
    let width = list.models().map(str::len).max().unwrap_or_default();
    let width = width.min(MAX_WIDTH);
    list.models().fold(String::new(), |mut text, model| {
        let domains: Vec<_> = list.domains_of(model).collect();
        line!(text, "{model:width$}  {}", domains.join(" "));
        text
    })
}

fn as_json(list: &EndpointList, since: Option<UnixTime>) -> String {
    let models = list.models().map(|model| {
        let domains: Vec<_> = list.domains_of(model).collect();
        json!({ "model": model, "domains": domains })
    });
    let json = json!({
        "source": if since.is_some() { "disk" } else { "fetched" },
        "fetched_at": since.map(|since| since.to_string()),
        "models": models.collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::config::{AllowList, Config};

    /// A list has a megabyte; one long name must not make each line as long.
    #[test]
    fn a_long_name_does_not_pad_the_others() {
        let short: Vec<_> = (0..1_000).map(|number| format!("m{number}")).collect();
        let models: Vec<_> = short.into_iter().chain(["x".repeat(100_000)]).collect();
        let list =
            json!({ "endpoints": [{ "domain": "a.completions.near.ai", "models": models }] });
        let allow = AllowList::new(vec![Config::ALLOW_DOMAIN.parse().unwrap()]);
        let list = EndpointList::parse(list.to_string().as_bytes(), &allow).unwrap();
        let text = as_text(&list);
        assert!(text.len() < 300_000, "{} bytes", text.len());
    }
}
