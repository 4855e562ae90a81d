//! What the reader of the launcher's news shares with the callers.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::agent::core::container::{ContainerEvent, Exit, LaunchSpec, Started, Survivor, SurvivorState};
use crate::base::clock::SystemClock;
use crate::base::id::ContainerId;
use crate::base::time::{Clock, Timestamp};
use crate::containerizer::Events;
use crate::containerizer::launcher::decode;
use crate::containerizer::launcher::protocol::{self, News, Order};

/// Orders to a launcher that lives. Unbounded because launches are bounded by the agent, and signals by its
/// tasks.
pub(super) type Orders = mpsc::UnboundedSender<Vec<u8>>;
/// What runs and what ended, as the launcher tells it.
type Told = (BTreeMap<String, i32>, BTreeMap<String, (Exit, Timestamp)>);

pub(super) struct Shared {
    pub(super) events: Events,
    pub(super) clock: SystemClock,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// None before the first launcher and after it died.
    pub(super) orders: Option<Orders>,
    /// A launcher that dies with us; reaped when the next one starts or at the end.
    pub(super) child: Option<Child>,
    pub(super) starting: BTreeMap<ContainerId, oneshot::Sender<Result<u32, String>>>,
    /// First processes of what runs, for the case that the launcher dies.
    pub(super) pids: BTreeMap<ContainerId, i32>,
    pub(super) running: BTreeMap<ContainerId, LaunchSpec>,
    pub(super) destroyed: Vec<oneshot::Sender<()>>,
    /// Who waits for the launcher's end.
    pub(super) ended: Vec<oneshot::Sender<()>>,
    /// Only with a launcher that outlives us, as is the rest.
    pub(super) outlives: bool,
    /// The agent has said what it knows, so whatever else there is is nobody's.
    pub(super) recovered: bool,
    /// Ends that the agent was told of and did not take note of yet.
    pub(super) reported: BTreeSet<ContainerId>,
    /// What is put beside the answers to `List`, the oldest question first.
    pub(super) asked: Vec<Asked>,
    /// The agent let go of its tasks.
    pub(super) closed: bool,
}

/// A question to the launcher about what the agent knows.
pub(super) struct Asked {
    pub(super) known: Vec<LaunchSpec>,
    /// Who waits for the answer; without anybody the agent hears of ends by events.
    pub(super) answer: Option<oneshot::Sender<Vec<Survivor>>>,
}

impl State {
    /// Sends an order; false if there is no launcher.
    pub(super) fn send(&self, order: &Order) -> bool {
        let frame = protocol::encode(order).ok();
        self.orders.as_ref().zip(frame).is_some_and(|(orders, frame)| orders.send(frame).is_ok())
    }

    /// The launcher may forget an end. If it cannot be told now, it is told with the next answer to `List`.
    pub(super) fn forget(&mut self, container_id: &ContainerId) {
        self.reported.remove(container_id);
        self.send(&Order::Forget { ids: vec![container_id.to_string()] });
    }

    /// Asks the launcher what became of `known`.
    pub(super) fn ask(&mut self, asked: Asked) -> bool {
        let is_sent = self.send(&Order::List);
        if is_sent {
            self.asked.push(asked);
        }
        is_sent
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, container_id: ContainerId, exit: Exit, at: Timestamp) {
        // The agent may have ended.
        let _ = self.events.send(ContainerEvent::Exited { container_id, exit, at, out_of_memory: false });
    }

    pub(super) fn on_news(&self, news: News) {
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
            News::Exited { id, status, at } => {
                self.on_exited(ContainerId::from(id), exit_of(status), Timestamp::from_nanos(at));
            }
            News::Destroyed => {
                for waiting in self.state().destroyed.drain(..) {
                    // As above.
                    let _ = waiting.send(());
                }
            }
            News::Tasks { live, ended } => {
                let live = live.into_iter().map(|task| (task.id, task.pid)).collect();
                let ended = ended
                    .into_iter()
                    .map(|ended| (ended.id, (exit_of(ended.status), Timestamp::from_nanos(ended.at))));
                self.on_tasks((live, ended.collect()));
            }
            News::Unknown { problem } => {
                tracing::warn!(%problem, "the launcher is of an earlier version and did not know an order");
            }
        }
    }

    fn on_exited(&self, container_id: ContainerId, exit: Exit, at: Timestamp) {
        let mut state = self.state();
        state.pids.remove(&container_id);
        let known = state.running.remove(&container_id).is_some();
        if !known && state.recovered && !state.reported.contains(&container_id) {
            // A launch that was given up: nobody will take note of its end.
            state.forget(&container_id);
        }
        if known {
            if state.outlives {
                state.reported.insert(container_id.clone());
            }
            drop(state);
            self.report(container_id, exit, at);
        }
    }

    /// What the launcher has is put beside what the agent knows.
    fn on_tasks(&self, (live, ended): Told) {
        let now = self.clock.now().wall;
        let mut state = self.state();
        if state.asked.is_empty() {
            return;
        }
        let Asked { known, answer } = state.asked.remove(0);
        state.recovered |= answer.is_some();
        let mut survivors = Vec::new();
        for spec in known {
            if answer.is_none() && !state.running.contains_key(&spec.container_id) {
                // It ended since the question, or was given up.
                continue;
            }
            let id = spec.container_id.clone();
            let found = live.get(id.as_str()).copied();
            let end = ended.get(id.as_str()).copied();
            let starting = state.starting.remove(&id);
            let outcome = match (found, end) {
                (Some(pid), _) => {
                    state.pids.insert(id.clone(), pid);
                    state.running.insert(id.clone(), spec);
                    let pid = u32::try_from(pid).ok();
                    SurvivorState::Running(Started {
                        pid,
                        addresses: Vec::new(),
                        network: None,
                        inspect: None,
                    })
                }
                (None, end) => {
                    state.pids.remove(&id);
                    state.running.remove(&id);
                    let (exit, at) = end.unwrap_or((Exit::Lost, now));
                    SurvivorState::Ended { exit, at, out_of_memory: false }
                }
            };
            if end.is_some() {
                state.reported.insert(id.clone());
            }
            if let Some(starting) = starting {
                let pid = found.and_then(|pid| u32::try_from(pid).ok());
                let started = (found.is_some() || end.is_some()).then_some(pid.unwrap_or(0));
                // A launch that nobody waits for is an agent that ends.
                let _ = starting.send(started.ok_or_else(|| "the launcher ended".to_owned()));
                if started.is_none() {
                    continue;
                }
            }
            survivors.push(Survivor { container_id: id, state: outcome });
        }
        state.drop_strangers(&live, &ended);
        drop(state);
        self.answer(survivors, answer);
    }

    fn answer(&self, survivors: Vec<Survivor>, answer: Option<oneshot::Sender<Vec<Survivor>>>) {
        if let Some(answer) = answer {
            // As above.
            let _ = answer.send(survivors);
            return;
        }
        for survivor in survivors {
            if let SurvivorState::Ended { exit, at, .. } = survivor.state {
                self.report(survivor.container_id, exit, at);
            }
        }
    }
}

impl State {
    /// What nobody knows is killed, and its end forgotten.
    fn drop_strangers(&mut self, live: &BTreeMap<String, i32>, ended: &BTreeMap<String, (Exit, Timestamp)>) {
        if !self.recovered {
            return;
        }
        for id in live.keys().filter(|id| !self.running.contains_key(id.as_str())) {
            self.send(&Order::Signal { id: id.clone(), kill: true });
        }
        let strangers = ended.keys().filter(|id| !self.reported.contains(id.as_str()));
        let ids: Vec<String> = strangers.cloned().collect();
        if !ids.is_empty() {
            self.send(&Order::Forget { ids });
        }
    }
}

fn exit_of(status: i32) -> Exit {
    match decode(status) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost,
    }
}
