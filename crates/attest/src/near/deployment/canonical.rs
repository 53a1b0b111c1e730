//! What the manager hashed, written anew from what the report carries.
//!
//! `actions_hash` is SHA-256 over compact JSON in raw UTF-8. Older managers
//! wrote keys as their structure declares them, newer ones sorted. The
//! inference proxy parses and writes the log again, so neither order nor
//! spelling on the wire says which it was.

use std::borrow::Cow;

use crate::base::hash::sha256;
use crate::base::identifiers::LogDigest;
use crate::base::text::quoted;

/// The manager's declaration of an action.
const DECLARED: [&str; 9] = [
    "timestamp",
    "action",
    "tag",
    "commit",
    "file",
    "file_sha256",
    "services",
    "container",
    "image",
];

/// Containers inside an action: known ones hold one, a list of services.
const MAX_DEPTH: isize = 4;

/// Texts with an escape in them, in one log. Managers write names of plain ASCII; whoever
/// writes the log again on its way may escape what is none. Escapes are what makes a text
/// costly, some 1.7 MB of them as costly as twenty quotes.
const MAX_ESCAPED_BYTES: usize = 64 << 10;

/// How the manager wrote what it hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CanonicalForm {
    /// Keys of every object in the order of their bytes.
    SortedKeys,
    /// Keys in the order in which the manager's structure declares them; unknown
    /// ones follow in the order in which they came.
    DeclaredOrder,
}

impl CanonicalForm {
    /// The words that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SortedKeys => "sorted keys",
            Self::DeclaredOrder => "declared order",
        }
    }
}

/// The hash of a list of actions, and of each beginning of it, whatever form the
/// manager's was: one that changes its form has not begun a new log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) sorted: [u8; 32],
    /// After no action, the first, the second …: see [`LogDigest`].
    pub(crate) chain: Vec<LogDigest>,
}

impl Hashes {
    pub(crate) fn of(actions: &[Members<'_>]) -> Self {
        let mut last = LogDigest::from_bytes([0; 32]);
        let mut chain = vec![last];
        let sorted = listed(actions, |action, out| {
            let from = out.len();
            write_object(&action.0, Keys::Sorted, out);
            let one = sha256(&[out.get(from..).unwrap_or_default().as_bytes()]);
            last = LogDigest::from_bytes(sha256(&[last.as_bytes(), &one]));
            chain.push(last);
        });
        Self { sorted, chain }
    }
}

/// The hash of the same list in the order of the manager's declaration.
pub(crate) fn declared(actions: &[Members<'_>]) -> [u8; 32] {
    listed(actions, |action, out| write_declared(action, out))
}

fn listed<'a, 'b>(
    actions: &'b [Members<'a>],
    write: impl FnMut(&'b Members<'a>, &mut String),
) -> [u8; 32] {
    let mut out = String::new();
    write_items(('[', ']'), actions, &mut out, write);
    sha256(&[out.as_bytes()])
}

fn write_items<T>(
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

/// A value whose texts are spelled as the manager spells them: the form is of values,
/// not of spellings. Numbers and words stay as they came.
#[derive(Debug)]
enum Value<'a> {
    Leaf(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<Member<'a>>),
}

/// A key, and its spelling with quotation marks.
#[derive(Debug)]
struct Member<'a> {
    key: Cow<'a, str>,
    spelled: Cow<'a, str>,
    value: Value<'a>,
}

/// An object's members in the order in which they came; no key stands twice,
/// since the whole report was [`check`](crate::base::json::check)ed.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<Member<'a>>);

impl<'a> Members<'a> {
    /// Reads the list of actions. Every byte is looked at once: a piece that is
    /// read again for each level around it costs what its nesting makes it.
    pub(crate) fn list(text: &'a str) -> Result<Vec<Self>, String> {
        let mut reader = Reader {
            rest: text,
            escaped_left: MAX_ESCAPED_BYTES,
        };
        // The list is not inside an action, nor is the action itself.
        let Value::List(actions) = reader.value(-1)? else {
            return Err(quoted(text));
        };
        let objects = actions.into_iter().map(|action| match action {
            Value::Object(members) => Ok(Self(members)),
            other => Err(quoted(&written(&other))),
        });
        objects.collect()
    }

    /// The JSON of a key's value; `null` is absence.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let mut members = self.0.iter();
        let member = members.find(|member| member.key == key)?;
        Some(written(&member.value)).filter(|text| text != "null")
    }
}

fn written(value: &Value<'_>) -> String {
    let mut out = String::new();
    write_value(value, Keys::AsTheyAre, &mut out);
    out
}

#[derive(Clone, Copy)]
enum Keys {
    Sorted,
    AsTheyAre,
}

fn write_declared(action: &Members<'_>, out: &mut String) {
    let place = |key: &str| {
        let known = DECLARED.iter().position(|known| *known == key);
        known.unwrap_or(DECLARED.len())
    };
    let mut members: Vec<_> = action.0.iter().collect();
    // Stable: unknown keys stay in their order.
    members.sort_by_key(|member| place(&member.key));
    write_members(&members, Keys::AsTheyAre, out);
}

fn write_object(members: &[Member<'_>], keys: Keys, out: &mut String) {
    let mut members: Vec<_> = members.iter().collect();
    if let Keys::Sorted = keys {
        members.sort_by(|one, other| one.key.cmp(&other.key));
    }
    write_members(&members, keys, out);
}

fn write_members(members: &[&Member<'_>], keys: Keys, out: &mut String) {
    write_items(('{', '}'), members, out, |member, out| {
        out.push_str(&member.spelled);
        out.push(':');
        write_value(&member.value, keys, out);
    });
}

fn write_value(value: &Value<'_>, keys: Keys, out: &mut String) {
    match value {
        Value::Leaf(text) => out.push_str(text),
        Value::Object(members) => write_object(members, keys, out),
        Value::List(items) => write_items(('[', ']'), items, out, |item, out| {
            write_value(item, keys, out);
        }),
    }
}

/// Reads a piece of a text that was [`check`](crate::base::json::check)ed, so that its
/// grammar holds.
struct Reader<'a> {
    rest: &'a str,
    /// How many bytes of texts with escapes are still read.
    escaped_left: usize,
}

impl<'a> Reader<'a> {
    /// `depth` is that of this value inside an action.
    fn value(&mut self, depth: isize) -> Result<Value<'a>, String> {
        self.rest = self.rest.trim_start();
        let first = self.rest.bytes().next();
        let is_container = matches!(first, Some(b'{' | b'['));
        if is_container && depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} levels inside an action"));
        }
        let inner = depth.saturating_add(1);
        match first {
            Some(b'{') => {
                let mut members = Vec::new();
                self.items('}', |reader| {
                    let (key, spelled) = reader.string()?;
                    reader.rest = reader.rest.trim_start();
                    reader.take(':')?;
                    let value = reader.value(inner)?;
                    members.push(Member {
                        key,
                        spelled,
                        value,
                    });
                    Ok(())
                })?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.items(']', |reader| {
                    items.push(reader.value(inner)?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            Some(b'"') => Ok(Value::Leaf(self.string()?.1)),
            _ => {
                let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                Ok(Value::Leaf(Cow::Borrowed(self.split(end)?)))
            }
        }
    }

    /// What stands between brackets, of which the first is next.
    fn items(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.split(1)?;
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with(close) {
                return self.take(close);
            }
            item(self)?;
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with(close) {
                self.take(',')?;
            }
        }
    }

    /// A text, and how the manager spells it: it escapes what JSON demands.
    fn string(&mut self) -> Result<(Cow<'a, str>, Cow<'a, str>), String> {
        let rest = self.rest.strip_prefix('"').ok_or("no JSON")?;
        let (inner, _) = rest.split_once('"').ok_or("no JSON")?;
        if !inner.contains('\\') {
            let raw = self.split(inner.len().saturating_add(2))?;
            return Ok((Cow::Borrowed(inner), Cow::Borrowed(raw)));
        }
        let mut escaped = false;
        let bytes = rest.bytes().take(self.escaped_left);
        let inner = bytes.take_while(|byte| {
            let is_end = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            !is_end
        });
        let length = inner.count().saturating_add(2);
        let left = self.escaped_left.checked_sub(length);
        self.escaped_left = left
            .ok_or_else(|| format!("more than {MAX_ESCAPED_BYTES} bytes of texts with escapes"))?;
        let raw = self.split(length)?;
        let no_text = |error: serde_json::Error| crate::base::text::shown(&error.to_string());
        let text: String = serde_json::from_str(raw).map_err(no_text)?;
        let spelled = serde_json::to_string(&text).map_err(no_text)?;
        Ok((Cow::Owned(text), Cow::Owned(spelled)))
    }

    fn take(&mut self, expected: char) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(expected).ok_or("no JSON")?;
        Ok(())
    }

    fn split(&mut self, at: usize) -> Result<&'a str, String> {
        let parts = self.rest.split_at_checked(at);
        let (taken, rest) = parts.filter(|_| at > 0).ok_or("no JSON")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str, keys: Keys) -> String {
        let list = format!("[{text}]");
        let actions = Members::list(&list).unwrap();
        let mut out = String::new();
        match keys {
            Keys::Sorted => write_object(&actions[0].0, keys, &mut out),
            Keys::AsTheyAre => write_declared(&actions[0], &mut out),
        }
        out
    }

    #[test]
    fn both_forms_are_written_as_the_manager_wrote_them() {
        let text = r#" { "z" : [ 1 , { "b":2, "a":[ ] } ], "file":"\u00e9\/\"\u000a" , "action": "up",
            "timestamp":"t", "b":null, "services":["x","y"] } "#;
        assert_eq!(
            form(text, Keys::Sorted),
            r#"{"action":"up","b":null,"file":"é/\"\n","services":["x","y"],"timestamp":"t","z":[1,{"a":[],"b":2}]}"#
        );
        assert_eq!(
            form(text, Keys::AsTheyAre),
            r#"{"timestamp":"t","action":"up","file":"é/\"\n","services":["x","y"],"z":[1,{"b":2,"a":[]}],"b":null}"#
        );
    }

    #[test]
    fn an_empty_list_has_one_hash_in_both_forms() {
        let hashes = Hashes::of(&[]);
        assert_eq!(hashes.sorted, sha256(&[b"[]"]));
        assert_eq!(hashes.sorted, declared(&[]));
        assert_eq!(hashes.chain, [LogDigest::from_bytes([0; 32])]);
    }
}
