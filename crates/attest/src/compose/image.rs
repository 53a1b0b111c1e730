//! References to container images (the grammar of distribution/reference).

use std::fmt;

use crate::base::text::{as_text, expected};

/// The longest reference that is read: a name has at most 255 characters, a tag
/// 128, a digest 71.
const MAX_CHARS: usize = 512;

/// A repository by its full name: `docker.io/library/nginx`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// Reads a name as Docker does: `nginx` is `docker.io/library/nginx`. `None`
    /// if it is no name, or has a tag or digest.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let reference = ImageReference::read(name)?;
        let bare = reference.tag.is_none() && reference.digest.is_none();
        bare.then_some(reference.repository)
    }

    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// As a person writes it, see [`Repository::named`].
as_text!(Repository, |text| {
    let what = "a repository without tag or digest, such as vllm/vllm-openai";
    Repository::named(text).ok_or_else(|| expected(what, text))
});

/// A SHA-256 digest of an image, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageDigest(String);

impl ImageDigest {
    /// Reads `sha256:` and 64 hex digits in lower case.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let lower = hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex.len() == 64 && lower).then(|| Self(hex.to_owned()))
    }
}

/// `sha256:` and hex.
impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

as_text!(ImageDigest, |text| {
    let what = "sha256: and 64 hex digits in lower case";
    ImageDigest::read(text).ok_or_else(|| expected(what, text))
});

/// A reference to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// Where from.
    pub repository: Repository,
    /// The tag, which has no effect beside a digest.
    pub tag: Option<String>,
    /// The digest, which fixes the image whatever the tag names today.
    pub digest: Option<ImageDigest>,
}

impl ImageReference {
    /// Reads a reference; `None` for what Docker would refuse, and for digests
    /// that are no SHA-256.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_CHARS {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(ImageDigest::read(digest)?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if !tag.is_none_or(is_tag) {
            return None;
        }
        Some(Self {
            repository: repository(name)?,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The image of `${NAME:-image}`, or with `-`: the one that runs if the variable is
    /// not set.
    pub(crate) fn by_default(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("${")?.strip_suffix('}')?;
        let in_names = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (_, default) = inner.split_at_checked(inner.find(|c| !in_names(c))?)?;
        Self::read(
            default
                .strip_prefix(':')
                .unwrap_or(default)
                .strip_prefix('-')?,
        )
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn repository(name: &str) -> Option<Repository> {
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => ("docker.io", name),
    };
    let registry = match registry {
        "index.docker.io" => "docker.io",
        other => other,
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if !registry.chars().all(allowed) || !path.split('/').all(is_component) {
        return None;
    }
    Some(Repository(
        if registry == "docker.io" && !path.contains('/') {
            format!("docker.io/library/{path}")
        } else {
            format!("{registry}/{path}")
        },
    ))
}

/// As Docker tells a registry from the first part of a path.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alphanumeric)
        && part.ends_with(alphanumeric)
        && part
            .chars()
            .all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx"),
            ("lmsysorg/sglang", "docker.io/lmsysorg/sglang"),
            ("ghcr.io/astral-sh/uv", "ghcr.io/astral-sh/uv"),
            ("localhost/nginx", "localhost/nginx"),
            ("registry:5000/nginx", "registry:5000/nginx"),
            ("Docker/nginx", "Docker/nginx"),
        ] {
            let repository = Repository::named(text).map(|r| r.as_str().to_owned());
            assert_eq!(repository.as_deref(), Some(full), "{text}");
        }
    }

    #[test]
    fn tag_and_digest_are_told_apart() {
        let both = ImageReference::read(&format!("a.io:1/x:v1@{DIGEST}"));
        assert_eq!(
            both.map(|image| image.to_string()),
            Some(format!("a.io:1/x:v1@{DIGEST}"))
        );
        let neither = ImageReference::read("a.io:1/x");
        assert_eq!(neither.map(|image| image.tag), Some(None));
    }

    #[test]
    fn references_of_512_bytes_are_read_and_one_more_is_not() {
        for (len, read) in [(512, true), (513, false), (600, false)] {
            let name = "a".repeat(len);
            assert_eq!(ImageReference::read(&name).is_some(), read, "{len}");
        }
    }

    #[test]
    fn a_default_is_what_stands_behind_the_sign() {
        for (text, read) in [
            ("${A:-nginx:1}", true),
            ("${A_9-nginx:1}", true),
            ("${A:-}", false),
            ("${A}", false),
            ("$A", false),
            ("${A:?nginx:1}", false),
            ("${A:+nginx:1}", false),
            ("${A:?x:-nginx:1}", false),
            ("${A:-${B:-nginx:1}}", false),
            ("x${A:-nginx:1}", false),
            ("${A:-nginx:1}x", false),
        ] {
            let default = ImageReference::by_default(text).map(|image| image.to_string());
            let nginx = read.then_some("docker.io/library/nginx:1");
            assert_eq!(default.as_deref(), nginx, "{text}");
        }
    }

    #[test]
    fn what_docker_would_refuse_is_no_reference() {
        for text in [
            "",
            "nginx:",
            "nginx@",
            "nginx@sha256:00",
            "nginx@0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "nginx@sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "Nginx",
            "a//b",
            "a/../b",
            "/nginx",
            "nginx ",
            "nginx\n",
            "nginx:a b",
            "n\u{d6}ginx",
            "${IMAGE}",
        ] {
            assert_eq!(ImageReference::read(text), None, "{text:?}");
        }
        let upper = DIGEST.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(ImageReference::read(&format!("nginx@{upper}")), None);
        let twice = format!("nginx@{DIGEST}@{DIGEST}");
        assert_eq!(ImageReference::read(&twice), None);
    }
}
