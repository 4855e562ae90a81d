//! What the master says.

use super::fact::KILL_RETRY;
use super::health::first_probe;
use super::io::Effect;
use super::state::{Link, Services};
use crate::api::v1::scheduler::{Event, call, event};
use crate::api::v1::{self, TaskState as State};
use crate::base::time::Now;
use crate::service::model::{Command, Failure, Instance};
use std::sync::Arc;

impl Services {
    pub(super) fn on_event(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        match event.r#type.and_then(|kind| event::Type::try_from(kind).ok()) {
            Some(event::Type::Subscribed) => {
                if let Some(subscribed) = event.subscribed {
                    self.on_subscribed(subscribed.framework_id, now, effects);
                }
            }
            Some(event::Type::Offers) => {
                self.on_offers(event.offers.map(|offers| offers.offers).unwrap_or_default(), now, effects);
            }
            Some(event::Type::Update) => {
                if let Some(update) = event.update {
                    self.on_update(update.status, now, effects);
                }
            }
            Some(event::Type::Error) => {
                let message = event.error.map(|error| error.message).unwrap_or_default();
                self.on_error(&message, now, effects);
            }
            // An offer that is gone makes its ACCEPT fail, which is answered by an update; a lost agent
            // shows in the updates of its tasks.
            _ => {}
        }
    }

    fn on_update(&mut self, status: v1::TaskStatus, now: Now, effects: &mut Vec<Effect>) {
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
            self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge), effects);
        }
        let Ok(state) = State::try_from(status.state) else { return };
        // What was given up and lives all the same is as strange as what was never known.
        let known = self
            .instance_of(&status.task_id.value)
            .filter(|instance| self.fact(instance).is_some_and(|fact| !fact.over));
        let Some(instance) = known else {
            self.kill_stranger(&status, state, effects);
            return;
        };
        self.mark(&instance.app_id);
        let Some(fact) = self.fact_mut(&instance) else { return };
        fact.confirmed = true;
        let waits = state == State::TaskUnreachable && self.unreachable(&instance, &status, now);
        if waits {
            return;
        }
        if is_over(state) {
            self.ended(&instance, state, &status, now, effects);
            return;
        }
        let Some(fact) = self.fact_mut(&instance) else { return };
        // It is back.
        fact.away = None;
        // A task never goes back to an earlier state.
        let rank = |state: State| match state {
            State::TaskStaging => 0,
            State::TaskStarting => 1,
            State::TaskRunning => 2,
            _ => 3,
        };
        let is_new = fact.state != state;
        if rank(state) >= rank(fact.state) || fact.state == State::TaskUnreachable {
            fact.state = state;
        }
        if state == State::TaskRunning && fact.running_since.is_none() {
            self.runs(&instance, now, effects);
        }
        if is_new {
            self.progress(&instance.app_id, now.mono);
        }
        let Some(fact) = self.fact_mut(&instance) else { return };
        fact.agent_health = status.healthy.or(fact.agent_health);
        let networks = status.container_status.iter().flat_map(|container| &container.network_infos);
        let addresses: Vec<String> = networks
            .flat_map(|network| &network.ip_addresses)
            .filter_map(|address| address.ip_address.clone())
            .collect();
        if !addresses.is_empty() {
            fact.addresses = addresses;
        }
    }

    /// A task of ours that nobody wants (its app was removed while we were away).
    fn kill_stranger(&self, status: &v1::TaskStatus, state: State, effects: &mut Vec<Effect>) {
        // Nothing reaches the unreachable; the master would say the same again, for ever.
        if is_over(state) || self.is_launching(&status.task_id.value) {
            return;
        }
        let kill = call::Kill {
            task_id: status.task_id.clone(),
            agent_id: status.agent_id.clone(),
            kill_policy: None,
        };
        self.call(call::Type::Kill, |call| call.kill = Some(kill), effects);
    }

    fn runs(&mut self, instance: &Instance, now: Now, effects: &mut Vec<Effect>) {
        if instance.started_ns.is_none() {
            // Recorded once more, so that a restart knows since when it runs.
            let started = Instance { started_ns: Some(now.wall.nanos()), ..instance.clone() };
            self.propose(Command::Intent(Box::new(started)), effects);
        }
        let Some(fact) = self.fact_mut(instance) else { return };
        fact.running_since = Some(now.mono);
        fact.started.get_or_insert(now.wall);
        let app = fact.app.clone();
        for (check, found) in app.iter().flat_map(|app| &app.health_checks).zip(&mut fact.checks) {
            if check.is_marathon_level() {
                found.next = Some(now.mono.after(first_probe(check)));
            }
        }
    }

    /// The task has ended: the instance is forgotten, and launched again if its app still wants it.
    fn ended(
        &mut self,
        instance: &Arc<Instance>,
        state: State,
        status: &v1::TaskStatus,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let killed = self.fact(instance).is_some_and(|fact| fact.killing);
        if let Some(fact) = self.fact_mut(instance) {
            fact.state = state;
        }
        let counts = matches!(
            state,
            State::TaskFailed | State::TaskError | State::TaskDropped | State::TaskGone | State::TaskFinished
        );
        // The offer, or the agent, was being taken away.
        let is_because = |reason: v1::task_status::Reason| status.reason == Some(reason.into());
        let drained = is_because(v1::task_status::Reason::AgentDraining);
        let raced = drained || is_because(v1::task_status::Reason::InvalidOffers);
        if drained {
            self.reset_delay(&instance.app_id);
        }
        if counts && !killed && !raced {
            self.delay(instance, now.mono);
        }
        if counts
            && !raced
            && state != State::TaskFinished
            && self.state.apps().contains_key(&instance.app_id)
        {
            let failure = Failure {
                host: instance.host.clone(),
                message: status.message.clone().unwrap_or_default(),
                agent_id: Some(instance.agent_id.clone()),
                state: state.as_str_name().to_owned(),
                task_id: instance.task_id.clone(),
                time_ns: now.wall.nanos(),
                version_ns: instance.version_ns,
            };
            let app_id = instance.app_id.clone();
            self.propose(Command::Failed { app_id, failure: Box::new(failure) }, effects);
        }
        self.forget(instance, effects);
    }

    /// An instance has no task any more; its id is free for the next one.
    pub(super) fn forget(&mut self, instance: &Instance, effects: &mut Vec<Effect>) {
        let Some(fact) = self.fact_mut(instance).filter(|fact| !fact.over) else { return };
        fact.over = true;
        if self.apps.contains_key(&instance.app_id) {
            let free = self.vacant.entry(instance.app_id.clone()).or_default();
            free.push((instance.instance_id.clone(), instance.incarnation));
        }
        self.propose(Command::Forget { instance_id: instance.instance_id.clone() }, effects);
        self.mark(&instance.app_id);
    }

    pub(super) fn kill_tasks(&mut self, tasks: &[String], now: Now, effects: &mut Vec<Effect>) {
        for task_id in tasks {
            if let Some(instance) = self.instance_of(task_id) {
                self.kill(&instance, now, effects);
            }
        }
    }

    /// Kills an instance's task, now and again until it has ended; one that is not launched yet is
    /// not launched at all. While there is no subscription only the wish is kept.
    pub(super) fn kill(&mut self, instance: &Instance, now: Now, effects: &mut Vec<Effect>) {
        if self.withdraw(&instance.task_id) {
            self.forget(instance, effects);
            return;
        }
        let Some(fact) = self.fact_mut(instance).filter(|fact| !fact.over) else { return };
        if fact.away.is_some() {
            // It is killed when it shows up again.
            self.forget(instance, effects);
            return;
        }
        if !fact.killing {
            fact.was_well = fact.is_healthy();
            fact.killing = true;
            self.mark(&instance.app_id);
        }
        let is_on = self.link == Link::On;
        let Some(fact) = self.fact_mut(instance) else { return };
        if !is_on || fact.kill_sent.is_some_and(|at| at.after(KILL_RETRY) > now.mono) {
            return;
        }
        fact.kill_sent = Some(now.mono);
        let kill = call::Kill {
            task_id: v1::TaskId { value: instance.task_id.clone() },
            agent_id: Some(v1::AgentId { value: instance.agent_id.clone() }),
            kill_policy: None,
        };
        self.call(call::Type::Kill, |call| call.kill = Some(kill), effects);
    }

    /// Takes a task out of the ACCEPT that it waits for, if it does.
    fn withdraw(&mut self, task_id: &str) -> bool {
        let mut found = false;
        for launch in self.launches.values_mut() {
            let before = launch.tasks.len();
            launch.tasks.retain(|(one, _)| one.task_id != task_id);
            found |= launch.tasks.len() < before;
        }
        found
    }
}

/// Whether an instance in this state is replaced, unless its app is patient with the unreachable.
pub(super) fn is_over(state: State) -> bool {
    !matches!(state, State::TaskStaging | State::TaskStarting | State::TaskRunning | State::TaskKilling)
}
