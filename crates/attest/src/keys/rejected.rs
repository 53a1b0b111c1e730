//! Every way in which a key beside TLS can fail, each with a stable code; a part of
//! [`Rejected`](crate::Rejected).

use crate::refusal::rejections;

rejections! {
    /// Why a key was refused: one variant a check.
    KeysRejected;

    OhttpMissingField { field: &'static str }
        "evidence_ohttp_missing_field" check OhttpKey blame Machine
        "the report attests an OHTTP key without {field}"
        means "The statement about the key for OHTTP is not complete."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    OhttpBadField { field: &'static str, expected: &'static str, got: String }
        "evidence_ohttp_bad_field" check OhttpKey blame Machine
        "{field}: expected {expected}, got {got}"
        means "A field of the statement about the key for OHTTP is not what it should be."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    OhttpKeyConfig { detail: String }
        "evidence_ohttp_key_config" check OhttpKey blame Machine
        "the OHTTP key configuration cannot be read: {detail}"
        means "It is not one key configuration (RFC 9458) with an X25519 key and nothing after it."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    OhttpOther { signed: String, offered: String }
        "rejected_ohttp_other" check OhttpKey blame Machine
        "the signed OHTTP key configuration is {signed}, the offered one {offered}"
        means "The report offers another key for OHTTP than the one it attests."
        remedy "Do not use OHTTP with this backend; report it to its operator.";
    OhttpSigner { got: String, expected: String }
        "rejected_ohttp_signer" check OhttpKey blame Machine
        "the OHTTP key is attested by the key {got}, the quote attests {expected}"
        means "Somebody else than the attested machine vouches for the key for OHTTP."
        remedy "Do not use OHTTP with this backend; report it to its operator.";
    OhttpSignature {}
        "rejected_ohttp_signature" check OhttpKey blame Machine
        "the signature over the OHTTP key configuration does not verify"
        means "The key for OHTTP is not the one that was signed."
        remedy "Do not use OHTTP with this backend; report it to its operator.";
    E2eeUnreadable { expected: &'static str, got: String }
        "evidence_encryption_key" check EncryptionKey blame Machine
        "signing_public_key: expected {expected}, got {got}"
        means "The public key for end-to-end encryption is not a key of the attested kind."
        remedy "The backend may run a version that this proxy does not know: look for a newer proxy.";
    E2ee { got: String, expected: String }
        "rejected_encryption_key" check EncryptionKey blame Machine
        "signing_public_key belongs to the address {got}, the quote attests {expected}"
        means "The public key for end-to-end encryption is not that of the attested machine."
        remedy "Do not use end-to-end encryption with this backend; report it to its operator.";
}
