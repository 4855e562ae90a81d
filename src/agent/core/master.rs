//! What the master says, and registration.

use super::checkpoint;
use super::io::Effect;
use super::state::{Agent, KillCause, Phase};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::agent_info::capability::Type as Capability;
use crate::api::v1::task_status::Reason;
use crate::base::id::{AgentId, FrameworkId, TaskId};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;
use std::sync::Arc;
use std::time::Duration;

/// Mesos version that agents report.
const VERSION: &str = "1.11.0";

impl Agent {
    /// A connection stands: register, with everything that is here.
    pub(super) fn on_connected(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.connected = true;
        self.heard = now.mono;
        self.registered = false;
        let kinds = [
            Capability::MultiRole,
            Capability::HierarchicalRole,
            Capability::ReservationRefinement,
            Capability::TaskResourceLimits,
        ];
        let capabilities =
            kinds.map(|kind| v1::agent_info::Capability { r#type: Some(kind.into()) }).to_vec();
        let (version, agent_info) = (VERSION.to_owned(), self.info());
        let message = if self.id.is_none() {
            from_agent::Message::Register(peer::Register { version, agent_info, capabilities })
        } else {
            from_agent::Message::Reregister(peer::Reregister {
                version,
                agent_info,
                capabilities,
                frameworks: self.frameworks.values().map(|info| (**info).clone()).collect(),
                tasks: self.task_messages(),
                executors: Vec::new(),
            })
        };
        effects.push(Effect::Tell(Box::new(message)));
    }

    /// Every task as the master shows it.
    fn task_messages(&self) -> Vec<v1::Task> {
        let tasks = self.tasks.values().filter(|task| !self.leaving.contains(&task.framework_id));
        #[cfg(planted)]
        let tasks = tasks.skip(usize::from(planted::has(Bug::ForgetTask)));
        tasks
            .map(|task| {
                let head = task.stream.updates.front();
                v1::Task {
                    name: task.info.name.clone(),
                    task_id: task.info.task_id.clone(),
                    framework_id: v1::FrameworkId { value: task.framework_id.to_string() },
                    agent_id: task.info.agent_id.clone(),
                    state: task.state.into(),
                    resources: task.info.resources.clone(),
                    limits: task.info.limits.clone(),
                    statuses: task
                        .last
                        .iter()
                        .cloned()
                        .map(|status| v1::TaskStatus { data: None, ..status })
                        .collect(),
                    status_update_state: head.map(|head| head.status.state),
                    status_update_uuid: head.map(|head| head.uuid.0.to_vec()),
                    labels: task.info.labels.clone(),
                    discovery: task.info.discovery.clone(),
                    container: task.info.container.clone(),
                    health_check: task.info.health_check.clone(),
                    kill_policy: task.info.kill_policy,
                    user: task.spec.user.clone(),
                    ..Default::default()
                }
            })
            .collect()
    }

    pub(super) fn on_disconnected(&mut self) {
        self.connected = false;
        self.registered = false;
        self.must_leave_again();
        for task in self.tasks.values_mut() {
            task.stream.resend = None;
            task.stream.backoff.reset();
        }
    }

    pub(super) fn on_master(&mut self, message: to_agent::Message, now: Now, effects: &mut Vec<Effect>) {
        self.heard = now.mono;
        match message {
            to_agent::Message::Registered(registered) => self.on_registered(&registered, now, effects),
            to_agent::Message::Ping(_) => {
                effects.push(Effect::Tell(Box::new(from_agent::Message::Pong(peer::Pong {}))));
            }
            to_agent::Message::RunTask(run) => self.run_task(run, now, effects),
            to_agent::Message::KillTask(kill) => self.kill_task(&kill, now, effects),
            to_agent::Message::Acknowledge(acknowledge) => self.on_acknowledged(&acknowledge, now, effects),
            to_agent::Message::ShutdownFramework(shutdown) => {
                self.shutdown_framework(&FrameworkId::new(&shutdown.framework_id.value), now, effects);
            }
            to_agent::Message::UpdateFramework(update) => {
                self.update_framework(update.framework, now, effects)
            }
            to_agent::Message::ReconcileTasks(reconcile) => self.reconcile(reconcile, now, effects),
            to_agent::Message::Shutdown(shutdown) => {
                if !self.has_left(effects) {
                    effects.push(Effect::Shutdown { reason: shutdown.reason });
                }
            }
            // The master of this version sends none of these: executors of their own come later.
            to_agent::Message::RunTaskGroup(_)
            | to_agent::Message::ShutdownExecutor(_)
            | to_agent::Message::FrameworkMessage(_) => {}
        }
    }

    /// A framework has subscribed again, or has another description. Its scheduler may have heard nothing yet:
    /// what is not acknowledged is told at once. (In Mesos it waits for its next turn, up to ten minutes.)
    fn update_framework(&mut self, framework: v1::FrameworkInfo, now: Now, effects: &mut Vec<Effect>) {
        let id = FrameworkId::new(framework.id.as_ref().map_or("", |id| id.value.as_str()));
        let Some(known) = self.frameworks.get_mut(&id) else { return };
        *known = Arc::new(framework);
        let change = checkpoint::framework(&id, known);
        self.persist(vec![change], None, effects);
        let tasks = self.tasks.iter_mut().filter(|((owner, _), _)| *owner == id);
        let sent = tasks.filter(|(_, task)| task.stream.resend.is_some()).map(|(key, task)| {
            task.stream.backoff.reset();
            key.clone()
        });
        for key in sent.collect::<Vec<_>>() {
            self.send_head(&key, now, effects);
        }
    }

    fn on_registered(&mut self, registered: &peer::Registered, now: Now, effects: &mut Vec<Effect>) {
        let id = AgentId::new(&registered.agent_id.value);
        if self.id.as_ref() != Some(&id) {
            self.id = Some(id.clone());
            self.persist(vec![checkpoint::agent(&id)], None, effects);
        }
        self.registered = true;
        self.master_timeout =
            Some(registered.master_timeout_ms).filter(|millis| *millis > 0).map(Duration::from_millis);
        self.say_draining(effects);
        self.say_room(effects);
        let keys: Vec<(FrameworkId, TaskId)> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.send_head(&key, now, effects);
        }
    }

    /// The master knows tasks that were not reported.
    fn reconcile(&mut self, reconcile: peer::ReconcileTasks, now: Now, effects: &mut Vec<Effect>) {
        let framework_id = FrameworkId::new(&reconcile.framework_id.value);
        for task_id in reconcile.task_ids {
            let key = (framework_id.clone(), TaskId::new(&task_id.value));
            if !self.tasks.contains_key(&key) {
                let message = "Reconciliation: Task is unknown to the agent";
                let framework = reconcile.framework.as_ref();
                self.report_unknown(&key, framework, Reason::Reconciliation, message, now, effects);
            }
        }
    }

    /// A framework is over: its tasks end, and nobody wants their updates.
    fn shutdown_framework(&mut self, id: &FrameworkId, now: Now, effects: &mut Vec<Effect>) {
        let keys: Vec<(FrameworkId, TaskId)> =
            self.tasks.keys().filter(|(framework_id, _)| framework_id == id).cloned().collect();
        if keys.is_empty() {
            return;
        }
        self.leaving.insert(id.clone());
        for key in keys {
            let ended = self.tasks.get(&key).filter(|task| task.phase == Phase::Ended);
            if let Some(task) = ended {
                // Its end will not be written down any more, so this is when its container goes.
                if task.stream.updates.back().is_some_and(|update| !update.durable) {
                    effects.push(Effect::Forget { container_id: task.spec.container_id.clone() });
                }
                self.drop_task(&key, effects);
            } else {
                self.kill(&key, KillCause::Framework, None::<Duration>, now, effects);
            }
        }
    }
}
