//! The endpoint list: which domain serves which model.
//!
//! The list is an unauthenticated hint. It can only choose among allowed domains, and evidence
//! has to name one of the models that it gives a domain (threats.md A14, B10).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Expected, UnixTime};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::backend::{AllowList, Backend, MAX_MODEL_BYTES};
use crate::clock::{Clock, Stamp};
use crate::fetch::{FetchError, FetchUrl, Fetcher};
use crate::lock::lock;
use crate::single_flight::{SingleFlight, Waiter};
use crate::state::{CacheFile, StateDir};

/// Real lists have some kilobytes.
const MAX_LIST_BYTES: usize = 1 << 20;
/// A thousand times as many as today.
const MAX_ENTRIES: usize = 10_000;
/// Names that are compared with an unknown one; no real list has as many.
const MAX_COMPARED: usize = 1_000;
/// Characters of a parser's message.
const MAX_DETAIL: usize = 200;
/// As every known client of the list.
const LIST_TTL: Duration = Duration::from_secs(300);
/// How long a failed fetch is reused, so that waiting requests share one attempt: short while
/// there is no list, longer while an older list serves.
const RETRY_WITHOUT_LIST: Duration = Duration::from_secs(1);
const RETRY_WITH_LIST: Duration = Duration::from_secs(15);

/// Why there is no list.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EndpointsError {
    #[error("{url}: {source}")]
    Fetch { url: String, source: FetchError },
    #[error("{url} answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered with something other than an endpoint list: {detail}")]
    Format { url: String, detail: String },
    #[error("{url}: the fetch was given up")]
    Lost { url: String },
}

/// One version of the list, filtered.
#[derive(Debug, Default)]
pub struct EndpointList {
    /// In the list's order, each domain once.
    domains: Vec<(String, Vec<String>)>,
    /// `domains` as backends.
    backends: Vec<Backend>,
    by_domain: HashMap<String, usize>,
    /// Indices into `domains`, in the list's order.
    by_model: HashMap<String, Vec<usize>>,
}

impl EndpointList {
    pub fn parse(body: &[u8], allow: &AllowList) -> Result<Self, String> {
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
        // Foreign bytes never become a `serde_json::Value`: with the feature `raw_value` one
        // key makes serde_json parse strings inside strings, which escapes the limit of 128
        // levels. Raw entries are skipped over, then each is read once as its own type.
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(said)?;
        if wire.endpoints.len() > MAX_ENTRIES {
            return Err(format!(
                "{} entries, at most {MAX_ENTRIES} are read",
                wire.endpoints.len()
            ));
        }
        let mut list = Self::default();
        let mut dropped = 0_usize;
        for raw in wire.endpoints {
            // One malformed entry must not cost the others.
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
            // An empty list would replace the last good one.
            return Err("it names no backend that may be asked".to_owned());
        }
        let backend = |(domain, models): &(String, Vec<String>)| {
            let models = Expected::Known(models.clone());
            allow.backend(domain, models).map_err(|no| no.to_string())
        };
        list.backends = list.domains.iter().map(backend).collect::<Result<_, _>>()?;
        Ok(list)
    }

    fn add(&mut self, domain: String, models: Vec<String>) {
        let index = *self.by_domain.entry(domain.clone()).or_insert_with(|| {
            self.domains.push((domain, Vec::new()));
            self.domains.len() - 1
        });
        for model in models {
            // Names are printed on terminals.
            if !model.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                continue;
            }
            let serving = self.by_model.entry(model.clone()).or_default();
            if !serving.contains(&index) {
                serving.push(index);
                if let Some((_, names)) = self.domains.get_mut(index) {
                    names.push(model);
                }
            }
        }
    }

    /// The backends that serve a model, in the list's order.
    pub fn backends(&self, model: &str) -> Vec<Backend> {
        let indices = self.by_model.get(model).map_or(&[][..], Vec::as_slice);
        let backends = indices.iter().filter_map(|&index| self.backends.get(index));
        backends.cloned().collect()
    }

    /// The models that the list gives a domain; `None` if the list does not have the domain.
    pub fn models_of(&self, domain: &str) -> Option<&[String]> {
        let index = self.by_domain.get(&domain.to_ascii_lowercase())?;
        self.domains
            .get(*index)
            .map(|(_, models)| models.as_slice())
    }

    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Every model name once, in the list's order.
    pub fn models(&self) -> impl Iterator<Item = &str> {
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

    /// The domains that serve a model, in the list's order.
    pub fn domains_of(&self, model: &str) -> impl Iterator<Item = &str> {
        let indices = self.by_model.get(model).map_or(&[][..], Vec::as_slice);
        let entries = indices.iter().filter_map(|&index| self.domains.get(index));
        entries.map(|(domain, _)| domain.as_str())
    }

    /// Model names similar to `wanted`. The cost is the product of both lengths, so long names
    /// are left out.
    pub fn close_to(&self, wanted: &str) -> Vec<String> {
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

/// Bounds the message: serde_json repeats unexpected values at any length.
fn said(error: serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some((cut, _)) = text.char_indices().nth(MAX_DETAIL) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

type FetchOutcome = Result<Arc<EndpointList>, EndpointsError>;

/// The current list, or the last good one until there is a newer: in memory, and on disk byte
/// for byte.
///
/// It is fetched on demand, and once at the start, so an idle proxy sends nothing. An old list
/// is returned at once, while a task fetches the next.
#[derive(Debug, Clone)]
pub struct Endpoints(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fetcher: Arc<Fetcher>,
    url: FetchUrl,
    allow: AllowList,
    clock: Clock,
    state_dir: Option<Arc<StateDir>>,
    state: Mutex<State>,
    in_flight: SingleFlight<FetchOutcome>,
}

#[derive(Debug, Default)]
struct State {
    good: Option<(Arc<EndpointList>, Stamp)>,
    failed: Option<(EndpointsError, Stamp)>,
}

impl Endpoints {
    /// Begins with the list on disk, filtered by today's `allow`.
    pub fn new(
        fetcher: Arc<Fetcher>,
        url: FetchUrl,
        allow: AllowList,
        clock: Clock,
        state_dir: Option<Arc<StateDir>>,
    ) -> Self {
        let shared = Shared {
            fetcher,
            url,
            allow,
            clock,
            state_dir,
            state: Mutex::default(),
            in_flight: SingleFlight::default(),
        };
        lock(&shared.state).good = shared.load();
        Self(Arc::new(shared))
    }

    /// Takes over the list of `before` if there is none yet, and it came from the same address
    /// and was filtered by the same names.
    pub fn begin_with(&self, before: &Self) {
        let same = self.0.url == before.0.url && self.0.allow == before.0.allow;
        if same && !Arc::ptr_eq(&self.0, &before.0) {
            let good = lock(&before.0.state).good.clone();
            let mut state = lock(&self.0.state);
            state.good = state.good.take().or(good);
        }
    }

    pub fn allow(&self) -> &AllowList {
        &self.0.allow
    }

    /// The list: stored, or fetched if there is none.
    pub async fn list(&self) -> FetchOutcome {
        let waiter = {
            let shared = &self.0;
            let state = lock(&shared.state);
            let failed = |pause| {
                let (error, since) = state.failed.as_ref()?;
                (since.age(&shared.clock) < pause).then_some(error)
            };
            match &state.good {
                Some((list, since)) => {
                    let old = since.age(&shared.clock) >= LIST_TTL;
                    if old && failed(RETRY_WITH_LIST).is_none() {
                        self.fetch();
                    }
                    return Ok(Arc::clone(list));
                }
                None => match failed(RETRY_WITHOUT_LIST) {
                    Some(error) => return Err(error.clone()),
                    None => self.fetch(),
                },
            }
        };
        self.outcome(waiter).await
    }

    /// The list as the server gives it now.
    pub async fn renewed(&self) -> FetchOutcome {
        self.outcome(self.fetch()).await
    }

    async fn outcome(&self, fetch: Waiter<FetchOutcome>) -> FetchOutcome {
        let lost = || EndpointsError::Lost {
            url: self.0.url.to_string(),
        };
        fetch.outcome().await.unwrap_or_else(|| Err(lost()))
    }

    /// The stored list, and when it came.
    pub fn kept(&self) -> Option<(Arc<EndpointList>, UnixTime)> {
        let state = lock(&self.0.state);
        let (list, since) = state.good.as_ref()?;
        Some((Arc::clone(list), since.wall()))
    }

    /// Runs one fetch at a time. It ends, since the fetcher has a time limit.
    fn fetch(&self) -> Waiter<FetchOutcome> {
        self.0.in_flight.join(|| {
            let shared = Arc::clone(&self.0);
            async move {
                let outcome = shared.fetch().await;
                let at = Stamp::now(&shared.clock);
                let mut state = lock(&shared.state);
                match &outcome {
                    Ok(list) => {
                        state.good = Some((Arc::clone(list), at));
                        state.failed = None;
                    }
                    Err(error) => {
                        tracing::warn!(%error, kept = state.good.is_some(), "endpoint list not fetched");
                        state.failed = Some((error.clone(), at));
                    }
                }
                drop(state);
                outcome
            }
        })
    }
}

impl Shared {
    async fn fetch(&self) -> FetchOutcome {
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
        let list = EndpointList::parse(&answer.body, &self.allow)
            .map_err(|detail| EndpointsError::Format { url: url(), detail })?;
        if let Some(state_dir) = &self.state_dir {
            let body = answer.body.to_vec();
            state_dir.save(self.cache_file(), url(), self.clock.now(), body);
        }
        Ok(Arc::new(list))
    }

    fn load(&self) -> Option<(Arc<EndpointList>, Stamp)> {
        let cached = self.state_dir.as_ref()?.load(&self.cache_file())?;
        if cached.source != self.url.to_string() || cached.body.len() > MAX_LIST_BYTES {
            return None;
        }
        match EndpointList::parse(&cached.body, &self.allow) {
            Ok(list) => {
                let at = Stamp::remembered(cached.fetched_at, &self.clock);
                Some((Arc::new(list), at))
            }
            Err(detail) => {
                tracing::warn!(
                    detail,
                    "the endpoint list on disk is not used; it will be fetched again"
                );
                None
            }
        }
    }

    fn cache_file(&self) -> CacheFile {
        CacheFile::Endpoints {
            url: self.url.to_string(),
        }
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
            let backends = list.backends(model);
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
        // Each level is a string of its own, for which serde_json counts depth anew.
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
        // With a small stack a reader that follows the strings overflows.
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

    #[test]
    fn a_hostile_list_writes_nothing_to_terminals_and_little_to_logs() {
        let list = list(
            r#"{"endpoints":[{"domain":"a.completions.near.ai",
                "models":["m/one\u001b[2J","m/on\nERROR","m/on\u202e","m/one"]}]}"#,
        );
        assert_eq!(list.close_to("m/on"), ["m/one"]);
        assert_eq!(list.models().collect::<Vec<_>>(), ["m/one"]);
        let long = format!(r#"{{"endpoints":"{}"}}"#, "\u{1b}".repeat(100_000));
        let long = long.replace('\u{1b}', r"\u001b");
        let detail = EndpointList::parse(long.as_bytes(), &allow()).unwrap_err();
        assert!(detail.len() < 210, "{}", detail.len());
        assert!(!detail.contains('\u{1b}'), "{detail}");
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
