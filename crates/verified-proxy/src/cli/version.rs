//! `--version --verbose`: which build this is, and what it expects of backends.

use attest::Policy;

/// Lines for people and for bug reports.
pub(super) fn verbose() -> String {
    let near = Policy::near();
    format!(
        "verified-proxy {}\ncommit {}\nprofile {}\ncompiler {}\npolicy {} of {}, digest {}\ndcap-qvl {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("VERIFIED_PROXY_BUILD_COMMIT"),
        env!("VERIFIED_PROXY_BUILD_PROFILE"),
        env!("VERIFIED_PROXY_BUILD_RUSTC"),
        near.name(),
        near.date(),
        near.digest(),
        env!("VERIFIED_PROXY_BUILD_DCAP_QVL"),
    )
}
