//! An agent with a disk and a clock, and the words to talk with it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::agent::core::container::{
    Exit, LaunchFailure, LaunchSpec, Signal, Started, Survivor, SurvivorState,
};
use crate::agent::core::{Agent, Config, Effect, Input};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::base::id::ContainerId;
use crate::base::time::{Mono, Now, Timestamp};
use crate::resources::{Format, Resources};

pub(super) use crate::api::v1::TaskState as State;
pub(super) use crate::api::v1::framework_info::capability::Type as Capability;
pub(super) use crate::api::v1::task_status::Reason;

pub(super) const FRAMEWORK: &str = "F";

type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// An agent, its disk and its clock. What the agent does is kept until a test asserts it.
pub(super) struct TestEnv {
    pub(super) agent: Agent,
    pub(super) now: Now,
    pub(super) effects: VecDeque<Effect>,
    /// What was written and is not durable yet.
    pub(super) written: VecDeque<(u64, Changes)>,
    pub(super) durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes wait until [`TestEnv::sync`].
    pub(super) late: bool,
    seed: u64,
}

fn config() -> Config {
    let resources = Resources::parse("cpus:4;mem:256").expect("valid");
    Config::new("/work".into(), SocketAddr::from(([127, 0, 0, 1], 5051)), resources)
}

impl TestEnv {
    /// An agent that nobody knows yet.
    pub(super) fn new() -> Self {
        Self {
            agent: Agent::new(config(), 1),
            now: Now {
                mono: Mono::from_start(Duration::from_secs(100)),
                wall: Timestamp::from_nanos(1_700_000_000_000_000_000),
            },
            effects: VecDeque::new(),
            written: VecDeque::new(),
            durable: BTreeMap::new(),
            late: false,
            seed: 1,
        }
    }

    /// A registered agent.
    pub(super) fn registered() -> Self {
        let mut env = Self::new();
        env.handle(Input::Connected);
        assert!(matches!(env.tell(), from_agent::Message::Register(_)));
        env.hear(registered("S1"));
        env.silence();
        env
    }

    pub(super) fn handle(&mut self, input: Input) {
        let is_tick = matches!(input, Input::Tick);
        let mut effects = Vec::new();
        self.agent.handle(input, self.now, &mut effects);
        self.agent.sanity_check();
        if is_tick {
            let next = self.agent.next_deadline();
            assert!(next.is_none_or(|at| at > self.now.mono), "after a tick something is due at {next:?}");
        }
        self.take(effects);
        while !self.late && !self.written.is_empty() {
            self.sync(1);
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { seq, changes } => self.written.push_back((seq, changes)),
                other => self.effects.push_back(other),
            }
        }
    }

    fn flush(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for (seq, changes) in self.written.drain(..count.min(self.written.len())) {
            for (key, value) in changes {
                match value {
                    Some(value) => self.durable.insert(key, value),
                    None => self.durable.remove(&key),
                };
            }
            last = Some(seq);
        }
        last
    }

    /// Makes the oldest writes durable, and says so.
    pub(super) fn sync(&mut self, count: usize) {
        if let Some(seq) = self.flush(count) {
            self.handle(Input::Persisted { seq });
        }
    }

    /// A crash: of the writes that were not answered the oldest `kept` had reached the disk. Answers
    /// what the new agent asks the containerizers about.
    pub(super) fn restart(
        &mut self,
        kept: usize,
        mut found: impl FnMut(&LaunchSpec) -> Option<SurvivorState>,
    ) -> Vec<LaunchSpec> {
        self.flush(kept);
        self.written.clear();
        self.effects.clear();
        self.seed += 1;
        self.agent = Agent::new(config(), self.seed);
        let pairs: Vec<(Vec<u8>, Vec<u8>)> =
            self.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let known = self.agent.recover(&pairs).expect("readable checkpoints");
        self.agent.sanity_check();
        let survivors = known.iter().filter_map(|spec| {
            Some(Survivor { container_id: spec.container_id.clone(), state: found(spec)? })
        });
        let mut effects = Vec::new();
        self.agent.survivors(survivors.collect(), self.now, &mut effects);
        self.agent.sanity_check();
        self.take(effects);
        while !self.late && !self.written.is_empty() {
            self.sync(1);
        }
        known
    }

    /// Connects and registers again; answers what the agent told of its tasks.
    pub(super) fn come_back(&mut self) -> Vec<v1::Task> {
        self.handle(Input::Connected);
        let tasks = match self.tell() {
            from_agent::Message::Reregister(reregister) => reregister.tasks,
            other => panic!("{other:?} is not Reregister"),
        };
        self.hear(registered("S1"));
        tasks
    }

    /// Time passes, with a tick at each deadline.
    pub(super) fn wait(&mut self, duration: Duration) {
        let until = self.now.mono.after(duration);
        loop {
            let next = self.agent.next_deadline().unwrap_or(until).clamp(self.now.mono, until);
            let step = next.since(self.now.mono);
            self.now = Now { mono: next, wall: self.now.wall.after(step) };
            self.handle(Input::Tick);
            if next == until {
                return;
            }
        }
    }

    /// The master says something.
    pub(super) fn hear(&mut self, message: to_agent::Message) {
        self.handle(Input::Master(Box::new(message)));
    }

    pub(super) fn kill(&mut self, task: &str, grace: Option<Duration>) {
        self.hear(to_agent::Message::KillTask(peer::KillTask {
            framework: Some(framework_info(&[])),
            framework_id: v1::FrameworkId { value: FRAMEWORK.to_owned() },
            task_id: v1::TaskId { value: task.to_owned() },
            kill_policy: grace.map(policy),
        }));
    }

    pub(super) fn acknowledge(&mut self, status: &v1::TaskStatus) {
        self.hear(acknowledge(&status.task_id.value, status.uuid.as_deref().expect("a uuid")));
    }

    pub(super) fn exited(&mut self, container_id: &ContainerId, exit: Exit) {
        let container_id = container_id.clone();
        self.handle(Input::Exited { container_id, exit, out_of_memory: false });
    }

    // What is heard: each word is asserted.

    pub(super) fn tell(&mut self) -> from_agent::Message {
        match self.effects.pop_front() {
            Some(Effect::Tell(message)) => *message,
            other => panic!("{other:?} is not for the master"),
        }
    }

    /// The next effect is an update of this state.
    pub(super) fn update(&mut self, task: &str, state: State) -> v1::TaskStatus {
        match self.tell() {
            from_agent::Message::Update(update) => {
                let status = update.status;
                assert_eq!((status.task_id.value.as_str(), status.state()), (task, state), "{status:?}");
                status
            }
            other => panic!("{other:?} is no update"),
        }
    }

    /// An update, acknowledged at once.
    pub(super) fn acknowledged(&mut self, task: &str, state: State) -> v1::TaskStatus {
        let status = self.update(task, state);
        self.acknowledge(&status);
        status
    }

    pub(super) fn launch(&mut self) -> LaunchSpec {
        match self.effects.pop_front() {
            Some(Effect::Launch(spec)) => *spec,
            other => panic!("{other:?} is no launch"),
        }
    }

    pub(super) fn signal(&mut self, wanted: Signal) {
        match self.effects.pop_front() {
            Some(Effect::Signal { signal, .. }) if signal == wanted => {}
            other => panic!("{other:?} is not {wanted:?}"),
        }
    }

    pub(super) fn forget(&mut self, wanted: &ContainerId) {
        match self.effects.pop_front() {
            Some(Effect::Forget { container_id }) if &container_id == wanted => {}
            other => panic!("{other:?} does not forget {wanted}"),
        }
    }

    pub(super) fn silence(&mut self) {
        assert!(self.effects.is_empty(), "{:?}", self.effects);
    }

    // Whole scenes.

    /// Runs a task until its container is asked for.
    pub(super) fn launched(&mut self, info: v1::TaskInfo, capabilities: &[Capability]) -> LaunchSpec {
        self.hear(run_task(info, capabilities));
        let spec = self.launch();
        self.silence();
        spec
    }

    /// Runs a task until it runs and everything is acknowledged.
    pub(super) fn running(&mut self, info: v1::TaskInfo, capabilities: &[Capability]) -> LaunchSpec {
        let task = info.task_id.value.clone();
        let spec = self.launched(info, capabilities);
        self.handle(Input::Started { container_id: spec.container_id.clone(), started: started() });
        self.acknowledged(&task, State::TaskStarting);
        self.acknowledged(&task, State::TaskRunning);
        self.silence();
        spec
    }

    pub(super) fn launch_failed(&mut self, spec: &LaunchSpec, failure: LaunchFailure) {
        self.handle(Input::LaunchFailed { container_id: spec.container_id.clone(), failure });
    }
}

// Messages.

pub(super) fn started() -> Started {
    Started { pid: Some(7), addresses: Vec::new(), network: None, inspect: None }
}

pub(super) fn registered(id: &str) -> to_agent::Message {
    to_agent::Message::Registered(peer::Registered {
        agent_id: v1::AgentId { value: id.to_owned() },
        // The silence of a master is a matter of its own.
        master_timeout_ms: 0,
    })
}

pub(super) fn framework_info(capabilities: &[Capability]) -> v1::FrameworkInfo {
    let capability = |kind: &Capability| v1::framework_info::Capability { r#type: Some((*kind).into()) };
    v1::FrameworkInfo {
        user: String::new(),
        name: "test".to_owned(),
        id: Some(v1::FrameworkId { value: FRAMEWORK.to_owned() }),
        capabilities: capabilities.iter().map(capability).collect(),
        ..Default::default()
    }
}

pub(super) fn task_info(id: &str) -> v1::TaskInfo {
    let resources = Resources::parse("cpus:1;mem:32").expect("valid").to_wire(Format::PostRefinement);
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: v1::AgentId { value: "S1".to_owned() },
        resources,
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn run_task(task: v1::TaskInfo, capabilities: &[Capability]) -> to_agent::Message {
    to_agent::Message::RunTask(peer::RunTask { framework: framework_info(capabilities), task })
}

pub(super) fn acknowledge(task: &str, uuid: &[u8]) -> to_agent::Message {
    to_agent::Message::Acknowledge(peer::Acknowledge {
        framework_id: v1::FrameworkId { value: FRAMEWORK.to_owned() },
        task_id: v1::TaskId { value: task.to_owned() },
        uuid: uuid.to_vec(),
    })
}

pub(super) fn policy(grace: Duration) -> v1::KillPolicy {
    let nanoseconds = i64::try_from(grace.as_nanos()).expect("short");
    v1::KillPolicy { grace_period: Some(v1::DurationInfo { nanoseconds }) }
}

pub(super) fn shutdown_framework() -> to_agent::Message {
    let framework_id = v1::FrameworkId { value: FRAMEWORK.to_owned() };
    to_agent::Message::ShutdownFramework(peer::ShutdownFramework { framework_id })
}
