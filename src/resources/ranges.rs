//! Sets of unsigned numbers as inclusive ranges, always sorted, coalesced and disjoint.

use std::fmt;

/// Most ranges that one resource may have: ports fragment, but ten million of them are an attack.
pub(super) const MAX_RANGES: usize = 65_536;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The set of these inclusive ranges.
    ///
    /// # Errors
    /// A range ends before it begins, two overlap, or there are more than `MAX_RANGES`.
    pub fn new(pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, String> {
        let mut sorted: Vec<(u64, u64)> = Vec::new();
        for (begin, end) in pairs {
            if begin > end {
                return Err(format!("the range {begin}-{end} ends before it begins"));
            }
            if sorted.len() == MAX_RANGES {
                return Err(format!("it has more than {MAX_RANGES} ranges"));
            }
            sorted.push((begin, end));
        }
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            return Err(format!(
                "the ranges {}-{} and {}-{} overlap",
                pair[0].0, pair[0].1, pair[1].0, pair[1].1
            ));
        }
        Ok(Self(coalesced(sorted)))
    }

    /// One range; `end` below `begin` gives the empty set.
    #[must_use]
    pub fn one(begin: u64, end: u64) -> Self {
        if begin <= end { Self(vec![(begin, end)]) } else { Self::default() }
    }

    /// The ranges in order.
    #[must_use]
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether there is no number in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are, saturating.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |count: u64, (begin, end)| count.saturating_add((end - begin).saturating_add(1)))
    }

    /// Whether a number is in the set.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(begin, _)| *begin <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(begin, end)| {
            let after = self.0.partition_point(|(own, _)| own <= begin);
            after > 0 && self.0[after - 1].1 >= *end
        })
    }

    /// Whether the two have a number in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        other.0.iter().any(|(begin, end)| {
            let until = self.0.partition_point(|(own, _)| own <= end);
            until > 0 && self.0[until - 1].1 >= *begin
        })
    }

    /// The numbers of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = [self.0.as_slice(), other.0.as_slice()].concat();
        all.sort_unstable();
        Self(coalesced(all))
    }

    /// The numbers of all, and whether some number is in more than one of them.
    pub(super) fn union_of(all: &[Self]) -> (Self, bool) {
        let mut sorted: Vec<(u64, u64)> = all.iter().flat_map(|ranges| &ranges.0).copied().collect();
        sorted.sort_unstable();
        let overlap = sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1);
        (Self(coalesced(sorted)), overlap)
    }

    /// The numbers that `other` does not have.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for &(begin, end) in &self.0 {
            let mut from = Some(begin);
            while let Some(&&(cut_begin, cut_end)) = cuts.peek() {
                let Some(start) = from else { break };
                if cut_end < start {
                    cuts.next();
                } else if cut_begin > end {
                    break;
                } else {
                    if cut_begin > start {
                        left.push((start, cut_begin - 1));
                    }
                    from = cut_end.checked_add(1).filter(|next| *next <= end);
                    if from.is_some() {
                        cuts.next();
                    }
                }
            }
            if let Some(start) = from {
                left.push((start, end));
            }
        }
        Self(left)
    }
}

/// Sorted ranges with touching and overlapping ones merged.
fn coalesced(sorted: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
    for (begin, end) in sorted {
        match merged.last_mut() {
            Some(last) if last.1 == u64::MAX || begin <= last.1 + 1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, (begin, end)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{begin}-{end}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &BTreeSet<u64>) -> Ranges {
        numbers.iter().fold(Ranges::default(), |ranges, number| ranges.union(&Ranges::one(*number, *number)))
    }

    #[test]
    fn edges_of_the_number_line() {
        let all = Ranges::one(0, u64::MAX);
        assert_eq!(all.without(&Ranges::one(0, u64::MAX)), Ranges::default());
        assert_eq!(all.without(&Ranges::one(0, 0)).pairs(), [(1, u64::MAX)]);
        assert_eq!(all.without(&Ranges::one(u64::MAX, u64::MAX)).pairs(), [(0, u64::MAX - 1)]);
        assert_eq!(all.count(), u64::MAX);
        assert_eq!(all.union(&Ranges::one(5, 9)), all);
    }

    #[test]
    fn bad_ranges_are_refused() {
        assert!(Ranges::new([(2, 1)]).is_err());
        assert!(Ranges::new([(1, 5), (5, 9)]).is_err());
        assert_eq!(Ranges::new([(6, 9), (1, 5)]).expect("valid").pairs(), [(1, 9)]);
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(a in prop::collection::btree_set(0u64..64, 0..40), b in prop::collection::btree_set(0u64..64, 0..40)) {
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.union(&right), set(&a.union(&b).copied().collect()));
            prop_assert_eq!(Ranges::union_of(&[left.clone(), right.clone()]), (left.union(&right), left.overlaps(&right)));
            prop_assert_eq!(left.without(&right), set(&a.difference(&b).copied().collect()));
            prop_assert_eq!(left.contains(&right), a.is_superset(&b));
            prop_assert_eq!(left.overlaps(&right), !a.is_disjoint(&b));
            prop_assert_eq!(left.count(), a.len() as u64);
            prop_assert!((0..64).all(|number| left.has(number) == a.contains(&number)));
        }
    }
}
