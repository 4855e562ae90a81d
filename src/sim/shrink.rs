//! Cuts a schedule down to what a failure needs.

use super::schedule::Planned;
use super::world::{Failure, Options, play, schedule};

/// The smallest schedule found of a seed that fails, and how it fails then; none if it does not fail.
///
/// Parts are left out, halves first, as long as anything still fails (delta debugging). Leaving something
/// out changes what chance decides after it, so what is left need not be the very same failure.
#[must_use]
pub fn shrink(seed: u64, options: &Options) -> Option<(Vec<Planned>, Failure)> {
    let mut left = schedule(seed, options);
    let mut failure = play(seed, options, &left).err()?;
    let mut part = left.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < left.len() {
            let without: Vec<Planned> =
                left[..at].iter().chain(left.iter().skip(at + part)).copied().collect();
            match play(seed, options, &without) {
                Err(smaller) => (left, failure) = (without, smaller),
                Ok(_) => at += part,
            }
        }
        if part == 1 {
            return Some((left, failure));
        }
        part = part.div_ceil(2);
    }
}
