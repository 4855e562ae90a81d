//! Amounts.

use std::collections::BTreeSet;
use std::fmt;

use super::Ranges;

/// The largest scalar that is accepted, in whole units: Mesos bounds quantities at 10^12.
pub(super) const MAX_SCALAR: f64 = 1e12;

/// A fixed-point number with three decimals, as Mesos compares and adds scalars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar(i64);

impl Scalar {
    /// The scalar of this many thousandths.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// Thousandths.
    #[must_use]
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// Rounds to three decimals.
    ///
    /// # Errors
    /// Not a finite number, negative, above `MAX_SCALAR`, or above zero but zero after rounding.
    pub fn from_f64(value: f64) -> Result<Self, String> {
        if !value.is_finite() {
            return Err(format!("{value} is not a finite number"));
        }
        if value < 0.0 {
            return Err(format!("{value} is negative"));
        }
        if value > MAX_SCALAR {
            return Err(format!("{value} is more than {MAX_SCALAR}"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded above, and rounding is the point")]
        let milli = (value * 1_000.0).round() as i64;
        if milli == 0 && value != 0.0 {
            return Err(format!("{value} is less than the smallest amount, 0.001"));
        }
        Ok(Self(milli))
    }

    /// The number as a float, for the wire.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "up to 10^12 with three decimals fits in 53 bits")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl fmt::Display for Scalar {
    /// Without trailing zeros: `4`, `0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / 1_000, self.0.unsigned_abs() % 1_000);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:03}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// An amount of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A number.
    Scalar(Scalar),
    /// Inclusive ranges.
    Ranges(Ranges),
    /// Distinct texts.
    Set(BTreeSet<String>),
}

impl Value {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.0 == 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }

    /// Whether both are of one kind.
    #[must_use]
    pub fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether all of `other` is in this amount. Amounts of two kinds contain nothing of each other.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(wanted)) => own >= wanted,
            (Self::Ranges(own), Self::Ranges(wanted)) => own.contains(wanted),
            (Self::Set(own), Self::Set(wanted)) => own.is_superset(wanted),
            _ => false,
        }
    }

    /// Adds an amount of the same kind; another kind changes nothing.
    pub(super) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(more)) => own.0 = own.0.saturating_add(more.0),
            (Self::Ranges(own), Self::Ranges(more)) => *own = own.union(more),
            (Self::Set(own), Self::Set(more)) => own.extend(more.iter().cloned()),
            _ => {}
        }
    }

    /// Takes away an amount of the same kind that is contained.
    pub(super) fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(less)) => own.0 -= less.0,
            (Self::Ranges(own), Self::Ranges(less)) => *own = own.without(less),
            (Self::Set(own), Self::Set(less)) => own.retain(|item| !less.contains(item)),
            _ => {}
        }
    }

    /// Takes away what there is of `other`.
    pub(super) fn subtract_at_most(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(less)) => own.0 = (own.0 - less.0).max(0),
            (own, other) => own.subtract(other),
        }
    }

    /// Whether adding `other` would name the same port or item twice.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ranges(own), Self::Ranges(more)) => own.overlaps(more),
            (Self::Set(own), Self::Set(more)) => !own.is_disjoint(more),
            _ => false,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Set(set) => write!(f, "{{{}}}", set.iter().cloned().collect::<Vec<_>>().join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_thousandths() {
        assert_eq!(Scalar::from_f64(0.1).map(Scalar::milli), Ok(100));
        assert_eq!(Scalar::from_f64(0.0).map(Scalar::milli), Ok(0));
        assert_eq!(Scalar::from_f64(-0.0).map(Scalar::milli), Ok(0));
        let sum: i64 = (0..10_000).map(|_| Scalar::from_f64(0.1).map_or(0, Scalar::milli)).sum();
        assert_eq!(Scalar::from_milli(sum).to_string(), "1000");
        for absurd in [f64::NAN, f64::INFINITY, -1.0, 1e308, 0.0004, 1e-9] {
            assert!(Scalar::from_f64(absurd).is_err(), "{absurd}");
        }
        assert_eq!(Scalar::from_milli(1_050).to_string(), "1.05");
    }
}
