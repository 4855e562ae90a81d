//! What a cluster is made of.

use std::path::PathBuf;
use std::time::Duration;

use super::handle::{self, Cluster};
use super::{ClusterError, Executor};
use crate::config::{DataDir, NodeConfig};
use crate::resources::Resources;

/// Resources of an agent when nothing else is said: the fake executor needs no real ones, and a
/// test should see the same on every machine.
const FAKE_RESOURCES: &str = "cpus:4;mem:4096;disk:4096;ports:[31000-31099]";

/// Settings of a cluster, each with a default: one agent, the fake executor, state in memory.
#[derive(Clone, Debug)]
pub struct Builder {
    masters: usize,
    agents: usize,
    resources: Option<String>,
    executor: Executor,
    data_dir: DataDir,
    launcher: Option<PathBuf>,
    run_id: Option<String>,
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

    /// Starts the cluster. Returns when a master leads and every agent is registered.
    ///
    /// # Errors
    /// A setting is not valid, or a part did not start; nothing is left running.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let config = self.config()?;
        handle::start(config).await
    }

    fn config(self) -> Result<NodeConfig, ClusterError> {
        let text = match (self.resources, self.executor) {
            (Some(text), _) => Some(text),
            (None, Executor::Fake) => Some(FAKE_RESOURCES.to_owned()),
            (None, Executor::Process) => None,
        };
        let mut config = NodeConfig::local().on_free_ports();
        config.masters = self.masters;
        config.agents = self.agents;
        config.agent_resources = text.as_deref().map(Resources::parse).transpose()?;
        config.executor = self.executor;
        config.data_dir = self.data_dir;
        config.launcher_path = self.launcher;
        config.run_id = self.run_id;
        // A test that is over waits for nobody.
        config.stop_grace = Duration::ZERO;
        Ok(config)
    }
}
