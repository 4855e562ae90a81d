//! The containerizer of process tasks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::link::{self, Place};
use super::shared::{Asked, Shared, State};
use crate::agent::core::container::{
    Exit, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started, Survivor, SurvivorState,
};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, ContainerId};
use crate::base::time::Clock;
use crate::containerizer::launcher::protocol::{self, Order, Program};
use crate::containerizer::{Containerizer, ContainerizerError, Events, probe, sandbox};
use crate::os::users;

/// How long the launcher may take to start a task that is prepared.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a launcher that was just reached may take to say what it has.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

/// How long the tasks of an earlier agent may take to be ended.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Settings.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The program that has the subcommand `launcher`.
    pub launcher_path: PathBuf,
    /// Tasks outlive the agent: an absolute directory of this agent's own where their launcher is found
    /// again. Without it they end with the agent, however that ends.
    pub outlive: Option<PathBuf>,
}

/// Process tasks of one agent.
pub struct Process {
    config: ProcessConfig,
    /// Held while a launcher is started or reached.
    launching: Arc<tokio::sync::Mutex<()>>,
    shared: Arc<Shared>,
}

impl Process {
    /// Starts the launcher, or finds the one that runs.
    ///
    /// # Errors
    /// It does not start, or is of a version that is not understood.
    pub async fn start(config: ProcessConfig, events: Events) -> Result<Self, ContainerizerError> {
        let state = State { outlives: config.outlive.is_some(), ..State::default() };
        let shared = Arc::new(Shared { events, clock: SystemClock::new(), state: Mutex::new(state) });
        let process = Self { config, launching: Arc::default(), shared };
        process.start_launcher().await?;
        Ok(process)
    }

    /// Ends what an earlier agent left running in `directory` for one that never came: this one's tasks end
    /// with it. Nothing happens if there was none.
    ///
    /// # Errors
    /// Something does not end.
    pub async fn end_outliving(launcher_path: PathBuf, directory: &Path) -> Result<(), ContainerizerError> {
        if !directory.exists() {
            return Ok(());
        }
        let failed = |problem: String| ContainerizerError::Left { place: directory.to_owned(), problem };
        // Nobody hears of anything.
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let outlive = Some(directory.to_owned());
        // If there is no launcher any more, the one that is started ends what that left.
        let process = Self::start(ProcessConfig { launcher_path, outlive }, events).await?;
        process.destroy_all(END_DEADLINE).await.map_err(failed)?;
        std::fs::remove_dir_all(directory).map_err(|error| failed(error.to_string()))
    }

    async fn start_launcher(&self) -> Result<(), ContainerizerError> {
        let program = self.config.launcher_path.clone();
        match self.config.outlive.clone() {
            None => link::start_dying(&program, &self.shared).await,
            Some(directory) => {
                let place = Place { program, directory };
                link::connect_outliving(&place, &self.shared, &self.launching).await
            }
        }
    }

    /// Sees to it that there is a launcher.
    async fn need_launcher(&self) -> Result<(), LaunchFailure> {
        // One launcher at a time: two would each think that the other's tasks are its own.
        let _one = self.launching.lock().await;
        let (is_there, is_closed) = {
            let state = self.shared.state();
            (state.orders.is_some(), state.closed)
        };
        if is_closed {
            return Err(LaunchFailure::Prepare("the agent stops".to_owned()));
        }
        if is_there {
            return Ok(());
        }
        self.start_launcher().await.map_err(|error| LaunchFailure::Prepare(error.to_string()))
    }

    /// Asks the launcher what became of `known`.
    async fn find_again(&self, known: Vec<LaunchSpec>) -> Result<Vec<Survivor>, String> {
        self.need_launcher().await.map_err(|failure| failure.to_string())?;
        let (answer, answered) = oneshot::channel();
        if !self.shared.state().ask(Asked { known, answer: Some(answer) }) {
            return Err("the launcher ended".to_owned());
        }
        match tokio::time::timeout(LIST_DEADLINE, answered).await {
            Ok(survivors) => survivors.map_err(|_| "the launcher ended".to_owned()),
            Err(_) => Err(format!("the launcher did not answer within {} s", LIST_DEADLINE.as_secs())),
        }
    }

    /// Lets go of a launcher that outlives us: its tasks go on.
    fn let_go(&self) {
        if self.config.outlive.is_some() {
            let mut state = self.shared.state();
            state.closed = true;
            // Whoever writes to it ends, and with that the connection.
            state.orders = None;
        }
    }

    async fn launch_task(&self, spec: LaunchSpec) -> Result<Started, LaunchFailure> {
        let account = spec.user.as_deref().map(users::find).transpose().map_err(LaunchFailure::Prepare)?;
        self.need_launcher().await?;
        let (path, uris) = (spec.sandbox.clone(), spec.command.uris.clone());
        let prepared = tokio::task::spawn_blocking(move || sandbox::prepare(&path, account, &uris));
        prepared.await.map_err(|error| LaunchFailure::Prepare(error.to_string()))??;
        let container_id = spec.container_id.clone();
        let order = protocol::encode(&Order::Launch(Box::new(program(&spec, account)?)))
            .map_err(|error| LaunchFailure::Start(error.to_string()))?;
        let gone = || LaunchFailure::Prepare("the launcher ended".to_owned());
        let (starting, started) = oneshot::channel();
        {
            let mut state = self.shared.state();
            // Under the same lock: whoever looks what a dead launcher had to start sees all of it.
            let sent = state.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
            if !sent {
                return Err(gone());
            }
            state.starting.insert(spec.container_id.clone(), starting);
            state.running.insert(spec.container_id.clone(), spec);
        }
        match tokio::time::timeout(START_DEADLINE, started).await {
            Ok(Ok(Ok(pid))) => {
                Ok(Started { pid: Some(pid), addresses: Vec::new(), network: None, inspect: None })
            }
            Ok(Ok(Err(problem))) => Err(LaunchFailure::Start(problem)),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                self.abandon(container_id).await.map_err(LaunchFailure::Prepare)?;
                let seconds = START_DEADLINE.as_secs();
                Err(LaunchFailure::Prepare(format!("the launcher did not answer within {seconds} s")))
            }
        }
    }
}

/// What the launcher is told (Mesos CommandInfo: a shell command, or a file with its whole argv).
fn program(spec: &LaunchSpec, account: Option<users::Account>) -> Result<Program, LaunchFailure> {
    let command = &spec.command;
    let value = command.value.clone().unwrap_or_default();
    let (file, argv) = if command.shell.unwrap_or(true) {
        ("/bin/sh".to_owned(), vec!["sh".to_owned(), "-c".to_owned(), value])
    } else {
        let argv = if command.arguments.is_empty() { vec![value.clone()] } else { command.arguments.clone() };
        (value, argv)
    };
    if file.is_empty() || argv.iter().any(|argument| argument.contains('\0')) || file.contains('\0') {
        return Err(LaunchFailure::Start("the command is empty or contains NUL".to_owned()));
    }
    Ok(Program {
        id: spec.container_id.to_string(),
        file,
        argv,
        environment: spec.environment.clone(),
        sandbox: spec.sandbox.display().to_string(),
        account: account.map(|account| (account.uid, account.gid)),
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Containerizer for Process {
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'_, Result<Started, LaunchFailure>> {
        Box::pin(self.launch_task(spec))
    }

    fn abandon(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        {
            let mut state = self.shared.state();
            state.starting.remove(&container_id);
            state.running.remove(&container_id);
            state.pids.remove(&container_id);
        }
        // Orders keep their sequence: if it is to be started, then it is killed after that.
        self.signal(container_id, Signal::Kill)
    }

    fn signal(&self, container_id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), String>> {
        let order = Order::Signal { id: container_id.to_string(), kill: signal == Signal::Kill };
        let state = self.shared.state();
        // Without a launcher there is no task to signal, unless it is only being looked for.
        let is_needed = state.orders.is_some() || state.outlives;
        let is_lost = !state.send(&order) && is_needed;
        Box::pin(async move { if is_lost { Err("the launcher ended".to_owned()) } else { Ok(()) } })
    }

    fn probe(&self, container_id: ContainerId, what: Probe, timeout: Duration) -> BoxFuture<'_, ProbeResult> {
        let spec = self.shared.state().running.get(&container_id).cloned();
        Box::pin(async move {
            match spec {
                Some(spec) => probe::run(&spec, &what, timeout).await,
                None => ProbeResult::Failed("the task does not run".to_owned()),
            }
        })
    }

    /// Nothing survives the parent of a launcher that dies with it: whatever ran before is lost.
    fn recover(
        &self,
        _agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> BoxFuture<'_, Result<Vec<Survivor>, String>> {
        if self.config.outlive.is_some() {
            return Box::pin(self.find_again(known));
        }
        let at = self.shared.clock.now().wall;
        let lost = known.into_iter().map(|spec| Survivor {
            container_id: spec.container_id,
            state: SurvivorState::Ended { exit: Exit::Lost, at, out_of_memory: false },
        });
        let lost = lost.collect();
        Box::pin(async move { Ok(lost) })
    }

    fn forget(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        if self.config.outlive.is_some() {
            self.shared.state().forget(&container_id);
        }
        Box::pin(async { Ok(()) })
    }

    fn destroy_all(&self, deadline: Duration) -> BoxFuture<'_, Result<(), String>> {
        let (done, destroyed) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let asked = {
            let mut state = self.shared.state();
            let asked = state.send(&Order::DestroyAll);
            state.closed = asked && state.outlives;
            state.running.clear();
            state.destroyed.push(done);
            state.ended.push(end);
            asked
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if !asked {
                return Ok(());
            }
            let gone = async {
                // A launcher that died has killed everything, too.
                let _ = destroyed.await;
                // Without anybody who orders it ends.
                shared.state().orders = None;
                let _ = ended.await;
            };
            match tokio::time::timeout(deadline, gone).await {
                Ok(()) => Ok(()),
                Err(_) => Err(format!("tasks still run after {} s", deadline.as_secs())),
            }
        })
    }

    fn leave(&self) {
        self.let_go();
    }
}
