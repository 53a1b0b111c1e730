//! What systemd, or a service manager like it, is told (sd_notify(3)). Without the variable
//! NOTIFY_SOCKET nothing is sent. The datagrams hold constants and addresses of this program.

#[cfg(target_os = "linux")]
use sd_notify::NotifyState;

/// The program serves clients; `status` says how.
pub(super) fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// The options are read again; [`ready`] follows.
pub(super) fn reloading() {
    #[cfg(target_os = "linux")]
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
}

/// Answers under way end.
pub(super) fn stopping() {
    #[cfg(target_os = "linux")]
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping: answers under way end"),
    ]);
}

#[cfg(target_os = "linux")]
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) was not told");
    }
}

/// Each line of a notification is an assignment of its own.
#[cfg(target_os = "linux")]
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
