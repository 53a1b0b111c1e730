//! What is up, by the log: state by the name of a service.
//!
//! The log records attempts, before their outcome is known. Where a compose
//! file was given, what it cannot have done is left out, and services that it
//! does not define are gone: managers start with `--remove-orphans`, and all
//! files are one project. A newer manager takes a project's name that it does
//! not log, which may spare orphans; so what runs is shown by this fold, and
//! judged by every file that ever was started (`Deployment::started`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::actions::{Action, ComposeFile, Kind, second};
use crate::base::identifiers::{CommitId, UnixTime};
use crate::compose::with_dependencies;

/// Something that the log says is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// What.
    pub service: Service,
    /// The file that its image and settings stand in.
    pub source: Arc<ComposeFile>,
    /// When it was last started from there, by the manager's clock.
    pub since: UnixTime,
}

/// One service, or those that only the file could name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// By its name.
    Named(String),
    /// The whole file was started, and it was not given: all that it defines.
    Rest {
        /// But for these, which were started or stopped by name afterwards.
        except: Vec<String>,
    },
}

/// What compose files define, as far as they were given; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComposeFiles(BTreeMap<(String, CommitId), Defined>);

/// The services of a file, each with those that it depends on.
pub(super) type Defined = BTreeMap<String, BTreeSet<String>>;

impl ComposeFiles {
    /// Notes what a file at a commit defines: each service, and what it depends on.
    pub fn insert(
        &mut self,
        file: &str,
        commit: CommitId,
        services: impl IntoIterator<Item = (String, BTreeSet<String>)>,
    ) {
        let defined = services.into_iter().collect();
        self.0.insert((file.to_owned(), commit), defined);
    }

    pub(super) fn defined(&self, file: &str, commit: CommitId) -> Option<&Defined> {
        self.0.get(&(file.to_owned(), commit))
    }
}

/// The services that a start of these names starts of a file. None where the file lacks
/// one: "no such service", the command failed before it did anything.
pub(super) fn start<'a>(services: &'a [String], defined: &'a Defined) -> BTreeSet<&'a str> {
    if services.iter().any(|name| !defined.contains_key(name)) {
        return BTreeSet::new();
    }
    if services.is_empty() {
        return defined.keys().map(String::as_str).collect();
    }
    with_dependencies(services.iter().map(String::as_str), |name| {
        defined.get(name)
    })
}

pub(crate) fn fold(actions: &[Action], files: &ComposeFiles) -> Vec<Up> {
    let mut state = State::default();
    for action in actions {
        match &action.kind {
            Kind::Up { source, services } => {
                let place = Place {
                    source: Arc::clone(source),
                    since: second(action.at),
                };
                let defined = files.defined(&source.file, source.commit);
                state.up(&place, services, defined);
            }
            Kind::Down {
                file,
                commit,
                services,
            } => state.down(file, services, files.defined(file, *commit)),
            Kind::ManagerStarted { .. } | Kind::AgentStarted | Kind::Inert | Kind::Unknown(_) => {}
        }
    }
    state.into_up()
}

#[derive(Debug, Clone)]
struct Place {
    source: Arc<ComposeFile>,
    since: UnixTime,
}

#[derive(Debug, Default)]
struct State {
    named: BTreeMap<String, Place>,
    rest: Option<(Place, BTreeSet<String>)>,
}

impl State {
    fn up(&mut self, place: &Place, services: &[String], defined: Option<&Defined>) {
        let Some(defined) = defined else {
            if services.is_empty() {
                self.named.clear();
                self.rest = Some((place.clone(), BTreeSet::new()));
            }
            for service in services {
                self.put(service, place);
            }
            return;
        };
        let started = start(services, defined);
        if started.is_empty() {
            return;
        }
        self.named.retain(|name, _| defined.contains_key(name));
        if services.is_empty() {
            self.rest = None;
        }
        for service in started {
            self.put(service, place);
        }
    }

    fn put(&mut self, service: &str, place: &Place) {
        self.named.insert(service.to_owned(), place.clone());
        self.except(service);
    }

    fn except(&mut self, service: &str) {
        if let Some((_, except)) = &mut self.rest {
            except.insert(service.to_owned());
        }
    }

    fn down(&mut self, file: &str, services: &[String], defined: Option<&Defined>) {
        for service in services {
            self.named.remove(service);
            self.except(service);
        }
        if !services.is_empty() {
            return;
        }
        match defined {
            Some(defined) => {
                for service in defined.keys() {
                    self.named.remove(service);
                    self.except(service);
                }
            }
            // What came from this file, at whatever commit.
            None => {
                self.named.retain(|_, place| place.source.file != file);
                self.rest = self
                    .rest
                    .take()
                    .filter(|(place, _)| place.source.file != file);
            }
        }
    }

    fn into_up(self) -> Vec<Up> {
        let named = self.named.into_iter().map(|(name, place)| Up {
            service: Service::Named(name),
            source: place.source,
            since: place.since,
        });
        let rest = self.rest.map(|(place, except)| Up {
            service: Service::Rest {
                except: except.into_iter().collect(),
            },
            source: place.source,
            since: place.since,
        });
        named.chain(rest).collect()
    }
}
