//! Bytes that a policy writes as hex.

use serde::{Deserialize, Serialize};

use crate::base::text::{as_text, expected, hex_array, hex_bytes};

/// Bytes of a fixed length, written as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hex<const LEN: usize>(pub(crate) [u8; LEN]);

impl<const LEN: usize> std::fmt::Display for Hex<LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&::hex::encode(self.0))
    }
}

impl<const LEN: usize> std::fmt::Debug for Hex<LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

as_text!(const LEN: Hex<LEN>, |text| {
    let what = format!("{LEN} bytes in hex");
    hex_array(text).map(Self).ok_or_else(|| expected(what, text))
});

/// Bytes of any length, written as hex; kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct HexText(pub(crate) String);

impl HexText {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HexText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match hex_bytes(&text) {
            Some(bytes) if !bytes.is_empty() => Ok(Self(::hex::encode(bytes))),
            _ => Err(serde::de::Error::custom(expected("hex", &text))),
        }
    }
}
