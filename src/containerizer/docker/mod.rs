//! Docker tasks: containers of the engine that `DOCKER_HOST` names, or of the local one.
//!
//! A launch checks the image's name, has the image pulled if it is not there, creates a container
//! called `mesos-<container id>` with the labels in [`labels`], starts it, and looks at it once. From
//! then on two loops follow it: one copies its output into the sandbox, one waits for its end. After a
//! restart of the agent the same two loops begin again where the sandbox's files end. The engine is
//! first asked when the first docker task comes: an agent without Docker starts as fast as any.

mod containers;
mod engine;
pub(super) mod labels;
mod logs;
mod options;
mod parameters;
mod probe;
mod reap;

pub use containers::{Docker, DockerConfig};
pub use labels::DataOwner;
pub use reap::{Orphan, Reaped, reap};
