//! Process tasks: orders for the launcher, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use super::launcher::protocol::{self, News, Order, Program, VERSION};
use super::launcher::{decode, kill_marked};
use super::{Containerizer, ContainerizerError, Events, probe, sandbox};
use crate::agent::core::container::{
    ContainerEvent, Exit, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started, Survivor,
    SurvivorState,
};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, ContainerId};
use crate::base::time::Clock;
use crate::os::{processes, users};

/// How long the launcher may take to start a task that is prepared.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Settings.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The program that has the subcommand `launcher`.
    pub launcher_path: PathBuf,
}

/// Process tasks of one agent.
pub struct Process {
    config: ProcessConfig,
    /// Held while a launcher is started.
    launching: tokio::sync::Mutex<()>,
    shared: Arc<Shared>,
}

/// What the reader of the launcher's news shares with the callers.
struct Shared {
    events: Events,
    clock: SystemClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Orders to the launcher that lives; none before the first and after it died.
    orders: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Reaped when the next one starts or at the end.
    child: Option<Child>,
    starting: BTreeMap<ContainerId, oneshot::Sender<Result<u32, String>>>,
    /// First processes of what runs, for the case that the launcher dies.
    pids: BTreeMap<ContainerId, i32>,
    running: BTreeMap<ContainerId, LaunchSpec>,
    destroyed: Vec<oneshot::Sender<()>>,
    /// Who waits for the launcher's end.
    ended: Vec<oneshot::Sender<()>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, container_id: ContainerId, exit: Exit) {
        let at = self.clock.now().wall;
        // The agent may have ended.
        let _ = self.events.send(ContainerEvent::Exited { container_id, exit, at, out_of_memory: false });
    }

    fn on_news(&self, news: News) {
        match news {
            News::Hello { .. } => {}
            News::Started { id, pid } => {
                let mut state = self.state();
                if let Ok(first) = i32::try_from(pid) {
                    state.pids.insert(ContainerId::from(id.clone()), first);
                }
                if let Some(starting) = state.starting.remove(id.as_str()) {
                    // A launch that nobody waits for is an agent that ends.
                    let _ = starting.send(Ok(pid));
                }
            }
            News::Failed { id, problem } => {
                let mut state = self.state();
                state.running.remove(id.as_str());
                if let Some(starting) = state.starting.remove(id.as_str()) {
                    // As above.
                    let _ = starting.send(Err(problem));
                }
            }
            News::Exited { id, status } => {
                let known = {
                    let mut state = self.state();
                    state.pids.remove(id.as_str());
                    state.running.remove(id.as_str()).is_some()
                };
                if known {
                    let exit = match decode(status) {
                        (Some(code), _) => Exit::Code(code),
                        (None, Some(signal)) => Exit::Signal(signal),
                        (None, None) => Exit::Lost,
                    };
                    self.report(ContainerId::from(id), exit);
                }
            }
            News::Destroyed => {
                for waiting in self.state().destroyed.drain(..) {
                    // As above.
                    let _ = waiting.send(());
                }
            }
        }
    }

    /// The launcher is gone. What it had started is ended before anybody hears of it: one that was killed
    /// could not do so itself.
    async fn on_death(&self) {
        let (starting, running, pids, child) = {
            let mut state = self.state();
            state.orders = None;
            state.destroyed.clear();
            let (starting, running) =
                (std::mem::take(&mut state.starting), std::mem::take(&mut state.running));
            (starting, running, std::mem::take(&mut state.pids), state.child.take())
        };
        let sandboxes: BTreeSet<String> =
            running.values().map(|spec| spec.sandbox.display().to_string()).collect();
        let sweep = tokio::task::spawn_blocking(move || {
            if let Some(mut child) = child {
                // It has closed its socket as its last act, so this does not wait long.
                let _ = child.wait();
            }
            pids.into_values()
                .for_each(|pid| processes::signal_group(pid, nix::sys::signal::Signal::SIGKILL));
            kill_marked(&sandboxes);
        });
        if let Err(error) = sweep.await {
            tracing::error!(%error, "what a dead launcher left could not be ended");
        }
        for waiting in std::mem::take(&mut self.state().ended) {
            // As above.
            let _ = waiting.send(());
        }
        for (_, waiting) in starting {
            // As above.
            let _ = waiting.send(Err("the launcher ended".to_owned()));
        }
        for (container_id, _) in running {
            self.report(container_id, Exit::Lost);
        }
    }
}

impl Process {
    /// Starts the launcher.
    ///
    /// # Errors
    /// It does not start, or is of another version.
    pub async fn start(config: ProcessConfig, events: Events) -> Result<Self, ContainerizerError> {
        let shared =
            Arc::new(Shared { events, clock: SystemClock::new(), state: Mutex::new(State::default()) });
        let process = Self { config, launching: tokio::sync::Mutex::new(()), shared };
        process.start_launcher().await?;
        Ok(process)
    }

    async fn start_launcher(&self) -> Result<mpsc::UnboundedSender<Vec<u8>>, ContainerizerError> {
        let failed = |problem: String| ContainerizerError::Launcher {
            program: self.config.launcher_path.display().to_string(),
            problem,
        };
        let (own, other) =
            std::os::unix::net::UnixStream::pair().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(&self.config.launcher_path)
            .args(["launcher", "--die-with-parent"])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(other)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        own.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        let stream = UnixStream::from_std(own).map_err(|error| failed(error.to_string()))?;
        let (mut from, mut to) = stream.into_split();
        let problem = match read(&mut from).await {
            Ok(Some(News::Hello { version: VERSION })) => None,
            Ok(other) => Some(format!("it said {other:?} instead of its version {VERSION}")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            // Whatever this is, it is not left behind. It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(problem));
        }
        // Unbounded because launches are bounded by the agent, and signals by its tasks.
        let (orders, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        let shared = Arc::clone(&self.shared);
        {
            let mut state = shared.state();
            state.orders = Some(orders.clone());
            state.child = Some(child);
        }
        tokio::spawn(async move {
            while let Ok(Some(news)) = read(&mut from).await {
                shared.on_news(news);
            }
            shared.on_death().await;
        });
        Ok(orders)
    }

    async fn orders(&self) -> Result<mpsc::UnboundedSender<Vec<u8>>, LaunchFailure> {
        // One launcher at a time: two would each think that the other's tasks are its own.
        let _one = self.launching.lock().await;
        let living = self.shared.state().orders.clone();
        match living {
            Some(orders) => Ok(orders),
            None => self.start_launcher().await.map_err(|error| LaunchFailure::Prepare(error.to_string())),
        }
    }

    async fn launch_task(&self, spec: LaunchSpec) -> Result<Started, LaunchFailure> {
        let account = spec.user.as_deref().map(users::find).transpose().map_err(LaunchFailure::Prepare)?;
        let orders = self.orders().await?;
        let (path, uris) = (spec.sandbox.clone(), spec.command.uris.clone());
        let prepared = tokio::task::spawn_blocking(move || sandbox::prepare(&path, account, &uris));
        prepared.await.map_err(|error| LaunchFailure::Prepare(error.to_string()))??;
        let container_id = spec.container_id.clone();
        let order = protocol::encode(&Order::Launch(Box::new(program(&spec, account)?)))
            .map_err(|error| LaunchFailure::Start(error.to_string()))?;
        let (starting, started) = oneshot::channel();
        {
            let mut state = self.shared.state();
            state.starting.insert(spec.container_id.clone(), starting);
            state.running.insert(spec.container_id.clone(), spec);
        }
        let gone = || LaunchFailure::Prepare("the launcher ended".to_owned());
        orders.send(order).map_err(|_| gone())?;
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

async fn read(from: &mut OwnedReadHalf) -> std::io::Result<Option<News>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0; protocol::frame_length(head)?];
    from.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
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
        let order = protocol::encode(&order).map_err(|error| error.to_string());
        let orders = self.shared.state().orders.clone();
        // Without a launcher there is no task to signal.
        let sent = order.and_then(|order| {
            orders.map_or(Ok(()), |orders| orders.send(order).map_err(|_| "the launcher ended".to_owned()))
        });
        Box::pin(async move { sent })
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

    /// Nothing survives this launcher's parent: whatever ran before is lost.
    fn recover(
        &self,
        _agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> BoxFuture<'_, Result<Vec<Survivor>, String>> {
        let at = self.shared.clock.now().wall;
        let lost = known.into_iter().map(|spec| Survivor {
            container_id: spec.container_id,
            state: SurvivorState::Ended { exit: Exit::Lost, at, out_of_memory: false },
        });
        let lost = lost.collect();
        Box::pin(async move { Ok(lost) })
    }

    fn forget(&self, _container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn destroy_all(&self, deadline: Duration) -> BoxFuture<'_, Result<(), String>> {
        let (done, destroyed) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let asked = {
            let mut state = self.shared.state();
            let order = protocol::encode(&Order::DestroyAll);
            let orders = state.orders.as_ref().zip(order.ok());
            let asked = orders.is_some_and(|(orders, order)| orders.send(order).is_ok());
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
}
