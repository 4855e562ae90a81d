//! What the master says.

use super::io::Effect;
use super::state::{Delay, Fact, KILL_RETRY, Link, Services};
use crate::api::v1::scheduler::{Event, call, event};
use crate::api::v1::{self, TaskState as State};
use crate::base::backoff::Backoff;
use crate::base::time::{Mono, Now, seconds_capped};
use crate::service::model::{Command, Failure, Instance};
use std::sync::Arc;
use std::time::Duration;

/// Longest delay between launches, whatever an app asks for.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3_600);

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
            Some(event::Type::Error) => self.on_disconnected(),
            // An offer that is gone makes its ACCEPT fail, which is answered by an update; a lost agent
            // shows in the updates of its tasks.
            _ => {}
        }
    }

    fn on_subscribed(&mut self, id: v1::FrameworkId, now: Now, effects: &mut Vec<Effect>) {
        self.link = Link::On;
        if self.state.framework_id() != Some(id.value.as_str()) {
            self.propose(Command::Framework { id: id.value.clone() }, effects);
        }
        self.framework_id = Some(id);
        self.suppressed = false;
        self.declined = false;
        self.confirm = Some(now.mono);
        for fact in self.facts.values_mut() {
            fact.confirmed = false;
        }
    }

    pub(super) fn on_disconnected(&mut self) {
        self.link = Link::Off;
        self.confirm = None;
    }

    fn instance_of(&self, task_id: &str) -> Option<Arc<Instance>> {
        self.state.instances().values().find(|instance| instance.task_id == task_id).cloned()
    }

    fn on_update(&mut self, status: v1::TaskStatus, now: Now, effects: &mut Vec<Effect>) {
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
            self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge), effects);
        }
        let Ok(state) = State::try_from(status.state) else { return };
        let Some(instance) = self.instance_of(&status.task_id.value) else {
            self.kill_stranger(&status, state, effects);
            return;
        };
        let Some(fact) = self.facts.get_mut(&instance.instance_id).filter(|fact| !fact.over) else { return };
        fact.confirmed = true;
        if is_over(state) {
            self.ended(&instance, state, &status, now, effects);
            return;
        }
        // A task never goes back to an earlier state.
        let rank = |state: State| match state {
            State::TaskStaging => 0,
            State::TaskStarting => 1,
            State::TaskRunning => 2,
            _ => 3,
        };
        if rank(state) >= rank(fact.state) {
            fact.state = state;
        }
        if state == State::TaskRunning && fact.running_since.is_none() {
            self.runs(&instance, now);
        }
        let Some(fact) = self.facts.get_mut(&instance.instance_id) else { return };
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
        if !is_over(state) && !self.is_launching(&status.task_id.value) {
            let kill = call::Kill {
                task_id: status.task_id.clone(),
                agent_id: status.agent_id.clone(),
                kill_policy: None,
            };
            self.call(call::Type::Kill, |call| call.kill = Some(kill), effects);
        }
    }

    fn runs(&mut self, instance: &Instance, now: Now) {
        let Some((_, app)) = self.apps.get(&instance.app_id).cloned() else { return };
        let Some(fact) = self.facts.get_mut(&instance.instance_id) else { return };
        fact.running_since = Some(now.mono);
        fact.started = Some(now.wall);
        for (check, fact) in app.health_checks.iter().zip(&mut fact.checks) {
            if check.is_marathon_level() {
                let first = seconds_capped(check.interval_seconds.min(5.0), MAX_DELAY);
                fact.next = Some(now.mono.after(first.min(FIRST_PROBE)));
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
        let killed = self.facts.get(&instance.instance_id).is_some_and(|fact| fact.killed.is_some());
        if let Some(fact) = self.facts.get_mut(&instance.instance_id) {
            fact.over = true;
            fact.state = state;
        }
        let counts = matches!(
            state,
            State::TaskFailed | State::TaskError | State::TaskDropped | State::TaskGone | State::TaskFinished
        );
        let offer_race = status.reason == Some(v1::task_status::Reason::InvalidOffers.into());
        if counts && !killed && !offer_race {
            self.delay(&instance.app_id, now.mono);
        }
        if counts
            && !offer_race
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
        let free = self.vacant.entry(instance.app_id.clone()).or_default();
        free.push((instance.instance_id.clone(), instance.incarnation));
        self.propose(Command::Forget { instance_id: instance.instance_id.clone() }, effects);
    }

    /// A launch failed: the next one waits, longer each time.
    fn delay(&mut self, app_id: &str, now: Mono) {
        let Some((_, app)) = self.apps.get(app_id).cloned() else { return };
        let Some(version) = self.state.apps().get(app_id).map(|entry| entry.current.last_config_change_ns)
        else {
            return;
        };
        let delay = self.delays.entry(app_id.to_owned()).or_insert_with(|| {
            let cap = seconds_capped(app.max_launch_delay_seconds, MAX_DELAY);
            let first = seconds_capped(app.backoff_seconds, MAX_DELAY);
            Delay { backoff: Backoff::new(first, app.backoff_factor, cap), until: now, version }
        });
        delay.until = now.after(delay.backoff.next_delay());
    }

    pub(super) fn kill_tasks(&mut self, tasks: &[String], now: Now, effects: &mut Vec<Effect>) {
        for task_id in tasks {
            if let Some(instance) = self.instance_of(task_id) {
                self.kill(&instance, now, effects);
            }
        }
    }

    /// Kills an instance's task, now and again until it has ended.
    pub(super) fn kill(&mut self, instance: &Instance, now: Now, effects: &mut Vec<Effect>) {
        let Some(fact) = self.facts.get_mut(&instance.instance_id).filter(|fact| !fact.over) else { return };
        if self.link != Link::On || fact.killed.is_some_and(|at| at.after(KILL_RETRY) > now.mono) {
            return;
        }
        fact.killed = Some(now.mono);
        let kill = call::Kill {
            task_id: v1::TaskId { value: instance.task_id.clone() },
            agent_id: Some(v1::AgentId { value: instance.agent_id.clone() }),
            kill_policy: None,
        };
        self.call(call::Type::Kill, |call| call.kill = Some(kill), effects);
    }
}

/// First probe of a task after it runs, at the latest.
const FIRST_PROBE: Duration = Duration::from_secs(5);

/// Whether an instance in this state is replaced. With the default strategy that includes unreachable
/// ones (inactive and expunged at once).
pub(super) fn is_over(state: State) -> bool {
    !matches!(state, State::TaskStaging | State::TaskStarting | State::TaskRunning | State::TaskKilling)
}

impl Fact {
    /// Whether every check that has an opinion says well, and all have one.
    pub(super) fn is_healthy(&self, app: &crate::api::marathon::App) -> bool {
        if self.state != State::TaskRunning || self.killed.is_some() {
            return false;
        }
        app.health_checks.iter().zip(&self.checks).all(|(check, fact)| {
            if check.is_marathon_level() { fact.alive == Some(true) } else { self.agent_health == Some(true) }
        })
    }
}
