//! What the manager hashed, written anew from what the report carries.
//!
//! `actions_hash` is SHA-256 over compact JSON in raw UTF-8. Older managers
//! wrote keys as their structure declares them, newer ones sorted. The
//! inference proxy parses and writes the log again, so neither order nor
//! spelling on the wire says which it was.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::hash::sha256;
use crate::{LogDigest, json};

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

/// Containers inside an action: known ones hold one, a list of services. Every
/// level is read once more, so that the limit of the report would cost too much.
const MAX_DEPTH: usize = 4;

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

/// The hashes of a list of actions, in both forms, and of each beginning of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) sorted: [u8; 32],
    pub(crate) declared: [u8; 32],
    /// After no action, the first, the second …: see [`LogDigest`].
    pub(crate) chain: Vec<LogDigest>,
}

impl Hashes {
    /// # Errors
    /// If an action nests too deep, or is no JSON that [`json::check`] would pass.
    pub(crate) fn of(actions: &[Members<'_>]) -> Result<Self, String> {
        let (mut sorted, mut declared) = (String::from("["), String::from("["));
        let mut last = LogDigest::from_bytes([0; 32]);
        let mut chain = vec![last];
        for (index, action) in actions.iter().enumerate() {
            if index > 0 {
                sorted.push(',');
                declared.push(',');
            }
            write_members(&action.declared(), Keys::AsTheyAre, 0, &mut declared)?;
            // The chain is of one form, whatever the manager's was: a manager that
            // changes its form has not begun a new log.
            let mut one = String::new();
            write_members(&action.0, Keys::Sorted, 0, &mut one)?;
            last = LogDigest::from_bytes(sha256(&[last.as_bytes(), &sha256(&[one.as_bytes()])]));
            chain.push(last);
            sorted.push_str(&one);
        }
        sorted.push(']');
        declared.push(']');
        Ok(Self {
            sorted: sha256(&[sorted.as_bytes()]),
            declared: sha256(&[declared.as_bytes()]),
            chain,
        })
    }

    /// The form that gives this hash.
    pub(crate) fn form(&self, actions_hash: &[u8; 32]) -> Option<CanonicalForm> {
        if *actions_hash == self.sorted {
            Some(CanonicalForm::SortedKeys)
        } else if *actions_hash == self.declared {
            Some(CanonicalForm::DeclaredOrder)
        } else {
            None
        }
    }
}

/// An object's members in the order in which they came; no key stands twice,
/// since the whole report was [`json::check`]ed.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(crate) fn read(raw: &'a RawValue) -> Result<Self, String> {
        json::checked_object(raw.get())
    }

    /// The value of a key; `null` is absence.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value)
            .filter(|value| value.get() != "null")
    }

    fn declared(&self) -> Vec<(String, &'a RawValue)> {
        let place = |key: &str| {
            DECLARED
                .iter()
                .position(|known| *known == key)
                .unwrap_or(DECLARED.len())
        };
        let mut members = self.0.clone();
        // Stable: unknown keys stay in their order.
        members.sort_by_key(|(key, _)| place(key));
        members
    }
}

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[derive(Clone, Copy)]
enum Keys {
    Sorted,
    AsTheyAre,
}

fn write_members(
    members: &[(String, &RawValue)],
    keys: Keys,
    depth: usize,
    out: &mut String,
) -> Result<(), String> {
    let mut members: Vec<_> = members.iter().collect();
    if let Keys::Sorted = keys {
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    out.push('{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out)?;
        out.push(':');
        write_value(value, keys, depth.saturating_add(1), out)?;
    }
    out.push('}');
    Ok(())
}

fn write_value(raw: &RawValue, keys: Keys, depth: usize, out: &mut String) -> Result<(), String> {
    let text = raw.get();
    let first = text.bytes().next();
    if depth > MAX_DEPTH && matches!(first, Some(b'{' | b'[')) {
        return Err(format!("more than {MAX_DEPTH} levels inside an action"));
    }
    match first {
        Some(b'{') => write_members(&Members::read(raw)?.0, keys, depth, out)?,
        Some(b'[') => {
            let items: Vec<&RawValue> = read(text)?;
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, keys, depth.saturating_add(1), out)?;
            }
            out.push(']');
        }
        // Escapes are resolved: the form is of values, not of spellings.
        Some(b'"') => write_string(&read::<String>(text)?, out)?,
        _ => out.push_str(text),
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) -> Result<(), String> {
    out.push_str(&serde_json::to_string(text).map_err(|error| error.to_string())?);
    Ok(())
}

fn read<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| crate::text::shown(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, keys: Keys) -> String {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let members = Members::read(raw).unwrap();
        let members = match keys {
            Keys::Sorted => members.0,
            Keys::AsTheyAre => members.declared(),
        };
        let mut out = String::new();
        write_members(&members, keys, 0, &mut out).unwrap();
        out
    }

    #[test]
    fn both_forms_are_written_as_the_manager_wrote_them() {
        let text = r#" { "z" : [ 1 , { "b":2, "a":[ ] } ], "file":"\u00e9\/\"\u000a" , "action": "up",
            "timestamp":"t", "b":null, "services":["x","y"] } "#;
        assert_eq!(
            written(text.trim(), Keys::Sorted),
            r#"{"action":"up","b":null,"file":"é/\"\n","services":["x","y"],"timestamp":"t","z":[1,{"a":[],"b":2}]}"#
        );
        assert_eq!(
            written(text.trim(), Keys::AsTheyAre),
            r#"{"timestamp":"t","action":"up","file":"é/\"\n","services":["x","y"],"z":[1,{"b":2,"a":[]}],"b":null}"#
        );
    }

    #[test]
    fn an_empty_list_has_one_hash_in_both_forms() {
        let hashes = Hashes::of(&[]).unwrap();
        assert_eq!(hashes.sorted, sha256(&[b"[]"]));
        assert_eq!(hashes.sorted, hashes.declared);
        assert_eq!(hashes.chain, [LogDigest::from_bytes([0; 32])]);
    }
}
