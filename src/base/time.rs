//! Time as an argument. Every input of a core carries a [`Now`]: a monotonic reading, which
//! deadlines are made of and which no clock jump disturbs, and a wall reading, which people and
//! other machines see.

use std::fmt;
use std::time::Duration;

/// Time since an arbitrary start, never going back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// The instant `since_start` after the arbitrary start.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time since the arbitrary start.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// `later` after this instant; the far future when that cannot be represented.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// Time from `earlier` to this instant, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A wall clock reading: nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The timestamp of this many nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch with microsecond precision, as Mesos writes times.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this century fit in 53 bits")]
    pub fn seconds(self) -> f64 {
        (self.0 / 1_000) as f64 / 1e6
    }

    /// `YYYY-MM-DDThh:mm:ss.mmmZ`, as Marathon writes times.
    #[must_use]
    pub fn rfc3339_millis(self) -> String {
        let millis = self.0.div_euclid(1_000_000);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(stamp) => format!("{stamp:.3}"),
            Err(_) => format!("{millis}ms"),
        }
    }

    /// Reads an RFC 3339 date-time with any offset.
    ///
    /// # Errors
    /// The text is no date-time, or out of range.
    pub fn parse_rfc3339(text: &str) -> Result<Self, String> {
        let stamp: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        i64::try_from(stamp.as_nanosecond()).map(Self).map_err(|_| format!("time out of range: {text}"))
    }

    /// `later` after this reading, saturating.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(later.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this reading, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_millis())
    }
}

/// The time at which an input is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For people and records.
    pub wall: Timestamp,
}

/// A source of [`Now`], owned by run loops.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Now;
}

/// A duration from seconds as the APIs give them: not a number, negative and zero become zero,
/// anything above `cap` becomes `cap`.
#[must_use]
pub fn seconds_capped(seconds: f64, cap: Duration) -> Duration {
    if seconds > 0.0 {
        Duration::try_from_secs_f64(seconds).map_or(cap, |duration| duration.min(cap))
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marathon_time_has_three_digits() {
        let stamp = Timestamp::parse_rfc3339("2026-11-24T11:40:51.5+01:00").expect("a valid time");
        assert_eq!(stamp.rfc3339_millis(), "2026-11-24T10:40:51.500Z");
        assert_eq!(Timestamp::from_nanos(0).rfc3339_millis(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn seconds_are_capped_and_never_negative() {
        let year = Duration::from_secs(31_536_000);
        assert_eq!(seconds_capped(f64::NAN, year), Duration::ZERO);
        assert_eq!(seconds_capped(-1.0, year), Duration::ZERO);
        assert_eq!(seconds_capped(1e300, year), year);
        assert_eq!(seconds_capped(f64::INFINITY, year), year);
        assert_eq!(seconds_capped(0.5, year), Duration::from_millis(500));
    }
}
