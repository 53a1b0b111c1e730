//! A backend that does not know an API key: its 401 goes to the client as it is,
//! and the log says whose key it was. Not a character of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use attest::Domain;
use http::{HeaderMap, header};
use sources::lock::lock;

/// Between two lines about it: a client that is told to try again does.
const PAUSE: Duration = Duration::from_secs(60);

/// Where the key of a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOf {
    Proxy,
    Client,
    Nobody,
}

impl KeyOf {
    /// Of a request as it leaves. What the proxy adds is marked as sensitive;
    /// nothing that a client sends is.
    pub(crate) fn request(headers: &HeaderMap) -> Self {
        match headers.get(header::AUTHORIZATION) {
            Some(value) if value.is_sensitive() => Self::Proxy,
            Some(_) => Self::Client,
            // Anthropic's clients write it here.
            None if headers.contains_key("x-api-key") => Self::Client,
            None => Self::Nobody,
        }
    }

    fn fix(self) -> &'static str {
        match self {
            Self::Proxy => {
                "it was the proxy's own: look at --api-key-file or VERIFIED_PROXY_API_KEY"
            }
            Self::Client => {
                "it was the client's own: mend it there, or let the client send a placeholder such as \"x\" and give the proxy a key with --api-key-file"
            }
            Self::Nobody => {
                "there was none: give the client a key, or the proxy with --api-key-file or VERIFIED_PROXY_API_KEY"
            }
        }
    }
}

/// When it was said last.
#[derive(Debug, Default)]
pub struct Unauthorized(Mutex<Option<Instant>>);

impl Unauthorized {
    /// Says so, not too often.
    pub(crate) fn say(&self, domain: &Domain, key: KeyOf) {
        let mut said = lock(&self.0);
        if said.is_none_or(|said| said.elapsed() >= PAUSE) {
            *said = Some(Instant::now());
            tracing::warn!(%domain, "the backend does not accept the API key (401); {}", key.fix());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::ApiKey;

    #[test]
    fn a_key_is_known_by_who_wrote_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(KeyOf::request(&headers), KeyOf::Nobody);
        headers.insert("x-api-key", "sk-ant".parse().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Client);
        headers.insert(header::AUTHORIZATION, "Bearer sk-own".parse().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Client);
        let key = ApiKey::new("sk-own").unwrap();
        headers.insert(header::AUTHORIZATION, key.header_value().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Proxy);
    }
}
