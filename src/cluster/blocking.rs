//! The cluster for plain tests, without `async`.

use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Builder, Cluster, ClusterError, Event, Events, Part, WaitError};

/// A [`Cluster`] whose methods wait for what they do. Not for use within a runtime: there they panic.
///
/// ```
/// use std::time::Duration;
///
/// let cluster = mesita::Cluster::builder().masters(3).start_blocking().unwrap();
/// cluster.deploy(serde_json::json!({ "id": "/web", "cmd": "serve", "instances": 2 })).unwrap();
/// cluster.wait_healthy("/web", Duration::from_secs(10)).unwrap();
/// let ended = cluster.kill_leader().unwrap();
/// assert_ne!(cluster.wait_leader(Duration::from_secs(10)).unwrap(), ended);
/// cluster.wait_healthy("/web", Duration::from_secs(30)).unwrap();
/// cluster.shutdown().unwrap();
/// ```
pub struct BlockingCluster {
    cluster: Cluster,
    runtime: Runtime,
}

impl Deref for BlockingCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl BlockingCluster {
    pub(super) fn start(builder: Builder) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClusterError::Start(error.to_string()))?;
        let cluster = runtime.block_on(builder.start())?;
        Ok(Self { cluster, runtime })
    }

    /// As [`Cluster::leader`].
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.runtime.block_on(self.cluster.leader())
    }

    /// As [`Cluster::wait_leader`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_leader(&self, within: Duration) -> Result<usize, WaitError> {
        self.runtime.block_on(self.cluster.wait_leader(within))
    }

    /// As [`Cluster::kill_leader`].
    ///
    /// # Errors
    /// As there.
    pub fn kill_leader(&self) -> Result<usize, ClusterError> {
        self.runtime.block_on(self.cluster.kill_leader())
    }

    /// As [`Cluster::kill_master`].
    ///
    /// # Errors
    /// As there.
    pub fn kill_master(&self, number: usize) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.kill_master(number))
    }

    /// As [`Cluster::restart_master`].
    ///
    /// # Errors
    /// As there.
    pub fn restart_master(&self, number: usize) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.restart_master(number))
    }

    /// As [`Cluster::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.kill(part))
    }

    /// As [`Cluster::restart`].
    ///
    /// # Errors
    /// As there.
    pub fn restart(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.restart(part))
    }

    /// As [`Cluster::pause`].
    ///
    /// # Errors
    /// As there.
    pub fn pause(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.pause(part))
    }

    /// As [`Cluster::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.resume(part))
    }

    /// As [`Cluster::wait_for`], with a look that does not wait.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn() -> Result<(), String>,
    ) -> Result<(), WaitError> {
        self.runtime.block_on(self.cluster.wait_for(what, within, async || look()))
    }

    /// As [`super::Events::next_matching`].
    ///
    /// # Errors
    /// As there.
    pub fn next_matching(
        &self,
        events: &mut Events,
        within: Duration,
        holds: impl FnMut(&Event) -> bool,
    ) -> Result<Event, WaitError> {
        self.runtime.block_on(events.next_matching(within, holds))
    }

    /// As [`Cluster::task_log`].
    ///
    /// # Errors
    /// As there.
    pub fn task_log(&self, task_id: &str, file: &str) -> Result<String, ClusterError> {
        self.runtime.block_on(self.cluster.task_log(task_id, file))
    }

    /// As [`Cluster::deploy`].
    ///
    /// # Errors
    /// As there.
    pub fn deploy(&self, app: Value) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.deploy(app))
    }

    /// As [`Cluster::wait_healthy`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_healthy(&self, app: &str, within: Duration) -> Result<(), WaitError> {
        self.runtime.block_on(self.cluster.wait_healthy(app, within))
    }

    /// As [`Cluster::shutdown`].
    ///
    /// # Errors
    /// As there.
    pub fn shutdown(self) -> Result<(), ClusterError> {
        self.runtime.block_on(self.cluster.shutdown())
    }
}
