//! Which hosts may be asked for evidence at all.
//!
//! Only an [`AllowList`] makes a [`Backend`]. So the proxy dials only DNS names under a suffix
//! that the user allowed: never an IP literal, a port or userinfo (threats.md B9), whatever the
//! endpoint list or the client names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use attest::{Domain, Expected, Subject};

/// The port of every backend; the endpoint list has no field for another.
pub const BACKEND_PORT: u16 = 443;

/// Bytes of a model's name. The longest served today have 40.
pub const MAX_MODEL_BYTES: usize = 200;

/// One name, or `*.` and a suffix: the star stands for exactly one label, as in
/// certificates (RFC 6125 §6.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowPattern {
    wildcard: bool,
    name: Domain,
}

impl AllowPattern {
    fn admits(&self, domain: &Domain) -> bool {
        if !self.wildcard {
            return *domain == self.name;
        }
        match domain.as_str().split_once('.') {
            Some((_, rest)) => rest == self.name.as_str(),
            None => false,
        }
    }
}

impl fmt::Display for AllowPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

impl FromStr for AllowPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match name.parse() {
            Ok(name) => Ok(Self { wildcard, name }),
            Err(error) => Err(format!("{error}; a leading \"*.\" stands for one label")),
        }
    }
}

/// Why a name is not a backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// An IP address, a port, userinfo or anything else that is not a DNS name.
    #[error("a backend is a DNS name without port, {0}")]
    NotAName(String),
    /// A name outside the list.
    #[error("{name} is not among the allowed backends ({allowed})")]
    Outside { name: String, allowed: String },
}

/// The patterns, one of which a backend must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<AllowPattern>);

impl AllowList {
    /// Admits a name that any of the patterns admits.
    #[must_use]
    pub fn new(patterns: Vec<AllowPattern>) -> Self {
        Self(patterns)
    }

    /// The only constructor of a [`Backend`].
    pub fn backend(
        &self,
        name: &str,
        models: Expected<Vec<String>>,
    ) -> Result<Backend, NotAllowed> {
        let domain =
            Domain::from_str(name).map_err(|error| NotAllowed::NotAName(error.to_string()))?;
        if !self.0.iter().any(|pattern| pattern.admits(&domain)) {
            let patterns: Vec<_> = self.0.iter().map(ToString::to_string).collect();
            return Err(NotAllowed::Outside {
                name: domain.to_string(),
                allowed: patterns.join(", "),
            });
        }
        Ok(Backend {
            domain,
            models: Arc::new(models),
        })
    }
}

/// A host that may be dialled, and the model names that the endpoint list gives it. Clones
/// share both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    domain: Domain,
    models: Arc<Expected<Vec<String>>>,
}

impl Backend {
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What the backend's evidence has to be about.
    pub fn subject(&self) -> Subject {
        Subject {
            domain: Expected::Known(self.domain.clone()),
            models: self.models.as_ref().clone(),
        }
    }

    /// False if an older verdict names a model that the list no longer gives this domain.
    pub fn may_serve(&self, attested_model: &str) -> bool {
        match self.models.as_ref() {
            Expected::Known(models) => models.iter().any(|model| model == attested_model),
            Expected::NotChecked(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(patterns: &[&str]) -> AllowList {
        AllowList::new(patterns.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn admits(list: &AllowList, name: &str) -> bool {
        list.backend(name, Expected::NotChecked("a test")).is_ok()
    }

    #[test]
    fn a_star_is_one_label() {
        let list = allow(&["*.completions.near.ai", "exact.example.com"]);
        assert!(admits(&list, "glm-5-i3.completions.near.ai"));
        assert!(admits(&list, "GLM-5.Completions.NEAR.ai"));
        assert!(admits(&list, "exact.example.com"));
        for name in [
            "completions.near.ai",
            "a.b.completions.near.ai",
            "evil.example",
            "xcompletions.near.ai",
            "glm-5.completions.near.ai.evil.example",
            "other.example.com",
        ] {
            assert!(!admits(&list, name), "{name}");
        }
    }

    #[test]
    fn nothing_but_names() {
        let list = allow(&["*.completions.near.ai"]);
        for name in [
            "127.0.0.1",
            "[::1]",
            "::1",
            "glm-5.completions.near.ai:443",
            "user@glm-5.completions.near.ai",
            "glm-5.completions.near.ai/",
            "glm-5.completions.near.ai.",
            "http://glm-5.completions.near.ai",
            "",
        ] {
            let error = list.backend(name, Expected::NotChecked("a test"));
            assert!(matches!(error, Err(NotAllowed::NotAName(_))), "{name}");
        }
    }

    #[test]
    fn patterns_that_would_allow_everything_do_not_parse() {
        for text in [
            "*",
            "*.",
            "*.com",
            "",
            "a*.example.com",
            "*.*.example.com",
            "*.127.0.0.1",
        ] {
            assert!(text.parse::<AllowPattern>().is_err(), "{text}");
        }
    }
}
