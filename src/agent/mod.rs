//! The agent: [`core`] decides, [`run`] does.

pub mod core;
pub mod run;
