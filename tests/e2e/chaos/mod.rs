//! Faults under load, against real processes: what clients asked and were told goes into a history, what
//! tasks did is in a file that they write themselves, and a checker says afterwards what does not hold.
//!
//! `MESITA_CHAOS_KILLS` sets how often the leader is killed (the default keeps the suite short),
//! `MESITA_SEED` repeats a run's choices. `tests/README.md` has the whole list.

pub(crate) mod checker;
#[cfg(test)]
mod checker_tests;
pub(crate) mod cluster;
mod framework;
pub(crate) mod history;
pub(crate) mod http;
mod kills;
pub(crate) mod load;
pub(crate) mod net;
mod network;
mod wire;
