//! The endpoint list: which model is served under which domain.
//!
//! The list is an unauthenticated hint. It can only choose among allowed
//! domains, and evidence has to name one of the models it gives a domain
//! (threats.md A14, B10).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::Expected;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::backend::{AllowList, Backend};
use crate::fetch::{FetchError, FetchUrl, Fetcher};
use crate::upstream::MAX_MODEL_BYTES;

/// Real lists have some kilobytes.
const MAX_LIST_BYTES: usize = 1 << 20;
/// A thousand times what is served today.
const MAX_ENTRIES: usize = 10_000;
/// Names that are compared with an unknown one; far more than any list has.
const MAX_COMPARED: usize = 1_000;
/// What every known client of the list uses.
const LIST_TTL: Duration = Duration::from_secs(300);
/// How long a failed fetch is answered for, so that waiting requests share one
/// attempt: short while there is nothing to serve, longer while an older list does.
const RETRY_WITHOUT_LIST: Duration = Duration::from_secs(1);
const RETRY_WITH_LIST: Duration = Duration::from_secs(15);

/// Why there is no list.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EndpointsError {
    #[error("{url}: {source}")]
    Fetch { url: String, source: FetchError },
    #[error("{url} answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered with something else than an endpoint list: {detail}")]
    Format { url: String, detail: String },
}

/// One edition of the list, filtered.
#[derive(Debug, Default)]
pub(crate) struct EndpointList {
    /// In the list's order; one entry a domain.
    domains: Vec<(String, Vec<String>)>,
    by_domain: HashMap<String, usize>,
    /// Indices into `domains`, in the list's order.
    by_model: HashMap<String, Vec<usize>>,
}

impl EndpointList {
    fn parse(body: &[u8], allow: &AllowList) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            endpoints: Vec<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Entry {
            domain: String,
            models: Vec<String>,
        }
        // Foreign bytes never become a `serde_json::Value`: with the feature
        // `raw_value` a certain key makes it parse strings inside strings, which
        // escapes the limit of 128 levels. Raw entries are skipped over, and read
        // once, as what they should be.
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if wire.endpoints.len() > MAX_ENTRIES {
            return Err(format!(
                "{} entries, at most {MAX_ENTRIES} are read",
                wire.endpoints.len()
            ));
        }
        let mut list = Self::default();
        let mut dropped = 0_usize;
        for raw in wire.endpoints {
            // One entry that nobody understands does not take the others away.
            let entry: Option<Entry> = serde_json::from_str(raw.get()).ok();
            let admitted = entry.and_then(|entry| {
                let backend = allow
                    .backend(
                        &entry.domain,
                        Expected::NotChecked("only the name is looked at"),
                    )
                    .ok()?;
                Some((backend.domain().to_string(), entry.models))
            });
            match admitted {
                Some((domain, models)) => list.add(domain, models),
                None => dropped += 1,
            }
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "endpoint list: entries outside --allow-domain or malformed"
            );
        }
        if list.domains.is_empty() {
            // It would take the last good list's place (a list that lost its backends is no list).
            return Err("it names no backend that may be asked".to_owned());
        }
        Ok(list)
    }

    fn add(&mut self, domain: String, models: Vec<String>) {
        let index = *self.by_domain.entry(domain.clone()).or_insert_with(|| {
            self.domains.push((domain, Vec::new()));
            self.domains.len() - 1
        });
        for model in models {
            let serving = self.by_model.entry(model.clone()).or_default();
            if !serving.contains(&index) {
                serving.push(index);
                if let Some((_, names)) = self.domains.get_mut(index) {
                    names.push(model);
                }
            }
        }
    }

    /// Where a model is served, in the list's order.
    pub(crate) fn backends(&self, model: &str, allow: &AllowList) -> Vec<Backend> {
        let indices = self.by_model.get(model).map_or(&[][..], Vec::as_slice);
        let entries = indices.iter().filter_map(|&index| self.domains.get(index));
        entries
            .filter_map(|(domain, models)| {
                allow.backend(domain, Expected::Known(models.clone())).ok()
            })
            .collect()
    }

    /// What the list gives a domain; nothing if it does not name it.
    pub(crate) fn models_of(&self, domain: &str) -> Option<&[String]> {
        let index = self.by_domain.get(&domain.to_ascii_lowercase())?;
        self.domains
            .get(*index)
            .map(|(_, models)| models.as_slice())
    }

    /// Every model name once, in the list's order.
    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        self.domains
            .iter()
            .enumerate()
            .flat_map(move |(index, (_, models))| {
                let first_here = move |model: &&String| {
                    self.by_model
                        .get(*model)
                        .and_then(|serving| serving.first())
                        == Some(&index)
                };
                models.iter().filter(first_here).map(String::as_str)
            })
    }

    /// Names that somebody who asked for `wanted` may have meant. Similarity
    /// costs the product of both lengths, so long names have none.
    pub(crate) fn close_to(&self, wanted: &str) -> Vec<String> {
        if wanted.len() > MAX_MODEL_BYTES {
            return Vec::new();
        }
        let wanted = wanted.to_ascii_lowercase();
        let tail = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut scored: Vec<(f64, &str)> = self
            .models()
            .filter(|model| model.len() <= MAX_MODEL_BYTES)
            .take(MAX_COMPARED)
            .map(|model| {
                let name = model.to_ascii_lowercase();
                let whole = strsim::jaro_winkler(&wanted, &name);
                (
                    whole.max(strsim::jaro_winkler(&tail(&wanted), &tail(&name))),
                    model,
                )
            })
            .filter(|(score, _)| *score > 0.75)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored
            .into_iter()
            .take(3)
            .map(|(_, model)| model.to_owned())
            .collect()
    }
}

/// Fetches the list when it is asked for and older than its time; keeps the
/// last good one for as long as there is no better.
#[derive(Debug)]
pub(crate) struct Endpoints {
    fetcher: Arc<Fetcher>,
    url: FetchUrl,
    allow: AllowList,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    good: Option<(Arc<EndpointList>, Instant)>,
    failed: Option<(EndpointsError, Instant)>,
}

impl Endpoints {
    pub(crate) fn new(fetcher: Arc<Fetcher>, url: FetchUrl, allow: AllowList) -> Self {
        Self {
            fetcher,
            url,
            allow,
            ttl: LIST_TTL,
            state: Mutex::default(),
        }
    }

    pub(crate) fn allow(&self) -> &AllowList {
        &self.allow
    }

    /// The list: cached, fetched, or the last good one.
    pub(crate) async fn list(&self) -> Result<Arc<EndpointList>, EndpointsError> {
        // Whoever comes while somebody fetches waits here and finds the outcome.
        let mut state = self.state.lock().await;
        if let Some((list, since)) = &state.good
            && since.elapsed() < self.ttl
        {
            return Ok(Arc::clone(list));
        }
        let pause = match state.good {
            Some(_) => RETRY_WITH_LIST,
            None => RETRY_WITHOUT_LIST,
        };
        let recent = match &state.failed {
            Some((error, since)) if since.elapsed() < pause => Some(error.clone()),
            _ => None,
        };
        let error = match recent {
            Some(error) => error,
            None => match self.fetch().await {
                Ok(list) => {
                    let list = Arc::new(list);
                    state.good = Some((Arc::clone(&list), Instant::now()));
                    state.failed = None;
                    return Ok(list);
                }
                Err(error) => {
                    tracing::warn!(%error, kept = state.good.is_some(), "endpoint list not fetched");
                    state.failed = Some((error.clone(), Instant::now()));
                    error
                }
            },
        };
        match &state.good {
            Some((list, _)) => Ok(Arc::clone(list)),
            None => Err(error),
        }
    }

    async fn fetch(&self) -> Result<EndpointList, EndpointsError> {
        let url = || self.url.to_string();
        let answer = self
            .fetcher
            .get(&self.url, MAX_LIST_BYTES)
            .await
            .map_err(|source| EndpointsError::Fetch { url: url(), source })?;
        if answer.status != http::StatusCode::OK {
            return Err(EndpointsError::Status {
                url: url(),
                status: answer.status.as_u16(),
            });
        }
        EndpointList::parse(&answer.body, &self.allow)
            .map_err(|detail| EndpointsError::Format { url: url(), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow() -> AllowList {
        AllowList::new(vec!["*.completions.near.ai".parse().unwrap()])
    }

    fn list(json: &str) -> EndpointList {
        EndpointList::parse(json.as_bytes(), &allow()).unwrap()
    }

    #[test]
    fn a_list_without_a_backend_is_no_list() {
        for json in [
            r#"{"endpoints":[]}"#,
            r#"{"endpoints":[{"domain":"evil.example","models":["m"]}]}"#,
            r#"{"endpoints":[{"host":"a.completions.near.ai","models":["m"]}]}"#,
        ] {
            let error = EndpointList::parse(json.as_bytes(), &allow()).unwrap_err();
            assert!(error.contains("no backend"), "{json}: {error}");
        }
    }

    #[test]
    fn foreign_and_malformed_entries_are_dropped() {
        let list = list(
            r#"{"endpoints":[
                {"domain":"a.completions.near.ai","models":["m/one","m/alias"]},
                {"domain":"evil.example","models":["m/one"]},
                {"domain":"127.0.0.1","models":["m/one"]},
                {"domain":7,"models":null}, "x",
                {"domain":"B.completions.near.ai","models":["m/one","m/two"],"region":"new field"}]}"#,
        );
        let domains = |model: &str| -> Vec<String> {
            let backends = list.backends(model, &allow());
            backends
                .iter()
                .map(|backend| backend.domain().to_string())
                .collect()
        };
        assert_eq!(
            domains("m/one"),
            ["a.completions.near.ai", "b.completions.near.ai"]
        );
        assert_eq!(domains("m/two"), ["b.completions.near.ai"]);
        assert!(domains("m/three").is_empty());
        assert_eq!(
            list.models().collect::<Vec<_>>(),
            ["m/one", "m/alias", "m/two"]
        );
        assert_eq!(
            list.models_of("A.completions.near.ai").unwrap(),
            ["m/one", "m/alias"]
        );
        assert_eq!(list.close_to("ONE"), ["m/one"]);
    }

    #[test]
    fn json_in_strings_in_json_is_not_followed() {
        // Each level is a string of its own, with serde_json's depth anew.
        let mut inner = "0".to_owned();
        for _ in 0..10 {
            let deep = format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
            let quoted = serde_json::to_string(&deep).unwrap();
            inner = format!("{{\"$serde_json::private::RawValue\":{quoted}}}");
        }
        let body = format!(
            "{{\"endpoints\":[{inner},{{\"domain\":\"a.completions.near.ai\",\"models\":[\"m/one\"],\"x\":{inner}}}]}}"
        );
        assert!(body.len() < MAX_LIST_BYTES, "{}", body.len());
        // A small stack: a reader that follows them overflows it.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let models =
            small.spawn(move || list(&body).models().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(models.unwrap().join().unwrap(), ["m/one"]);
    }

    #[test]
    fn long_names_are_like_nothing() {
        let long = "x".repeat(MAX_MODEL_BYTES + 1);
        let list = list(&format!(
            r#"{{"endpoints":[{{"domain":"a.completions.near.ai","models":["{long}","m/one"]}}]}}"#
        ));
        assert!(list.close_to(&long).is_empty());
        assert!(list.close_to(&long[1..]).is_empty());
        assert_eq!(list.close_to("m/on"), ["m/one"]);
    }

    #[tokio::test]
    async fn the_last_good_list_is_kept() {
        let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        let webpki = crate::tls::webpki(&[authority.cert.der().clone()]).unwrap();
        let fetcher = Fetcher::new(webpki, crate::net::ConnectMap::default()).unwrap();
        // The discard port: nobody listens there.
        let url = "http://127.0.0.1:9/endpoints".parse().unwrap();
        let mut endpoints = Endpoints::new(Arc::new(fetcher), url, allow());
        assert!(matches!(
            endpoints.list().await,
            Err(EndpointsError::Fetch { .. })
        ));
        endpoints.ttl = Duration::ZERO;
        let good = list(r#"{"endpoints":[{"domain":"a.completions.near.ai","models":["m/one"]}]}"#);
        *endpoints.state.lock().await = State {
            good: Some((Arc::new(good), Instant::now())),
            failed: None,
        };
        let kept = endpoints.list().await.unwrap();
        assert_eq!(kept.models().collect::<Vec<_>>(), ["m/one"]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"endpoints":{}}"#,
            "{\"endpoints\":[]} x",
        ] {
            assert!(
                EndpointList::parse(body.as_bytes(), &allow()).is_err(),
                "{body}"
            );
        }
        let many = format!("{{\"endpoints\":[{}0]}}", "0,".repeat(MAX_ENTRIES));
        assert!(EndpointList::parse(many.as_bytes(), &allow()).is_err());
    }
}
