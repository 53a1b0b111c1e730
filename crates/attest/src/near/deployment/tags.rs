//! The tags of the repository that compose files come from.
//!
//! A log names a tag and a commit; which commit a tag stands for is the
//! repository's to say. Nobody signs that: a list of tags is its server's word, of
//! the moment it was asked. So a list can only speak against a log. Nor does it
//! say on which branch a commit is: that takes the history.

use std::collections::BTreeMap;

use super::ComposeFile;
use crate::base::identifiers::CommitId;
use crate::base::text::{hex_array, quoted, shown};
use crate::refusals::deployment::DeploymentRejected;

/// The longest list that is read. A reference takes some 100 bytes: NEAR's 357 tags,
/// of which 269 are annotated, 142 branches and 184 pull requests are 65 KB. Of
/// pull requests a server may list two references each, and closed ones as well.
pub const MAX_TAGS_BYTES: usize = 4 << 20;

/// The longest packet (gitprotocol-common, pkt-line), with its length.
const MAX_PACKET_BYTES: usize = 65_520;

/// The first packet of an answer over HTTP (gitprotocol-http, "Smart Clients").
const SERVICE: &[u8] = b"# service=git-upload-pack";

const TAGS: &str = "refs/tags/";

/// What git writes behind a tag's name where it says what an annotated tag is about.
const PEELED: &[u8] = b"^{}";

/// Every tag of a repository with the commit that it resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTags {
    commits: BTreeMap<String, CommitId>,
}

/// A list of references that cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no list of references as git makes it: {0}")]
pub struct TagsError(String);

/// What the tags of a log are compared with.
#[derive(Debug, Clone, Copy)]
pub enum TagsCheck<'a> {
    /// These.
    AtHand(&'a UpstreamTags),
    /// Nothing, for this reason; the report says so.
    NotFetched(&'a str),
}

impl UpstreamTags {
    /// Reads the answer to `GET <repository>/info/refs?service=git-upload-pack`: the
    /// reference advertisement of git's protocol, version 0.
    ///
    /// # Errors
    /// [`TagsError`] with what is wrong.
    pub fn from_advertisement(bytes: &[u8]) -> Result<Self, TagsError> {
        let mut rest = bounded(bytes)?;
        if packet(&mut rest)?.map(without_line_feed) != Some(SERVICE) {
            return error("it does not begin with the service's name");
        }
        if packet(&mut rest)?.is_some() {
            return error("something follows the service's name");
        }
        let mut references = References::default();
        let mut is_first = true;
        while let Some(line) = packet(&mut rest)? {
            let line = without_line_feed(line);
            // Behind the first one stands what the server can do.
            let end = line.iter().position(|byte| is_first && *byte == 0);
            let line = end.and_then(|end| line.get(..end)).unwrap_or(line);
            is_first = false;
            references.line(line, b' ')?;
        }
        if !rest.is_empty() {
            return error("it goes on behind its end");
        }
        references.tags()
    }

    /// Reads what `git ls-remote <repository>` says. With `--refs` it leaves out
    /// what annotated tags are about; those fit no commit then.
    ///
    /// # Errors
    /// [`TagsError`] with what is wrong.
    pub fn from_ls_remote(bytes: &[u8]) -> Result<Self, TagsError> {
        let mut references = References::default();
        for line in without_line_feed(bounded(bytes)?).split(|byte| *byte == b'\n') {
            references.line(line, b'\t')?;
        }
        references.tags()
    }

    /// The commit that a tag resolves to.
    #[must_use]
    pub fn commit(&self, tag: &str) -> Option<CommitId> {
        self.commits.get(tag).copied()
    }

    /// How many tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Every file that was ever started, as for the other rules.
    pub(crate) fn admit(&self, started: &[&ComposeFile]) -> Result<(), DeploymentRejected> {
        for source in started {
            match self.commit(&source.tag) {
                Some(commit) if commit == source.commit => {}
                Some(commit) => {
                    return Err(DeploymentRejected::TagMoved {
                        file: quoted(&source.file),
                        tag: quoted(&source.tag),
                        got: source.commit.to_string(),
                        expected: commit.to_string(),
                    });
                }
                None => {
                    return Err(DeploymentRejected::TagUnknown {
                        file: quoted(&source.file),
                        got: quoted(&source.tag),
                        known: self.len(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// References in the order in which they are listed.
#[derive(Debug, Default)]
struct References<'a> {
    by_name: BTreeMap<&'a [u8], CommitId>,
    /// The one of the line before, if that may be about a tag's object.
    last: Option<&'a [u8]>,
}

impl<'a> References<'a> {
    /// A line names an object and a reference; or, right behind the reference of an
    /// annotated tag, what that tag is about.
    fn line(&mut self, line: &'a [u8], between: u8) -> Result<(), TagsError> {
        let Some((id, [found, name @ ..])) = line.split_at_checked(40) else {
            return bad_line(line);
        };
        let Some(commit) = object_id(id).filter(|_| *found == between) else {
            return bad_line(line);
        };
        if let Some(of) = name.strip_suffix(PEELED) {
            if self.last.take() != Some(of) {
                return bad_line(line);
            }
            self.by_name.insert(of, commit);
            return Ok(());
        }
        if !is_reference(name) {
            return bad_line(line);
        }
        if self.by_name.insert(name, commit).is_some() {
            return error(format!(
                "it names {} twice",
                quoted(&String::from_utf8_lossy(name))
            ));
        }
        self.last = Some(name);
        Ok(())
    }

    fn tags(self) -> Result<UpstreamTags, TagsError> {
        let named = self.by_name.into_iter().filter_map(|(name, commit)| {
            // A log names plain ASCII only.
            let tag = std::str::from_utf8(name).ok()?.strip_prefix(TAGS)?;
            Some((tag.to_owned(), commit))
        });
        Ok(UpstreamTags {
            commits: named.collect(),
        })
    }
}

fn error<T>(what: impl Into<String>) -> Result<T, TagsError> {
    Err(TagsError(what.into()))
}

fn bad_line<T>(line: &[u8]) -> Result<T, TagsError> {
    let text = String::from_utf8_lossy(line);
    error(format!("it has the line \"{}\"", shown(&text)))
}

fn bounded(bytes: &[u8]) -> Result<&[u8], TagsError> {
    if bytes.len() > MAX_TAGS_BYTES {
        return error(format!(
            "{} bytes, at most {MAX_TAGS_BYTES} are read",
            bytes.len()
        ));
    }
    Ok(bytes)
}

fn without_line_feed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Takes a packet off: four hex digits say its length, with themselves; `0000` is
/// none, but an end.
fn packet<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, TagsError> {
    let Some((digits, tail)) = rest.split_first_chunk::<4>() else {
        return error("it ends too early");
    };
    let mut length = [0; 2];
    if hex::decode_to_slice(digits, &mut length).is_err() {
        return error("a packet has no length");
    }
    let length = usize::from(u16::from_be_bytes(length));
    if length == 0 {
        *rest = tail;
        return Ok(None);
    }
    let content = length.checked_sub(4).filter(|_| length <= MAX_PACKET_BYTES);
    let Some(content) = content else {
        return error(format!("a packet has the length {length}"));
    };
    let Some((content, tail)) = tail.split_at_checked(content) else {
        return error("it ends too early");
    };
    *rest = tail;
    Ok(Some(content))
}

/// SHA-1, as git writes it.
fn object_id(id: &[u8]) -> Option<CommitId> {
    let text = std::str::from_utf8(id).ok()?;
    let is_git_s = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_git_s
        .then(|| hex_array(text))
        .flatten()
        .map(CommitId::from_bytes)
}

/// As `git check-ref-format --allow-onelevel` has it: `HEAD` is one as well.
fn is_reference(name: &[u8]) -> bool {
    let has = |pair: &[u8; 2]| name.windows(2).any(|two| two == pair);
    let plain = |byte: &u8| !matches!(byte, 0..=b' ' | 0x7f) && !b"~^:?*[\\".contains(byte);
    let fits =
        |part: &[u8]| !part.is_empty() && !part.starts_with(b".") && !part.ends_with(b".lock");
    name.iter().all(plain)
        && !has(b"..")
        && !has(b"@{")
        && !name.ends_with(b".")
        && name != b"@"
        && name.split(|byte| *byte == b'/').all(fits)
}
