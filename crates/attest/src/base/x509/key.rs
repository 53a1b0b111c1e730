//! Public keys of certificates, and the one algorithm in which each kind signs here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Encode;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
    SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION,
};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// A kind of key, and how such keys sign.
#[derive(Debug)]
pub(crate) struct Algorithm {
    /// The refusal of another key.
    other: &'static str,
    key: ObjectIdentifier,
    curve: Option<ObjectIdentifier>,
    signature: ObjectIdentifier,
    /// Signatures in X.509: of ECDSA in DER.
    in_x509: &'static dyn VerificationAlgorithm,
    /// Signatures elsewhere: of ECDSA as r and s.
    fixed: &'static dyn VerificationAlgorithm,
}

/// ECDSA on P-256 with SHA-256: Intel, dstack.
pub(crate) static P256: Algorithm = Algorithm {
    other: "its key is not on P-256",
    key: ID_EC_PUBLIC_KEY,
    curve: Some(SECP_256_R_1),
    signature: ECDSA_WITH_SHA_256,
    in_x509: &ECDSA_P256_SHA256_ASN1,
    fixed: &ECDSA_P256_SHA256_FIXED,
};

/// ECDSA on P-384 with SHA-384: NVIDIA's GPUs, and its keys for tokens.
pub(crate) static P384: Algorithm = Algorithm {
    other: "its key is not on P-384",
    key: ID_EC_PUBLIC_KEY,
    curve: Some(SECP_384_R_1),
    signature: ECDSA_WITH_SHA_384,
    in_x509: &ECDSA_P384_SHA384_ASN1,
    fixed: &ECDSA_P384_SHA384_FIXED,
};

/// RSA (PKCS #1 v1.5) with SHA-256: NVIDIA's authority for tokens.
pub(crate) static RSA: Algorithm = Algorithm {
    other: "its key is not RSA",
    key: RSA_ENCRYPTION,
    curve: None,
    signature: SHA_256_WITH_RSA_ENCRYPTION,
    in_x509: &RSA_PKCS1_2048_8192_SHA256,
    fixed: &RSA_PKCS1_2048_8192_SHA256,
};

#[derive(Debug)]
pub(crate) struct Key {
    algorithm: &'static Algorithm,
    /// Of a curve: an uncompressed point.
    bytes: Vec<u8>,
}

impl Key {
    /// The key of a certificate's subject.
    pub(crate) fn of(
        certificate: &Certificate,
        algorithm: &'static Algorithm,
    ) -> Result<Self, &'static str> {
        let info = certificate.tbs_certificate().subject_public_key_info();
        let parameters = info.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|parameters| parameters.decode_as().ok());
        if info.algorithm.oid != algorithm.key || curve != algorithm.curve {
            return Err(algorithm.other);
        }
        let bytes = info.subject_public_key.as_bytes();
        let bytes = bytes.ok_or("its key has odd bits")?.to_vec();
        Ok(Self { algorithm, bytes })
    }

    /// The key at `x || y`, big-endian (SEC 1 §2.3.3). A point that is not on the
    /// curve verifies nothing.
    pub(crate) fn at(algorithm: &'static Algorithm, coordinates: &[u8]) -> Self {
        Self {
            algorithm,
            bytes: [&[4][..], coordinates].concat(),
        }
    }

    /// True if this key made the signature, which is no part of X.509.
    pub(crate) fn verifies_fixed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifies(self.algorithm.fixed, message, signature)
    }

    fn verifies(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        UnparsedPublicKey::new(algorithm, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }

    /// True if this key signed the certificate.
    pub(crate) fn signed(&self, certificate: &Certificate) -> bool {
        let tbs = certificate.tbs_certificate();
        let named = [tbs.signature(), certificate.signature_algorithm()];
        self.signed_der(tbs, named, certificate.signature())
    }

    /// True if this key signed the revocation list.
    pub(crate) fn signed_crl(&self, crl: &CertificateList) -> bool {
        let named = [&crl.tbs_cert_list.signature, &crl.signature_algorithm];
        self.signed_der(&crl.tbs_cert_list, named, &crl.signature)
    }

    /// The algorithm is named twice and has to be the same (RFC 5280 §4.1.1.2, §5.1.1.2).
    fn signed_der(
        &self,
        tbs: &impl Encode,
        [inner, outer]: [&AlgorithmIdentifierOwned; 2],
        signature: &BitString,
    ) -> bool {
        let (Ok(message), Some(signature)) = (tbs.to_der(), signature.as_bytes()) else {
            return false;
        };
        inner == outer
            && outer.oid == self.algorithm.signature
            && self.verifies(self.algorithm.in_x509, &message, signature)
    }
}

/// The bytes of keys of two kinds differ in length.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
