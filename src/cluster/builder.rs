//! What a cluster is made of.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use super::handle::{self, Cluster, Options};
use super::{BlockingCluster, ClusterError, Executor};
use crate::config::{DataDir, NodeConfig};
use crate::node::Given;
use crate::resources::Resources;

/// Resources of an agent when nothing else is said: the fake executor needs no real ones, and a
/// test should see the same on every machine.
const FAKE_RESOURCES: &str = "cpus:4;mem:4096;disk:4096;ports:[31000-31099]";

/// Settings of a cluster, each with a default: one agent, the fake executor, state in memory.
#[derive(Debug)]
pub struct Builder {
    masters: usize,
    agents: usize,
    resources: Option<String>,
    executor: Executor,
    data_dir: DataDir,
    launcher: Option<PathBuf>,
    run_id: Option<String>,
    is_quick: bool,
    sockets: bool,
    given: Given,
    keeps_on_failure: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            masters: 1,
            agents: 1,
            resources: None,
            executor: Executor::Fake,
            data_dir: DataDir::Ephemeral,
            launcher: None,
            run_id: None,
            is_quick: false,
            sockets: true,
            given: Given::default(),
            keeps_on_failure: false,
        }
    }
}

impl Builder {
    /// Number of masters: three go on when one is lost.
    #[must_use]
    pub fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// Number of agents.
    #[must_use]
    pub fn agents(mut self, agents: usize) -> Self {
        self.agents = agents;
        self
    }

    /// What each agent has, as `cpus:4;mem:4096;disk:4096;ports:[31000-31099]`.
    #[must_use]
    pub fn agent_resources(mut self, text: impl Into<String>) -> Self {
        self.resources = Some(text.into());
        self
    }

    /// What runs tasks.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }

    /// Keeps state in a directory, to be found again by another cluster.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = DataDir::At(path.into());
        self
    }

    /// The `mesita` program, whose launcher makes sure that no process outlives a `kill -9` of this
    /// one. The process executor needs it.
    #[must_use]
    pub fn launcher(mut self, program: impl Into<PathBuf>) -> Self {
        self.launcher = Some(program.into());
        self
    }

    /// Marks everything that the cluster makes, so that a test run can count what is left.
    #[must_use]
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.run_id = Some(run_id.into());
        self
    }

    /// Short timeouts, for tests of what happens when something is lost: another master leads after 0.3 to
    /// 0.6 s without the one that did (else 1 to 2 s), an agent counts as unreachable after 2 s (10 s), and
    /// agents have 5 s to come back after a change of leaders (10 min).
    #[must_use]
    pub fn testing(mut self) -> Self {
        self.is_quick = true;
        self
    }

    /// Binds no socket: the APIs answer within the process only, through [`Cluster::scheduler`],
    /// [`Cluster::operator`] and [`Cluster::marathon`].
    #[must_use]
    pub fn without_sockets(mut self) -> Self {
        self.sockets = false;
        self
    }

    /// Lets the Mesos API of the master of this number answer on a listener that is bound already.
    #[must_use]
    pub fn master_listener(mut self, number: usize, listener: TcpListener) -> Self {
        self.given.masters.insert(number, listener);
        self
    }

    /// The same for Marathon's API at the master of this number.
    #[must_use]
    pub fn marathon_listener(mut self, number: usize, listener: TcpListener) -> Self {
        self.given.marathons.insert(number, listener);
        self
    }

    /// The same for the API of the agent of this number.
    #[must_use]
    pub fn agent_listener(mut self, number: usize, listener: TcpListener) -> Self {
        self.given.agents.insert(number, listener);
        self
    }

    /// When the test that owns the cluster panics, its files (sandboxes, and state where it is on disk) stay,
    /// and it is said where.
    #[must_use]
    pub fn keep_on_failure(mut self) -> Self {
        self.keeps_on_failure = true;
        self
    }

    /// Starts the cluster. Returns when a master leads and every agent is registered.
    ///
    /// # Errors
    /// A setting is not valid, or a part did not start; nothing is left running.
    pub async fn start(mut self) -> Result<Cluster, ClusterError> {
        let given = std::mem::take(&mut self.given);
        let options = Options { given, keeps_on_failure: self.keeps_on_failure };
        let config = self.config()?;
        handle::start(config, options).await
    }

    /// As [`Builder::start`], for a test that is not `async`.
    ///
    /// # Errors
    /// As there.
    pub fn start_blocking(self) -> Result<BlockingCluster, ClusterError> {
        BlockingCluster::start(self)
    }

    fn config(self) -> Result<NodeConfig, ClusterError> {
        let text = match (self.resources, self.executor) {
            (Some(text), _) => Some(text),
            (None, Executor::Fake) => Some(FAKE_RESOURCES.to_owned()),
            (None, Executor::Process | Executor::Docker) => None,
        };
        let mut config = NodeConfig::local().on_free_ports();
        config.masters = self.masters;
        config.agents = self.agents;
        config.agent_resources = text.as_deref().map(Resources::parse).transpose()?;
        config.executor = self.executor;
        config.data_dir = self.data_dir;
        config.launcher_path = self.launcher;
        config.run_id = self.run_id;
        config.sockets = self.sockets;
        config.can_fail = true;
        if self.is_quick {
            config.election_timeout = Duration::from_millis(300);
            config.agent_unreachable_after = Duration::from_secs(2);
            config.agent_reregister_timeout = Duration::from_secs(5);
        }
        // A test that is over waits for nobody.
        config.stop_grace = Duration::ZERO;
        Ok(config)
    }
}
