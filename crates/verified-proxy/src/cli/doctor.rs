//! `verified-proxy doctor`: checks each thing that an answer needs, and says how to fix
//! it.

mod check;
mod clients;
mod clock;
mod machine;
mod network;
mod port;
mod workload;

use std::process::ExitCode;

use proxy::SetupError;
use proxy::config::Config;
use proxy::examine::Examiner;
use sources::net::Routes;

use self::check::{Check, Id, Status};
use self::workload::Opinion;
use super::LAST_WORDS;
use super::listening::spendable;
use super::options::runtime;
use super::read_files::Failure;
use super::{colour, print, serve};

/// Find out why requests are not answered, and how to fix it
///
/// Takes the options of "serve", and checks what "serve" would use. A backend gets an attestation
/// request and nothing else. Exit codes: 0 no check failed, 1 a check failed, 2 wrong usage, 3 the
/// checks could not start.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// A model, to attest one of its backends, or a backend's domain [default: the list's first model]
    #[arg(value_name = "MODEL|DOMAIN")]
    target: Option<String>,

    /// Print the findings as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: serve::Args,
}

pub(super) fn main(args: Args) -> Result<ExitCode, Failure> {
    args.serve.init_logs();
    let Args {
        target,
        json,
        serve: options,
    } = args;
    let at = options.listening.at();
    let key = options.api_key();
    let has_key = matches!(key, Ok(Some(_)));
    let api_key = clients::api_key(key);
    let mut config = options.config_without_key()?;
    let (policy, trust_root) = (machine::policy(&config), machine::trust_root(&config));
    let spendable = spendable(&at.ips(), &config.guard, has_key);
    let state_dir = machine::state_dir(&config);
    if state_dir.status == Status::Failed {
        config.state_dir = None;
    }
    let runtime = runtime()?;
    let (mut checks, port) = runtime.block_on(async {
        let (checks, examiner) = network(config, target.as_deref()).await;
        let fetcher = examiner
            .as_ref()
            .map(|examiner| examiner.sources.collaterals.fetcher());
        let port = match spendable {
            Some((what, fix)) => Check::failed(Id::Port, what, fix),
            None => port::check(&at, fetcher).await,
        };
        (checks, port)
    });
    runtime.shutdown_timeout(LAST_WORDS);
    checks.extend([policy, trust_root, state_dir, machine::descriptors(), port]);
    checks.extend([
        api_key,
        clients::proxy_variables(),
        clients::base_url(std::env::var_os(clients::BASE_URL), &at),
    ]);
    print(&if json {
        check::json(&checks)
    } else {
        check::text(&checks, colour())
    })?;
    let failed = checks.iter().any(|check| check.status == Status::Failed);
    Ok(ExitCode::from(u8::from(failed)))
}

/// The checks through the network, and the examiner that they used.
async fn network(config: Config, target: Option<&str>) -> (Vec<Check>, Option<Examiner>) {
    let proxies = config.proxies.clone();
    let routes = Routes::new(config.connect_to.clone(), proxies.clone());
    let mut checks = vec![network::dns(&config, &routes).await];
    let endpoints_url = config.endpoints_url.clone();
    let policy = config.policy.clone();
    let opinion = Opinion::of(&policy);
    let clock = config.clock.clone();
    let examiner = match Examiner::new(config) {
        Ok(examiner) => examiner,
        Err(error) => {
            checks.push(cannot_start(&error));
            let needs = "it needs the check that failed above";
            let rest = [
                Some(Id::EndpointList),
                Some(Id::Pcs),
                Some(Id::ComposeFiles),
                policy.compares_tags().then_some(Id::ComposeTags),
                (opinion != Opinion::Off).then_some(Id::Nras),
                Some(Id::Clock),
                Some(Id::Backend),
            ];
            let rest = rest.into_iter().flatten();
            checks.extend(rest.map(|id| Check::skipped(id, needs)));
            return (checks, None);
        }
    };
    checks.extend(network::outgoing_proxy(&examiner, &endpoints_url, &proxies, &routes).await);
    let mut times = clock::Times::new(&clock);
    let (check, list) = network::endpoint_list(&examiner, &mut times).await;
    checks.push(check);
    let (backend, probed) = network::backend(&examiner, list.as_deref(), target).await;
    if let network::Probed::Failed(error) = &probed {
        times.dial(error);
    }
    let files = workload::compose_files(&examiner, &policy, &probed, &mut times).await;
    checks.extend(network::pcs(&examiner, probed, &mut times).await);
    checks.push(files);
    checks.extend(workload::compose_tags(&examiner, &policy, &mut times).await);
    checks.extend(workload::nras(&examiner, opinion, &mut times).await);
    checks.push(times.check(examiner.sources.collaterals.fetcher().dates()));
    checks.push(backend);
    (checks, Some(examiner))
}

fn cannot_start(error: &SetupError) -> Check {
    match error {
        SetupError::Tls(error) => Check::failed(
            Id::Authorities,
            error.to_string(),
            "install the system's certificate authorities (the package ca-certificates), or name a file with --extra-ca",
        ),
        SetupError::State(error) => machine::unusable_state(error),
    }
}
