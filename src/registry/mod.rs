//! The registry: what must not be lost. [`core`] is the replicated state, [`run`] keeps it behind
//! consensus.

pub mod core;
pub mod run;
