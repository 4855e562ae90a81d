//! What every other room stands on: typed ids, time as an argument, seeded chance, back-off, and
//! (for run loops only) the system clock and named tasks.
//!
//! Pure rooms may use all but [`clock`] and [`spawn`], which do I/O.

pub mod address;
pub mod backoff;
pub mod chance;
pub mod clock;
pub mod future;
pub mod id;
pub mod nearest;
#[cfg(planted)]
pub mod planted;
pub mod spawn;
pub mod time;
