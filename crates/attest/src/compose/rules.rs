//! Which programs may do what, and which of them a service is.

use std::collections::{BTreeMap, BTreeSet};

use super::image::{ImageDigest, ImageReference, Repository};
use super::mount::Mount;
use super::service::{Image, Service};

/// Which programs may do what. Repositories are full names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRules {
    /// Web servers: they may mount the TLS key.
    pub fronts: BTreeSet<Repository>,
    /// Inference proxies: they may mount the TLS key and the guest agent's
    /// socket, and be privileged.
    pub proxies: BTreeSet<Repository>,
    /// Inference engines.
    pub engines: BTreeSet<Repository>,
    /// Helpers that see no prompts. They need no digest, and get no right that would
    /// show them prompts.
    pub helpers: BTreeSet<Repository>,
    /// Helpers that watch GPUs: as helpers, with GPUs and `SYS_ADMIN`.
    pub gpu_helpers: BTreeSet<Repository>,
    /// The volume that holds the TLS key, by its key in the file and its name.
    pub certs_volume: String,
    /// Paths of the machine that any container may mount read-only.
    pub read_only_paths: BTreeSet<String>,
    /// The exact images that may be on the prompt's way; any of the allowed
    /// repositories if there is no such list.
    pub digests: Option<BTreeSet<ImageDigest>>,
}

impl FileRules {
    /// Allows nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            fronts: BTreeSet::new(),
            proxies: BTreeSet::new(),
            engines: BTreeSet::new(),
            helpers: BTreeSet::new(),
            gpu_helpers: BTreeSet::new(),
            certs_volume: "certs".to_owned(),
            read_only_paths: BTreeSet::new(),
            digests: None,
        }
    }
}

/// What a service is, by the repository of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Front,
    Proxy,
    Engine,
    /// An engine whose image is built in the machine.
    Built,
    Helper,
    GpuHelper,
    /// Treated as on the prompt's way, and not allowed.
    Unknown,
}

impl Role {
    pub(super) fn is_helper(self) -> bool {
        matches!(self, Self::Helper | Self::GpuHelper)
    }
}

/// Helpers of one file or several.
#[derive(Default)]
pub(crate) struct Helpers<'a> {
    /// By the names that they answer to, in lower case.
    names: BTreeMap<String, &'a Service>,
    /// By the named volumes that they may write; one for each.
    writers: BTreeMap<&'a str, &'a Service>,
}

impl<'a> Helpers<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.names.extend(more.names);
        self.writers.extend(more.writers);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn named(&self, name: &str) -> Option<&'a Service> {
        self.names.get(name).copied()
    }

    pub(super) fn writer(&self, volume: &str) -> Option<&'a Service> {
        self.writers.get(volume).copied()
    }
}

impl FileRules {
    /// Those of some services that are helpers.
    pub(crate) fn helpers_of<'a>(
        &self,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Helpers<'a> {
        let mut helpers = Helpers::new();
        for service in services {
            if !self.role(service).is_helper() {
                continue;
            }
            let names = service.names_inside();
            let names = names.map(|name| (name.to_ascii_lowercase(), service));
            helpers.names.extend(names);
            for mount in &service.mounts {
                if let Mount::Volume { key, read_only, .. } = mount
                    && !read_only
                {
                    helpers.writers.insert(key, service);
                }
            }
        }
        helpers
    }

    pub(crate) fn role(&self, service: &Service) -> Role {
        if service.build.is_some() {
            return Role::Built;
        }
        let image = service.image.as_ref().and_then(Image::named);
        let Some(ImageReference { repository, .. }) = image else {
            return Role::Unknown;
        };
        [
            (&self.fronts, Role::Front),
            (&self.proxies, Role::Proxy),
            (&self.engines, Role::Engine),
            (&self.gpu_helpers, Role::GpuHelper),
            (&self.helpers, Role::Helper),
        ]
        .into_iter()
        .find_map(|(names, role)| names.contains(repository).then_some(role))
        .unwrap_or(Role::Unknown)
    }
}
