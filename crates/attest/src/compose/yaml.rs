//! YAML from outside: one document, bounded, and read as Docker Compose reads it
//! or not at all.
//!
//! Compose reads YAML 1.1 with go-yaml; the parser here reads YAML 1.2. A text that the
//! two could read differently is refused before it is used: other line breaks than line
//! feeds (1.1 ends a comment at U+2028), tabs, byte order marks, directives, tags
//! (`!reset`, `!override`), keys that are not plain strings, duplicate keys. Scalars
//! stay texts: the code that reads one as a number or a boolean decides which forms it
//! accepts.
//!
//! Anchors and merge keys are resolved. Of `<<`, a mapping's own keys win over merged
//! ones in any order, and of several sources the first wins (yaml.org/type/merge,
//! go-yaml since v3.0.0). Aliases share what they name, so reading costs no more than
//! the text; what walking the whole would cost is bounded too.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::base::text::{quoted, shown};
use crate::refusals::compose::ComposeRejected as Refused;

/// The largest file of 960 that NEAR published has 111 KB.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// Keys, values, and containers' starts and ends, as written. NEAR's largest file
/// has 2,300.
const MAX_NODES: usize = 6_000;

/// Text and [`NODE`] bytes a node, with every alias written out. NEAR's largest
/// file has 145 KB.
const MAX_EXPANDED: usize = 512 * 1024;

/// The bytes that a node without text counts for in [`MAX_EXPANDED`].
const NODE: usize = 16;

/// NEAR's files nest 9 deep.
const MAX_DEPTH: usize = 32;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Scalar(Scalar),
    Sequence(Vec<Arc<Self>>),
    /// In the order of the text, merged keys last; no key twice.
    Mapping(Vec<(String, Arc<Self>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so it may be a null, boolean or number.
    pub(crate) plain: bool,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(Scalar { text, plain: true }) if is_null(text))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Mapping(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value.as_ref()))
    }

    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[(String, Arc<Self>)] {
        match self {
            Self::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Its kind, in words.
    pub(crate) fn kind(&self) -> String {
        match self {
            node if node.is_null() => "nothing".to_owned(),
            Self::Scalar(scalar) => quoted(&scalar.text),
            Self::Sequence(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads the one document of a text. `file` is its name in refusals.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Arc<Node>, Refused> {
    let name = || quoted(file);
    if bytes.len() > MAX_BYTES {
        return Err(Refused::TooLarge {
            file: name(),
            len: bytes.len(),
            max: MAX_BYTES,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Refused::NotText {
        file: name(),
        detail: format!("not UTF-8 after byte {}", error.valid_up_to()),
    })?;
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_ambiguous(*c)) {
        return Err(Refused::NotText {
            file: name(),
            detail: format!("the character U+{:04X} at byte {at}", u32::from(c)),
        });
    }
    Reader::new(file).document(text)
}

/// Characters that end a line or are blank in one version of YAML and not in the other,
/// and characters that no file needs.
fn is_ambiguous(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A null, if written without quotes; where nothing is written the parser has `~`.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The characters that go-yaml accepts inside an anchor's name.
fn is_in_anchors(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// In `{a:,}` go-yaml reads the plain text `a:`, since no blank ends it, and in
/// `{a :,}` the text `a :`.
fn is_longer_for_go(document: &str, plain: Span) -> bool {
    let after = plain.byte_range().filter(|range| !range.is_empty());
    let after = after.and_then(|range| document.get(range.end..));
    let after = after.and_then(|text| text.trim_start_matches([' ', '\n']).strip_prefix(':'));
    after.is_some_and(|text| text.starts_with([',', '?', '[', ']', '{', '}']))
}

struct Reader<'a> {
    file: &'a str,
    nodes: usize,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Weighed>,
    root: Option<Arc<Node>>,
}

#[derive(Clone)]
struct Weighed {
    node: Arc<Node>,
    /// With every alias written out.
    weight: usize,
}

/// A container whose end has not come yet.
struct Open {
    anchor: usize,
    weight: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Arc<Node>>),
    Mapping(OpenMapping),
}

#[derive(Default)]
struct OpenMapping {
    entries: Vec<(String, Arc<Node>)>,
    keys: BTreeSet<String>,
    /// The key whose value comes next.
    key: Option<Key>,
    merged: Option<Arc<Node>>,
}

enum Key {
    Named(String),
    Merge,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            nodes: 0,
            stack: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
        }
    }

    fn document(mut self, text: &str) -> Result<Arc<Node>, Refused> {
        let options = granit_parser::options! {
            strict_indentation: true,
            disallow_directives: true,
            block_scalar_eof_without_line_feed: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
            emit_anchor_events: true,
        };
        let mut documents = 0_usize;
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| Refused::Syntax {
                file: quoted(self.file),
                line: error.marker().line(),
                detail: shown(&error.info()),
            })?;
            let otherwise = |detail| Refused::Syntax {
                file: quoted(self.file),
                line: span.start.line(),
                detail,
            };
            match event {
                // `&a:b c` is an anchor `a` and the text `:b c` for go-yaml.
                Event::Anchor(_, name) if !name.chars().all(is_in_anchors) => {
                    let name = quoted(&name);
                    return Err(otherwise(format!("the anchor {name}")));
                }
                Event::Anchor(..) => {}
                Event::Scalar(key, ScalarStyle::Plain, ..) if is_longer_for_go(text, span) => {
                    let key = quoted(&key);
                    return Err(otherwise(format!("no blank after the colon of {key}")));
                }
                Event::DocumentStart(..) => {
                    documents = documents.saturating_add(1);
                    if documents > 1 {
                        return Err(Refused::Documents {
                            file: quoted(self.file),
                        });
                    }
                }
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                other => self.event(other)?,
            }
        }
        self.root.ok_or_else(|| Refused::Shape {
            file: quoted(self.file),
            place: "the file".to_owned(),
            expected: "a mapping",
            got: "nothing".to_owned(),
        })
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), Refused> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(self.too_complex(format!("more than {MAX_NODES} nodes")));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.untagged(tag.is_some())?;
                self.scalar(text, style, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.untagged(tag.is_some())?;
                self.open(anchor, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.untagged(tag.is_some())?;
                self.open(anchor, Content::Mapping(OpenMapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let named = self.anchors.get(&anchor).cloned();
                // An anchor that is still open names a value that contains itself.
                let named = named.ok_or_else(|| Refused::Alias {
                    file: quoted(self.file),
                })?;
                self.no_key("an alias")?;
                self.put(named)
            }
            // No option asks for these events; they have no meaning here if a later
            // version sends them.
            _ => Err(self.too_complex("an event that this reader does not know".to_owned())),
        }
    }

    fn too_complex(&self, detail: String) -> Refused {
        Refused::TooComplex {
            file: quoted(self.file),
            detail,
        }
    }

    fn untagged(&self, tagged: bool) -> Result<(), Refused> {
        if tagged {
            return Err(Refused::Tag {
                file: quoted(self.file),
            });
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
    ) -> Result<(), Refused> {
        let plain = style == ScalarStyle::Plain;
        if let Some(Open {
            content: Content::Mapping(mapping),
            weight,
            ..
        }) = self.stack.last_mut()
            && mapping.key.is_none()
        {
            let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            // "<<" in quotes is a key like any other for one reader, a merge for another.
            if anchor != 0 || block || (plain && is_null(&text)) || (text == "<<" && !plain) {
                return Err(Refused::Key {
                    file: quoted(self.file),
                    got: quoted(&text),
                });
            }
            if !mapping.keys.insert(text.to_string()) {
                return Err(Refused::DuplicateKey {
                    file: quoted(self.file),
                    key: quoted(&text),
                });
            }
            *weight = weight.saturating_add(text.len());
            mapping.key = Some(if text == "<<" {
                Key::Merge
            } else {
                Key::Named(text.into_owned())
            });
            return Ok(());
        }
        let weight = NODE.saturating_add(text.len());
        let node = Arc::new(Node::Scalar(Scalar {
            text: text.into_owned(),
            plain,
        }));
        self.finish(anchor, Weighed { node, weight })
    }

    fn no_key(&self, what: &str) -> Result<(), Refused> {
        if let Some(Open {
            content: Content::Mapping(OpenMapping { key: None, .. }),
            ..
        }) = self.stack.last()
        {
            return Err(Refused::Key {
                file: quoted(self.file),
                got: what.to_owned(),
            });
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, content: Content) -> Result<(), Refused> {
        self.no_key("a list or mapping")?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.too_complex(format!("more than {MAX_DEPTH} levels deep")));
        }
        self.stack.push(Open {
            anchor,
            weight: NODE,
            content,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Refused> {
        let Some(open) = self.stack.pop() else {
            return Err(self.too_complex("an end without a start".to_owned()));
        };
        let node = match open.content {
            Content::Sequence(items) => Node::Sequence(items),
            Content::Mapping(mapping) => Node::Mapping(self.merge(mapping)?),
        };
        self.finish(
            open.anchor,
            Weighed {
                node: Arc::new(node),
                weight: open.weight,
            },
        )
    }

    fn finish(&mut self, anchor: usize, made: Weighed) -> Result<(), Refused> {
        if anchor != 0 {
            self.anchors.insert(anchor, made.clone());
        }
        self.put(made)
    }

    fn put(&mut self, value: Weighed) -> Result<(), Refused> {
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(value.node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(value.weight);
        let weight = open.weight;
        match &mut open.content {
            Content::Sequence(items) => items.push(value.node),
            Content::Mapping(mapping) => match mapping.key.take() {
                Some(Key::Named(name)) => mapping.entries.push((name, value.node)),
                Some(Key::Merge) => mapping.merged = Some(value.node),
                None => return Err(self.too_complex("a value without a key".to_owned())),
            },
        }
        if weight > MAX_EXPANDED {
            return Err(
                self.too_complex(format!("aliases expand to more than {MAX_EXPANDED} bytes"))
            );
        }
        Ok(())
    }

    fn merge(&self, mapping: OpenMapping) -> Result<Vec<(String, Arc<Node>)>, Refused> {
        let OpenMapping {
            mut entries,
            mut keys,
            merged,
            ..
        } = mapping;
        let Some(merged) = merged else {
            return Ok(entries);
        };
        let sources = match merged.as_ref() {
            Node::Sequence(sources) => sources.clone(),
            _ => vec![merged],
        };
        for source in sources {
            let Node::Mapping(more) = source.as_ref() else {
                return Err(Refused::Merge {
                    file: quoted(self.file),
                    got: source.kind(),
                });
            };
            for (key, value) in more {
                if keys.insert(key.clone()) {
                    entries.push((key.clone(), Arc::clone(value)));
                }
            }
        }
        Ok(entries)
    }
}
