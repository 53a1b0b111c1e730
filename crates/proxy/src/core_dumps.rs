//! Core dumps of this process, which would hold keys and prompts.

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Turns core dumps off: a crash must not write keys and prompts to a file.
///
/// The limit of a core file's size is 0. Linux asks it for files only: where a program gets core
/// dumps (`core_pattern` begins with "|", core(5)), as on systems with systemd or Ubuntu's
/// apport, only a process that is not dumpable has none. No debugger of the same user can read
/// its memory then either (PR_SET_DUMPABLE, ptrace(2)).
pub fn disable() {
    #[cfg(unix)]
    if let Err(error) = rlimit::Resource::CORE.set(0, 0) {
        tracing::warn!(%error, "core dumps were not disabled: a crash of this process could write its memory to a file");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps were not disabled: a crash of this process could give its memory to the program of core_pattern");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::dumpable_behavior;

    #[test]
    fn neither_a_file_nor_a_program_gets_a_core_dump() {
        disable();
        assert_eq!(rlimit::Resource::CORE.get().unwrap(), (0, 0));
        let dumpable = dumpable_behavior().unwrap();
        assert_eq!(dumpable, DumpableBehavior::NotDumpable);
    }
}
