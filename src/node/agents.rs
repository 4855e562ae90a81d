//! The agents of a node, with their containerizers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::damage::{Copies, explain_store};
use super::data::Data;
use super::ports::PortBlock;
use super::start::serve;
use super::{StartError, listen};
use crate::agent;
use crate::agent::core::container::Kind;
use crate::base::clock::SystemClock;
use crate::base::spawn::Tasks;
use crate::client::AgentPeer;
use crate::config::{Executor, Listen, NodeConfig};
use crate::containerizer::{self, Containerizer, Events};
use crate::resources::Resources;
use crate::{os, server};

/// How long the remains of an agent's containers may take to end after its loop has stopped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What agents are made from.
pub(super) struct Environment<'a> {
    pub(super) config: &'a NodeConfig,
    pub(super) data: &'a Data,
    pub(super) master: Arc<dyn AgentPeer>,
    /// The Mesos API of this node, which tasks are told; none without a master here.
    pub(super) master_address: Option<SocketAddr>,
    pub(super) clock: Arc<SystemClock>,
}

/// The agents of a node.
pub(super) struct Agents {
    addresses: Vec<SocketAddr>,
    containerizers: Vec<Arc<dyn Containerizer>>,
    /// Tasks go on when the node stops.
    tasks_outlive: bool,
    /// Claims on host ports, held as long as the agents live.
    _ports: Vec<PortBlock>,
}

impl Agents {
    /// Starts the agents one after another.
    pub(super) async fn start(tasks: &mut Tasks, environment: Environment<'_>) -> Result<Self, StartError> {
        // A temporary directory ends with the node, and its tasks with it.
        let tasks_outlive = environment.config.tasks_outlive && !environment.data.is_ephemeral();
        let (addresses, containerizers, ports) = (Vec::new(), Vec::new(), Vec::new());
        let mut agents = Self { addresses, containerizers, tasks_outlive, _ports: ports };
        for index in 0..environment.config.agents {
            agents.start_one(tasks, &environment, index).await?;
        }
        Ok(agents)
    }

    async fn start_one(
        &mut self,
        tasks: &mut Tasks,
        environment: &Environment<'_>,
        index: usize,
    ) -> Result<(), StartError> {
        let config = environment.config;
        let wanted = if index == 0 {
            config.agent
        } else {
            Listen { address: SocketAddr::new(config.agent.address.ip(), 0), required: true }
        };
        let listener = listen::bind(wanted, "agent").await?;
        let address = listen::address_of(&listener, "agent")?;
        let work_dir = environment.data.agent_work_dir(index)?;
        let resources = match &config.agent_resources {
            Some(resources) => resources.clone(),
            None => self.share_of_host(config.agents, &work_dir, environment.data.agent_notes(index))?,
        };

        let mut agent_config = agent::core::Config::new(work_dir, address, resources);
        agent_config.hostname = listen::advertised(config.advertise.as_deref(), address);
        agent_config.attributes.clone_from(&config.agent_attributes);
        agent_config.is_whole_node = config.masters == 0 && config.agents == 1;
        agent_config.stop_grace = (!self.tasks_outlive).then_some(config.stop_grace);
        agent_config.extra_environment = extra_environment(config, environment.master_address);

        let (events, reports) = mpsc::unbounded_channel();
        let notes = environment.data.agent_notes(index);
        let tasks_outlive = self.tasks_outlive;
        let containerizers = containerizers(config, tasks_outlive, address, notes, events).await?;
        self.containerizers.extend(containerizers.values().cloned());
        let root = environment.data.root().join(format!("agent-{index}"));
        let store = environment.data.agent_store(index);
        let store = store.map_err(|error| explain_store(error, &root, Copies::Agent))?;
        let master = Arc::clone(&environment.master);
        let clock = Arc::clone(&environment.clock);
        let handle =
            agent::run::Handle::start(tasks, agent_config, master, containerizers, reports, store, clock);
        serve(tasks, "agent server", listener, server::agent_router(handle), &config.hostnames);
        self.addresses.push(address);
        Ok(())
    }

    /// Detected cpus, memory and disk divided by the number of agents, and a block of host ports.
    fn share_of_host(
        &mut self,
        agents: usize,
        work_dir: &std::path::Path,
        notes: std::path::PathBuf,
    ) -> Result<Resources, StartError> {
        let host = os::host::detect(work_dir);
        let share = u64::try_from(agents.max(1)).unwrap_or(1);
        let block = PortBlock::claim_again(&notes.join("ports"))?;
        let text = format!(
            "cpus:{:.3};mem:{};disk:{};ports:[{}-{}]",
            f64::from(host.cpus) / f64::from(u32::try_from(share).unwrap_or(1)),
            host.mem_mib / share,
            host.disk_mib / share,
            block.begin,
            block.end
        );
        self._ports.push(block);
        // The text is ours: numbers that `detect` made.
        Resources::parse(&text).map_err(|error| StartError::DataDir {
            path: work_dir.to_owned(),
            source: std::io::Error::other(error.to_string()),
        })
    }

    /// Where the agents' APIs answer.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends every task, also those that would outlive the node, and says what could not be ended.
    pub(super) async fn end_tasks(&self) -> Vec<String> {
        let mut left = Vec::new();
        for containerizer in &self.containerizers {
            left.extend(containerizer.destroy_all(CLOSE_DEADLINE).await.err());
        }
        left
    }

    /// Ends what containers are left and says what could not be ended; tasks that go on are let go of.
    pub(super) async fn close(self) -> Vec<String> {
        if !self.tasks_outlive {
            return self.end_tasks().await;
        }
        self.containerizers.iter().for_each(|containerizer| containerizer.leave());
        Vec::new()
    }
}

/// Variables that every task of this node gets beside those of Mesos.
fn extra_environment(config: &NodeConfig, master: Option<SocketAddr>) -> Vec<(String, String)> {
    let address = master.map(|master| ("MESITA_ADDR".to_owned(), format!("http://{master}")));
    let mut variables = Vec::from_iter(address);
    if let Some(program) = &config.launcher_path {
        variables.push(("MESITA_EXE".to_owned(), program.display().to_string()));
    }
    if let Some(run_id) = &config.run_id {
        variables.push(("MESITA_RUN_ID".to_owned(), run_id.clone()));
    }
    variables
}

async fn containerizers(
    config: &NodeConfig,
    tasks_outlive: bool,
    address: SocketAddr,
    notes: std::path::PathBuf,
    events: Events,
) -> Result<BTreeMap<Kind, Arc<dyn Containerizer>>, StartError> {
    let mut all: BTreeMap<Kind, Arc<dyn Containerizer>> = BTreeMap::new();
    if config.executor == Executor::Fake {
        let fake: Arc<dyn Containerizer> = Arc::new(containerizer::Fake::new(events));
        all.insert(Kind::Process, Arc::clone(&fake));
        all.insert(Kind::Docker, fake);
        return Ok(all);
    }
    let Some(launcher_path) = config.launcher_path.clone() else { return Err(StartError::NoLauncher) };
    let launcher_dir = notes.join("launcher");
    if !tasks_outlive {
        containerizer::Process::end_outliving(launcher_path.clone(), &launcher_dir).await?;
    }
    let outlive = tasks_outlive.then_some(launcher_dir);
    let process_config = containerizer::ProcessConfig { launcher_path, outlive };
    let process = containerizer::Process::start(process_config, events.clone()).await?;
    all.insert(Kind::Process, Arc::new(process));
    #[cfg(feature = "docker")]
    {
        let run_id = config.run_id.clone();
        let docker_config = containerizer::DockerConfig { publish: address.ip(), notes, run_id };
        all.insert(Kind::Docker, Arc::new(containerizer::Docker::new(docker_config, events)));
    }
    #[cfg(not(feature = "docker"))]
    let _ = (address, notes, events);
    Ok(all)
}
