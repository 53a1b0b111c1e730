//! File descriptors: each client has one, and each connection to a backend.

/// Clients' connections at a time.
const MAX_CLIENTS: usize = 4_096;
/// Kept for the runtime, the standard streams, the listener, files and fetches.
const RESERVED: u64 = 32;

/// Raises this process's soft limit of descriptors to its hard limit.
pub fn raise() {
    #[cfg(unix)]
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors was not raised"),
    }
}

/// How many clients may be served at a time.
pub(crate) fn clients() -> usize {
    clients_under(current())
}

/// How many connections to backends may be idle: half of what clients leave.
pub(crate) fn idle() -> usize {
    clients() / 2
}

/// The hard limit, to which [`raise`] raises the soft one.
#[cfg(unix)]
pub fn most() -> Option<u64> {
    rlimit::Resource::NOFILE.get_hard().ok()
}

#[cfg(not(unix))]
pub(crate) fn most() -> Option<u64> {
    None
}

#[cfg(unix)]
fn current() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

#[cfg(not(unix))]
fn current() -> Option<u64> {
    None
}

/// Half of the rest: each client can have one request under way, which has one
/// connection to a backend.
pub fn clients_under(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else {
        return MAX_CLIENTS;
    };
    let half = descriptors.saturating_sub(RESERVED) / 2;
    usize::try_from(half).map_or(MAX_CLIENTS, |half| half.clamp(1, MAX_CLIENTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_clients() {
        assert_eq!(clients_under(None), MAX_CLIENTS);
        assert_eq!(clients_under(Some(u64::MAX)), MAX_CLIENTS);
        assert_eq!(clients_under(Some(1_024)), 496);
        assert_eq!(clients_under(Some(16)), 1);
    }
}
