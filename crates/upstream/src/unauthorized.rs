//! Reports whose API key a backend does not accept. The client gets the 401 unchanged; the log
//! says whose key it was, and nothing of the key.

use attest::Domain;
use http::{HeaderMap, header};
use sources::seldom::Seldom;

/// Whose key a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOf {
    Proxy,
    Client,
    NoKey,
}

impl KeyOf {
    /// Judges a request as it is sent. The proxy marks its own key as sensitive; a client
    /// cannot mark one.
    pub(crate) fn request(headers: &HeaderMap) -> Self {
        match headers.get(header::AUTHORIZATION) {
            Some(value) if value.is_sensitive() => Self::Proxy,
            Some(_) => Self::Client,
            // Anthropic's clients send their key here.
            None if headers.contains_key("x-api-key") => Self::Client,
            None => Self::NoKey,
        }
    }

    /// Logs that `domain` did not accept it.
    pub(crate) fn warn(self, domain: &Domain, seldom: &Seldom) {
        if let Some(more) = seldom.may_say(domain, self.code()) {
            tracing::warn!(%domain, "the backend does not accept the API key (401){more}; {}", self.fix());
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Proxy => "proxys_key_not_accepted",
            Self::Client => "clients_key_not_accepted",
            Self::NoKey => "no_key",
        }
    }

    fn fix(self) -> &'static str {
        match self {
            Self::Proxy => {
                "it was the proxy's own: look at --api-key-file or VERIFIED_PROXY_API_KEY"
            }
            Self::Client => {
                "it was the client's own: correct it there, or let the client send a placeholder such as \"x\" and give the proxy a key with --api-key-file"
            }
            Self::NoKey => {
                "there was none: give the client a key, or the proxy with --api-key-file or VERIFIED_PROXY_API_KEY"
            }
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
        assert_eq!(KeyOf::request(&headers), KeyOf::NoKey);
        headers.insert("x-api-key", "sk-ant".parse().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Client);
        headers.insert(header::AUTHORIZATION, "Bearer sk-own".parse().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Client);
        let key = ApiKey::new("sk-own").unwrap();
        headers.insert(header::AUTHORIZATION, key.header_value().unwrap());
        assert_eq!(KeyOf::request(&headers), KeyOf::Proxy);
    }
}
