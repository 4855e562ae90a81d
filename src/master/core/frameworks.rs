//! Frameworks: calls in general, disconnection, removal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::framework_check;
use super::io::{ConnId, Effect, ReplyId};
use super::state::{Framework, HEARTBEAT, MAX_COMPLETED_FRAMEWORKS, MAX_COMPLETED_TASKS, Master, Pending};
use super::wire;
use crate::allocator::{Capabilities, FrameworkSpec};
use crate::api::peer::{self, to_agent};
use crate::api::v1::scheduler::{self, call, event};
use crate::api::{ApiError, v1};
use crate::base::id::{FrameworkId, Role, TaskId};
use crate::base::time::{Now, seconds_capped};
use crate::registry::core::Change;

/// How long a framework may be without its scheduler.
pub(super) fn failover_timeout(info: &v1::FrameworkInfo) -> Duration {
    const YEARS_292: Duration = Duration::from_secs(9_223_372_036);
    seconds_capped(info.failover_timeout.unwrap_or(0.0), YEARS_292)
}

impl Framework {
    pub(super) fn new(info: Arc<v1::FrameworkInfo>, now: Now, recovered: bool) -> Self {
        let mut framework = Self {
            info: Arc::clone(&info),
            capabilities: Capabilities::default(),
            roles: BTreeSet::new(),
            conn: None,
            stream_id: String::new(),
            recovered,
            registered: now.wall,
            reregistered: now.wall,
            unregistered: None,
            deadline: None,
            heartbeat: now.mono,
            tasks: BTreeMap::new(),
            completed: VecDeque::new(),
            unreachable: BTreeMap::new(),
            offers: BTreeSet::new(),
            principal: None,
            constraints: None,
            coming: None,
            has_recorded_deadline: false,
            leaving: false,
        };
        framework.describe(info);
        framework
    }

    /// Takes over what the scheduler told.
    pub(super) fn describe(&mut self, info: Arc<v1::FrameworkInfo>) {
        self.capabilities = Capabilities::from(info.capabilities.as_slice());
        self.roles = framework_check::roles_of(&info);
        self.info = info;
    }

    pub(super) fn spec(&self, suppressed: BTreeSet<Role>) -> FrameworkSpec {
        FrameworkSpec {
            roles: self.roles.clone(),
            suppressed,
            capabilities: self.capabilities,
            // The info was checked when it came.
            min_allocatable: framework_check::minimums(&self.info).unwrap_or_default(),
        }
    }

    pub(super) fn remember(&mut self, task: v1::Task) {
        self.completed.push_back(task);
        if self.completed.len() > MAX_COMPLETED_TASKS {
            self.completed.pop_front();
        }
    }
}

/// When a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// At once.
    Now,
    /// When the registry has recorded what it changes.
    WhenRecorded,
}

impl Master {
    /// One call of a subscribed scheduler.
    pub(super) fn call(
        &mut self,
        reply: ReplyId,
        call: scheduler::Call,
        stream_id: Option<&str>,
        principal: Option<&str>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, ApiError> {
        use call::Type;

        let id = FrameworkId::new(call.framework_id.as_ref().map_or("", |id| id.value.as_str()));
        self.authenticate(&id, stream_id, principal)?;
        let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok()).unwrap_or(Type::Unknown);
        match kind {
            Type::Accept => {
                self.accept(&id, call.accept.unwrap_or_default(), now, effects);
            }
            Type::Decline => self.decline(&id, call.decline.unwrap_or_default(), now),
            Type::Revive => self.revive(&id, &call.revive.unwrap_or_default().roles),
            Type::Suppress => self.suppress(&id, &call.suppress.unwrap_or_default().roles),
            Type::Kill => self.kill(&id, call.kill.unwrap_or_default(), now, effects),
            Type::Acknowledge => self.acknowledge(&id, call.acknowledge.unwrap_or_default(), effects),
            Type::Reconcile => self.reconcile(&id, call.reconcile.unwrap_or_default(), now, effects),
            Type::Teardown => self.teardown(&id, None, effects),
            // The allocator takes no requests (Mesos: accepted and ignored).
            Type::Request => {}
            Type::UpdateFramework => {
                self.update_framework(reply, &id, call.update_framework.unwrap_or_default(), effects)?;
                return Ok(Answer::WhenRecorded);
            }
            Type::Subscribe
            | Type::Unknown
            | Type::AcceptInverseOffers
            | Type::DeclineInverseOffers
            | Type::Shutdown
            | Type::Message
            | Type::AcknowledgeOperationStatus
            | Type::ReconcileOperations => {
                return Err(ApiError::NotImplemented(format!(
                    "The call {} is not built yet",
                    kind.as_str_name()
                )));
            }
        }
        Ok(Answer::Now)
    }

    /// Mesos' order: known (400), the same principal (400), connected (403), the right stream (400).
    fn authenticate(
        &self,
        id: &FrameworkId,
        stream_id: Option<&str>,
        principal: Option<&str>,
    ) -> Result<(), ApiError> {
        let framework = self.frameworks.get(id).filter(|framework| !framework.leaving);
        let framework = framework.ok_or_else(|| ApiError::Invalid("Framework cannot be found".to_owned()))?;
        if framework.principal.as_deref() != principal && framework.principal.is_some() {
            return Err(ApiError::Invalid("the principal differs from the framework's".to_owned()));
        }
        if framework.conn.is_none() {
            return Err(ApiError::Forbidden("Framework is not subscribed".to_owned()));
        }
        match stream_id {
            None => Err(ApiError::Invalid(
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned(),
            )),
            Some(given) if given != framework.stream_id => Err(ApiError::Invalid(
                "The stream ID does not belong to the framework's current subscription".to_owned(),
            )),
            Some(_) => Ok(()),
        }
    }

    /// REVIVE and SUPPRESS name roles; one that is not the framework's drops the whole call.
    fn named_roles(&self, id: &FrameworkId, names: &[String]) -> Option<BTreeSet<Role>> {
        let roles: BTreeSet<Role> = names.iter().map(Role::new).collect();
        self.frameworks.get(id).filter(|framework| roles.is_subset(&framework.roles)).map(|_| roles)
    }

    fn revive(&mut self, id: &FrameworkId, names: &[String]) {
        if let Some(roles) = self.named_roles(id, names) {
            self.allocator.revive(id, &roles);
        }
    }

    fn suppress(&mut self, id: &FrameworkId, names: &[String]) {
        if let Some(roles) = self.named_roles(id, names) {
            self.allocator.suppress(id, &roles);
        }
    }

    /// Checks an UPDATE_FRAMEWORK and records it; all or nothing.
    fn update_framework(
        &mut self,
        reply: ReplyId,
        id: &FrameworkId,
        update: call::UpdateFramework,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ApiError> {
        let info = &update.framework_info;
        framework_check::check(info, &update.suppressed_roles).map_err(ApiError::Invalid)?;
        framework_check::constraints(update.offer_constraints.as_ref()).map_err(ApiError::Invalid)?;
        let Some(framework) = self.frameworks.get_mut(id) else {
            return Err(ApiError::Invalid("Framework cannot be found".to_owned()));
        };
        let old = &framework.info;
        let fixed = [
            ("principal", old.principal == info.principal),
            ("user", old.user == info.user),
            ("checkpoint", old.checkpoint.unwrap_or(false) == info.checkpoint.unwrap_or(false)),
        ];
        if let Some((name, _)) = fixed.iter().find(|(_, same)| !same) {
            return Err(ApiError::Invalid(format!("changing '{name}' of a framework is not supported")));
        }
        let change = Change::AddFramework { info: Arc::new(info.clone()) };
        let pending = Pending::UpdateFramework { reply, framework_id: id.clone(), update: Box::new(update) };
        self.propose(change, pending, effects);
        Ok(())
    }

    /// What an UPDATE_FRAMEWORK told is recorded: it holds from now on.
    pub(super) fn framework_updated(
        &mut self,
        reply: ReplyId,
        id: &FrameworkId,
        update: call::UpdateFramework,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let framework = self.frameworks.get_mut(id).filter(|framework| !framework.leaving);
        let (None, Some(framework)) = (&refused, framework) else {
            let problem = refused.unwrap_or_else(|| "Framework cannot be found".to_owned());
            return effects.push(Effect::Reply { reply, result: Err(ApiError::Invalid(problem)) });
        };
        framework.describe(Arc::new(update.framework_info));
        framework.constraints = update.offer_constraints;
        let spec = framework.spec(update.suppressed_roles.iter().map(Role::new).collect());
        let roles = framework.roles.clone();
        self.allocator.update_framework(id, spec);
        self.rescind_other_roles(id, &roles, now, effects);
        self.tell_agents_of(id, effects);
        effects.push(Effect::Reply { reply, result: Ok(()) });
    }

    /// Agents with tasks of a framework hear what it is now.
    pub(super) fn tell_agents_of(&self, id: &FrameworkId, effects: &mut Vec<Effect>) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let agents: BTreeSet<_> = framework.tasks.values().map(|task| &task.agent_id).collect();
        for link in agents.into_iter().filter_map(|agent_id| self.agents.get(agent_id)?.link) {
            let message = to_agent::Message::UpdateFramework(peer::UpdateFramework {
                framework: (*framework.info).clone(),
            });
            effects.push(Effect::Tell { link, message: Box::new(message) });
        }
    }

    pub(super) fn disconnected(&mut self, conn: ConnId, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Some(id)) = self.conns.remove(&conn)
            && !self.is_coming(&id)
        {
            self.lost_scheduler(&id, now, effects);
        }
    }

    /// Whether a living stream of a framework waits for the registry: then the end of an older one
    /// means nothing, the newer one takes its place.
    pub(super) fn is_coming(&self, id: &FrameworkId) -> bool {
        let coming = self.frameworks.get(id).and_then(|framework| framework.coming);
        coming.is_some_and(|conn| self.conns.contains_key(&conn))
    }

    /// The scheduler is gone: offers come back, filters are forgotten, the time runs.
    pub(super) fn lost_scheduler(&mut self, id: &FrameworkId, now: Now, effects: &mut Vec<Effect>) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.conn = None;
        let timeout = failover_timeout(&framework.info);
        framework.deadline = Some(now.mono.after(timeout));
        framework.has_recorded_deadline = timeout > Duration::ZERO;
        let offers: Vec<_> = framework.offers.iter().cloned().collect();
        for offer_id in offers {
            self.take_back(&offer_id, None, now);
        }
        self.allocator.deactivate_framework(id);
        if timeout > Duration::ZERO {
            let deadline = Some(now.wall.after(timeout));
            let change = Change::SetFrameworkDeadline { framework_id: id.clone(), deadline };
            self.propose(change, Pending::Nothing, effects);
        }
    }

    pub(super) fn heartbeats(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for framework in self.frameworks.values_mut() {
            let Some(conn) = framework.conn.filter(|_| framework.heartbeat <= now.mono) else { continue };
            framework.heartbeat = now.mono.after(HEARTBEAT);
            effects.push(Effect::Send { conn, event: Box::new(wire::event(event::Type::Heartbeat)) });
        }
    }

    pub(super) fn expire_frameworks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.frameworks.iter().filter(|(_, framework)| {
            !framework.leaving && framework.deadline.is_some_and(|deadline| deadline <= now.mono)
        });
        let due: Vec<FrameworkId> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.teardown(&id, None, effects);
        }
    }

    pub(super) fn operator_teardown(
        &mut self,
        reply: ReplyId,
        id: &FrameworkId,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, ApiError> {
        if self.frameworks.get(id).is_none_or(|framework| framework.leaving) {
            return Err(ApiError::Invalid(format!("No framework found with ID {id}")));
        }
        self.teardown(id, Some(reply), effects);
        Ok(Answer::WhenRecorded)
    }

    /// Begins to remove a framework: nothing is offered to it any more. Who asked, if somebody waits,
    /// is answered at the end.
    fn teardown(&mut self, id: &FrameworkId, reply: Option<ReplyId>, effects: &mut Vec<Effect>) {
        let Some(framework) = self.frameworks.get_mut(id).filter(|framework| !framework.leaving) else {
            return;
        };
        framework.leaving = true;
        self.allocator.deactivate_framework(id);
        let change = Change::RemoveFramework { framework_id: id.clone() };
        self.propose(change, Pending::RemoveFramework { framework_id: id.clone(), reply }, effects);
    }

    /// The registry has removed a framework: agents end its tasks, its stream closes.
    pub(super) fn framework_removed(&mut self, id: &FrameworkId, now: Now, effects: &mut Vec<Effect>) {
        let Some(mut framework) = self.frameworks.remove(id) else { return };
        for offer_id in std::mem::take(&mut framework.offers) {
            if let Some(offer) = self.offers.remove(&offer_id)
                && let Some(agent) = self.agents.get_mut(&offer.agent_id)
            {
                agent.offers.remove(&offer_id);
            }
        }
        self.allocator.remove_framework(id);
        for agent in self.agents.values_mut() {
            agent.tasks.retain(|(framework_id, _)| framework_id != id);
            agent.strays.retain(|(framework_id, _), _| framework_id != id);
            if let Some(link) = agent.link {
                let message = peer::ShutdownFramework { framework_id: wire::framework_id(id) };
                let message = Box::new(to_agent::Message::ShutdownFramework(message));
                effects.push(Effect::Tell { link, message });
            }
        }
        let tasks: BTreeMap<TaskId, _> = std::mem::take(&mut framework.tasks);
        let unreachable = std::mem::take(&mut framework.unreachable);
        for task in tasks.into_values().chain(unreachable.into_values()) {
            let mut task = task.wire;
            if !wire::is_terminal(wire::state_of(&task)) {
                task.state = v1::TaskState::TaskKilled.into();
                let reason = v1::task_status::Reason::FrameworkRemoved;
                let (task_id, agent_id) = (task.task_id.clone(), Some(task.agent_id.clone()));
                let message = format!("Framework {id} removed");
                task.statuses.push(wire::master_status(
                    task_id,
                    agent_id,
                    v1::TaskState::TaskKilled,
                    reason,
                    message,
                    now.wall,
                ));
            }
            framework.remember(task);
        }
        if let Some(conn) = framework.conn.take() {
            self.conns.remove(&conn);
            effects.push(Effect::Close { conn });
        }
        framework.unregistered = Some(now.wall);
        self.removed.insert(id.clone());
        self.completed.push_back((id.clone(), framework));
        if self.completed.len() > MAX_COMPLETED_FRAMEWORKS {
            self.completed.pop_front();
        }
    }
}
