//! Status-update streams: each update has a uuid, only the first of a task is in flight, and it is
//! sent again until the scheduler acknowledges it.

use super::checkpoint;
use super::io::Effect;
use super::state::{Agent, Phase, Then, Update, is_terminal};
use crate::api::peer::{self, from_agent};
use crate::api::v1::task_status::{Reason, Source};
use crate::api::v1::{self, TaskState as State};
use crate::base::id::{FrameworkId, TaskId, Uuid};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;

impl Agent {
    /// Makes a status, writes it down, and sends it when its turn comes.
    #[expect(clippy::too_many_arguments, reason = "the parts of a status")]
    pub(super) fn status(
        &mut self,
        key: &(FrameworkId, TaskId),
        state: State,
        reason: Option<Reason>,
        source: Source,
        message: Option<String>,
        data: Option<Vec<u8>>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let uuid = self.chance.uuid();
        let agent_id = self.id.as_ref().map(|id| v1::AgentId { value: id.to_string() });
        let own_address = self.config.hostname.clone();
        let Some(task) = self.tasks.get_mut(key) else { return };
        let healthy = task.checks.healthy_for(state);
        let status = v1::TaskStatus {
            task_id: task.info.task_id.clone(),
            state: state.into(),
            message,
            source: Some(source.into()),
            reason: reason.map(Into::into),
            data,
            agent_id,
            executor_id: (!task.stranger).then(|| v1::ExecutorId { value: task.info.task_id.value.clone() }),
            timestamp: Some(now.wall.seconds()),
            uuid: Some(uuid.0.to_vec()),
            healthy,
            check_status: task.checks.status(),
            container_status: (!task.stranger)
                .then(|| container_status(task.spec.container_id.as_str(), &task.phase, own_address)),
            ..Default::default()
        };
        task.state = state;
        task.last = Some(status.clone());
        task.stream.updates.push_back(Update { status, uuid, durable: false });
        let changes = vec![checkpoint::updates(key, &task.stream)];
        let (framework_id, task_id) = key.clone();
        self.persist(changes, Some(Then::Send(framework_id, task_id, uuid)), effects);
    }

    /// An update is written down: it is sent if it is its turn.
    pub(super) fn update_recorded(
        &mut self,
        key: &(FrameworkId, TaskId),
        uuid: Uuid,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let updates = &mut task.stream.updates;
        if let Some(update) = updates.iter_mut().find(|update| update.uuid == uuid) {
            update.durable = true;
            // How it ended is known for good: what the containerizer remembers of it may go.
            if is_terminal(update.status.state) {
                effects.push(Effect::Forget { container_id: task.spec.container_id.clone() });
            }
        }
        if updates.front().is_some_and(|update| update.uuid == uuid) {
            self.send_head(key, now, effects);
        }
    }

    /// Sends the update in flight, with the newest state.
    pub(super) fn send_head(&mut self, key: &(FrameworkId, TaskId), now: Now, effects: &mut Vec<Effect>) {
        if !self.registered {
            return;
        }
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(head) = task.stream.updates.front().filter(|update| update.durable) else { return };
        let newest = task.stream.updates.iter().rfind(|update| update.durable).unwrap_or(head);
        let update = peer::StatusUpdate {
            framework_id: v1::FrameworkId { value: key.0.to_string() },
            status: head.status.clone(),
            latest_state: newest.status.state,
        };
        task.stream.resend = Some(now.mono.after(task.stream.backoff.next_delay()));
        #[cfg(planted)]
        if planted::has(Bug::SkipResend) {
            task.stream.resend = None;
        }
        effects.push(Effect::Tell(Box::new(from_agent::Message::Update(update))));
    }

    pub(super) fn resend_if_due(&mut self, key: &(FrameworkId, TaskId), now: Now, effects: &mut Vec<Effect>) {
        let due = self.tasks.get(key).and_then(|task| task.stream.resend).is_some_and(|at| at <= now.mono);
        if due {
            self.send_head(key, now, effects);
        }
    }

    /// The scheduler has seen an update. Only the one in flight counts; the last one ends the task.
    pub(super) fn on_acknowledged(
        &mut self,
        acknowledge: &peer::Acknowledge,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let key =
            (FrameworkId::new(&acknowledge.framework_id.value), TaskId::new(&acknowledge.task_id.value));
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let head = task.stream.updates.front().filter(|head| head.uuid.0.as_slice() == acknowledge.uuid);
        let Some(ended) = head.map(|head| is_terminal(head.status.state)) else { return };
        task.stream.acknowledged = task.stream.updates.pop_front().map(|head| head.status);
        task.stream.resend = None;
        task.stream.backoff.reset();
        if ended {
            self.drop_task(&key, effects);
            return;
        }
        let changes = vec![checkpoint::updates(&key, &task.stream)];
        self.persist(changes, None, effects);
        self.send_head(&key, now, effects);
    }
}

/// Where the task can be reached: its own addresses, or the agent's.
fn container_status(container_id: &str, phase: &Phase, own_address: String) -> v1::ContainerStatus {
    let started = match phase {
        Phase::Running(started) => Some(started),
        Phase::Recording | Phase::Launching | Phase::Ended => None,
    };
    let mut addresses: Vec<String> = started.map(|started| started.addresses.clone()).unwrap_or_default();
    if addresses.is_empty() {
        addresses.push(own_address);
    }
    let ip_addresses = addresses.into_iter().map(|address| {
        let protocol = if address.contains(':') {
            v1::network_info::Protocol::IPv6
        } else {
            v1::network_info::Protocol::IPv4
        };
        v1::network_info::IpAddress { protocol: Some(protocol.into()), ip_address: Some(address) }
    });
    let network = v1::NetworkInfo {
        ip_addresses: ip_addresses.collect(),
        name: started.and_then(|started| started.network.clone()),
        ..Default::default()
    };
    v1::ContainerStatus {
        container_id: Some(v1::ContainerId { value: container_id.to_owned(), parent: None }),
        network_infos: vec![network],
        executor_pid: started.and_then(|started| started.pid),
        ..Default::default()
    }
}
