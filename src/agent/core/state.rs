//! What the agent knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::RunRecord;
use super::container::{Exit, Kind, LaunchSpec, Started};
use super::io::{Effect, Input};
use crate::api::v1;
use crate::base::backoff::Backoff;
use crate::base::chance::Chance;
use crate::base::id::{AgentId, ContainerId, FrameworkId, TaskId, Uuid};
use crate::base::time::{Mono, Now};
use crate::resources::{Format, Resources};

/// First delay before an update is sent again, and the longest.
pub(super) const RESEND: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A leader that was deposed learns of it within an election timeout; much later than that it is none.
const DEPOSED: Duration = Duration::from_secs(60);

/// How long a first registration may go without an answer, until another connection is tried: no master has
/// told yet how often it speaks.
const UNANSWERED: Duration = Duration::from_secs(30);

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where sandboxes are.
    pub work_dir: PathBuf,
    /// What others call this agent's host.
    pub hostname: String,
    /// Port of its API.
    pub port: u16,
    /// What it has.
    pub resources: Resources,
    /// Its attributes.
    pub attributes: Vec<v1::Attribute>,
    /// Variables that every task gets beside those of Mesos.
    pub extra_environment: Vec<(String, String)>,
    /// Tasks end when the agent stops, and have this long to do so by themselves; none: they go on.
    pub stop_grace: Option<Duration>,
    /// The node has no other role: it ends when the master does not want this agent.
    pub is_whole_node: bool,
}

impl Config {
    /// Defaults for an agent whose API is at this address.
    #[must_use]
    pub fn new(work_dir: PathBuf, address: SocketAddr, resources: Resources) -> Self {
        Self {
            work_dir,
            hostname: address.ip().to_string(),
            port: address.port(),
            resources,
            attributes: Vec::new(),
            extra_environment: Vec::new(),
            stop_grace: None,
            is_whole_node: false,
        }
    }
}

/// Where a task's container is on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// The launch is being written down.
    Recording,
    /// The containerizer was asked.
    Launching,
    /// It runs.
    Running(Started),
    /// It ended; the terminal update is on its way.
    Ended,
}

/// A kill on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Killing {
    /// When SIGKILL follows.
    pub(super) escalate: Option<Mono>,
    /// Why, for the terminal update.
    pub(super) cause: KillCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KillCause {
    Asked,
    Unhealthy,
    MaxCompletionTime,
    /// The agent is drained.
    Draining,
    /// The framework is gone: nobody wants an update.
    Framework,
}

/// One update, until it is acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Update {
    pub(super) status: v1::TaskStatus,
    pub(super) uuid: Uuid,
    /// On disk: it may be sent.
    pub(super) durable: bool,
}

/// The updates of a task in order; the first is the one in flight.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) updates: VecDeque<Update>,
    /// The last that was acknowledged, unless it was the last of all.
    pub(super) acknowledged: Option<v1::TaskStatus>,
    pub(super) resend: Option<Mono>,
    pub(super) backoff: Backoff,
}

impl Default for Stream {
    fn default() -> Self {
        let backoff = Backoff::new(RESEND.0, 2.0, RESEND.1);
        Self { updates: VecDeque::new(), acknowledged: None, resend: None, backoff }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) info: Arc<v1::TaskInfo>,
    pub(super) framework_id: FrameworkId,
    pub(super) spec: LaunchSpec,
    pub(super) phase: Phase,
    pub(super) state: v1::TaskState,
    /// The last status that was made.
    pub(super) last: Option<v1::TaskStatus>,
    pub(super) stream: Stream,
    pub(super) killing: Option<Killing>,
    pub(super) complete_by: Option<Mono>,
    pub(super) checks: super::checks::Checks,
    /// How it ended while the agent was away, or before it was known to run.
    pub(super) early_exit: Option<(Exit, bool)>,
    /// What is written down of its run.
    pub(super) run: RunRecord,
    /// It never was here: only its end is told, because somebody asked.
    pub(super) stranger: bool,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) config: Config,
    pub(super) chance: Chance,
    pub(super) id: Option<AgentId>,
    pub(super) connected: bool,
    pub(super) registered: bool,
    /// Every task is being ended; no other begins.
    pub(super) stopping: bool,
    /// It is leaving its cluster.
    pub(super) drain: Option<super::drain::Drain>,
    /// There is no room for more tasks.
    pub(super) is_short: bool,
    /// Silence after which another master is looked for, and when the master was heard last.
    pub(super) master_timeout: Option<Duration>,
    pub(super) heard: Mono,
    /// The highest term of a master that spoke, and since when only lower ones did.
    pub(super) term: u64,
    pub(super) lower_since: Option<Mono>,
    pub(super) frameworks: BTreeMap<FrameworkId, Arc<v1::FrameworkInfo>>,
    /// Frameworks whose tasks are being ended; their updates are not wanted.
    pub(super) leaving: BTreeSet<FrameworkId>,
    pub(super) tasks: BTreeMap<(FrameworkId, TaskId), Task>,
    pub(super) containers: BTreeMap<ContainerId, (FrameworkId, TaskId)>,
    pub(super) next_seq: u64,
    /// What happens when a write is durable.
    pub(super) waiting: BTreeMap<u64, Vec<Then>>,
}

/// What a write leads to.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// The launch is written down: start it.
    Launch(FrameworkId, TaskId),
    /// The update is written down: it may be sent.
    Send(FrameworkId, TaskId, Uuid),
}

impl Agent {
    /// An agent that knows nothing yet; [`Agent::recover`] follows when there are checkpoints.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            chance: Chance::new(seed),
            id: None,
            connected: false,
            registered: false,
            stopping: false,
            drain: None,
            is_short: false,
            master_timeout: None,
            heard: Mono::default(),
            term: 0,
            lower_since: None,
            frameworks: BTreeMap::new(),
            leaving: BTreeSet::new(),
            tasks: BTreeMap::new(),
            containers: BTreeMap::new(),
            next_seq: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// The agent's id, once it is admitted.
    #[must_use]
    pub fn id(&self) -> Option<&AgentId> {
        self.id.as_ref()
    }

    /// The sandbox of an executor's newest run.
    #[must_use]
    pub fn sandbox(&self, framework_id: &str, executor_id: &str) -> Option<PathBuf> {
        let key = (FrameworkId::new(framework_id), TaskId::new(executor_id));
        self.tasks.get(&key).map(|task| task.spec.sandbox.clone())
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Now, effects: &mut Vec<Effect>) {
        match input {
            Input::Connected => self.on_connected(now, effects),
            Input::Disconnected => self.on_disconnected(),
            Input::Master(message) => self.on_master(*message, now, effects),
            Input::Started { container_id, started } => self.on_started(&container_id, started, now, effects),
            Input::LaunchFailed { container_id, failure } => {
                self.on_launch_failed(&container_id, &failure, now, effects)
            }
            Input::Exited { container_id, exit, out_of_memory } => {
                self.on_exited(&container_id, exit, out_of_memory, now, effects);
            }
            Input::SignalFailed { container_id, signal } => self.on_signal_failed(&container_id, signal, now),
            Input::Probed { container_id, health, result } => {
                self.on_probed(&container_id, health, &result, now, effects);
            }
            Input::Persisted { seq } => self.on_persisted(seq, now, effects),
            Input::Stop => self.on_stop(now, effects),
            Input::Drain => self.on_drain(now, effects),
            Input::Room { is_short } => self.on_room(is_short, effects),
            Input::Tick => self.on_tick(now, effects),
        }
        self.go_on_draining(now, effects);
    }

    /// Whether what a master of this term says counts. Of a lower term than one that was heard it does not:
    /// that master was deposed and does not know it yet, and its connection is to be dropped. One that says
    /// the same for long leads a cluster that was made from a snapshot.
    pub fn counts(&mut self, term: u64, now: Now) -> bool {
        let since = *self.lower_since.get_or_insert(now.mono);
        if term < self.term && now.mono.since(since) < DEPOSED {
            return false;
        }
        (self.term, self.lower_since) = (term, None);
        true
    }

    /// Whether a master has admitted this agent over the connection that stands.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// When [`Input::Tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let tasks = self.tasks.values().flat_map(|task| {
            let resend = task.stream.resend.filter(|_| self.registered);
            let running = matches!(task.phase, Phase::Running(_));
            let killing = task.killing.as_ref().filter(|_| running);
            let escalate = killing.and_then(|killing| killing.escalate);
            [resend, escalate, task.complete_by, task.checks.next_deadline()]
        });
        tasks.flatten().chain(self.silence_deadline()).chain(self.drain_deadline()).min()
    }

    /// When the master has been silent for too long.
    fn silence_deadline(&self) -> Option<Mono> {
        let unanswered = (!self.registered).then_some(UNANSWERED);
        let timeout = self.master_timeout.or(unanswered).filter(|_| self.connected)?;
        Some(self.heard.after(timeout))
    }

    fn on_tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.silence_deadline().is_some_and(|at| at <= now.mono) {
            self.on_disconnected();
            effects.push(Effect::Reconnect);
        }
        let keys: Vec<(FrameworkId, TaskId)> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.resend_if_due(&key, now, effects);
            // The end of its time may shorten a kill that is under way.
            self.complete_if_due(&key, now, effects);
            self.escalate_if_due(&key, now, effects);
            self.check_if_due(&key, now, effects);
        }
    }

    /// Whether no task runs and everything is written down: after [`Input::Stop`], the agent may end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.tasks.values().all(|task| task.phase == Phase::Ended)
    }

    pub(super) fn persist(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        then: Option<Then>,
        effects: &mut Vec<Effect>,
    ) {
        self.next_seq += 1;
        if let Some(then) = then {
            self.waiting.entry(self.next_seq).or_default().push(then);
        }
        effects.push(Effect::Persist { seq: self.next_seq, changes });
    }

    fn on_persisted(&mut self, seq: u64, now: Now, effects: &mut Vec<Effect>) {
        let later = self.waiting.split_off(&(seq + 1));
        let due = std::mem::replace(&mut self.waiting, later);
        for then in due.into_values().flatten() {
            match then {
                Then::Launch(framework_id, task_id) => {
                    self.launch_recorded(&(framework_id, task_id), now, effects)
                }
                Then::Send(framework_id, task_id, uuid) => {
                    self.update_recorded(&(framework_id, task_id), uuid, now, effects)
                }
            }
        }
    }

    /// What this agent tells of itself.
    pub(super) fn info(&self) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: self.config.hostname.clone(),
            port: Some(i32::from(self.config.port)),
            resources: self.config.resources.to_wire(Format::PostRefinement),
            attributes: self.config.attributes.clone(),
            id: self.id.as_ref().map(|id| v1::AgentId { value: id.to_string() }),
            ..Default::default()
        }
    }

    pub(super) fn is_capable(
        &self,
        framework_id: &FrameworkId,
        capability: v1::framework_info::capability::Type,
    ) -> bool {
        let info = self.frameworks.get(framework_id);
        info.is_some_and(|info| info.capabilities.iter().any(|one| one.r#type == Some(capability.into())))
    }

    /// Asserts what must hold between inputs.
    ///
    /// # Panics
    /// It does not hold: a bug.
    pub fn sanity_check(&self) {
        for (container_id, key) in &self.containers {
            let task = self.tasks.get(key);
            assert!(
                task.is_some_and(|task| &task.spec.container_id == container_id),
                "{container_id} is no task's"
            );
        }
        for (key, task) in &self.tasks {
            let updates = &task.stream.updates;
            let ended = updates.iter().position(|update| is_terminal(update.status.state));
            assert!(ended.is_none_or(|at| at + 1 == updates.len()), "{key:?} has an update after its end");
            assert!(
                task.phase != Phase::Ended || is_terminal(task.state.into()),
                "{key:?} ended as {:?}",
                task.state
            );
        }
    }
}

/// Whether a state ends a task on an agent.
pub(super) fn is_terminal(state: i32) -> bool {
    use v1::TaskState as State;

    let ends = [
        State::TaskFinished,
        State::TaskFailed,
        State::TaskKilled,
        State::TaskError,
        State::TaskLost,
        State::TaskDropped,
        State::TaskGone,
        State::TaskGoneByOperator,
    ];
    State::try_from(state).is_ok_and(|state| ends.contains(&state))
}

/// How a task is run.
pub(super) fn kind_of(info: &v1::TaskInfo) -> Kind {
    let docker = info
        .container
        .as_ref()
        .is_some_and(|container| container.r#type == i32::from(v1::container_info::Type::Docker));
    if docker { Kind::Docker } else { Kind::Process }
}
