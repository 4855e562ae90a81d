//! A cluster inside another program: for tests, and for embedding.
//!
//! # Starting one
//!
//! [`Cluster::builder`] has a default for everything: one master, one agent, and the fake executor, which only
//! pretends to run tasks: they stay running until they are killed or told to end.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = mesita::Cluster::builder().masters(3).agents(2).start().await?;
//! assert_eq!(cluster.master_urls().len(), 3); // for any framework
//! assert!(cluster.marathon_url().starts_with("http://127.0.0.1:")); // for any client of Marathon
//! cluster.shutdown().await?; // dropping it does the same
//! # Ok(())
//! # }
//! ```
//!
//! It is there when a master leads and every agent is registered. Each cluster owns its runtime on a thread of its
//! own, never the caller's; it listens on free ports ([`Builder::without_sockets`]: on none), installs no signal
//! handler and sets up no logging, so that many live in one process and tests may run side by side. Dropping it,
//! also in a panic and outside of any runtime, ends every task and waits for the thread, within a deadline.
//! [`Builder::start_blocking`] is for a test that is not `async`.
//!
//! With [`Executor::Process`] and [`Executor::Docker`] tasks are real. Processes need the `mesita` program as their
//! launcher ([`Builder::launcher`]), which ends them also when the test gets a SIGKILL.
//!
//! # Services
//!
//! ```
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = mesita::Cluster::builder().start().await?;
//! let app = serde_json::json!({ "id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 32, "instances": 2 });
//! cluster.deploy(app).await?;
//! cluster.wait_healthy("/web", Duration::from_secs(10)).await?;
//! assert_eq!(cluster.tasks().len(), 2);
//! # cluster.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A wait that is in vain says why: what the service waits for, how its last task ended and what that wrote, what
//! happened last in the cluster, and what was logged last ([`WaitError`]). [`Cluster::wait_for`] waits for anything
//! else.
//!
//! # Faults
//!
//! A [`Part`] is a master or an agent; a plain number is a master. [`Builder::testing`] makes timeouts short.
//!
//! ```
//! use std::time::Duration;
//!
//! use mesita::cluster::{Part, Skew, What};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let builder = mesita::Cluster::builder().masters(3).agents(2).testing().without_sockets();
//! let cluster = builder.start().await?;
//! let soon = Duration::from_secs(20);
//!
//! let mut events = cluster.events();
//! let lost = cluster.kill_leader().await?; // as a crash would
//! assert_ne!(cluster.wait_leader(soon).await?, lost);
//! cluster.restart(lost).await?; // on the state that it had
//!
//! let leader = cluster.wait_leader(soon).await?;
//! let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
//! cluster.partition(&[leader], &others)?; // or partition_one_way
//! let is_other = |event: &mesita::cluster::Event| event.what == What::Deposed(leader);
//! events.next_matching(soon, is_other).await?;
//! cluster.heal();
//!
//! cluster.pause(Part::Agent(0)).await?; // as SIGSTOP does
//! cluster.resume(Part::Agent(0)).await?;
//! cluster.delay(Duration::from_millis(5));
//! cluster.skew_clock(Part::Agent(1), Skew::Ahead(Duration::from_secs(3_600)))?;
//! cluster.fill_disk(Part::Agent(1))?; // it launches nothing more until heal()
//! cluster.drop_agent(0)?; // its machine loses its network, its tasks run on
//! cluster.fail_disk_write(Part::Agent(1))?; // it ends with its next write
//! cluster.heal();
//! # cluster.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A task of the fake executor ends as it is told: `cluster.task(id)?.exit(137)`. [`Cluster::history`] has what
//! happened, for what is to be looked at afterwards.
//!
//! # Frameworks
//!
//! [`Cluster::scheduler`] is the v1 scheduler API without a socket; it asks whichever master leads. The project
//! `examples/batch` has a small framework and its tests under faults.
//!
//! # When a test fails
//!
//! A cluster that is dropped by a panic prints its last events and the end of its log (unless the program has a
//! log of its own, where it is then found). With [`Builder::keep_on_failure`] its files stay, too, and it says
//! where; `mesita reap` removes them.

mod blocking;
mod builder;
mod error;
mod events;
mod faults;
mod handle;
mod logs;
mod waits;

pub use blocking::BlockingCluster;
pub use builder::Builder;
pub use error::ClusterError;
pub use events::Events;
pub use faults::{Skew, Task};
pub use handle::Cluster;
pub use waits::WaitError;

pub use crate::config::Executor;
pub use crate::node::{Event, Part, What};
