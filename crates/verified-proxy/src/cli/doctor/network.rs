//! Checks through the network: DNS, the endpoint list, Intel's collateral, a backend.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::Rejected;
use proxy::config::{Config, Proxies};
use proxy::examine::Examiner;
use proxy::respond::{self, Line};
use sources::backend::Backend;
use sources::collateral::SourceError;
use sources::endpoints::{EndpointList, EndpointsError};
use sources::fetch::FetchUrl;
use sources::net::Routes;
use upstream::verdicts;
use upstream::{AttemptError, AttestError, Examined, Judged};

use super::check::{Check, Id};
use super::clock::Times;

/// Resolvers give up by themselves, but some only after a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many addresses are shown.
const SHOWN: usize = 3;

/// What became of the attestation of a backend.
pub(super) enum Probed {
    Not,
    Examined(Backend, Box<Examined>),
    Failed(AttemptError),
}

/// The name that has to be looked up here: that of the endpoint list's host, or of the proxy
/// that leads to it.
pub(super) async fn dns(config: &Config, routes: &Routes) -> Check {
    let route = config.endpoints_url.route(routes);
    let (host, port) = match route.proxy {
        Some(proxy) => (proxy.host().to_owned(), proxy.port()),
        None => (route.host, route.port),
    };
    if host.parse::<IpAddr>().is_ok() {
        return Check::skipped(Id::Dns, format!("{host} is an address, not a name"));
    }
    let lookup = tokio::net::lookup_host((host.as_str(), port));
    let problem = match tokio::time::timeout(PATIENCE, lookup).await {
        Ok(Ok(addresses)) => {
            let mut found: Vec<_> = addresses.map(|address| address.ip().to_string()).collect();
            found.dedup();
            found.truncate(SHOWN);
            if !found.is_empty() {
                return Check::ok(Id::Dns, format!("{host} is {}", found.join(", ")));
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    Check::failed(
        Id::Dns,
        format!("{host}: {problem}"),
        "check that this machine is online, and its resolver (/etc/resolv.conf); a VPN or a network's login page may block it",
    )
}

/// Whether the proxy for outgoing connections lets one through to the endpoint list's host.
/// `None` without a proxy.
pub(super) async fn outgoing_proxy(
    examiner: &Examiner,
    url: &FetchUrl,
    proxies: &Proxies,
    routes: &Routes,
) -> Option<Check> {
    let proxy = proxies.proxy()?;
    let route = url.route(routes);
    let place = format!("{}:{}", route.host, route.port);
    if route.proxy.is_none() {
        let why = format!("{proxy}: connections to {place} are direct (NO_PROXY, or this machine)");
        return Some(Check::skipped(Id::OutgoingProxy, why));
    }
    let fetcher = examiner.sources.collaterals.fetcher();
    Some(match fetcher.reach(url).await {
        Ok(()) => Check::ok(
            Id::OutgoingProxy,
            format!("{proxy} lets connections to {place} through"),
        ),
        Err(error) => Check::failed(
            Id::OutgoingProxy,
            error.to_string(),
            error.tunnel().map_or(
                "check that the outgoing proxy answers, and --proxy (or HTTPS_PROXY, ALL_PROXY)",
                respond::tunnel_remedy,
            ),
        ),
    })
}

pub(super) async fn endpoint_list(
    examiner: &Examiner,
    times: &mut Times,
) -> (Check, Option<Arc<EndpointList>>) {
    let error = match examiner.endpoints.renewed().await {
        Ok(list) => {
            let (models, domains) = (list.models().count(), list.domain_count());
            let detail = format!("models: {models}, domains: {domains}");
            return (Check::ok(Id::EndpointList, detail), Some(list));
        }
        Err(error) => error,
    };
    let usual = respond::remedy(&error);
    let fix = match &error {
        EndpointsError::Fetch { source, .. } if source.is_about_time() => {
            times.failure(source, usual)
        }
        _ => usual.to_owned(),
    };
    match examiner.endpoints.kept() {
        Some((list, since)) => (
            Check::warning(
                Id::EndpointList,
                format!("{error}; the one of {since} is on disk and is used"),
                fix,
            ),
            Some(list),
        ),
        None => (
            Check::failed(Id::EndpointList, error.to_string(), fix),
            None,
        ),
    }
}

/// Attests one backend, as `verify` does.
pub(super) async fn backend(
    examiner: &Examiner,
    list: Option<&EndpointList>,
    target: Option<&str>,
) -> (Check, Probed) {
    let skipped = |why: &str| (Check::skipped(Id::Backend, why), Probed::Not);
    let Some(list) = list else {
        return skipped("without the endpoint list no backend is known");
    };
    let Some(target) = target.or_else(|| list.models().next()) else {
        return skipped("the endpoint list names no model");
    };
    let backends = match examiner.backends(target).await {
        Ok(backends) => backends,
        Err(failure) => return (explained(respond::line(&failure), ""), Probed::Not),
    };
    let Some(backend) = backends.into_iter().next() else {
        return skipped("the endpoint list names no backend for it");
    };
    let domain = format!("{}: ", backend.domain());
    match examiner.examine(&backend).await {
        Ok(examined) => {
            let check = match &examined.appraisal.outcome {
                Ok(proof) => {
                    let report = &examined.appraisal.report;
                    let sentence = report.sentence().unwrap_or_default();
                    let detail = format!(
                        "{domain}verified, it serves {} ({}). {sentence}",
                        proof.model_name(),
                        proof.levels()
                    );
                    Check::ok(Id::Backend, detail)
                }
                Err(rejected) => Check::failed(
                    Id::Backend,
                    format!("{domain}{}: {rejected}", rejected.code()),
                    verdicts::hint(rejected, examined.skew),
                ),
            };
            (check, Probed::Examined(backend, Box::new(examined)))
        }
        Err(error) => (
            explained(respond::attempt_line(&error), &domain),
            Probed::Failed(error),
        ),
    }
}

fn explained(why: Line, domain: &str) -> Check {
    let usual = "try again; if it goes on, check that outgoing connections to port 443 are allowed (firewall, VPN)";
    Check::failed(
        Id::Backend,
        format!("{domain}{}: {}", why.code, why.message),
        why.hint.unwrap_or_else(|| usual.to_owned()),
    )
}

/// Each source of collateral by itself. A proxy needs only one that is good.
pub(super) async fn pcs(examiner: &Examiner, probed: Probed, times: &mut Times) -> Vec<Check> {
    match probed {
        Probed::Examined(backend, examined) if examined.evidence.is_some() => {
            let findings = examiner.by_source(&backend, &examined).await;
            let mut sources = Vec::new();
            for finding in findings {
                let outcome = match finding.outcome {
                    Ok((judged, fetched)) => {
                        times.document(fetched.collateral());
                        let until = fetched.collateral().next_update();
                        Outcome::judged(judged, until.map(|until| until.to_string()))
                    }
                    Err(error) => Outcome::failed(&error, times),
                };
                sources.push((finding.source.to_string(), outcome));
            }
            checks(sources)
        }
        Probed::Failed(AttemptError::Attest(AttestError::Collateral(error))) => {
            let failures = error.failures.into_iter();
            checks(failures.map(|(source, error)| (source, Outcome::failed(&error, times))))
        }
        _ => {
            let answers = examiner
                .sources
                .collaterals
                .each_answers()
                .await
                .into_iter();
            checks(answers.map(|(source, answer)| {
                let outcome = match answer {
                    Ok(()) => Outcome::Unjudged,
                    Err(error) => Outcome::failed(&error, times),
                };
                (source.to_string(), outcome)
            }))
        }
    }
}

/// The result for one source.
enum Outcome {
    Good(String),
    Bad(String, String),
    Unjudged,
}

impl Outcome {
    fn judged(judged: Judged, until: Option<String>) -> Self {
        match judged {
            Judged::Genuine => Self::Good(format!(
                "genuine, as new as any seen, valid until {}",
                until.unwrap_or_default()
            )),
            Judged::Refused(rejected) => {
                let fix = match &rejected {
                    Rejected::CollateralRollback { .. } => {
                        "this source lags behind what was seen before: name another with --pccs-url"
                    }
                    Rejected::CollateralExpired { .. } | Rejected::CollateralNotYetValid { .. } => {
                        "if the clock is right, this source keeps documents for too long: name another with --pccs-url"
                    }
                    _ => "name another source with --pccs-url",
                };
                Self::Bad(format!("{}: {rejected}", rejected.code()), fix.to_owned())
            }
            Judged::NotReached => Self::Unjudged,
        }
    }

    fn failed(error: &SourceError, times: &mut Times) -> Self {
        let another = "name another source with --pccs-url";
        let mut fix = another.to_owned();
        if let SourceError::Fetch { source, .. } = error {
            fix = times.failure(source, another);
        }
        Self::Bad(error.to_string(), fix)
    }
}

fn checks(sources: impl IntoIterator<Item = (String, Outcome)>) -> Vec<Check> {
    let sources: Vec<_> = sources.into_iter().collect();
    let one_is_good = sources
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Good(_)));
    let check = |(source, outcome)| {
        let check = match outcome {
            Outcome::Good(detail) => Check::ok(Id::Pcs, detail),
            Outcome::Bad(detail, fix) if one_is_good => Check::warning(Id::Pcs, detail, fix),
            Outcome::Bad(detail, fix) => Check::failed(Id::Pcs, detail, fix),
            Outcome::Unjudged => Check::skipped(
                Id::Pcs,
                "it answers; no backend's report was available, so its documents were not checked",
            ),
        };
        check.of(source)
    };
    sources.into_iter().map(check).collect()
}
