//! The world around an agent as the random sequences play it, and what must always hold in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::support::{FRAMEWORK, State, TestEnv, registered, started};
use crate::agent::core::container::{Exit, LaunchFailure, LaunchSpec, ProbeResult, SurvivorState};
use crate::agent::core::state::is_terminal;
use crate::agent::core::{Effect, Input};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::base::id::ContainerId;
use crate::base::time::Timestamp;

/// What a containerizer knows of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Container {
    /// Asked for; nothing is known yet.
    Asked,
    Running,
    /// It ended; the agent heard of it or was away.
    Ended(Exit),
}

/// The updates of one run of a task, as the master heard them.
#[derive(Debug, Default)]
struct Heard {
    /// In the order in which each was first heard.
    order: Vec<(Vec<u8>, State)>,
    acknowledged: BTreeSet<Vec<u8>>,
}

/// An agent, its containers, and what its master heard.
pub(super) struct Model {
    pub(super) env: TestEnv,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) probes: Vec<(ContainerId, bool)>,
    /// By container.
    heard: BTreeMap<String, Heard>,
    /// Newest update heard of each task, for the scheduler to acknowledge.
    pub(super) unacknowledged: BTreeMap<String, v1::TaskStatus>,
    /// Updates that a crash may bring back after their acknowledgement.
    replayed: BTreeSet<Vec<u8>>,
    connected: bool,
    pub(super) registered: bool,
    /// The agent told this master that it leaves.
    leaving: bool,
    /// This master told the agent that it has left.
    recorded: bool,
    pub(super) is_draining: bool,
    /// It is drained: its process has ended.
    over: bool,
    agents: u32,
}

pub(super) fn rank(state: State) -> u8 {
    match state {
        State::TaskStaging => 0,
        State::TaskStarting => 1,
        State::TaskRunning => 2,
        State::TaskKilling => 3,
        _ => 4,
    }
}

impl Model {
    pub(super) fn new() -> Self {
        let mut env = TestEnv::new();
        env.late = true;
        Self {
            env,
            containers: BTreeMap::new(),
            probes: Vec::new(),
            heard: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            replayed: BTreeSet::new(),
            connected: false,
            registered: false,
            leaving: false,
            recorded: false,
            is_draining: false,
            over: false,
            agents: 0,
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        if !self.over {
            self.env.handle(input);
            self.perform();
        }
    }

    pub(super) fn sync(&mut self, count: usize) {
        if !self.over {
            self.env.sync(count);
            self.perform();
        }
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        if !self.over {
            self.env.wait(duration);
            self.perform();
        }
    }

    pub(super) fn is_durable(&self, part: &[u8]) -> bool {
        self.env.durable.values().any(|value| value.windows(part.len()).any(|window| window == part))
    }

    pub(super) fn perform(&mut self) {
        while let Some(effect) = self.env.effects.pop_front() {
            match effect {
                Effect::Tell(message) => self.hear(*message),
                Effect::Launch(spec) => self.launch(&spec),
                Effect::Signal { container_id, .. } => {
                    assert!(
                        matches!(self.containers.get(&container_id), Some(Container::Running)),
                        "a signal to {container_id}, which does not run"
                    );
                }
                Effect::Probe { container_id, health, .. } => self.probes.push((container_id, health)),
                Effect::Forget { container_id } => {
                    let container = self.containers.remove(&container_id);
                    assert_ne!(container, Some(Container::Running), "{container_id} runs and is forgotten");
                }
                Effect::Abandon { container_id } => {
                    let container = self.containers.get(&container_id);
                    assert_eq!(container, Some(&Container::Asked), "{container_id} is abandoned");
                }
                Effect::Persist { .. } | Effect::Shutdown { .. } => {}
                Effect::Reconnect => {
                    assert!(!self.registered, "this master is never silent");
                    self.connected = false;
                    self.leaving = false;
                }
                Effect::Drained { unregistered, unacknowledged, unended } => {
                    self.drained(unregistered, unacknowledged, unended);
                }
            }
        }
    }

    fn drained(&mut self, unregistered: bool, unacknowledged: usize, unended: usize) {
        let runs = |container: &&Container| matches!(container, Container::Asked | Container::Running);
        let running = self.containers.values().filter(runs).count();
        assert!(running <= unended, "drained, but {:?}", self.containers);
        let left: usize = self.env.agent.tasks.values().map(|task| task.stream.updates.len()).sum();
        assert_eq!(unacknowledged, left);
        let is_known = self.env.agent.id().is_some();
        assert_eq!(unregistered, self.recorded || !is_known, "what the master recorded");
        self.over = true;
    }

    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.handle(Input::Drain);
    }

    /// The master has recorded that the agent left.
    pub(super) fn record_leave(&mut self) {
        if self.leaving && self.registered && !self.over {
            self.recorded = true;
            let reason = "it has left".to_owned();
            self.handle(Input::Master(Box::new(to_agent::Message::Shutdown(peer::Shutdown { reason }))));
            assert!(self.over, "an agent that left goes on");
        }
    }

    fn launch(&mut self, spec: &LaunchSpec) {
        assert!(!self.is_draining, "a launch while the agent leaves");
        let id = &spec.container_id;
        assert!(self.is_durable(id.as_str().as_bytes()), "{id} is launched before it is written down");
        assert!(!self.heard.contains_key(id.as_str()), "{id} is launched twice");
        assert_eq!(self.containers.insert(id.clone(), Container::Asked), None, "{id} is launched twice");
        self.heard.insert(id.to_string(), Heard::default());
    }

    fn hear(&mut self, message: from_agent::Message) {
        match message {
            from_agent::Message::Update(update) if self.connected => {
                assert!(self.registered, "an update of an agent that is not registered");
                self.hear_update(&update.status, update.latest_state());
            }
            from_agent::Message::Reregister(reregister) => {
                for task in &reregister.tasks {
                    let container = task.statuses.last().and_then(container_of);
                    let newest = container.and_then(|id| self.heard.get(&id)).and_then(Heard::newest);
                    let newest = newest.unwrap_or(State::TaskStaging);
                    assert!(rank(task.state()) >= rank(newest), "{task:?} was {newest:?} before");
                }
            }
            from_agent::Message::Unregister(_) => {
                assert!(self.registered && self.is_draining, "an agent leaves without cause");
                self.leaving = true;
            }
            other => assert!(self.connected, "{other:?} without a connection"),
        }
    }

    fn hear_update(&mut self, status: &v1::TaskStatus, latest: State) {
        let uuid = status.uuid.clone().expect("every update has a uuid");
        assert!(self.is_durable(&uuid), "{status:?} is told before it is written down");
        self.unacknowledged.insert(status.task_id.value.clone(), status.clone());
        // A task that the agent does not know has an end, but no run.
        let Some(container) = container_of(status) else {
            assert_eq!(status.state(), State::TaskLost, "{status:?}");
            return;
        };
        assert!(rank(latest) >= rank(status.state()), "{status:?} but newest is {latest:?}");
        let heard = self.heard.entry(container).or_default();
        match heard.order.iter().position(|(known, _)| *known == uuid) {
            Some(at) => {
                let again = at + 1 == heard.order.len() && !heard.acknowledged.contains(&uuid);
                assert!(again || self.replayed.contains(&uuid), "{status:?} comes again");
            }
            None => {
                let open = heard.order.iter().any(|(known, _)| !heard.acknowledged.contains(known));
                assert!(!open, "{status:?} overtakes one that is not acknowledged");
                let newest = heard.newest().unwrap_or(State::TaskStaging);
                assert!(rank(status.state()) >= rank(newest), "{status:?} after {newest:?}");
                assert!(!is_terminal(newest.into()), "{status:?} after the end");
                heard.order.push((uuid, status.state()));
            }
        }
    }

    /// The scheduler acknowledges the newest update of a task.
    pub(super) fn acknowledge(&mut self, task: &str) {
        let Some(status) = self.unacknowledged.get(task).cloned() else { return };
        if !self.registered {
            return;
        }
        let uuid = status.uuid.clone().expect("a uuid");
        if let Some(heard) = container_of(&status).and_then(|id| self.heard.get_mut(&id)) {
            heard.acknowledged.insert(uuid.clone());
        }
        self.replayed.remove(&uuid);
        self.handle(Input::Master(Box::new(super::support::acknowledge(task, &uuid))));
    }

    pub(super) fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        self.handle(Input::Connected);
    }

    pub(super) fn register(&mut self) {
        if !self.connected || self.registered {
            return;
        }
        self.registered = true;
        let id = match self.env.agent.id() {
            Some(id) => id.to_string(),
            None => {
                self.agents += 1;
                format!("S{}", self.agents)
            }
        };
        self.handle(Input::Master(Box::new(registered(&id))));
    }

    pub(super) fn disconnect(&mut self) {
        if self.connected {
            self.connected = false;
            self.registered = false;
            self.leaving = false;
            self.handle(Input::Disconnected);
        }
    }

    pub(super) fn started(&mut self, number: usize) {
        let asked = |container| container == Container::Asked;
        let Some(container_id) = self.pick(number, asked) else { return };
        self.containers.insert(container_id.clone(), Container::Running);
        self.handle(Input::Started { container_id, started: started() });
    }

    pub(super) fn launch_failed(&mut self, number: usize, early: bool) {
        let Some(container_id) = self.pick(number, |container| container == Container::Asked) else {
            return;
        };
        self.containers.remove(&container_id);
        let text = "no".to_owned();
        let failure = if early { LaunchFailure::Prepare(text) } else { LaunchFailure::Start(text) };
        self.handle(Input::LaunchFailed { container_id, failure });
    }

    /// A container ends; `early` before the agent hears that it started.
    pub(super) fn exited(&mut self, number: usize, early: bool) {
        let wanted = if early { Container::Asked } else { Container::Running };
        let Some(container_id) = self.pick(number, |container| container == wanted) else { return };
        let exit = if number.is_multiple_of(2) { Exit::Code(0) } else { Exit::Signal(9) };
        self.containers.insert(container_id.clone(), Container::Ended(exit));
        let id = container_id.clone();
        self.handle(Input::Exited { container_id, exit, out_of_memory: false });
        if early {
            self.handle(Input::Started { container_id: id, started: started() });
        }
    }

    pub(super) fn probed(&mut self, well: bool) {
        let Some((container_id, health)) = self.probes.pop() else { return };
        let result = if well { ProbeResult::Tcp(true) } else { ProbeResult::Failed("no".to_owned()) };
        self.handle(Input::Probed { container_id, health, result });
    }

    fn pick(&self, number: usize, wanted: impl Fn(Container) -> bool) -> Option<ContainerId> {
        let found = self.containers.iter().filter(|(_, container)| wanted(**container));
        let found: Vec<&ContainerId> = found.map(|(id, _)| id).collect();
        (!found.is_empty()).then(|| found[number % found.len()].clone())
    }

    /// The agent crashes and comes back. Containers run on; some end or vanish meanwhile.
    pub(super) fn restart(&mut self, kept: usize, ending: u8) {
        self.connected = false;
        self.registered = false;
        self.leaving = false;
        self.over = false;
        self.recorded = false;
        self.is_draining = false;
        self.probes.clear();
        for (at, container) in (0_u8..).zip(self.containers.values_mut()) {
            // A launch that was asked for has been carried out, or not.
            if *container == Container::Asked && ending & (1 << (at % 8)) == 0 {
                *container = Container::Running;
            } else if *container == Container::Running && ending & (2 << (at % 4)) != 0 {
                *container = Container::Ended(Exit::Code(1));
            }
        }
        self.containers.retain(|_, container| *container != Container::Asked);
        let containers = self.containers.clone();
        let known = self.env.restart(kept, |spec| match containers.get(&spec.container_id)? {
            Container::Asked => None,
            Container::Running => Some(SurvivorState::Running(started())),
            Container::Ended(exit) => {
                Some(SurvivorState::Ended { exit: *exit, at: Timestamp::default(), out_of_memory: false })
            }
        });
        let known: BTreeSet<ContainerId> = known.into_iter().map(|spec| spec.container_id).collect();
        for (id, container) in &self.containers {
            assert!(*container != Container::Running || known.contains(id), "{id} runs and is not known");
        }
        // What is left of a container that no task owns a containerizer removes by itself.
        self.containers.retain(|id, _| known.contains(id));
        let acknowledged = self.heard.values().flat_map(|heard| &heard.acknowledged);
        let replayed: Vec<Vec<u8>> = acknowledged.filter(|uuid| self.is_durable(uuid)).cloned().collect();
        self.replayed.extend(replayed);
        self.perform();
    }

    /// Everything is written down, connected, delivered, ended and acknowledged.
    pub(super) fn come_to_rest(&mut self) {
        if self.is_draining {
            self.restart(usize::MAX, 0);
        }
        self.env.late = false;
        self.sync(usize::MAX);
        self.connect();
        self.register();
        for _ in 0..6 {
            for number in 0..self.containers.len() {
                self.started(number);
                self.exited(number, false);
            }
            for task in self.unacknowledged.keys().cloned().collect::<Vec<_>>() {
                self.acknowledge(&task);
            }
        }
    }

    /// At rest nothing is left of any task.
    pub(super) fn check_rest(&self) {
        assert!(self.env.agent.tasks.is_empty(), "{:?}", self.env.agent.tasks.keys());
        let keys = self.env.durable.keys().map(|key| String::from_utf8_lossy(key).into_owned());
        let keys: Vec<String> = keys.filter(|key| key != "agent").collect();
        assert!(keys.is_empty(), "{keys:?} are left of {FRAMEWORK}");
        assert!(self.containers.is_empty(), "{:?} are never forgotten", self.containers);
    }
}

impl Heard {
    fn newest(&self) -> Option<State> {
        self.order.last().map(|(_, state)| *state)
    }
}

fn container_of(status: &v1::TaskStatus) -> Option<String> {
    Some(status.container_status.as_ref()?.container_id.as_ref()?.value.clone())
}
