//! One service, as far as rules and findings ask.

use std::collections::{BTreeMap, BTreeSet};

use super::image::ImageReference;
use super::mount::Mount;
use super::variables::variables;
use crate::base::text::quoted;

/// A service. Texts are as in the file: variables are not filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) container_name: Option<String>,
    /// Docker answers to it as to the container's name.
    pub(crate) hostname: Option<String>,
    pub(crate) image: Option<Image>,
    pub(crate) build: Option<Build>,
    pub(crate) depends_on: BTreeSet<String>,
    pub(crate) privileged: bool,
    pub(crate) security_opt: Vec<String>,
    pub(crate) capabilities: BTreeSet<String>,
    /// Setting and value of each namespace that it shares with the machine or other
    /// containers.
    pub(crate) shared: Vec<(&'static str, String)>,
    pub(crate) gpu: bool,
    /// Devices other than GPUs.
    pub(crate) devices: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    /// The configs and secrets that it mounts, by their keys.
    pub(crate) configs: BTreeSet<String>,
    /// Name and value; without a value, the variable of this name gives it.
    pub(crate) environment: Vec<(String, Option<String>)>,
    pub(crate) env_files: bool,
    /// Entry point, command and health check, in one text.
    pub(crate) command: String,
    pub(crate) log_driver: Option<String>,
    /// Addresses of `extra_hosts`, by their names in lower case. Of several one that
    /// is not the machine's own, if there is one.
    pub(crate) hosts: BTreeMap<String, String>,
    /// `dns` and the like: the servers that resolve its names.
    pub(crate) dns: Vec<String>,
    pub(crate) ports: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Image {
    Fixed(ImageReference),
    /// A variable decides; this one runs if it is not set.
    Default {
        text: String,
        image: ImageReference,
    },
    /// A variable decides.
    Variable(String),
}

impl Image {
    /// The image that the file names.
    pub(crate) fn named(&self) -> Option<&ImageReference> {
        match self {
            Self::Fixed(image) | Self::Default { image, .. } => Some(image),
            Self::Variable(_) => None,
        }
    }
}

/// An image that is built where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    /// From a recipe inside the compose file itself.
    pub(crate) inline: bool,
    /// That recipe, and the arguments of any.
    pub(crate) recipe: String,
}

impl Service {
    /// The names by which other containers reach it.
    pub(crate) fn names_inside(&self) -> impl Iterator<Item = &str> {
        let more = [&self.container_name, &self.hostname];
        let more = more.into_iter().filter_map(Option::as_deref);
        std::iter::once(self.name.as_str()).chain(more)
    }

    /// The image for a message.
    pub(crate) fn image_text(&self) -> String {
        match (&self.image, &self.build) {
            (_, Some(_)) => "built in the machine".to_owned(),
            (Some(Image::Fixed(image)), None) => crate::base::text::shown(&image.to_string()),
            (Some(Image::Default { text, .. } | Image::Variable(text)), None) => quoted(text),
            (None, None) => "no image".to_owned(),
        }
    }
}

/// The names in a service's environment whose values come from variables.
pub(crate) fn environment_variables(service: &Service) -> BTreeSet<&str> {
    let from_outside = |value: &Option<String>| match value {
        None => true,
        Some(value) => !variables(value).is_empty(),
    };
    let environment = service.environment.iter();
    environment
        .filter(|(_, value)| from_outside(value))
        .map(|(name, _)| name.as_str())
        .collect()
}
