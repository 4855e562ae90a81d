//! ACCEPT: offers are taken apart, tasks launched, the rest declined.

use std::collections::BTreeSet;

use super::io::Effect;
use super::state::{Master, Offer, Task};
use super::task_check::{self, Rejection};
use super::{offers, wire};
use crate::api::peer::{self, to_agent};
use crate::api::v1;
use crate::api::v1::offer::operation::Type as OperationType;
use crate::api::v1::scheduler::{Event, call, event};
use crate::api::v1::task_status::Reason;
use crate::base::id::{AgentId, FrameworkId, OfferId, Role, TaskId};
use crate::base::time::Now;
use crate::resources::Resources;

/// The offers of one ACCEPT together: one agent, one role.
pub(super) struct Pool {
    pub(super) agent_id: AgentId,
    pub(super) role: Role,
    pub(super) left: Resources,
}

impl Master {
    pub(super) fn accept(
        &mut self,
        id: &FrameworkId,
        accept: call::Accept,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let offer_ids: Vec<OfferId> =
            accept.offer_ids.iter().map(|offer_id| OfferId::new(&offer_id.value)).collect();
        if let Err(problem) = self.check_offers(id, &offer_ids) {
            for offer_id in &offer_ids {
                if self.offers.get(offer_id).is_some_and(|offer| &offer.framework_id == id) {
                    self.take_back(offer_id, None, now);
                }
            }
            self.reject_operations(id, &accept.operations, &problem, now, effects);
            return;
        }
        let Some(mut pool) = self.pool(&offer_ids) else { return };
        for operation in accept.operations {
            self.operation(id, operation, &mut pool, now, effects);
        }
        let refuse = offers::refusal(accept.filters.as_ref());
        self.allocator.release(id, &pool.agent_id, &pool.left, Some(refuse), now.mono);
    }

    /// All valid, all this framework's, all of one role and agent, none twice.
    fn check_offers(&self, id: &FrameworkId, offer_ids: &[OfferId]) -> Result<(), String> {
        let Some(first) = offer_ids.first() else { return Err("No offers specified".to_owned()) };
        let mut seen = BTreeSet::new();
        let mut shared: Option<(&AgentId, &Role)> = None;
        for offer_id in offer_ids {
            if !seen.insert(offer_id) {
                return Err(format!("Duplicate offer {offer_id} in offer list"));
            }
            let Some(offer) = self.offers.get(offer_id).filter(|offer| &offer.framework_id == id) else {
                return Err(format!("Offer {offer_id} is no longer valid"));
            };
            match shared {
                Some((agent_id, _)) if agent_id != &offer.agent_id => {
                    return Err(format!("Offers {first} and {offer_id} are of different agents"));
                }
                Some((_, role)) if role != &offer.role => {
                    return Err(format!("Offers {first} and {offer_id} are of different roles"));
                }
                _ => shared = Some((&offer.agent_id, &offer.role)),
            }
        }
        Ok(())
    }

    /// Ends the offers; their resources are the pool, still charged.
    fn pool(&mut self, offer_ids: &[OfferId]) -> Option<Pool> {
        let offers: Vec<Offer> = offer_ids.iter().filter_map(|offer_id| self.end_offer(offer_id)).collect();
        let first = offers.first()?;
        let mut pool =
            Pool { agent_id: first.agent_id.clone(), role: first.role.clone(), left: Resources::new() };
        for offer in &offers {
            pool.left.add(&offer.resources);
        }
        Some(pool)
    }

    fn operation(
        &mut self,
        id: &FrameworkId,
        operation: v1::offer::Operation,
        pool: &mut Pool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let kind = operation
            .r#type
            .and_then(|kind| OperationType::try_from(kind).ok())
            .unwrap_or(OperationType::Unknown);
        match kind {
            OperationType::Launch => {
                let has_id = operation.id.is_some();
                for task in operation.launch.map(|launch| launch.task_infos).unwrap_or_default() {
                    self.launch(id, task, has_id, pool, now, effects);
                }
            }
            OperationType::LaunchGroup => {
                let message = "task groups are not built yet: launch the tasks with LAUNCH";
                for task in operation.launch_group.map(|group| group.task_group.tasks).unwrap_or_default() {
                    let rejection =
                        Rejection { reason: Reason::TaskGroupInvalid, message: message.to_owned() };
                    self.reject(id, &task, v1::TaskState::TaskError, rejection, now, effects);
                }
            }
            OperationType::Unknown => {}
            other => {
                let message = format!("the operation {} is not built yet", other.as_str_name());
                self.operation_error(id, operation.id, message, effects);
            }
        }
    }

    /// Checks one task and runs it.
    fn launch(
        &mut self,
        id: &FrameworkId,
        mut task: v1::TaskInfo,
        has_operation_id: bool,
        pool: &mut Pool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        task_check::complete(&mut task, &pool.role);
        let checked = if has_operation_id {
            Err("an operation id has no meaning for LAUNCH".to_owned())
        } else {
            self.check_task(id, &task, pool)
        };
        let resources = match checked {
            Ok(resources) => resources,
            Err(message) => {
                let rejection = Rejection { reason: Reason::TaskInvalid, message };
                self.reject(id, &task, v1::TaskState::TaskError, rejection, now, effects);
                return;
            }
        };
        if pool.left.subtract(&resources).is_err() {
            return;
        }
        let (Some(framework), Some(agent)) =
            (self.frameworks.get_mut(id), self.agents.get_mut(&pool.agent_id))
        else {
            return;
        };
        let task_id = TaskId::new(&task.task_id.value);
        let wire = task_message(id, &task);
        let known = Task { wire, agent_id: pool.agent_id.clone(), resources, charged: true, kill: None };
        framework.tasks.insert(task_id.clone(), known);
        agent.tasks.insert((id.clone(), task_id));
        // Without a link the agent is on its way back: it will not know the task, and will say so.
        if let Some(link) = agent.link {
            let run = peer::RunTask { framework: (*framework.info).clone(), task };
            effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::RunTask(run)) });
        }
    }

    fn check_task(&self, id: &FrameworkId, task: &v1::TaskInfo, pool: &Pool) -> Result<Resources, String> {
        let Some(framework) = self.frameworks.get(id) else { return Err("the framework is gone".to_owned()) };
        let task_id = task.task_id.value.as_str();
        super::framework_check::check_id(task_id).map_err(|problem| format!("the task id {problem}"))?;
        if framework.tasks.contains_key(task_id) || framework.unreachable.contains_key(task_id) {
            return Err(format!("Task has duplicate ID: {task_id}"));
        }
        task_check::check(task, pool)
    }

    /// Every task of a bad ACCEPT is lost, every other operation with an id fails.
    fn reject_operations(
        &mut self,
        id: &FrameworkId,
        operations: &[v1::offer::Operation],
        problem: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let partition_aware =
            self.frameworks.get(id).is_some_and(|framework| framework.capabilities.partition_aware);
        let state = if partition_aware { v1::TaskState::TaskDropped } else { v1::TaskState::TaskLost };
        for operation in operations {
            let launched = operation.launch.iter().flat_map(|launch| &launch.task_infos);
            let grouped = operation.launch_group.iter().flat_map(|group| &group.task_group.tasks);
            let mut any = false;
            for task in launched.chain(grouped) {
                any = true;
                let message = format!("Task launched with invalid offers: {problem}");
                let rejection = Rejection { reason: Reason::InvalidOffers, message };
                self.reject(id, task, state, rejection, now, effects);
            }
            if !any {
                self.operation_error(
                    id,
                    operation.id.clone(),
                    format!("Operation attempted with invalid offers: {problem}"),
                    effects,
                );
            }
        }
    }

    /// A task that never ran: the scheduler hears why, nothing is booked.
    fn reject(
        &self,
        id: &FrameworkId,
        task: &v1::TaskInfo,
        state: v1::TaskState,
        rejection: Rejection,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(conn) = self.frameworks.get(id).and_then(|framework| framework.conn) else { return };
        let (task_id, agent_id) = (task.task_id.clone(), Some(task.agent_id.clone()));
        let status =
            wire::master_status(task_id, agent_id, state, rejection.reason, rejection.message, now.wall);
        effects.push(Effect::Send { conn, event: Box::new(wire::update(status)) });
    }

    /// An operation that asked for feedback hears that it failed; any other fails silently, as in
    /// Mesos.
    fn operation_error(
        &self,
        id: &FrameworkId,
        operation_id: Option<v1::OperationId>,
        message: String,
        effects: &mut Vec<Effect>,
    ) {
        let Some(conn) = self.frameworks.get(id).and_then(|framework| framework.conn) else { return };
        let Some(operation_id) = operation_id else { return };
        let status = v1::OperationStatus {
            operation_id: Some(operation_id),
            state: v1::OperationState::OperationError.into(),
            message: Some(message),
            ..Default::default()
        };
        let update = Some(event::UpdateOperationStatus { status });
        let event =
            Event { update_operation_status: update, ..wire::event(event::Type::UpdateOperationStatus) };
        effects.push(Effect::Send { conn, event: Box::new(event) });
    }
}

/// A task as the API shows it, before anything is known of it.
pub(super) fn task_message(id: &FrameworkId, task: &v1::TaskInfo) -> v1::Task {
    v1::Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: wire::framework_id(id),
        executor_id: task.executor.as_ref().map(|executor| executor.executor_id.clone()),
        agent_id: task.agent_id.clone(),
        state: v1::TaskState::TaskStaging.into(),
        resources: task.resources.clone(),
        limits: task.limits.clone(),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        container: task.container.clone(),
        health_check: task.health_check.clone(),
        kill_policy: task.kill_policy,
        user: task.command.as_ref().and_then(|command| command.user.clone()),
        ..Default::default()
    }
}
