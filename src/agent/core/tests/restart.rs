//! What an agent owes its frameworks across restarts, kills and silence.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::container::{Exit, LaunchFailure, Signal, Started, Survivor, SurvivorState};
use super::super::{Agent, Config, Effect, Input};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::task_status::{Reason, Source};
use crate::api::v1::{TaskState as State, framework_info::capability::Type as Capability};
use crate::base::id::ContainerId;
use crate::base::time::{Mono, Now, Timestamp};
use crate::resources::Resources;

/// An agent with its disk, its clock and what it has done.
struct Env {
    agent: Agent,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    second: u64,
    done: Vec<Effect>,
}

fn config() -> Config {
    let address = "127.0.0.1:5051".parse().expect("an address");
    Config::new("/work".into(), address, Resources::parse("cpus:4;mem:1024").expect("resources"))
}

impl Env {
    /// A registered agent.
    fn new() -> Self {
        let mut env =
            Self { agent: Agent::new(config(), 1), disk: BTreeMap::new(), second: 1_000, done: Vec::new() };
        env.register();
        env.done.clear();
        env
    }

    fn register(&mut self) {
        self.input(Input::Connected);
        let agent_id = v1::AgentId { value: "agent".to_owned() };
        self.master(to_agent::Message::Registered(peer::Registered { agent_id, master_timeout_ms: 10_000 }));
    }

    fn now(&self) -> Now {
        Now {
            mono: Mono::from_start(Duration::from_secs(self.second)),
            wall: Timestamp::from_nanos(i64::try_from(self.second).expect("small") * 1_000_000_000),
        }
    }

    /// Handles an input; every write is durable at once.
    fn input(&mut self, input: Input) {
        let mut waiting = vec![input];
        while let Some(input) = waiting.pop() {
            let mut effects = Vec::new();
            self.agent.handle(input, self.now(), &mut effects);
            self.agent.sanity_check();
            self.perform(effects, &mut waiting);
        }
    }

    fn perform(&mut self, effects: Vec<Effect>, waiting: &mut Vec<Input>) {
        for effect in effects {
            if let Effect::Persist { seq, changes } = effect {
                for (key, value) in changes {
                    match value {
                        Some(value) => self.disk.insert(key, value),
                        None => self.disk.remove(&key),
                    };
                }
                waiting.push(Input::Persisted { seq });
            } else {
                self.done.push(effect);
            }
        }
    }

    fn master(&mut self, message: to_agent::Message) {
        self.input(Input::Master(Box::new(message)));
    }

    /// A new agent over the same disk; `survivor` is what became of the only container.
    fn restart(&mut self, survivor: SurvivorState) {
        let pairs: Vec<_> = self.disk.clone().into_iter().collect();
        self.agent = Agent::new(config(), 2);
        let known = self.agent.recover(&pairs).expect("readable");
        let survivors = known
            .into_iter()
            .map(|spec| Survivor { container_id: spec.container_id, state: survivor.clone() })
            .collect();
        let (mut effects, mut waiting) = (Vec::new(), Vec::new());
        self.agent.survivors(survivors, self.now(), &mut effects);
        self.agent.sanity_check();
        self.perform(effects, &mut waiting);
        for input in waiting {
            self.input(input);
        }
        self.register();
    }

    /// Takes out the updates that were told, in order.
    fn updates(&mut self) -> Vec<v1::TaskStatus> {
        let mut updates = Vec::new();
        self.done.retain(|effect| match effect {
            Effect::Tell(message) => match message.as_ref() {
                from_agent::Message::Update(update) => {
                    updates.push(update.status.clone());
                    false
                }
                _ => true,
            },
            _ => true,
        });
        updates
    }

    fn acknowledge(&mut self, status: &v1::TaskStatus) {
        let message = peer::Acknowledge {
            framework_id: framework_id(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("a uuid"),
        };
        self.master(to_agent::Message::Acknowledge(message));
    }

    /// Acknowledges every update as it comes; answers their states.
    fn drain(&mut self) -> Vec<State> {
        let mut states = Vec::new();
        loop {
            let updates = self.updates();
            if updates.is_empty() {
                return states;
            }
            for status in updates {
                states.push(status.state());
                self.acknowledge(&status);
            }
        }
    }

    fn launched(&self) -> ContainerId {
        let launch = self.done.iter().rev().find_map(|effect| match effect {
            Effect::Launch(spec) => Some(spec.container_id.clone()),
            _ => None,
        });
        launch.expect("a launch")
    }

    fn run(&mut self, task: v1::TaskInfo) {
        self.master(to_agent::Message::RunTask(peer::RunTask { framework: framework(), task }));
    }

    /// A running task whose updates were acknowledged.
    fn running(&mut self, task: v1::TaskInfo) -> ContainerId {
        self.run(task);
        let container_id = self.launched();
        self.input(Input::Started { container_id: container_id.clone(), started: started() });
        assert_eq!(self.drain(), [State::TaskStarting, State::TaskRunning]);
        self.done.clear();
        container_id
    }

    fn kill(&mut self, framework: Option<v1::FrameworkInfo>) {
        let task_id = v1::TaskId { value: "task".to_owned() };
        let kill = peer::KillTask { framework_id: framework_id(), task_id, kill_policy: None, framework };
        self.master(to_agent::Message::KillTask(kill));
    }

    fn signals(&self) -> Vec<Signal> {
        let signals = self.done.iter().filter_map(|effect| match effect {
            Effect::Signal { signal, .. } => Some(*signal),
            _ => None,
        });
        signals.collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.second += seconds;
        self.input(Input::Tick);
    }
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId { value: "framework".to_owned() }
}

fn framework() -> v1::FrameworkInfo {
    let kinds = [Capability::PartitionAware];
    v1::FrameworkInfo {
        id: Some(framework_id()),
        capabilities: kinds.map(|kind| v1::framework_info::Capability { r#type: Some(kind.into()) }).to_vec(),
        ..Default::default()
    }
}

fn task() -> v1::TaskInfo {
    v1::TaskInfo {
        name: "task".to_owned(),
        task_id: v1::TaskId { value: "task".to_owned() },
        agent_id: v1::AgentId { value: "agent".to_owned() },
        command: Some(v1::CommandInfo { value: Some("sleep 1000".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

fn started() -> Started {
    Started { pid: Some(7), addresses: Vec::new(), network: None, inspect: None }
}

#[test]
fn a_restart_says_nothing_again_of_what_was_acknowledged() {
    let mut env = Env::new();
    env.running(task());
    env.restart(SurvivorState::Running(started()));
    assert_eq!(env.updates(), [], "running tasks never notice");
    env.restart(SurvivorState::Ended { exit: Exit::Code(0), at: Timestamp::default(), out_of_memory: false });
    assert_eq!(env.drain(), [State::TaskFinished]);
    assert!(env.disk.keys().all(|key| !key.starts_with(b"task/")), "nothing of it is left");
}

#[test]
fn a_restart_goes_on_with_a_kill() {
    let mut env = Env::new();
    env.running(task());
    env.kill(None);
    assert_eq!(env.signals(), [Signal::Term]);
    env.done.clear();
    env.second += 1;
    env.restart(SurvivorState::Running(started()));
    assert_eq!(env.signals(), [Signal::Term], "whether it arrived is not known");
    assert_eq!(env.agent.next_deadline(), Some(Mono::from_start(Duration::from_secs(1_003))));
    env.pass(2);
    assert_eq!(env.signals(), [Signal::Term, Signal::Kill], "the grace goes on, it does not begin again");
    // How it ends is a kill, whatever the status.
    env.restart(SurvivorState::Ended { exit: Exit::Code(0), at: Timestamp::default(), out_of_memory: false });
    assert_eq!(env.drain(), [State::TaskKilled]);
}

#[test]
fn a_restart_goes_on_with_a_kill_that_came_before_the_start() {
    let mut env = Env::new();
    env.run(task());
    let container_id = env.launched();
    env.kill(None);
    env.input(Input::Started { container_id, started: started() });
    assert_eq!(env.drain(), [State::TaskStarting, State::TaskRunning]);
    env.done.clear();
    env.restart(SurvivorState::Running(started()));
    assert_eq!(env.signals(), [Signal::Term]);
    env.pass(3);
    assert_eq!(env.signals(), [Signal::Term, Signal::Kill]);
}

#[test]
fn the_time_to_complete_runs_on_across_a_restart() {
    let mut env = Env::new();
    let limit = Some(v1::DurationInfo { nanoseconds: 60_000_000_000 });
    env.running(v1::TaskInfo { max_completion_time: limit, ..task() });
    env.second += 40;
    env.restart(SurvivorState::Running(started()));
    env.done.clear();
    env.register();
    env.pass(10);
    assert_eq!(env.signals(), []);
    env.register();
    env.pass(10);
    assert_eq!(env.signals(), [Signal::Term, Signal::Kill], "no grace");
}

#[test]
fn a_kill_while_it_is_launched_gives_the_launch_up() {
    let mut env = Env::new();
    env.run(task());
    let container_id = env.launched();
    env.done.clear();
    env.kill(None);
    assert_eq!(env.done, [Effect::Abandon { container_id: container_id.clone() }]);
    assert!(env.agent.next_deadline().is_some_and(|at| at.since_start() >= Duration::from_secs(1_010)));
    let failure = LaunchFailure::Prepare("given up".to_owned());
    env.input(Input::LaunchFailed { container_id, failure });
    let updates = env.updates();
    assert_eq!(
        (updates[0].state(), updates[0].reason()),
        (State::TaskKilled, Reason::TaskKilledDuringLaunch)
    );
    assert_eq!(env.drain(), []);
}

#[test]
fn a_kill_that_comes_too_late_for_the_launch_signals_the_container() {
    let mut env = Env::new();
    env.run(task());
    let container_id = env.launched();
    env.kill(None);
    env.input(Input::Started { container_id: container_id.clone(), started: started() });
    assert_eq!(env.signals(), [Signal::Term]);
    env.input(Input::Exited { container_id, exit: Exit::Signal(15), out_of_memory: false });
    assert_eq!(env.drain(), [State::TaskStarting, State::TaskRunning, State::TaskKilled]);
}

#[test]
fn unknown_tasks_are_told_until_it_is_acknowledged() {
    let mut env = Env::new();
    env.kill(None);
    assert_eq!(env.updates(), [], "nobody is known who would hear it");
    env.kill(Some(framework()));
    let told = env.updates();
    assert_eq!((told[0].state(), told[0].source()), (State::TaskDropped, Source::Agent));
    assert_eq!((told[0].executor_id.as_ref(), told[0].container_status.as_ref()), (None, None));
    // Not acknowledged: told again, and after a restart, too, with the same uuid.
    env.restart(SurvivorState::Running(started()));
    env.done.clear();
    env.register();
    env.pass(5);
    env.input(Input::Disconnected);
    env.input(Input::Connected);
    let agent_id = v1::AgentId { value: "agent".to_owned() };
    env.master(to_agent::Message::Registered(peer::Registered { agent_id, master_timeout_ms: 10_000 }));
    let again = env.updates();
    assert_eq!(again[0].uuid, told[0].uuid);
    env.acknowledge(&told[0]);
    assert!(env.disk.keys().all(|key| key == b"agent"), "nothing of it is left: {:?}", env.disk.keys());
}

#[test]
fn what_cannot_be_isolated_does_not_run() {
    let container = |fill: fn(&mut v1::ContainerInfo)| {
        let mut container =
            v1::ContainerInfo { r#type: v1::container_info::Type::Mesos.into(), ..Default::default() };
        fill(&mut container);
        v1::TaskInfo { container: Some(container), ..task() }
    };
    let image = container(|container| {
        let image = Some(v1::Image::default());
        container.mesos = Some(v1::container_info::MesosInfo { image });
    });
    let volumes = container(|container| container.volumes.push(v1::Volume::default()));
    let no_value = v1::TaskInfo { command: Some(v1::CommandInfo::default()), ..task() };
    for (task, reason, needle) in [
        (image, Reason::ContainerLaunchFailed, "mesos.image"),
        (volumes, Reason::ContainerLaunchFailed, "volumes"),
        (no_value, Reason::ExecutorTerminated, "needs a value"),
    ] {
        let mut env = Env::new();
        env.run(task);
        assert!(!env.done.iter().any(|effect| matches!(effect, Effect::Launch(_))), "{needle}");
        let updates = env.updates();
        assert_eq!((updates[0].state(), updates[0].reason()), (State::TaskFailed, reason), "{needle}");
        assert!(updates[0].message().contains(needle), "{}", updates[0].message());
    }
}

#[test]
fn a_silent_master_is_left() {
    let mut env = Env::new();
    env.pass(9);
    assert_eq!(env.done, []);
    env.master(to_agent::Message::Ping(peer::Ping {}));
    env.done.clear();
    env.pass(9);
    assert_eq!(env.done, []);
    env.pass(1);
    assert_eq!(env.done, [Effect::Reconnect]);
    assert_eq!(env.agent.next_deadline(), None, "once");
}

#[test]
fn the_longest_ids_fit_on_disk() {
    let mut env = Env::new();
    let long = "f".repeat(255);
    let mut framework = framework();
    framework.id = Some(v1::FrameworkId { value: long.clone() });
    let task = v1::TaskInfo { task_id: v1::TaskId { value: long }, ..task() };
    env.master(to_agent::Message::RunTask(peer::RunTask { framework, task }));
    assert!(env.disk.keys().all(|key| key.len() <= 256), "{:?}", env.disk.keys());
}

#[test]
fn the_end_is_forgotten_only_when_it_is_written_down() {
    let mut env = Env::new();
    let container_id = env.running(task());
    let mut effects = Vec::new();
    let exited =
        Input::Exited { container_id: container_id.clone(), exit: Exit::Code(0), out_of_memory: false };
    env.agent.handle(exited, env.now(), &mut effects);
    assert!(matches!(effects.as_slice(), [Effect::Persist { .. }]), "{effects:?}");
    let mut waiting = Vec::new();
    env.perform(effects, &mut waiting);
    for input in waiting {
        env.input(input);
    }
    assert!(env.done.contains(&Effect::Forget { container_id }));
}

#[test]
fn an_agent_that_stops_kills_and_takes_nothing_new() {
    let mut env = Env::new();
    let container_id = env.running(task());
    assert!(!env.agent.is_idle());
    env.input(Input::Stop);
    assert_eq!(env.signals(), [Signal::Term]);
    env.run(v1::TaskInfo { task_id: v1::TaskId { value: "late".to_owned() }, ..task() });
    assert!(!env.done.iter().any(|effect| matches!(effect, Effect::Launch(_))));
    env.input(Input::Exited { container_id, exit: Exit::Code(0), out_of_memory: false });
    assert!(env.agent.is_idle());
}
