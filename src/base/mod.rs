//! What every other room stands on: typed ids, time as an argument, seeded chance, back-off, and
//! (for run loops only) the system clock and named tasks.
//!
//! Pure rooms may use [`id`], [`time`], [`chance`], [`backoff`] and [`future`]; [`clock`] and [`spawn`] do I/O.

pub mod backoff;
pub mod chance;
pub mod clock;
pub mod future;
pub mod id;
pub mod spawn;
pub mod time;
