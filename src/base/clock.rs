//! The clocks of run loops: the system's, and one that tests set by hand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::time::{Clock, Mono, Now, Timestamp};

/// Waits for a deadline; for ever without one.
pub async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The system's monotonic and wall clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    /// How far its wall clock is ahead of the system's, in nanoseconds.
    ahead: AtomicI64,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now(), ahead: AtomicI64::new(0) }
    }

    /// Sets how far its wall clock is ahead of the system's, in nanoseconds: below zero it is behind. For
    /// tests.
    pub fn skew(&self, nanos: i64) {
        self.ahead.store(nanos, Ordering::Relaxed);
    }

    /// The instant of the runtime's timers at which `deadline` falls.
    #[must_use]
    pub fn instant(&self, deadline: Mono) -> tokio::time::Instant {
        // A deadline beyond what the platform can represent is one that never comes.
        let far = Duration::from_secs(365 * 24 * 3600);
        tokio::time::Instant::from_std(self.start + deadline.since_start().min(self.start.elapsed() + far))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono::from_start(self.start.elapsed()),
            wall: Timestamp::from_nanos(
                i64::try_from(wall.as_nanos())
                    .unwrap_or(i64::MAX)
                    .saturating_add(self.ahead.load(Ordering::Relaxed)),
            ),
        }
    }
}

/// A clock that stands still until it is told to advance.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Now>,
}

impl ManualClock {
    /// Moves both readings forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        now.mono = now.mono.after(by);
        now.wall = now.wall.after(by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
