//! Core dumps of this process, which would hold keys and prompts.

/// Turns core dumps off: a crash must not write keys and prompts to a file.
pub fn disable() {
    #[cfg(unix)]
    if let Err(error) = rlimit::Resource::CORE.set(0, 0) {
        tracing::warn!(%error, "core dumps were not disabled: a crash of this process could write its memory to a file");
    }
}
