//! What several commands read from files, and why a command fails.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use attest::{
    AcceptTcb, FilesAtHand, GpuAnchors, NotAcceptable, NrasAnchors, Policy, Spki, TrustAnchors,
    UnixTime, UpstreamTags,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;

/// Files that a user names are read up to this size; the largest honest one is
/// a report of 2 MiB.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Why a command failed, by exit code.
#[derive(Debug)]
pub(super) enum Failure {
    /// What was read is not as it should be: 1.
    Refused(String),
    /// A change is not accepted: 1.
    NotAccepted(NotAcceptable),
    /// The command line or a policy is wrong: 2.
    Usage(String),
    /// Something could not be read, fetched or written: 3.
    Unreadable(String),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) | Self::NotAccepted(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreadable(_) => ExitCode::from(3),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAccepted(why) => write!(f, "not accepted: {why}"),
            Self::Refused(text) | Self::Usage(text) | Self::Unreadable(text) => f.write_str(text),
        }
    }
}

impl From<NotAcceptable> for Failure {
    fn from(why: NotAcceptable) -> Self {
        Self::NotAccepted(why)
    }
}

/// Reads a file that a user names.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_at_most(path, MAX_FILE_BYTES)
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::Unreadable(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::Unreadable(format!(
            "{}: more than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// A checkout of the repository has about 300 files.
const MAX_COMPOSE_FILES: usize = 4_000;
/// The limit of fetched compose files, too.
const MAX_COMPOSE_BYTES: u64 = 512 << 10;
/// Real files are one folder deep.
const MAX_DEPTH: usize = 8;

/// Every file in and below `folder` that may be a compose file, whatever its name. Links
/// are not followed.
pub(super) fn compose_files(folder: &Path) -> Result<FilesAtHand, Failure> {
    let mut files = FilesAtHand::default();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unreadable =
            |error: std::io::Error| Failure::Unreadable(format!("{}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let found = entry.metadata().map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if found.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if found.is_file() && found.len() <= MAX_COMPOSE_BYTES {
                files.insert(&name, &read(&entry.path())?);
            }
            if files.len() > MAX_COMPOSE_FILES {
                return Err(Failure::Unreadable(format!(
                    "{}: more than {MAX_COMPOSE_FILES} files",
                    folder.display()
                )));
            }
        }
    }
    Ok(files)
}

/// The output of `git ls-remote` for the repository of compose files.
pub(super) fn compose_tags(path: &Path) -> Result<UpstreamTags, Failure> {
    UpstreamTags::from_ls_remote(&read(path)?)
        .map_err(|error| Failure::Unreadable(format!("{}: {error}", path.display())))
}

/// The text of a policy that is not built in.
pub(super) fn policy_text(name: &str) -> Result<String, Failure> {
    let bytes = read(Path::new(name)).map_err(|failure| {
        Failure::Unreadable(format!(
            "policy {failure}\nhint: \"near\", \"near-strict\" and \"hardware\" are built in; name a file for any other policy"
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::Usage(format!("policy {name}: not UTF-8")))
}

/// A built-in policy or a file, with what `--accept-tcb` accepts beyond it.
pub(super) fn policy(name: &str, accept_tcb: &[AcceptTcb]) -> Result<Policy, Failure> {
    let policy = match Policy::built_in(name) {
        Some(policy) => policy,
        None => {
            let text = policy_text(name)?;
            Policy::from_toml(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))?
        }
    };
    Ok(accept_tcb.iter().cloned().fold(policy, Policy::accepting))
}

/// Intel's and NVIDIA's roots, or those that the user names (certificates, DER or PEM).
pub(super) fn trust_anchors(
    danger_tdx_root: Option<&Path>,
    danger_gpu_root: Option<&Path>,
    danger_nras_intermediate: Option<&Path>,
) -> Result<TrustAnchors, Failure> {
    let anchors = match danger_tdx_root {
        None => TrustAnchors::intel(),
        Some(path) => TrustAnchors::danger_tdx_root(certificate(path)?),
    };
    let anchors = match danger_gpu_root {
        None => anchors,
        Some(path) => anchors.with_gpus(GpuAnchors::danger_gpu_root(certificate(path)?)),
    };
    Ok(match danger_nras_intermediate {
        None => anchors,
        Some(path) => {
            let der = CertificateDer::from(certificate(path)?);
            let key = ParsedCertificate::try_from(&der)
                .map_err(|error| not_a_certificate(path, &error))?
                .subject_public_key_info();
            anchors.with_nras(NrasAnchors::danger_nras_intermediates([Spki::of_der(&key)]))
        }
    })
}

/// The roots of trust that are not Intel's or NVIDIA's, for warnings.
#[derive(Debug)]
pub(super) struct Danger {
    /// Such as `not Intel's for machines; verdicts say nothing about real hardware`.
    pub(super) words: String,
    /// The options that name them.
    pub(super) options: String,
}

impl Danger {
    /// None if all roots are Intel's and NVIDIA's.
    pub(super) fn of(anchors: &TrustAnchors) -> Option<Self> {
        let others: Vec<_> = [
            (
                anchors.is_intel(),
                "not Intel's for machines",
                "--danger-tdx-root",
            ),
            (
                anchors.gpus().is_nvidia(),
                "not NVIDIA's for GPUs",
                "--danger-gpu-root",
            ),
            (
                anchors.nras().is_nvidia(),
                "not NVIDIA's for its attestation service",
                "--danger-nras-intermediate",
            ),
        ]
        .into_iter()
        .filter(|(genuine, ..)| !genuine)
        .collect();
        if others.is_empty() {
            return None;
        }
        let real = if anchors.is_intel() {
            "GPUs"
        } else {
            "hardware"
        };
        let roots: Vec<_> = others.iter().map(|(_, root, _)| *root).collect();
        let options: Vec<_> = others.iter().map(|(.., option)| *option).collect();
        Some(Self {
            words: format!(
                "{}; verdicts say nothing about real {real}",
                roots.join(", ")
            ),
            options: options.join(" and "),
        })
    }
}

fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read(path)?;
    let der = match CertificateDer::from_pem_slice(&bytes) {
        Ok(certificate) => certificate.as_ref().to_vec(),
        Err(_) => bytes,
    };
    ParsedCertificate::try_from(&CertificateDer::from(der.as_slice()))
        .map_err(|error| not_a_certificate(path, &error))?;
    Ok(der)
}

fn not_a_certificate(path: &Path, error: &rustls::Error) -> Failure {
    Failure::Unreadable(format!("{}: not a certificate: {error}", path.display()))
}

/// Seconds since 1970, or RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<UnixTime, String> {
    text.parse::<u64>()
        .ok()
        .map(UnixTime)
        .or_else(|| UnixTime::from_rfc3339(text))
        .ok_or_else(|| {
            "expected seconds since 1970 or a time such as 2026-11-22T12:00:00Z".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_root_is_in_one_line() {
        let (intel, other) = (
            TrustAnchors::intel,
            TrustAnchors::danger_tdx_root(b"x".to_vec()),
        );
        let gpus = || GpuAnchors::danger_gpu_root(b"x".to_vec());
        let nras = || NrasAnchors::danger_nras_intermediates([Spki::of_der(b"x")]);
        assert!(Danger::of(&intel()).is_none());
        for (anchors, words, options) in [
            (
                intel().with_gpus(gpus()),
                "not NVIDIA's for GPUs; verdicts say nothing about real GPUs",
                "--danger-gpu-root",
            ),
            (
                intel().with_nras(nras()),
                "not NVIDIA's for its attestation service; verdicts say nothing about real GPUs",
                "--danger-nras-intermediate",
            ),
            (
                other.with_gpus(gpus()).with_nras(nras()),
                "not Intel's for machines, not NVIDIA's for GPUs, not NVIDIA's for its attestation service; verdicts say nothing about real hardware",
                "--danger-tdx-root and --danger-gpu-root and --danger-nras-intermediate",
            ),
        ] {
            let danger = Danger::of(&anchors).unwrap();
            assert_eq!((&*danger.words, &*danger.options), (words, options));
        }
    }
}
