//! What `--version --verbose` says of this build: nothing that names a place on
//! the machine that built it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../..");
    let known = |name: &str, value: Option<String>| {
        let value = value.unwrap_or_else(|| "unknown".to_owned());
        println!("cargo::rustc-env=VERIFIED_PROXY_BUILD_{name}={value}");
    };
    known("COMMIT", commit(&root));
    known("RUSTC", rustc(&variable("RUSTC")));
    known("PROFILE", Some(variable("PROFILE")));
    known("DCAP_QVL", locked(&root.join("Cargo.lock"), "dcap-qvl"));
}

/// Reads a file and makes cargo watch it. A missing file is not watched: cargo would take
/// it for changed each time.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}

/// The commit that is checked out, read without git (gitrepository-layout(5));
/// none in a tarball. Changes that are not committed do not show.
fn commit(root: &Path) -> Option<String> {
    let dot_git = root.join(".git");
    // In a worktree it is a file that says where.
    let own = match fs::read_to_string(&dot_git) {
        Ok(text) => root.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let shared = match fs::read_to_string(own.join("commondir")) {
        Ok(text) => own.join(text.trim()),
        Err(_) => own.clone(),
    };
    let head = watched(&own.join("HEAD"))?;
    let hash = match head.trim().strip_prefix("ref: ") {
        None => head.trim().to_owned(),
        Some(name) => branch(&shared, name)?,
    };
    let is_hash = [40, 64].contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(hash)
}

/// A branch lies in a file of its own, or packed with others until it moves.
fn branch(shared: &Path, name: &str) -> Option<String> {
    let loose: PathBuf = shared.join(name);
    if let Some(hash) = watched(&loose) {
        return Some(hash.trim().to_owned());
    }
    // Its own file would appear here.
    if let Some(folder) = loose.parent().filter(|folder| folder.is_dir()) {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let packed = watched(&shared.join("packed-refs"))?;
    packed.lines().find_map(|line| {
        let (hash, of) = line.split_once(' ')?;
        (of == name).then(|| hash.to_owned())
    })
}

/// Such as `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

/// The version of a package in Cargo.lock, which is there in the workspace.
fn locked(path: &Path, package: &str) -> Option<String> {
    let lock = watched(path)?;
    let (_, entry) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    entry.split('"').next().map(str::to_owned)
}
