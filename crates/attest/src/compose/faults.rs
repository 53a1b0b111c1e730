//! Faults: parts of a file that the rules cannot judge.

use std::sync::Arc;

use crate::base::text::quoted;
use crate::compose::yaml::{Node, Scalar};
use crate::refusals::compose::ComposeRejected as Refused;

/// Reads services and collects the faults.
pub(crate) struct Faults<'a> {
    pub(crate) file: &'a str,
    pub(crate) list: Vec<Refused>,
}

/// A place in the file for messages.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, quoted(self.name))
    }
}

impl Faults<'_> {
    pub(crate) fn shape(&mut self, place: Place<'_>, expected: &'static str, got: &Node) {
        self.list.push(Refused::Shape {
            file: quoted(self.file),
            place: place.to_string(),
            expected,
            got: got.kind(),
        });
    }

    pub(crate) fn setting(&mut self, place: Place<'_>, setting: &str) {
        self.list.push(Refused::Setting {
            file: quoted(self.file),
            place: place.to_string(),
            setting: quoted(setting),
        });
    }

    pub(crate) fn elsewhere(&mut self, place: Place<'_>, what: &'static str) {
        self.list.push(Refused::Elsewhere {
            file: quoted(self.file),
            place: place.to_string(),
            what,
        });
    }

    /// A text without variables, and without `$$`, which no judged setting needs.
    pub(crate) fn fixed<'n>(
        &mut self,
        place: Place<'_>,
        setting: &str,
        node: &'n Node,
    ) -> Option<&'n str> {
        let Node::Scalar(Scalar { text, .. }) = node else {
            self.shape(place, "a text", node);
            return None;
        };
        if text.contains('$') {
            self.list.push(Refused::Variable {
                file: quoted(self.file),
                place: place.to_string(),
                setting: quoted(setting),
                got: quoted(text),
            });
            return None;
        }
        Some(text)
    }

    /// A list of texts, or nothing.
    pub(crate) fn fixed_list<'n>(
        &mut self,
        place: Place<'_>,
        setting: &str,
        node: &'n Node,
    ) -> Vec<&'n str> {
        items(node)
            .unwrap_or_else(|| {
                self.shape(place, "a list", node);
                &[]
            })
            .iter()
            .filter_map(|item| self.fixed(place, setting, item))
            .collect()
    }

    pub(crate) fn list_of<'n>(&mut self, place: Place<'_>, node: &'n Node) -> &'n [Arc<Node>] {
        items(node).unwrap_or_else(|| {
            self.shape(place, "a list", node);
            &[]
        })
    }

    pub(crate) fn fixed_child<'n>(
        &mut self,
        place: Place<'_>,
        setting: &str,
        node: Option<&'n Node>,
    ) -> Option<&'n str> {
        node.and_then(|node| self.fixed(place, setting, node))
    }
}

fn items(node: &Node) -> Option<&[Arc<Node>]> {
    match node {
        Node::Sequence(items) => Some(items),
        _ => None,
    }
}
