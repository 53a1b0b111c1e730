//! The wall clock as a value, and the age of things by two clocks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attest::UnixTime;

/// Tells the time of day. Everything that is valid until some moment asks the same clock, so a
/// test can step it, as the clock of a laptop steps that has slept.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> UnixTime + Send + Sync>,
    uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The system's clock. A time before 1970 reads as 1970, when nothing is valid yet.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            UnixTime(since.map_or(0, |duration| duration.as_secs()))
        })
    }

    /// A clock that shows what `now` returns.
    pub fn from_fn(now: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        Self {
            wall: Arc::new(now),
            uptime: Arc::new(uptime),
        }
    }

    /// The same beside another [`Clock::uptime`].
    #[must_use]
    pub fn with_uptime(self, uptime: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            uptime: Arc::new(uptime),
            ..self
        }
    }

    pub fn now(&self) -> UnixTime {
        (self.wall)()
    }

    /// The time since some moment. It goes on while the machine sleeps, and no step of the time
    /// of day changes it.
    pub fn uptime(&self) -> Duration {
        (self.uptime)()
    }
}

/// `Instant` stops while the machine sleeps.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn uptime() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_vendor = "apple")]
    let id = ClockId::Monotonic;
    #[cfg(not(target_vendor = "apple"))]
    let id = ClockId::Boottime;
    let time = clock_gettime(id);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds.saturating_add(Duration::from_nanos(
        u64::try_from(time.tv_nsec).unwrap_or(0),
    ))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn uptime() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().0)
    }
}

/// A moment by both clocks. The monotonic clock stops while a laptop sleeps, and the wall clock
/// can be set back; an age is the larger of the two.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    wall: UnixTime,
    monotonic: Instant,
    /// Its age at `monotonic`.
    before: Duration,
}

impl Stamp {
    pub fn now(clock: &Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: Instant::now(),
            before: Duration::ZERO,
        }
    }

    /// A moment of an earlier process, by the wall clock alone. A moment in the future has no
    /// meaningful age, so it counts as infinitely old.
    pub(crate) fn remembered(wall: UnixTime, clock: &Clock) -> Self {
        let before = clock.now().0.checked_sub(wall.0);
        Self {
            wall,
            monotonic: Instant::now(),
            before: before.map_or(Duration::MAX, Duration::from_secs),
        }
    }

    pub(crate) fn wall(&self) -> UnixTime {
        self.wall
    }

    pub fn age(&self, clock: &Clock) -> Duration {
        let by_wall = Duration::from_secs(clock.now().0.saturating_sub(self.wall.0));
        by_wall.max(self.before.saturating_add(self.monotonic.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_systems_uptime_goes_on() {
        let clock = Clock::system();
        let (before, began) = (clock.uptime(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (went, slept) = (clock.uptime() - before, began.elapsed());
        assert!(went >= Duration::from_millis(20), "{went:?}");
        assert!(went < slept + Duration::from_secs(1), "{went:?}, {slept:?}");
    }

    #[test]
    fn ages_by_the_clock_that_went_further() {
        let time = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
        let stamp = Stamp::now(&clock);
        let young = Duration::from_secs(5);
        assert!(stamp.age(&clock) < young);
        time.store(1_100, Ordering::SeqCst);
        assert_eq!(stamp.age(&clock), Duration::from_secs(100));
        // Set back: the monotonic clock's age remains.
        time.store(500, Ordering::SeqCst);
        assert!(stamp.age(&clock) < young);

        let kept = Stamp::remembered(UnixTime(400), &clock);
        time.store(300, Ordering::SeqCst);
        assert!(kept.age(&clock) >= Duration::from_secs(100));
        assert_eq!(
            Stamp::remembered(UnixTime(301), &clock).age(&clock),
            Duration::MAX
        );
    }
}
