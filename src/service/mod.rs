//! Services: apps in Marathon's terms, kept running by a framework that uses nothing an outside
//! framework could not use. [`model`] is what is stored, [`core`] decides, [`run`] does.

pub mod core;
pub mod model;
pub mod run;
