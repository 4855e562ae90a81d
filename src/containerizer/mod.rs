//! Containerizers carry out what the agent core decided: processes through the launcher, docker
//! containers through the engine, and a fake for tests.

mod api;
#[cfg(feature = "docker")]
mod docker;
mod error;
mod fake;
mod fetch;
pub mod launcher;
mod probe;
mod process;
mod sandbox;

pub use api::{Containerizer, Events};
#[cfg(feature = "docker")]
pub use docker::{DataOwner, Docker, DockerConfig, Orphan, Reaped, reap};
pub use error::ContainerizerError;
pub use fake::Fake;
pub use process::{Process, ProcessConfig};
