//! An agent's process, and the containers of its machine, which live longer than it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::disk::Disk;
use crate::agent::core::container::{
    Exit, LaunchFailure, LaunchSpec, Signal, Started, Survivor, SurvivorState,
};
use crate::agent::core::{Agent, Config, Effect, Input};
use crate::api::peer::from_agent;
use crate::base::chance::Chance;
use crate::base::id::{AgentId, ContainerId, FrameworkId, TaskId};
use crate::base::time::{Mono, Now, Timestamp};
use crate::resources::Resources;

/// What every agent has.
pub(super) const RESOURCES: &str = "cpus:4;mem:4096;disk:4096;ports:[31000-31099]";

/// The CPUs of it, in thousandths.
pub(super) const MILLI_CPUS: i64 = 4_000;

/// A container of a machine.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) key: (FrameworkId, TaskId),
    pub(super) state: ContainerState,
    milli_cpus: i64,
    /// It pays no heed to being asked to end.
    is_deaf: bool,
    short: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerState {
    Starting,
    Running,
    Ended(Exit),
}

/// What leaves the process.
pub(super) enum Out {
    Written,
    Tell(Box<from_agent::Message>),
    /// It wants another connection.
    Reconnect,
    /// It must not be there any more.
    Shutdown,
    /// Something happens to a container later.
    Later {
        container_id: ContainerId,
        at: Mono,
        what: Happens,
    },
    Launched {
        key: (FrameworkId, TaskId),
    },
    /// It runs now.
    Started {
        key: (FrameworkId, TaskId),
    },
    Ended {
        key: (FrameworkId, TaskId),
    },
    /// The agent asks it to end.
    Signalled {
        key: (FrameworkId, TaskId),
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Happens {
    Starts,
    Fails,
    Exits(Exit),
}

/// A machine with an agent.
pub(super) struct Machine {
    number: usize,
    /// None: the process is down.
    core: Option<Agent>,
    last_id: Option<AgentId>,
    pub(super) disk: Disk,
    pub(super) containers: BTreeMap<ContainerId, Container>,
}

fn started() -> Started {
    Started { pid: Some(7), addresses: Vec::new(), network: None, inspect: None }
}

impl Machine {
    pub(super) fn new(number: usize) -> Self {
        Self { number, core: None, last_id: None, disk: Disk::default(), containers: BTreeMap::new() }
    }

    /// Starts the process on what its disk and its machine have.
    pub(super) fn boot(&mut self, seed: u64, now: Now, chance: &mut Chance, out: &mut Vec<Out>) {
        let port = u16::try_from(6_000 + self.number).unwrap_or(6_000);
        let resources = Resources::parse(RESOURCES).expect("valid");
        let mut config = Config::new("/work".into(), SocketAddr::from(([127, 0, 0, 1], port)), resources);
        config.hostname = self.hostname();
        let mut agent = Agent::new(config, seed);
        let known = agent.recover(&self.disk.pairs()).expect("readable checkpoints");
        let known: Vec<ContainerId> = known.into_iter().map(|spec: LaunchSpec| spec.container_id).collect();
        // A containerizer removes what no task owns.
        self.containers.retain(|id, _| known.contains(id));
        let survivors = self.containers.iter().filter_map(|(id, container)| {
            let state = match container.state {
                ContainerState::Starting => return None,
                ContainerState::Running => SurvivorState::Running(started()),
                ContainerState::Ended(exit) => {
                    SurvivorState::Ended { exit, at: Timestamp::default(), out_of_memory: false }
                }
            };
            Some(Survivor { container_id: id.clone(), state })
        });
        let survivors: Vec<Survivor> = survivors.collect();
        self.containers.retain(|_, container| container.state == ContainerState::Running);
        let mut effects = Vec::new();
        agent.survivors(survivors, now, &mut effects);
        self.core = Some(agent);
        self.perform(effects, now, chance, out);
        out.push(Out::Reconnect);
    }

    /// The process ends; the machine goes on, or loses power.
    pub(super) fn crash(&mut self, kept: usize, power: bool) {
        self.core = None;
        self.disk.crash(kept);
        // A launch under way is carried out or not: the launcher outlives the agent.
        self.containers.retain(|_, container| container.state != ContainerState::Starting && !power);
    }

    /// The machine is set up anew.
    pub(super) fn wipe(&mut self) {
        *self = Self::new(self.number);
    }

    pub(super) fn hostname(&self) -> String {
        format!("host-{}", self.number)
    }

    /// What its agent is called, as it knew last.
    pub(super) fn agent_id(&self) -> Option<AgentId> {
        self.last_id.clone()
    }

    /// Thousandths of a CPU that its containers use.
    pub(super) fn milli_cpus(&self, counts: impl Fn(&FrameworkId) -> bool) -> i64 {
        let ended = |container: &&Container| matches!(container.state, ContainerState::Ended(_));
        let live = self.containers.values().filter(|container| !ended(container));
        live.filter(|container| counts(&container.key.0)).map(|one| one.milli_cpus).sum()
    }

    /// What there is, for those who look for what went wrong.
    pub(super) fn containers_in_words(&self) -> String {
        let words =
            self.containers.values().map(|one| format!("{} {:?} {}", one.key.1, one.state, one.milli_cpus));
        words.collect::<Vec<_>>().join(", ")
    }

    /// What is written down of tasks that do not run any more.
    pub(super) fn unsettled(&self) -> usize {
        let is_task = |key: &[u8]| key.starts_with(b"task/");
        let written = self.disk.pairs().iter().filter(|(key, _)| is_task(key)).count();
        written.saturating_sub(self.running().count())
    }

    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.core.as_ref()?.next_deadline()
    }

    pub(super) fn counts(&mut self, term: u64, now: Now) -> bool {
        self.core.as_mut().is_some_and(|agent| agent.counts(term, now))
    }

    pub(super) fn handle(&mut self, input: Input, now: Now, chance: &mut Chance, out: &mut Vec<Out>) {
        let Some(agent) = &mut self.core else { return };
        let mut effects = Vec::new();
        agent.handle(input, now, &mut effects);
        agent.sanity_check();
        self.last_id = agent.id().cloned();
        self.perform(effects, now, chance, out);
    }

    fn perform(&mut self, effects: Vec<Effect>, now: Now, chance: &mut Chance, out: &mut Vec<Out>) {
        let mut soon =
            |milliseconds: u64| now.mono.after(Duration::from_millis(1 + chance.below(milliseconds)));
        for effect in effects {
            match effect {
                Effect::Tell(message) => out.push(Out::Tell(message)),
                Effect::Persist { seq, changes } => {
                    self.disk.write(seq, changes);
                    out.push(Out::Written);
                }
                Effect::Launch(spec) => {
                    let key = (spec.framework_id.clone(), spec.task_id.clone());
                    out.push(Out::Launched { key: key.clone() });
                    let words: Vec<&str> =
                        spec.command.value.as_deref().unwrap_or_default().split(' ').collect();
                    let short = match words[..] {
                        ["short", milliseconds] => milliseconds.parse().ok().map(Duration::from_millis),
                        _ => None,
                    };
                    let is_deaf = words == ["deaf"];
                    let container = Container {
                        key,
                        state: ContainerState::Starting,
                        milli_cpus: spec.cpus_milli,
                        is_deaf,
                        short,
                    };
                    let container_id = spec.container_id;
                    self.containers.insert(container_id.clone(), container);
                    let what = if words == ["broken"] { Happens::Fails } else { Happens::Starts };
                    out.push(Out::Later { container_id, at: soon(50), what });
                }
                Effect::Abandon { container_id } => {
                    out.push(Out::Later { container_id, at: soon(20), what: Happens::Fails });
                }
                Effect::Signal { container_id, signal } => {
                    let Some(container) = self.containers.get(&container_id) else { continue };
                    out.push(Out::Signalled { key: container.key.clone() });
                    match signal {
                        Signal::Term if container.is_deaf => {}
                        Signal::Term => {
                            let what = Happens::Exits(Exit::Code(0));
                            out.push(Out::Later { container_id, at: soon(200), what });
                        }
                        Signal::Kill => {
                            let what = Happens::Exits(Exit::Signal(9));
                            out.push(Out::Later { container_id, at: soon(10), what });
                        }
                    }
                }
                Effect::Forget { container_id } => drop(self.containers.remove(&container_id)),
                Effect::Reconnect => out.push(Out::Reconnect),
                Effect::Shutdown { .. } => out.push(Out::Shutdown),
                Effect::Probe { .. } | Effect::Drained { .. } => {}
            }
        }
    }

    /// Something happens to a container; the agent hears of it if it runs.
    pub(super) fn happens(
        &mut self,
        container_id: &ContainerId,
        what: Happens,
        now: Now,
        chance: &mut Chance,
        out: &mut Vec<Out>,
    ) {
        let Some(container) = self.containers.get_mut(container_id) else { return };
        let container_id = container_id.clone();
        let input = match (what, container.state) {
            (Happens::Starts, ContainerState::Starting) => {
                container.state = ContainerState::Running;
                out.push(Out::Started { key: container.key.clone() });
                if let Some(short) = container.short {
                    let (at, what) = (now.mono.after(short), Happens::Exits(Exit::Code(0)));
                    out.push(Out::Later { container_id: container_id.clone(), at, what });
                }
                Input::Started { container_id, started: started() }
            }
            (Happens::Fails, ContainerState::Starting) => {
                self.containers.remove(&container_id);
                Input::LaunchFailed { container_id, failure: LaunchFailure::Prepare("no".to_owned()) }
            }
            (Happens::Exits(exit), ContainerState::Running) => {
                container.state = ContainerState::Ended(exit);
                out.push(Out::Ended { key: container.key.clone() });
                Input::Exited { container_id, exit, out_of_memory: false }
            }
            _ => return,
        };
        self.handle(input, now, chance, out);
    }

    /// What runs here.
    pub(super) fn running(&self) -> impl Iterator<Item = (&ContainerId, &Container)> {
        self.containers.iter().filter(|(_, container)| container.state == ContainerState::Running)
    }
}
