//! Secrets of the proxy: the API key that it adds for clients, and the tokens by which it
//! recognises them (threats.md C3, C4).
//!
//! Both come from a file or an environment variable, never from an argument. Neither can be
//! printed, and both are wiped from memory when dropped; copies in an HTTP library's headers
//! are not.

use std::fmt;

use attest::LeastLevels;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use zeroize::Zeroizing;

/// Real keys have some hundred characters at most.
const MAX_SECRET_BYTES: usize = 4 << 10;
/// Shorter tokens can be guessed: 16 characters of base64 are 96 bits.
const MIN_TOKEN_CHARS: usize = 16;
/// Enough for a household or a team.
const MAX_TOKENS: usize = 1_000;

/// What clients without a key are told to send in its place, or send of their own accord.
const PLACEHOLDERS: [&str; 18] = [
    "dummy",
    // Simon Willison's `llm`.
    "dummy_key",
    "empty",
    "fake",
    "local",
    "no-key",
    "no-key-required",
    "none",
    "not-needed",
    "null",
    "placeholder",
    "sk-dummy",
    "sk-no-key-required",
    "sk-placeholder",
    "test",
    "unused",
    "verified-proxy",
    "x",
];

/// True if a bearer token stands for none.
pub(crate) fn is_placeholder(token: &str) -> bool {
    let token = token.trim().to_ascii_lowercase();
    token.is_empty() || PLACEHOLDERS.contains(&token.as_str())
}

/// The API key that the proxy adds to requests without one.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// A key is one word of printable ASCII.
    ///
    /// # Errors
    ///
    /// If `text` is anything else. The message contains nothing of it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        word(text).map(|key| Self(Zeroizing::new(key.to_owned())))
    }

    /// True if it is a placeholder.
    pub fn is_placeholder(&self) -> bool {
        is_placeholder(&self.0)
    }

    /// The value of `Authorization`, marked as sensitive so that it is not printed.
    pub(crate) fn header_value(&self) -> Option<HeaderValue> {
        let bearer = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        let mut value = HeaderValue::from_str(&bearer).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// One word of printable ASCII, trimmed.
fn word(text: &str) -> Result<&str, &'static str> {
    let text = text.trim();
    match text {
        "" => Err("it is empty"),
        _ if text.len() > MAX_SECRET_BYTES => Err("it is longer than any key"),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("it is not one word of printable ASCII")
        }
        _ => Ok(text),
    }
}

/// False if the text is too short for a token.
pub(crate) fn may_be_token(text: &str) -> bool {
    text.len() >= MIN_TOKEN_CHARS
}

/// Clients' tokens. Only their digests are kept.
#[derive(Clone)]
pub struct ClientTokens(Vec<Token>);

/// A token's name and digest, and the levels that its requests demand beyond the policy.
#[derive(Clone)]
struct Token {
    name: String,
    digest: [u8; 32],
    least: LeastLevels,
}

impl ClientTokens {
    /// Parses one `NAME TOKEN` a line, or `NAME TOKEN AXIS=LEVEL,…` with the least levels for
    /// that token's requests; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    ///
    /// If a line is anything else. The message has the line's number and nothing of its token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |why: &str| Err(format!("line {}: {why}", index + 1));
            let Some((name, rest)) = line.split_once(char::is_whitespace) else {
                return refused("expected a name, a space and a token");
            };
            let rest = rest.trim();
            let (token, least) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let least = match least.trim() {
                "" => LeastLevels::default(),
                // Not repeated: it may be a misplaced token.
                least => match least.parse() {
                    Ok(least) => least,
                    Err(_) => {
                        return refused(
                            "after the token: expected nothing, or least levels such as deployment=tagged,gpu=measured",
                        );
                    }
                },
            };
            let Ok(token) = word(token) else {
                return refused("the token is not one word of printable ASCII");
            };
            if !may_be_token(token) {
                return refused("the token can be guessed: it has fewer than 16 characters");
            }
            if is_placeholder(token) {
                return refused("the token is what clients without a key write");
            }
            if tokens.iter().any(|other| other.name == name) {
                return refused("a second token of this name");
            }
            let digest = sha256(token);
            if tokens.iter().any(|other| other.digest == digest) {
                return refused("the same token under another name");
            }
            if tokens.len() >= MAX_TOKENS {
                return refused("more than 1000 tokens");
            }
            tokens.push(Token {
                name: name.to_owned(),
                digest,
                least,
            });
        }
        if tokens.is_empty() {
            return Err("no token in it; expected a name, a space and a token a line".to_owned());
        }
        Ok(Self(tokens))
    }

    /// The place of `token` in the file, and the levels that it demands, if it is known. It is
    /// compared with all tokens, so that the time does not tell which one it is.
    pub(crate) fn know(&self, token: &str) -> Option<(usize, LeastLevels)> {
        let digest = sha256(token);
        self.0
            .iter()
            .enumerate()
            .fold(None, |known, (place, other)| match verify_slices_are_equal(
                &other.digest,
                &digest,
            ) {
                Ok(()) => Some((place, other.least)),
                Err(_) => known,
            })
    }
}

impl fmt::Debug for ClientTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTokens({})", self.0.len())
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_key_is_one_word_and_says_nothing() {
        let key = ApiKey::new(" sk-secret\n").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(..)");
        let value = key.header_value().unwrap();
        assert_eq!(value, "Bearer sk-secret");
        assert_eq!(format!("{value:?}"), "Sensitive");
        for (text, why) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("two words", "it is not one word of printable ASCII"),
            ("ключ", "it is not one word of printable ASCII"),
            (&"x".repeat(5_000), "it is longer than any key"),
        ] {
            assert_eq!(ApiKey::new(text).unwrap_err(), why);
        }
    }

    #[test]
    fn placeholders_are_known() {
        for token in ["", " ", "EMPTY", "not-needed", "None", "verified-proxy"] {
            assert!(is_placeholder(token), "{token}");
        }
        for token in ["sk-real", "nonesuch", "test-1"] {
            assert!(!is_placeholder(token), "{token}");
        }
    }

    #[test]
    fn tokens_have_names() {
        let text = format!("# of the house\nann {TOKEN}\n\nbob\t{TOKEN}0  \n");
        let tokens = ClientTokens::parse(&text).unwrap();
        assert_eq!(format!("{tokens:?}"), "ClientTokens(2)");
        let none = LeastLevels::default();
        assert_eq!(tokens.know(TOKEN), Some((0, none)));
        assert_eq!(tokens.know(&format!("{TOKEN}0")), Some((1, none)));
        for other in ["", "ann", "0123456789abcde", "0123456789ABCDEF"] {
            assert_eq!(tokens.know(other), None, "{other}");
        }
        let text = format!("ann {TOKEN} deployment=tagged, gpu=genuine\n");
        assert_eq!(
            ClientTokens::parse(&text).unwrap().know(TOKEN),
            Some((0, "gpu=genuine,deployment=tagged".parse().unwrap()))
        );
    }

    #[test]
    fn what_is_no_list_of_tokens_is_refused_without_a_token() {
        for (text, why) in [
            (String::new(), "no token in it"),
            ("# nothing".to_owned(), "no token in it"),
            (TOKEN.to_owned(), "line 1: expected a name"),
            ("ann short".to_owned(), "line 1: the token can be guessed"),
            (
                "\nann sk-no-key-required".to_owned(),
                "line 2: the token is what clients without a key write",
            ),
            (
                format!("ann {TOKEN} {TOKEN}"),
                "line 1: after the token: expected nothing, or least levels",
            ),
            (
                format!("ann {TOKEN}\nann {TOKEN}0"),
                "line 2: a second token of this name",
            ),
            (
                format!("ann {TOKEN}\nbob {TOKEN}"),
                "line 2: the same token under another name",
            ),
        ] {
            let error = ClientTokens::parse(&text).unwrap_err();
            assert!(error.starts_with(why), "{error}");
            assert!(!error.contains(TOKEN), "{error}");
        }
    }
}
