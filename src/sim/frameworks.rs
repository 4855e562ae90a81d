//! A framework over the scheduler API that keeps launching, loses some of its acknowledgements, and
//! subscribes again with its id.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1::scheduler::{Call, Event, call, event};
use crate::api::v1::{self, TaskState};
use crate::base::chance::Chance;
use crate::base::id::{FrameworkId, TaskId};
use crate::master::core::ConnId;
use crate::resources::{Format, Resources};

/// Most tasks that run until they are killed.
const LONG: usize = 5;

/// How far a task has come, as far as updates in order go.
pub(super) fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::TaskStaging => 0,
        TaskState::TaskStarting => 1,
        TaskState::TaskRunning => 2,
        TaskState::TaskKilling => 3,
        TaskState::TaskUnreachable => 4,
        _ => 5,
    }
}

/// What a framework knows of a task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) state: TaskState,
    /// The newest that came over the stream of updates.
    heard: TaskState,
    /// Of every update that was heard.
    uuids: BTreeSet<Vec<u8>>,
    /// The master said that it knows nothing of it.
    is_absent: bool,
    agent: v1::AgentId,
    is_short: bool,
}

/// A framework.
pub(super) struct Framework {
    pub(super) number: usize,
    pub(super) id: Option<FrameworkId>,
    /// Its stream, and at which node.
    pub(super) stream: Option<(ConnId, u64, String)>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// Tasks that it asked to end.
    pub(super) killed: BTreeSet<TaskId>,
    /// It launches and kills nothing any more.
    pub(super) rests: bool,
    /// It keeps to no rule.
    pub(super) is_rogue: bool,
    /// The master does not want it any more.
    pub(super) is_over: bool,
    /// Offers that it did not answer.
    pub(super) hoard: Vec<v1::Offer>,
    pub(super) next: u32,
}

impl Framework {
    pub(super) fn new(number: usize, is_rogue: bool) -> Self {
        Self {
            number,
            id: None,
            stream: None,
            tasks: BTreeMap::new(),
            killed: BTreeSet::new(),
            rests: false,
            is_rogue,
            is_over: false,
            hoard: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn wants_to_dial(&self) -> bool {
        self.stream.is_none() && !self.is_over
    }

    pub(super) fn call(&self, kind: call::Type) -> Call {
        let framework_id = self.id.as_ref().map(|id| v1::FrameworkId { value: id.to_string() });
        Call { framework_id, r#type: Some(kind.into()), ..Default::default() }
    }

    pub(super) fn subscribe(&self) -> Call {
        let capabilities = [v1::framework_info::capability::Type::PartitionAware];
        let capability = |kind: &v1::framework_info::capability::Type| v1::framework_info::Capability {
            r#type: Some((*kind).into()),
        };
        let framework_info = v1::FrameworkInfo {
            name: format!("framework-{}", self.number),
            failover_timeout: Some(3_600.0),
            checkpoint: Some(true),
            id: self.id.as_ref().map(|id| v1::FrameworkId { value: id.to_string() }),
            capabilities: capabilities.iter().map(capability).collect(),
            ..Default::default()
        };
        let subscribe = Some(call::Subscribe { framework_info, ..Default::default() });
        Call { subscribe, ..self.call(call::Type::Subscribe) }
    }

    /// What it answers to an event. Err: the event should not have come.
    pub(super) fn hear(&mut self, event: Event, chance: &mut Chance) -> Result<Vec<Call>, String> {
        if self.is_rogue {
            return Ok(self.misbehave(event, chance));
        }
        let mut calls = Vec::new();
        match event.r#type.and_then(|kind| event::Type::try_from(kind).ok()) {
            Some(event::Type::Subscribed) => {
                let id = FrameworkId::new(event.subscribed.expect("its member").framework_id.value);
                if self.id.as_ref().is_some_and(|known| *known != id) {
                    return Err(format!("framework {} became {id}", self.number));
                }
                self.id = Some(id);
                calls.extend(self.reconcile());
            }
            Some(event::Type::Offers) => {
                for offer in event.offers.expect("its member").offers {
                    calls.push(self.answer(offer, chance));
                }
                if self.rests {
                    calls.extend(self.give_back());
                } else if chance.below(10) == 0 {
                    calls.extend(self.kill(chance));
                }
            }
            Some(event::Type::Update) => {
                calls.extend(self.update(event.update.expect("its member").status, chance)?);
            }
            _ => {}
        }
        Ok(calls)
    }

    /// Asks for every task that is not known to be over.
    pub(super) fn reconcile(&self) -> Option<Call> {
        if self.is_rogue && self.rests {
            return Some(self.call(call::Type::Teardown));
        }
        let open = self.tasks.iter().filter(|(_, task)| rank(task.state) < 5);
        let tasks: Vec<_> = open
            .map(|(id, task)| call::reconcile::Task {
                task_id: v1::TaskId { value: id.to_string() },
                agent_id: Some(task.agent.clone()),
            })
            .collect();
        let reconcile = Some(call::Reconcile { tasks });
        self.id.as_ref()?;
        Some(Call { reconcile, ..self.call(call::Type::Reconcile) })
    }

    fn answer(&mut self, offer: v1::Offer, chance: &mut Chance) -> Call {
        let free = Resources::from_wire(&offer.resources).expect("valid").unallocated();
        let fits = (free.milli("cpus") / 500).min(free.milli("mem") / 64_000);
        if self.rests || fits < 1 || chance.below(4) == 0 {
            let refuse_seconds = Some(if self.rests { 60.0 } else { 1.0 });
            let decline =
                call::Decline { offer_ids: vec![offer.id], filters: Some(v1::Filters { refuse_seconds }) };
            return Call { decline: Some(decline), ..self.call(call::Type::Decline) };
        }
        let count = 1 + chance.below(u64::try_from(fits).unwrap_or(1).min(3));
        let infos: Vec<v1::TaskInfo> = (0..count).map(|_| self.task(&offer.agent_id, chance)).collect();
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: infos }),
            ..Default::default()
        };
        let filters = Some(v1::Filters { refuse_seconds: Some(0.5) });
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![launch], filters };
        Call { accept: Some(accept), ..self.call(call::Type::Accept) }
    }

    fn task(&mut self, agent: &v1::AgentId, chance: &mut Chance) -> v1::TaskInfo {
        self.next += 1;
        let id = format!("task-{}-{}", self.number, self.next);
        let long = self.tasks.values().filter(|task| !task.is_short && rank(task.state) < 5).count();
        let is_short = long >= LONG;
        let command = match chance.below(20) {
            0 => "broken".to_owned(),
            1 => "deaf".to_owned(),
            _ if is_short => format!("short {}", chance.below(3_000)),
            _ => "long".to_owned(),
        };
        let state = TaskState::TaskStaging;
        let task = Task {
            state,
            heard: state,
            uuids: BTreeSet::new(),
            is_absent: false,
            agent: agent.clone(),
            is_short,
        };
        self.tasks.insert(TaskId::new(&id), task);
        v1::TaskInfo {
            name: id.clone(),
            task_id: v1::TaskId { value: id },
            agent_id: agent.clone(),
            command: Some(v1::CommandInfo { value: Some(command), ..Default::default() }),
            resources: Resources::parse("cpus:0.5;mem:64").expect("valid").to_wire(Format::PostRefinement),
            ..Default::default()
        }
    }

    fn kill(&mut self, chance: &mut Chance) -> Option<Call> {
        let running = self.running();
        let drawn = usize::try_from(chance.below(running.len() as u64)).ok()?;
        let id = running.get(drawn)?.clone();
        Some(self.kill_one(&id))
    }

    fn running(&self) -> Vec<TaskId> {
        let running = self.tasks.iter().filter(|(_, task)| task.state == TaskState::TaskRunning);
        running.map(|(id, _)| id.clone()).collect()
    }

    fn kill_one(&mut self, id: &TaskId) -> Call {
        self.killed.insert(id.clone());
        let kill = call::Kill {
            task_id: v1::TaskId { value: id.to_string() },
            agent_id: self.tasks.get(id).map(|task| task.agent.clone()),
            kill_policy: None,
        };
        Call { kill: Some(kill), ..self.call(call::Type::Kill) }
    }

    /// In the end it has no more than it may, so that there is room for services also on what is well.
    fn give_back(&mut self) -> Vec<Call> {
        let running = self.running();
        running.iter().skip(LONG).map(|id| self.kill_one(id)).collect()
    }

    fn update(&mut self, status: v1::TaskStatus, chance: &mut Chance) -> Result<Option<Call>, String> {
        let (id, state) = (TaskId::new(&status.task_id.value), status.state());
        if let Some(task) = self.tasks.get_mut(&id) {
            let goes_on = |was| rank(state) >= rank(was) || was == TaskState::TaskUnreachable;
            // An agent that crashed may say again what was acknowledged: of that it is known by its uuid.
            let is_first = status.uuid.as_ref().is_some_and(|uuid| task.uuids.insert(uuid.clone()));
            if is_first {
                if !goes_on(task.heard) {
                    return Err(format!("{id} is {state:?} after it was {:?}", task.heard));
                }
                task.heard = state;
            }
            if status.uuid.is_some() && !is_first {
                return Ok(self.acknowledge(status, chance));
            }
            if task.is_absent && rank(state) < 4 {
                return Err(format!("{id} is {state:?} after the master knew nothing of it"));
            }
            let is_answer = status.reason() == v1::task_status::Reason::Reconciliation;
            task.is_absent |= is_answer && matches!(state, TaskState::TaskGone | TaskState::TaskUnknown);
            // What the master says by itself may be ahead of the stream of updates, or behind it.
            if goes_on(task.state) {
                task.state = state;
            }
        }
        Ok(self.acknowledge(status, chance))
    }

    /// Some acknowledgements are lost: the update comes again.
    fn acknowledge(&self, status: v1::TaskStatus, chance: &mut Chance) -> Option<Call> {
        let (uuid, agent_id) = (status.uuid?, status.agent_id?);
        let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id, uuid };
        let call = Call { acknowledge: Some(acknowledge), ..self.call(call::Type::Acknowledge) };
        Some(call).filter(|_| self.rests || chance.below(10) > 0)
    }
}
