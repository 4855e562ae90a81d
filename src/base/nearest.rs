//! The name that somebody who mistyped one probably meant.

/// The one of `known` that is nearest to `typed`; none only when there is none.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|other| strsim::damerau_levenshtein(other, typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_more_less_or_swapped() {
        let known = ["instances", "id", "cmd"];
        assert_eq!(nearest("instnaces", known), Some("instances"));
        assert_eq!(nearest("cmdd", known), Some("cmd"));
        assert_eq!(nearest("x", []), None);
    }
}
