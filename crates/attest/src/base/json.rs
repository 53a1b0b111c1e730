//! JSON from outside: bounded in depth and count, duplicate keys refused.
//!
//! serde alone keeps the last of two equal keys in a map, and the last or an
//! error in a struct; another reader may keep the first (RFC 8259 §4). So a
//! first pass over the whole text looks at structure only, a second one reads
//! the values.
//!
//! No foreign text is ever read into a `serde_json::Value`: with the feature
//! `raw_value`, a key of serde_json's own in an object makes it parse a STRING
//! as further JSON, outside every limit, so keys of that kind are refused here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::base::text::{quoted, shown};

/// What a document may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Containers inside containers.
    pub(crate) depth: usize,
    /// Values of every kind, keys not counted.
    pub(crate) values: usize,
    /// Members of one object: to look for each key among the others is what costs most
    /// in reading. 95,000 in one object cost as much as 45 verifications of a quote,
    /// before anybody has vouched for them.
    pub(crate) members: usize,
}

/// Of a document from outside: the largest object seen, a claim of NVIDIA's service, has
/// 29.
pub(crate) const MEMBERS: usize = 256;

/// A NEAR report nests 7 deep and holds about 900 values; 30 actions of the
/// compose-manager are 300 of them, and their log grows.
pub(crate) const REPORT: Limits = Limits {
    depth: 24,
    values: 100_000,
    members: MEMBERS,
};

/// JSON inside strings of the report: event log, vm_config, key provider.
pub(crate) const NESTED: Limits = Limits {
    depth: 16,
    values: 50_000,
    members: MEMBERS,
};

/// TCB info nests 6 deep; Intel lists some 20 levels of 32 components.
pub(crate) const COLLATERAL: Limits = Limits {
    depth: 16,
    values: 20_000,
    members: MEMBERS,
};

/// A file of this program's own: one object with an entry for each thing seen.
pub(crate) const OWN_FILE: Limits = Limits {
    depth: 4,
    values: 20_000,
    members: 20_000,
};

/// How serde_json marks its own wrapper types (`RawValue`, `Number`).
const SERDE_JSON_PRIVATE: &str = "$serde_json::private::";

/// Why a text was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonError {
    Syntax(String),
    DuplicateKey(String),
    TooComplex(String),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(detail) | Self::TooComplex(detail) => f.write_str(detail),
            Self::DuplicateKey(key) => write!(f, "the key {key} stands twice in one object"),
        }
    }
}

/// Reads a value after [`check`]ing the text it comes from.
pub(crate) fn parse<'de, T: serde::Deserialize<'de>>(
    bytes: &'de [u8],
    limits: &Limits,
) -> Result<T, JsonError> {
    check(bytes, limits)?;
    serde_json::from_slice(bytes).map_err(|error| JsonError::Syntax(syntax_text(&error)))
}

/// As [`parse`], for a struct: serde would also take an array, field by field.
pub(crate) fn parse_object<'de, T: serde::Deserialize<'de>>(
    bytes: &'de [u8],
    limits: &Limits,
) -> Result<T, JsonError> {
    check(bytes, limits)?;
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Syntax(error.to_string()))?;
    checked_object(text).map_err(JsonError::Syntax)
}

/// Reads a struct out of a piece of a text that has been [`check`]ed.
pub(crate) fn checked_object<'de, T: serde::Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    if !text.trim_start().starts_with('{') {
        return Err(format!("expected an object, got {}", quoted(text)));
    }
    checked(text)
}

/// Reads a value out of a piece of a text that has been [`check`]ed.
pub(crate) fn checked<'de, T: serde::Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| syntax_text(&error))
}

/// The members of an object in a text that has been [`check`]ed, in their order.
/// `E` is how the document's reader refuses one.
#[derive(Debug)]
pub(crate) struct Members<'a, E = ()>(Vec<(Cow<'a, str>, &'a RawValue)>, PhantomData<E>);

impl<E> Default for Members<'_, E> {
    fn default() -> Self {
        Self(Vec::new(), PhantomData)
    }
}

/// The refusal of a member, by its path.
pub(crate) trait BadMember: Sized {
    fn missing(path: &str) -> Self;
    /// `got` is fit to be shown.
    fn bad(path: &str, expected: &'static str, got: String) -> Self;
}

impl<'a, E> Members<'a, E> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }

    /// The value of the member that a path such as `info.app_id` ends with; `null` is
    /// absence.
    pub(crate) fn get(&self, path: &str) -> Option<&'a RawValue> {
        let name = path.rsplit('.').next();
        let mut members = self.iter();
        let raw = members.find_map(|(key, raw)| (Some(key) == name).then_some(raw));
        raw.filter(|raw| raw.get() != "null")
    }
}

impl<'a, E: BadMember> Members<'a, E> {
    pub(crate) fn required(&self, path: &str) -> Result<&'a RawValue, E> {
        self.get(path).ok_or_else(|| E::missing(path))
    }

    pub(crate) fn string(&self, path: &str) -> Result<Cow<'a, str>, E> {
        string(path, self.required(path)?)
    }

    pub(crate) fn optional_string(&self, path: &str) -> Result<Option<Cow<'a, str>>, E> {
        self.get(path).map(|raw| string(path, raw)).transpose()
    }

    pub(crate) fn object(&self, path: &str) -> Result<Self, E> {
        let text = self.required(path)?.get();
        checked_object(text).map_err(|got| E::bad(path, "an object with its fields", got))
    }
}

/// A string in a text that has been [`check`]ed.
pub(crate) fn string<'a, E: BadMember>(path: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, E> {
    text(raw).ok_or_else(|| E::bad(path, "a string", quoted(raw.get())))
}

pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    value::<Text<'_>>(raw).map(|text| text.0)
}

/// A value in a text that has been [`check`]ed, if it is of that type.
pub(crate) fn value<'a, T: serde::Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, E> serde::Deserialize<'de> for Members<'de, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de, E> Visitor<'de> for Members<'de, E> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            self.0.push((key, map.next_value()?));
        }
        Ok(self)
    }
}

/// Looks at the structure of a whole text.
pub(crate) fn check(bytes: &[u8], limits: &Limits) -> Result<(), JsonError> {
    let mut state = State {
        limits: *limits,
        values: 0,
        violation: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let walked = Walk {
        state: &mut state,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    match (state.violation, walked) {
        (Some(violation), _) => Err(violation),
        (None, Err(error)) => Err(JsonError::Syntax(syntax_text(&error))),
        (None, Ok(())) => Ok(()),
    }
}

/// serde_json repeats pieces of the input in some messages.
fn syntax_text(error: &serde_json::Error) -> String {
    shown(&error.to_string())
}

struct State {
    limits: Limits,
    values: usize,
    violation: Option<JsonError>,
}

struct Walk<'a> {
    state: &'a mut State,
    depth: usize,
}

impl Walk<'_> {
    fn violate<E: serde::de::Error>(&mut self, violation: JsonError) -> E {
        self.state.violation = Some(violation);
        E::custom("limit")
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.state.values = self.state.values.saturating_add(1);
        let limit = self.state.limits.values;
        if self.state.values > limit {
            return Err(self.violate(JsonError::TooComplex(format!("more than {limit} values"))));
        }
        Ok(())
    }

    /// The depth of what is inside the container at this depth.
    fn enter<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        let limit = self.state.limits.depth;
        let inner = self.depth.saturating_add(1);
        if inner > limit {
            return Err(self.violate(JsonError::TooComplex(format!(
                "more than {limit} levels deep"
            ))));
        }
        Ok(inner)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        let depth = self.enter()?;
        while sequence
            .next_element_seed(Walk {
                state: self.state,
                depth,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let depth = self.enter()?;
        let mut seen: BTreeSet<Cow<'de, str>> = BTreeSet::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if key.starts_with(SERDE_JSON_PRIVATE) {
                let key = quoted(&key);
                return Err(self.violate(JsonError::TooComplex(format!("the key {key}"))));
            }
            if let Some(key) = seen.replace(key) {
                return Err(self.violate(JsonError::DuplicateKey(quoted(&key))));
            }
            let most = self.state.limits.members;
            if seen.len() > most {
                return Err(self.violate(JsonError::TooComplex(format!(
                    "more than {most} members in one object"
                ))));
            }
            map.next_value_seed(Walk {
                state: self.state,
                depth,
            })?;
        }
        Ok(())
    }
}

/// A key as it reads after unescaping, borrowed where that changes nothing.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits {
        depth: 3,
        values: 10,
        members: MEMBERS,
    };

    #[test]
    fn duplicate_keys_are_found_at_every_depth_and_through_escapes() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            r#"[{"a":1,"b":2,"a":3}]"#,
        ] {
            assert_eq!(
                check(text.as_bytes(), &SMALL),
                Err(JsonError::DuplicateKey("\"a\"".into())),
                "{text}"
            );
        }
        assert_eq!(check(br#"{"a":{"a":1},"b":{"a":1}}"#, &SMALL), Ok(()));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        assert_eq!(check(b"[[[1]]]", &SMALL), Ok(()));
        assert!(matches!(
            check(b"[[[[]]]]", &SMALL),
            Err(JsonError::TooComplex(_))
        ));
        assert_eq!(check(b"[1,2,3,4,5,6,7,8,9]", &SMALL), Ok(()));
        assert!(matches!(
            check(b"[1,2,3,4,5,6,7,8,9,10]", &SMALL),
            Err(JsonError::TooComplex(_))
        ));
        let deep = "[".repeat(1_000_000);
        assert!(matches!(
            check(deep.as_bytes(), &REPORT),
            Err(JsonError::TooComplex(_))
        ));
    }

    #[test]
    fn keys_of_serde_json_itself_are_refused() {
        for text in [
            r#"{"$serde_json::private::RawValue":"[]"}"#,
            r#"{"a":[{"\u0024serde_json::private::Number":"1"}]}"#,
        ] {
            assert!(
                matches!(
                    check(text.as_bytes(), &REPORT),
                    Err(JsonError::TooComplex(_))
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        assert!(matches!(check(b"{} x", &SMALL), Err(JsonError::Syntax(_))));
        assert!(matches!(check(b"{}{}", &SMALL), Err(JsonError::Syntax(_))));
        assert_eq!(check(b" {} \n", &SMALL), Ok(()));
    }
}
