//! The master: [`core`] decides, [`run`] does. Its state is soft: agents and schedulers bring it
//! along; what must not be lost is in the registry.

pub mod core;
pub mod run;
