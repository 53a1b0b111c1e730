//! The refusals of answers of NVIDIA's attestation service, each with a stable code; a
//! part of [`Rejected`](crate::Rejected).

use crate::refusals::table::rejections;

rejections! {
    /// Why NVIDIA's answer, or the key set behind it, was refused: one variant a
    /// check. Tokens are called `overall`, `GPU-0`, `GPU-1` and so on.
    NrasRejected;

    Unavailable { detail: String }
        "nras_unavailable" check Nras blame Sources
        "NVIDIA's attestation service gave no result: {detail}"
        means "The policy requires a result of NVIDIA's attestation service (gpu.nras = \"require\"), and there is none."
        remedy "Check that this machine reaches the service (--nras-url). To accept backends without its result, set gpu.nras = \"report\" in a policy of your own.";
    TooLarge { what: &'static str, len: usize, max: usize }
        "evidence_nras_too_large" check Nras blame Sources
        "{what} of NVIDIA's attestation service has {len} bytes, at most {max} are read"
        means "It is larger than any honest one (17 KB for eight GPUs, 91 KB for the keys)."
        remedy "Check the service's address; another may answer in its place.";
    KeySet { detail: String }
        "evidence_nras_key_set" check Nras blame Sources
        "the key set of NVIDIA's attestation service cannot be read: {detail}"
        means "The key set is not a list of P-384 keys with their certificates (RFC 7517)."
        remedy "Check the service's address; a newer release may know a newer layout.";
    DuplicateKey { kid: String }
        "evidence_nras_duplicate_key" check Nras blame Sources
        "the key set of NVIDIA's attestation service names the key {kid} twice"
        means "Two readers of such a key set could take different keys."
        remedy "Check the service's address; another may answer in its place.";
    KeyMismatch { kid: String }
        "rejected_nras_key_mismatch" check Nras blame Sources
        "the key {kid} of NVIDIA's attestation service is not its certificate's"
        means "The set has a key that is not certified."
        remedy "Do not trust the answer; check the service's address.";
    Answer { detail: String }
        "evidence_nras_answer" check Nras blame Sources
        "the answer of NVIDIA's attestation service cannot be read: {detail}"
        means "The answer is not one token about all GPUs and one for each GPU."
        remedy "Check the service's address; a newer release may know a newer layout.";
    Token { token: String, detail: String }
        "evidence_nras_token" check Nras blame Sources
        "NVIDIA's token {token} cannot be read: {detail}"
        means "The token is not a JSON Web Token in compact form with the header that NVIDIA writes (RFC 7515)."
        remedy "Check the service's address; a newer release may know a newer layout.";
    Algorithm { token: String, got: String, expected: &'static str }
        "rejected_nras_algorithm" check Nras blame Sources
        "NVIDIA's token {token} is signed with {got}, expected {expected}"
        means "A token that chooses its own algorithm is a known way to forge one (RFC 8725 section 2.1)."
        remedy "Do not trust the answer; check the service's address.";
    UnknownKey { token: String, kid: String, known: usize }
        "rejected_nras_unknown_key" check Nras blame Sources
        "NVIDIA's token {token} is signed with the key {kid}, which is not one of the {known} known keys"
        means "NVIDIA changed its keys since they were fetched, or the token is not NVIDIA's."
        remedy "The keys are fetched again once. If the refusal persists, do not trust the answer.";
    Authority { kid: String, got: String }
        "rejected_nras_authority" check Nras blame Sources
        "the key {kid} was certified by the authority {got}, which is not pinned"
        means "The key was not certified by NVIDIA, or NVIDIA has a new intermediate authority."
        remedy "Look for a newer release. If there is none, do not trust the answer.";
    Certificate { kid: String, certificate: &'static str, detail: String }
        "rejected_nras_certificate" check Nras blame Sources
        "the key {kid}, {certificate} certificate: {detail}"
        means "The certificate of NVIDIA's signing key is forged, or is not for tokens about GPUs."
        remedy "Do not trust the answer; check the service's address.";
    CertificateTime { kid: String, certificate: &'static str, detail: String }
        "rejected_nras_certificate_time" check Nras blame Clock
        "the key {kid}, {certificate} certificate: {detail}"
        means "NVIDIA certifies its signing keys for two days; this certificate is not valid now."
        remedy "Check this machine's clock. If it is right, fetch the keys again.";
    Signature { token: String }
        "rejected_nras_signature" check Nras blame Sources
        "NVIDIA's token {token} was not signed by the key that it names"
        means "The token was changed, or is not NVIDIA's."
        remedy "Do not trust the answer; check the service's address.";
    Claims { token: String, detail: String }
        "evidence_nras_claims" check Nras blame Age
        "the claims of NVIDIA's token {token} cannot be read: {detail}"
        means "NVIDIA signed a token that lacks a claim, or has a claim of another type."
        remedy "A newer release may know it; the answer proves nothing.";
    Issuer { token: String, what: &'static str, got: String, expected: &'static str }
        "rejected_nras_issuer" check Nras blame Sources
        "{what} of NVIDIA's token {token} is {got}, expected {expected}"
        means "The token comes from a service for trials, not from NVIDIA's production."
        remedy "Use https://nras.attestation.nvidia.com.";
    NewerClaims { token: String, claim: String }
        "rejected_nras_newer_claims" check Nras blame Age
        "NVIDIA's token {token} has {claim}: a newer version of NVIDIA's claims"
        means "This program does not know one of NVIDIA's claims, which may change what the others mean."
        remedy "Look for a newer release; until then the answer proves nothing.";
    Claim { token: String, claim: &'static str, got: String, expected: &'static str }
        "rejected_nras_claim" check Nras blame Age
        "{claim} of NVIDIA's token {token} is {got}, expected {expected}"
        means "The token is not about these GPUs."
        remedy "A newer release may know it; the answer proves nothing.";
    Time { token: String, detail: String }
        "rejected_nras_time" check Nras blame Clock
        "NVIDIA's token {token}: {detail}"
        means "The token was recorded at another time, or this machine's clock is wrong."
        remedy "Check this machine's clock, then ask again.";
    Failed { detail: String }
        "rejected_nras_failed" check Nras blame Machine
        "NVIDIA's attestation service says that attestation failed: {detail}"
        means "NVIDIA checked the evidence of the GPUs and did not accept it."
        remedy "Ask the backend's operator; the message has NVIDIA's reason.";
    Nonce { token: String, got: String, expected: String }
        "rejected_nras_nonce" check Nras blame Sources
        "NVIDIA's token {token} answers the nonce {got}, ours is {expected}"
        means "The token is genuine but about other evidence: it may be a recording."
        remedy "Try again. If the refusal persists, do not trust the answer.";
    Gpus { place: &'static str, detail: String }
        "rejected_nras_gpus" check Nras blame Sources
        "{place} does not name each GPU once: {detail}"
        means "NVIDIA's answer leaves a GPU out, or is about further GPUs."
        remedy "Do not trust the answer; report it to the backend's operator.";
    Digest { token: String, got: String, expected: String }
        "rejected_nras_digest" check Nras blame Sources
        "NVIDIA's token {token} has the digest {got}, the overall token says {expected}"
        means "A GPU's token was replaced by another."
        remedy "Do not trust the answer; check the service's address.";
    Device { token: String, got: String, expected: String }
        "rejected_nras_device" check Nras blame Sources
        "NVIDIA's token {token} is about the device {got}, expected {expected}"
        means "NVIDIA checked another GPU than the one whose evidence was appraised."
        remedy "Do not trust the answer; report it to the backend's operator.";
    CheckFailed { token: String, claim: &'static str }
        "rejected_nras_check" check Nras blame Machine
        "{claim} of NVIDIA's token {token} is false"
        means "One of NVIDIA's checks of this GPU failed."
        remedy "Ask the backend's operator. The claim's name is that of the check.";
    Measurements { token: String, got: String }
        "rejected_nras_measurements" check Nras blame Machine
        "measres of NVIDIA's token {token} is {got}, expected \"success\""
        means "The GPU's firmware or driver is not what NVIDIA published."
        remedy "Ask the backend's operator. Without an explanation, do not use this backend.";
    SecureBoot { token: String }
        "rejected_nras_secure_boot" check Nras blame Machine
        "secboot of NVIDIA's token {token} is false"
        means "The GPU was not started securely.";
    Debug { token: String, got: String }
        "rejected_nras_debug" check Nras blame Machine
        "dbgstat of NVIDIA's token {token} is {got}, expected \"disabled\""
        means "The GPU can be debugged, and its memory read.";
    Warning { token: String, got: String }
        "rejected_nras_warning" check Nras blame Machine
        "NVIDIA's token {token} has a warning: {got}"
        means "NVIDIA accepts the GPU with a reservation."
        remedy "Ask the backend's operator; the message has NVIDIA's words.";
    Version { token: String, claim: &'static str, got: String, expected: String }
        "rejected_nras_version" check Nras blame Sources
        "{claim} of NVIDIA's token {token} is {got}, the GPU signed {expected}"
        means "NVIDIA checked other evidence than was appraised."
        remedy "Do not trust the answer; report it to the backend's operator.";
}

impl NrasRejected {
    /// True if the key set lacks the key of a token. NVIDIA changes its keys
    /// every few hours: the set is then fetched once more, not again and again.
    #[must_use]
    pub const fn is_unknown_kid(&self) -> bool {
        matches!(self, Self::UnknownKey { .. })
    }
}
