//! Options about clients: which may use the port, and the API key added for them.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use proxy::config::{ApiKey, ClientTokens, Guard, HostName, Origin};
use zeroize::Zeroizing;

use super::read_files::{self, Failure};

/// The key itself, for users without a file. Never an argument: every user of the
/// machine can see arguments.
pub(super) const API_KEY: &str = "VERIFIED_PROXY_API_KEY";

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Clients")]
pub(super) struct Clients {
    /// File with the API key for requests that bring none, or a placeholder
    ///
    /// The variable VERIFIED_PROXY_API_KEY may hold the key itself. The proxy sends it on verified
    /// connections only.
    #[arg(long, env = "VERIFIED_PROXY_API_KEY_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    api_key_file: Option<PathBuf>,

    /// File with the tokens of clients, "NAME TOKEN" a line; each request needs one
    ///
    /// As its API key (Authorization: Bearer TOKEN), or in the header X-Verified-Proxy-Token
    /// beside an API key of its own. The proxy never forwards a header that contains a token.
    #[arg(long, env = "VERIFIED_PROXY_CLIENT_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    client_token_file: Option<PathBuf>,

    /// A name that clients may use for this proxy, beside localhost and its address; repeatable
    #[arg(
        long,
        env = "VERIFIED_PROXY_ALLOW_HOST",
        value_name = "HOST",
        value_delimiter = ','
    )]
    allow_host: Vec<HostName>,

    /// The origin of a web page that may use this proxy, such as http://localhost:3000; repeatable
    ///
    /// Of pages of a desktop program: file://, or all of a scheme, such as vscode-webview://*. null
    /// cannot be allowed: sandboxed frames of every site have it.
    #[arg(
        long,
        env = "VERIFIED_PROXY_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    allow_origin: Vec<Origin>,
}

impl Clients {
    /// After reading the file of tokens.
    pub(super) fn guard(&self) -> Result<Guard, Failure> {
        let tokens = match &self.client_token_file {
            Some(path) => {
                let text = secret(path)?;
                if others_read(path) {
                    warn_others_read(&path.display().to_string());
                }
                let tokens = ClientTokens::parse(&text)
                    .map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?;
                Some(tokens)
            }
            None => None,
        };
        Ok(Guard {
            hosts: self.allow_host.clone(),
            origins: self.allow_origin.clone(),
            tokens,
        })
    }

    /// The key of the file, or of the environment.
    pub(super) fn api_key(&self) -> Result<Option<KeyFile>, Failure> {
        let (text, from, others_read) = match &self.api_key_file {
            Some(path) => {
                let from = path.display().to_string();
                (secret(path)?, from, others_read(path))
            }
            None => match std::env::var(API_KEY) {
                Ok(text) => (Zeroizing::new(text), API_KEY.to_owned(), false),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Failure::Usage(format!("{API_KEY}: not UTF-8")));
                }
            },
        };
        match ApiKey::new(&text) {
            Ok(key) => Ok(Some(KeyFile {
                key,
                from,
                others_read,
            })),
            Err(why) => Err(Failure::Usage(format!("{from}: not an API key: {why}"))),
        }
    }
}

/// A key and where it was.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) key: ApiKey,
    /// A path, or the variable's name.
    pub(super) from: String,
    pub(super) others_read: bool,
}

fn secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    if !may_be_shown(path) {
        return Err(Failure::Unreadable(
            "--api-key-file and --client-token-file take the path of a file, and there is no such file; the value is not shown, as it may be the secret itself".to_owned(),
        ));
    }
    let bytes = Zeroizing::new(read_files::read(path)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::Usage(format!("{}: not UTF-8", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether a value is certainly a path, and may be shown: people write the key instead of
/// its file.
pub(super) fn may_be_shown(path: &Path) -> bool {
    path.is_absolute() || path.exists()
}

/// A warning and no refusal: containers mount secrets with any mode.
pub(super) fn warn_others_read(path: &str) {
    tracing::warn!(path, "other users can read this file (chmod 600)");
}

#[cfg(unix)]
fn others_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    mode & 0o077 != 0
}

#[cfg(not(unix))]
fn others_read(_: &Path) -> bool {
    false
}
