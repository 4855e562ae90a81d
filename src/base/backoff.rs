//! Growing delays between attempts.

use std::time::Duration;

/// Delays that grow by a factor from a first value up to a cap.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    factor: f64,
    cap: Duration,
    next: Option<Duration>,
}

impl Backoff {
    /// Delays `first`, `first × factor`, … never above `cap`. A factor below one counts as one.
    #[must_use]
    pub fn new(first: Duration, factor: f64, cap: Duration) -> Self {
        Self { first, factor: if factor >= 1.0 { factor } else { 1.0 }, cap, next: None }
    }

    /// The delay before the next attempt; the one after it is longer.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.unwrap_or(self.first).min(self.cap);
        let grown = delay.as_secs_f64() * self.factor;
        self.next = Some(Duration::try_from_secs_f64(grown).unwrap_or(self.cap).min(self.cap));
        delay
    }

    /// Starts again from the first delay.
    pub fn reset(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_resets() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(10), 2.0, seconds(35));
        let delays: Vec<_> = (0..4).map(|_| backoff.next_delay()).collect();
        assert_eq!(delays, [seconds(10), seconds(20), seconds(35), seconds(35)]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), seconds(10));
    }

    #[test]
    fn absurd_factors_do_no_harm() {
        let mut backoff = Backoff::new(Duration::from_secs(1), f64::INFINITY, Duration::from_secs(9));
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
        assert_eq!(backoff.next_delay(), Duration::from_secs(9));
        let mut backoff = Backoff::new(Duration::from_secs(1), f64::NAN, Duration::from_secs(9));
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }
}
