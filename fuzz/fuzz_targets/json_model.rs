//! Any bytes as a request's JSON body, cut anywhere: the proxy finds the model
//! that serde_json finds, and refuses what two readers could read differently.

#![no_main]

use std::fmt;

use attest_fuzz::body::{Cut, MAX_MODEL_BYTES};
use attest_fuzz::write_seeds;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The longest way to write "model": each letter as six bytes.
const LONGEST_NAME: usize = 30;
/// Deeper is refused.
const MAX_DEPTH: usize = 1_024;

/// The members of an object, twice the same or not.
struct Members(Vec<(Box<RawValue>, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// The model as serde_json sees it, by the proxy's rules.
fn by_serde(text: &str) -> Result<Option<String>, ()> {
    // serde_json knows no byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Members(members) = serde_json::from_str(text).map_err(drop)?;
    let mut found = None;
    for (key, value) in members {
        let key = key.get();
        // Half a surrogate pair is no text. The proxy does not look at keys that
        // are too long to be the name.
        let name: Option<String> = serde_json::from_str(key).ok();
        if name.is_none() && key.len() - 2 <= LONGEST_NAME {
            return Err(());
        }
        if name.as_deref() == Some("model") {
            let model: Option<String> = serde_json::from_str(value.get()).map_err(drop)?;
            if found.replace(model).is_some() {
                return Err(());
            }
        }
    }
    let model = found.flatten();
    if model
        .as_ref()
        .is_some_and(|model| model.len() > MAX_MODEL_BYTES)
    {
        return Err(());
    }
    Ok(model)
}

/// How deep brackets could nest, wherever they stand.
fn brackets(text: &str) -> usize {
    text.bytes()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count()
}

fuzz_target!(
    init: write_seeds(|_| {
        [
            r#"{"model":"a/b","messages":[{"role":"user","content":"\u00e9 \"x\""}],"n":-1.5e+3}"#,
            r#"{"messages":[{"model":"no"}],"m\u006fdel":"\ud83d\ude00\n","x":[true,false,null,{}]}"#,
            r#"{"model":null,"model":"a"}"#,
            "\u{feff} {\"model\":\"a\"}",
        ]
        .iter()
        .map(|text| [b"\0\x03\0\x05\0\x0a\0\x14", text.as_bytes()].concat())
        .collect()
    }),
    |data: &[u8]| -> Corpus {
        let Some(cut) = Cut::of(data) else {
            return Corpus::Reject;
        };
        let found = cut.model("application/json");
        if let Ok(Some(model)) = &found {
            assert_eq!(cut.first().as_ref(), Some(model));
        }
        // serde_json minds broken UTF-8 everywhere, the proxy where it matters.
        let Ok(text) = std::str::from_utf8(cut.body) else {
            return Corpus::Keep;
        };
        if found.is_err() && brackets(text) > MAX_DEPTH {
            return Corpus::Keep;
        }
        assert_eq!(found.map_err(drop), by_serde(text), "{text}");
        Corpus::Keep
    }
);
