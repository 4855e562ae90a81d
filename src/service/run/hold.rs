//! After a start or a fail-over the tasks that are recorded seem to be staged until the master has
//! said what they do. Requests about tasks wait for that, for a short while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::member::Asked;
use crate::api::marathon::Refusal;
use crate::api::v1::TaskState;
use crate::api::v1::scheduler::Event;
use crate::base::time::{Mono, Now};
use crate::service::model::State;

/// How long requests wait at the most: an agent that is away must not silence `/v2`.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that may wait; more are refused.
const MAX_WAITING: usize = 1_024;

pub(super) struct Hold {
    /// Tasks of which nothing was heard.
    unknown: BTreeSet<String>,
    until: Mono,
    waiting: Vec<Asked>,
}

impl Hold {
    /// Waits for word of every task that is recorded.
    pub(super) fn new(state: &State, now: Now) -> Self {
        let unknown = state.instances().values().map(|instance| instance.task_id.clone()).collect();
        Self { unknown, until: now.mono.after(PATIENCE), waiting: Vec::new() }
    }

    /// An agent repeats what was not acknowledged, in order: a task that runs may be said to start first.
    pub(super) fn heard(&mut self, event: &Event) {
        let Some(update) = &event.update else { return };
        let state = TaskState::try_from(update.status.state);
        if !matches!(state, Ok(TaskState::TaskStaging | TaskState::TaskStarting)) {
            self.unknown.remove(&update.status.task_id.value);
        }
    }

    /// Tasks that are not recorded any more need no word.
    pub(super) fn refresh(&mut self, state: &State) {
        if !self.unknown.is_empty() {
            let recorded: BTreeSet<&str> =
                state.instances().values().map(|instance| instance.task_id.as_str()).collect();
            self.unknown.retain(|task| recorded.contains(task.as_str()));
        }
    }

    fn is_over(&self, now: Now) -> bool {
        self.unknown.is_empty() || self.until <= now.mono
    }

    /// When waiting ends in any case; none when it is over.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (!self.waiting.is_empty()).then_some(self.until)
    }

    /// Answers the request if it can be looked at now; otherwise it waits.
    pub(super) fn admit(&mut self, asked: Asked, now: Now) -> Option<Asked> {
        if self.is_over(now) || !asked.request.is_about_tasks() {
            return Some(asked);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(asked);
        } else {
            let refusal = Refusal::Unavailable("the tasks are being asked for; try again in 2 s".to_owned());
            // A caller that went away does not want the answer.
            let _ = asked.answer.send(Err(refusal));
        }
        None
    }

    /// What has waited long enough.
    pub(super) fn released(&mut self, now: Now) -> Vec<Asked> {
        if self.is_over(now) { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::marathon::Request;
    use crate::api::v1::{TaskId, TaskStatus, scheduler::event};
    use crate::base::time::Timestamp;
    use crate::service::model::{Command, Instance, Plan};
    use tokio::sync::oneshot;

    fn state_with(tasks: &[&str]) -> State {
        let mut state = State::default();
        let version = crate::service::model::AppVersion { id: "/a".into(), ..Default::default() };
        let plan = Plan {
            deployment_id: "d".into(),
            version: Timestamp::default(),
            apps: vec![version],
            removed: Vec::new(),
            steps: Vec::new(),
            force: false,
            create: false,
        };
        state.apply(Command::Put(Box::new(plan)), Timestamp::default());
        for task in tasks {
            let (instance_id, task_id, app_id) = ((*task).to_owned(), (*task).to_owned(), "/a".to_owned());
            let instance = Instance { instance_id, task_id, app_id, ..Default::default() };
            state.apply(Command::Intent(Box::new(instance)), Timestamp::default());
        }
        state
    }

    fn ask(request: Request) -> Asked {
        Asked { request, answer: oneshot::channel().0 }
    }

    fn update(task: &str, state: TaskState) -> Event {
        let task_id = TaskId { value: task.to_owned() };
        let status = TaskStatus { task_id, state: state.into(), ..Default::default() };
        Event { update: Some(event::Update { status }), ..Default::default() }
    }

    fn at(milliseconds: u64) -> Now {
        Now { mono: Mono::from_start(Duration::from_millis(milliseconds)), ..Now::default() }
    }

    #[test]
    fn reads_wait_for_word_of_every_task() {
        let mut hold = Hold::new(&state_with(&["t1", "t2", "t3"]), at(0));
        assert!(hold.admit(ask(Request::Queue), at(0)).is_none());
        assert!(hold.admit(ask(Request::Deployments), at(0)).is_some(), "it is not about tasks");
        hold.heard(&update("t1", TaskState::TaskRunning));
        assert!(hold.released(at(1)).is_empty());
        hold.refresh(&state_with(&["t1", "t3"]));
        hold.heard(&update("t3", TaskState::TaskStarting));
        assert!(hold.released(at(1)).is_empty(), "more will be said of it");
        hold.heard(&update("t3", TaskState::TaskRunning));
        assert_eq!(hold.released(at(1)).len(), 1);
        assert!(hold.admit(ask(Request::Queue), at(1)).is_some());
        assert_eq!(hold.deadline(), None);
    }

    #[test]
    fn reads_do_not_wait_for_ever() {
        let mut hold = Hold::new(&state_with(&["t1"]), at(0));
        assert!(hold.admit(ask(Request::Queue), at(500)).is_none());
        assert_eq!(hold.deadline(), Some(at(2_000).mono));
        assert!(hold.released(at(1_999)).is_empty());
        assert_eq!(hold.released(at(2_000)).len(), 1);
    }
}
