//! PEM certificates and nothing else: text between them is refused, since
//! another reader might make something of it.

use base64::prelude::{BASE64_STANDARD, Engine as _};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates (DER) in the order of the text. The caller has bounded the length
/// of the text.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "not text".to_owned())?;
    // Some tools send the NUL bytes that ended a buffer.
    let mut rest = text.trim_end_matches(['\n', '\0']);
    let mut chain = Vec::new();
    while !rest.is_empty() {
        let body = rest
            .strip_prefix(BEGIN)
            .ok_or("something else than a certificate")?;
        let (body, tail) = body.split_once(END).ok_or("a certificate without end")?;
        let body: String = body.split('\n').collect();
        chain.push(
            BASE64_STANDARD
                .decode(&body)
                .map_err(|_| "a certificate is not base64")?,
        );
        rest = tail.trim_start_matches('\n');
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\nAwQF\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_may_be_followed_by_newlines_and_the_last_by_nul() {
        let der = vec![0, 1, 2, 3, 4, 5];
        for text in [
            ONE.to_owned(),
            format!("{ONE}\0\0\0\0\0"),
            ONE.trim_end().to_owned(),
        ] {
            assert_eq!(certificates(text.as_bytes()), Ok(vec![der.clone()]));
        }
        let two = format!("{ONE}\n{ONE}");
        assert_eq!(
            certificates(two.as_bytes()),
            Ok(vec![der.clone(), der.clone()])
        );
        assert_eq!(certificates(b"\n\0"), Ok(vec![]));
    }

    #[test]
    fn nothing_else_is_read() {
        for (text, problem) in [
            (
                format!("{ONE}note\n{ONE}"),
                "something else than a certificate",
            ),
            (format!("note\n{ONE}"), "something else than a certificate"),
            (format!("{ONE}\0{ONE}"), "something else than a certificate"),
            (format!("{ONE} "), "something else than a certificate"),
            (ONE.replace("AwQF", "AwQ"), "a certificate is not base64"),
            (ONE.replace("AwQF", "Aw QF"), "a certificate is not base64"),
            (ONE.replace("END", "FIN"), "a certificate without end"),
        ] {
            assert_eq!(
                certificates(text.as_bytes()),
                Err(problem.to_owned()),
                "{text}"
            );
        }
        assert_eq!(certificates(&[0xff]), Err("not text".to_owned()));
    }
}
