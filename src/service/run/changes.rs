//! Changes go one at a time: each is planned on the state that the one before it made. Otherwise two
//! apps would get the same service port, and the later of two updates would undo the earlier.

use std::collections::VecDeque;

use super::member::Asked;
use super::requests::Proposal;
use crate::api::marathon::Refusal;
use crate::service::model::State;

/// Changes that may wait (Marathon's number); more are refused.
const MAX_WAITING: usize = 500;

#[derive(Default)]
pub(super) struct Changes {
    current: Option<Current>,
    waiting: VecDeque<Asked>,
}

/// The change that is on its way through the registry.
struct Current {
    deployment_id: String,
    /// Tasks that are killed when it is recorded.
    kill: Vec<String>,
}

impl Changes {
    /// Answers the request if it can be looked at now; otherwise it waits for its turn.
    pub(super) fn admit(&mut self, asked: Asked) -> Option<Asked> {
        if self.current.is_none() || !asked.request.is_change() {
            return Some(asked);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(asked);
        } else {
            let refusal =
                Refusal::Unavailable(format!("{MAX_WAITING} changes wait already; try again later"));
            // A caller that went away does not want the answer.
            let _ = asked.answer.send(Err(refusal));
        }
        None
    }

    /// A change goes to the registry.
    pub(super) fn begin(&mut self, proposal: &Proposal) {
        self.current =
            Some(Current { deployment_id: proposal.deployment_id.clone(), kill: proposal.kill.clone() });
    }

    /// The tasks to kill as soon as a state holds the change that lowers their number: before anything
    /// else is decided on that state, or other tasks than the named ones would be chosen.
    pub(super) fn recorded(&mut self, state: &State) -> Vec<String> {
        let is_recorded = |current: &&mut Current| state.deployments().contains_key(&current.deployment_id);
        self.current
            .as_mut()
            .filter(is_recorded)
            .map(|current| std::mem::take(&mut current.kill))
            .unwrap_or_default()
    }

    /// The change is through. Returns the tasks that it wanted killed and that have not been.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.current.take().map(|current| current.kill).unwrap_or_default()
    }

    /// The next one, if none is on its way.
    pub(super) fn next(&mut self) -> Option<Asked> {
        if self.current.is_some() { None } else { self.waiting.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::marathon::{Request, Response};
    use tokio::sync::oneshot;

    type Answer = oneshot::Receiver<Result<Response, Refusal>>;

    fn ask(request: Request) -> (Asked, Answer) {
        let (answer, answered) = oneshot::channel();
        (Asked { request, answer }, answered)
    }

    fn removal(id: usize) -> Request {
        Request::DeleteApp { id: format!("/{id}"), force: true }
    }

    #[test]
    fn changes_wait_for_their_turn_and_reads_do_not() {
        let mut changes = Changes::default();
        let (asked, _first) = ask(removal(0));
        assert!(changes.admit(asked).is_some(), "nothing is on its way");
        changes.current = Some(Current { deployment_id: "d".into(), kill: vec!["t".into()] });
        let (asked, _second) = ask(removal(1));
        assert!(changes.admit(asked).is_none());
        let (asked, _third) = ask(removal(2));
        assert!(changes.admit(asked).is_none());
        let (asked, _read) = ask(Request::Queue);
        assert!(changes.admit(asked).is_some());
        assert!(changes.next().is_none(), "one at a time");
        assert!(changes.recorded(&State::default()).is_empty(), "not recorded yet");
        assert_eq!(changes.end(), ["t"]);
        assert_eq!(changes.next().map(|asked| asked.request), Some(removal(1)));
        assert_eq!(changes.next().map(|asked| asked.request), Some(removal(2)));
    }

    #[test]
    fn too_many_are_refused() {
        let current = Some(Current { deployment_id: "d".into(), kill: Vec::new() });
        let mut changes = Changes { current, ..Changes::default() };
        let answers: Vec<Answer> = (0..=MAX_WAITING)
            .map(|id| {
                let (asked, answered) = ask(removal(id));
                assert!(changes.admit(asked).is_none());
                answered
            })
            .collect();
        let refused: Vec<usize> = answers
            .into_iter()
            .enumerate()
            .filter_map(|(id, mut one)| one.try_recv().is_ok().then_some(id))
            .collect();
        assert_eq!(refused, [MAX_WAITING]);
    }
}
