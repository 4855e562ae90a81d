//! A cluster inside another program: for tests, and for embedding.
//!
//! ```no_run
//! # async fn example() -> Result<(), mesita::cluster::ClusterError> {
//! let cluster = mesita::Cluster::builder().agents(2).start().await?;
//! println!("{}", cluster.master_url());
//! cluster.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each cluster owns its runtime on a thread of its own, never the caller's; it listens on free
//! ports, installs no signal handler and sets up no logging, so that many live in one process.
//! Dropping it, also in a panic, ends every task and waits for the thread, within a deadline.

mod builder;
mod error;
mod handle;

pub use builder::Builder;
pub use error::ClusterError;
pub use handle::Cluster;

pub use crate::config::Executor;
