//! The agents of a node, with their containerizers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::damage::{Copies, explain_store};
use super::data::Data;
use super::journal::Journal;
use super::leading::Leading;
use super::listen::Given;
use super::ports::PortBlock;
use super::start::{hurry_of, serve};
use super::wires::{Part, Wired, Wires};
use super::{StartError, listen};
use crate::agent;
use crate::agent::core::container::Kind;
use crate::base::clock::SystemClock;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{AgentApi, AgentPeer};
use crate::config::{Executor, Listen, NodeConfig};
use crate::containerizer::{self, Containerizer, Events};
use crate::resources::Resources;
use crate::{os, server};

/// How long the remains of an agent's containers may take to end after its loop has stopped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What agents are made from.
pub(super) struct Environment {
    pub(super) config: NodeConfig,
    pub(super) data: Data,
    pub(super) master: Master,
    /// The Mesos API of this node, which tasks are told; none without a master here.
    pub(super) master_address: Option<SocketAddr>,
    pub(super) failures: mpsc::UnboundedSender<Fatal>,
    pub(super) given: Arc<Mutex<Given>>,
}

/// The leading master, as agents see it.
pub(super) enum Master {
    Direct(Arc<dyn AgentPeer>),
    /// Over ways that may be cut.
    Wired(Leading, Wires, Journal),
}

impl Environment {
    fn master_for(&self, agent: usize) -> Arc<dyn AgentPeer> {
        match &self.master {
            Master::Direct(master) => Arc::clone(master),
            Master::Wired(leading, wires, journal) => Arc::new(Wired {
                agent,
                leading: leading.clone(),
                wires: wires.clone(),
                journal: journal.clone(),
            }),
        }
    }
}

/// The agents of a node.
pub(super) struct Agents {
    environment: Environment,
    places: Vec<Place>,
    /// Tasks go on when the node stops.
    tasks_outlive: bool,
}

/// One agent, also while it does not run.
struct Place {
    /// Where it answers; none: nobody listens.
    address: Option<SocketAddr>,
    resources: Resources,
    clock: Arc<SystemClock>,
    /// What only pretends to run its tasks.
    fakes: BTreeMap<Kind, Arc<containerizer::Fake>>,
    /// Claim on host ports, held as long as the node lives.
    _ports: Option<PortBlock>,
    role: Option<Role>,
    /// Of the time before it was ended: their containers may still be there when the node stops.
    left: Vec<Arc<dyn Containerizer>>,
}

/// A running agent.
struct Role {
    tasks: Tasks,
    handle: Arc<agent::run::Handle>,
    containerizers: BTreeMap<Kind, Arc<dyn Containerizer>>,
}

/// The name of an agent's store, and of the agent as a part of the node.
pub(super) fn store_name(number: usize) -> String {
    format!("agent-{number}")
}

impl Agents {
    /// Starts the agents one after another.
    pub(super) async fn start(environment: Environment) -> Result<Self, StartError> {
        // A temporary directory ends with the node, and its tasks with it.
        let tasks_outlive = environment.config.tasks_outlive && !environment.data.is_ephemeral();
        let mut agents = Self { environment, places: Vec::new(), tasks_outlive };
        for number in 0..agents.environment.config.agents {
            let place = agents.place(number)?;
            agents.places.push(place);
            agents.start_one(number).await?;
        }
        Ok(agents)
    }

    /// Where an agent will be, and what it has.
    fn place(&self, number: usize) -> Result<Place, StartError> {
        let Environment { config, data, .. } = &self.environment;
        let (resources, ports) = match &config.agent_resources {
            Some(resources) => (resources.clone(), None),
            None => share_of_host(config.agents, &data.agent_work_dir(number)?, data.agent_notes(number))?,
        };
        let clock = Arc::new(SystemClock::new());
        Ok(Place {
            address: None,
            resources,
            clock,
            fakes: BTreeMap::new(),
            _ports: ports,
            role: None,
            left: Vec::new(),
        })
    }

    async fn listener(&self, number: usize) -> Result<Option<TcpListener>, StartError> {
        let config = &self.environment.config;
        if !config.sockets {
            return Ok(None);
        }
        let given =
            self.environment.given.lock().unwrap_or_else(PoisonError::into_inner).agents.remove(&number);
        if let Some(listener) = given {
            return listen::adopt(listener, "agent").map(Some);
        }
        let wanted = match self.places[number].address {
            Some(address) => Listen { address, required: true },
            None if number == 0 => config.agent,
            None => Listen { address: SocketAddr::new(config.agent.address.ip(), 0), required: true },
        };
        listen::bind(wanted, "agent").await.map(Some)
    }

    async fn start_one(&mut self, number: usize) -> Result<(), StartError> {
        let listener = self.listener(number).await?;
        let address = listener.as_ref().map(|listener| listen::address_of(listener, "agent")).transpose()?;
        let Environment { config, data, failures, .. } = &self.environment;
        let place = &mut self.places[number];
        place.address = address;
        let work_dir = data.agent_work_dir(number)?;

        let told = address.unwrap_or_else(|| listen::nowhere_of(number));
        let mut agent_config = agent::core::Config::new(work_dir, told, place.resources.clone());
        agent_config.hostname = listen::advertised(config.advertise.as_ref(), told);
        agent_config.attributes.clone_from(&config.agent_attributes);
        agent_config.is_whole_node = config.masters == 0 && config.agents == 1;
        agent_config.stop_grace = (!self.tasks_outlive).then_some(config.stop_grace);
        agent_config.extra_environment = extra_environment(config, self.environment.master_address);

        let (events, reports) = mpsc::unbounded_channel();
        let notes = data.agent_notes(number);
        let containerizers = match config.executor {
            Executor::Fake => fakes(&mut place.fakes, &events),
            Executor::Process | Executor::Docker => {
                real_ones(config, self.tasks_outlive, told, (data.root(), data.is_ephemeral()), notes, events)
                    .await?
            }
        };
        let root = data.root().join(store_name(number));
        let store = data.agent_store(number);
        let store = store.map_err(|error| explain_store(error, &root, Copies::Agent))?;
        let mut tasks = Tasks::of_part(failures.clone(), store_name(number));
        let handle = agent::run::Handle::start(
            &mut tasks,
            agent_config,
            self.environment.master_for(number),
            containerizers.clone(),
            reports,
            store,
            Arc::clone(&place.clock),
        );
        if let Some(listener) = listener {
            let router = server::agent_router(handle.clone());
            serve(&mut tasks, "agent server", listener, router, &config.hostnames);
        }
        place.role = Some(Role { tasks, handle, containerizers });
        Ok(())
    }

    /// Ends an agent as a crash would. False: there is none that runs, or it did not end in time.
    pub(super) async fn kill(&mut self, number: usize) -> bool {
        let Environment { config, .. } = &self.environment;
        let Some(place) = self.places.get_mut(number) else { return false };
        let Some(role) = place.role.take() else { return false };
        let ended = role.tasks.crash(config.stop_deadline).await;
        for (kind, containerizer) in role.containerizers {
            match (config.executor, kind) {
                (Executor::Fake, _) => {}
                // Processes end with the launcher that they have.
                (_, Kind::Process) => {
                    if let Err(problem) = containerizer.destroy_all(CLOSE_DEADLINE).await {
                        tracing::warn!(%problem, number, "tasks of an agent that was ended");
                    }
                }
                (_, Kind::Docker) => {
                    containerizer.leave();
                    place.left.push(containerizer);
                }
            }
        }
        ended
    }

    /// Starts an agent again that was ended.
    pub(super) async fn restart(&mut self, number: usize) -> Result<(), StartError> {
        match self.places.get(number) {
            Some(place) if place.role.is_none() => self.start_one(number).await,
            _ => Err(StartError::NotEnded(Part::Agent(number))),
        }
    }

    /// The tasks of an agent that runs.
    pub(super) fn running(&self, number: usize) -> Option<&Tasks> {
        Some(&self.places.get(number)?.role.as_ref()?.tasks)
    }

    /// The clocks of all.
    pub(super) fn clocks(&self) -> impl Iterator<Item = (usize, Arc<SystemClock>)> {
        self.places.iter().map(|place| Arc::clone(&place.clock)).enumerate()
    }

    /// Containerizers that only pretend to run tasks, with the numbers of their agents.
    pub(super) fn fakes(&self) -> impl Iterator<Item = (usize, &Arc<containerizer::Fake>)> {
        let places = self.places.iter().enumerate();
        places.flat_map(|(number, place)| place.fakes.values().map(move |fake| (number, fake)))
    }

    /// The APIs of the agents that run, without a socket.
    pub(super) fn apis(&self) -> impl Iterator<Item = Arc<dyn AgentApi>> {
        self.roles().map(|role| Arc::clone(&role.handle) as _)
    }

    fn roles(&self) -> impl Iterator<Item = &Role> {
        self.places.iter().filter_map(|place| place.role.as_ref())
    }

    /// How many there are, running or not.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Where the agents' APIs answer.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().filter_map(|place| place.address).collect()
    }

    /// Lets every agent leave the cluster, its tasks ended. Returns what went otherwise, in words.
    pub(super) fn drain(&self) -> impl Future<Output = Vec<String>> + use<> {
        let drains = self.roles().map(|role| {
            let handle = Arc::clone(&role.handle);
            async move {
                let id = handle.agent_id().map_or_else(|| "without an id".to_owned(), |id| id.to_string());
                words_of(&id, handle.drain().await)
            }
        });
        let drains = futures_util::future::join_all(drains.collect::<Vec<_>>());
        async { drains.await.concat() }
    }

    /// Ends every task, also those that would outlive the node, and says what could not be ended.
    pub(super) async fn end_tasks(&self) -> Vec<String> {
        let mut left = Vec::new();
        let before = self.places.iter().flat_map(|place| &place.left);
        for containerizer in self.roles().flat_map(|role| role.containerizers.values()).chain(before) {
            left.extend(containerizer.destroy_all(CLOSE_DEADLINE).await.err());
        }
        left
    }

    /// Stops every agent, at most within the deadline of each. True when all ended.
    pub(super) fn stop(&mut self, hurried: &watch::Receiver<bool>) -> impl Future<Output = bool> + use<> {
        let deadline = self.environment.config.stop_deadline;
        let roles = self.places.iter_mut().filter_map(|place| place.role.as_mut());
        let stopping: Vec<_> = roles
            .map(|role| {
                let tasks = std::mem::replace(&mut role.tasks, Tasks::new().0);
                tasks.stop(deadline, hurry_of(hurried.clone()))
            })
            .collect();
        async { !futures_util::future::join_all(stopping).await.contains(&false) }
    }

    /// Ends what containers are left and says what could not be ended; tasks that go on are let go of.
    pub(super) async fn close(self) -> Vec<String> {
        if !self.tasks_outlive {
            return self.end_tasks().await;
        }
        self.roles().flat_map(|role| role.containerizers.values()).for_each(|it| it.leave());
        Vec::new()
    }
}

/// Detected cpus, memory and disk divided by the number of agents, and a block of host ports.
fn share_of_host(
    agents: usize,
    work_dir: &std::path::Path,
    notes: std::path::PathBuf,
) -> Result<(Resources, Option<PortBlock>), StartError> {
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
    // The text is ours: numbers that `detect` made.
    let resources = Resources::parse(&text).map_err(|error| StartError::DataDir {
        path: work_dir.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok((resources, Some(block)))
}

/// What of a drain was not as it should be.
fn words_of(id: &str, outcome: agent::run::Drained) -> Vec<String> {
    let agent::run::Drained::Left { unregistered, unacknowledged, unended } = outcome else {
        return vec![format!("the agent {id} ended before it was drained")];
    };
    let mut words = Vec::new();
    if unended > 0 {
        words
            .push(format!("{unended} task(s) of the agent {id} could not be ended: look at their processes"));
    }
    if unacknowledged > 0 {
        words.push(format!(
            "{unacknowledged} status update(s) of the agent {id} were acknowledged by no framework: is its scheduler away?"
        ));
    }
    if !unregistered {
        words.push(format!(
            "no master recorded that the agent {id} left: it will count as unreachable. Look at the masters"
        ));
    }
    words
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

/// Those that an agent had, which go on with what they run, or new ones.
fn fakes(
    had: &mut BTreeMap<Kind, Arc<containerizer::Fake>>,
    events: &Events,
) -> BTreeMap<Kind, Arc<dyn Containerizer>> {
    let fakes = [Kind::Process, Kind::Docker].map(|kind| {
        let fake = had.entry(kind).or_insert_with(|| Arc::new(containerizer::Fake::new(events.clone())));
        fake.report_to(events.clone());
        (kind, Arc::clone(fake) as Arc<dyn Containerizer>)
    });
    fakes.into()
}

async fn real_ones(
    config: &NodeConfig,
    tasks_outlive: bool,
    address: SocketAddr,
    (directory, is_temporary): (&std::path::Path, bool),
    notes: std::path::PathBuf,
    events: Events,
) -> Result<BTreeMap<Kind, Arc<dyn Containerizer>>, StartError> {
    let mut all: BTreeMap<Kind, Arc<dyn Containerizer>> = BTreeMap::new();
    if config.executor == Executor::Process {
        let Some(launcher_path) = config.launcher_path.clone() else { return Err(StartError::NoLauncher) };
        let launcher_dir = notes.join("launcher");
        if !tasks_outlive {
            containerizer::Process::end_outliving(launcher_path.clone(), &launcher_dir).await?;
        }
        let outlive = tasks_outlive.then_some(launcher_dir);
        let process_config = containerizer::ProcessConfig { launcher_path, outlive };
        let process = containerizer::Process::start(process_config, events.clone()).await?;
        all.insert(Kind::Process, Arc::new(process));
    }
    #[cfg(feature = "docker")]
    {
        let run_id = config.run_id.clone();
        let owner = containerizer::DataOwner { directory: directory.to_owned(), is_temporary };
        let docker_config = containerizer::DockerConfig { publish: address.ip(), owner, notes, run_id };
        all.insert(Kind::Docker, Arc::new(containerizer::Docker::new(docker_config, events)));
    }
    #[cfg(not(feature = "docker"))]
    {
        let _ = (address, directory, is_temporary, notes, events);
        if config.executor == Executor::Docker {
            return Err(StartError::NoDocker);
        }
    }
    Ok(all)
}
