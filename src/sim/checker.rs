//! What must always hold. It knows only what can be seen from outside of the cores: what was sent, applied,
//! launched and answered, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::History;
use super::offers::Books;
use super::rogue::ROGUE;
use crate::api::v1::scheduler::{Call, Event};
use crate::base::id::{FrameworkId, TaskId};
use crate::base::time::Mono;
use crate::master::core::ConnId;
use crate::registry::core::Command;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// Commands by index: all members apply the same.
    committed: BTreeMap<u64, Vec<u8>>,
    /// What the state is after an index.
    states: BTreeMap<u64, Vec<u8>>,
    /// How far each process has come.
    applied: BTreeMap<u64, u64>,
    leaders: BTreeMap<u64, u64>,
    /// The highest index that any answer to a client told of.
    told: u64,
    launched: BTreeSet<(FrameworkId, TaskId)>,
    books: Books,
    history: History,
    pub(super) problems: Vec<String>,
}

impl Checker {
    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// A process begins on what its disk has: the state after so many commands.
    pub(super) fn booted(&mut self, node: u64, applied: u64) {
        self.applied.insert(node, applied);
    }

    /// A process applies a command. The first time it is told in words, if that says something.
    pub(super) fn applied(&mut self, node: u64, index: u64, data: Vec<u8>, now: Mono) -> Option<String> {
        let before = self.applied.insert(node, index);
        self.expect(before.is_none_or(|before| before < index), || {
            format!("node {node} applies {index} after {}", before.unwrap_or_default())
        });
        if let Some(known) = self.committed.get(&index) {
            let same = *known == data;
            self.expect(same, || format!("node {node} applies another command at {index}"));
            return None;
        }
        let command = Command::decode(&data).ok();
        self.committed.insert(index, data);
        let change = command?.change;
        self.problems.extend(self.history.committed(&change, now));
        History::line(&change)
    }

    pub(super) fn restored(&mut self, node: u64, index: u64) {
        let before = self.applied.insert(node, index);
        self.expect(before.is_none_or(|before| before < index), || {
            format!("node {node} goes back to {index}")
        });
    }

    pub(super) fn state(&mut self, node: u64, index: u64, state: Vec<u8>) {
        let known = self.states.entry(index).or_insert_with(|| state.clone());
        let same = *known == state;
        self.expect(same, || format!("node {node} has another state at {index}"));
    }

    pub(super) fn leads(&mut self, node: u64, term: u64) {
        let known = *self.leaders.entry(term).or_insert(node);
        self.expect(known == node, || format!("nodes {known} and {node} lead in term {term}"));
    }

    /// Whoever had a stream at a node has none any more.
    pub(super) fn deposed(&mut self, node: u64) {
        self.books.close_all(node);
    }

    /// What a client is told must hold for every question that is asked later: the index below which no
    /// answer to it may be.
    pub(super) fn floor(&self) -> u64 {
        self.told
    }

    /// A change is acknowledged, which was asked for when the floor was there.
    pub(super) fn acknowledged(&mut self, client: u64, index: u64, floor: u64) {
        let is_there = self.committed.contains_key(&index);
        self.expect(is_there, || format!("the change {client} is acknowledged at {index}, where nothing is"));
        self.expect(index > floor, || {
            format!("the change {client} is at {index}, but {floor} was told before")
        });
        self.told = self.told.max(index);
    }

    /// A read is answered with the state at this index.
    pub(super) fn answered(&mut self, client: u64, index: u64, floor: u64) {
        self.expect(index >= floor, || {
            format!("the read {client} sees the state at {index}, but {floor} was told before it was asked")
        });
        self.told = self.told.max(index);
    }

    /// Who keeps to the rules never uses an id again: a task is launched once in its life.
    pub(super) fn launched(&mut self, host: usize, key: (FrameworkId, TaskId)) {
        if key.1.as_str().starts_with(ROGUE) {
            return;
        }
        let text = format!("the task {} of {} is launched again, on host {host}", key.1, key.0);
        let is_first = self.launched.insert(key);
        self.expect(is_first, || text);
    }

    pub(super) fn started(&mut self, task: &TaskId) {
        self.history.started(task);
    }

    pub(super) fn ended(&mut self, task: &TaskId, now: Mono) {
        self.history.ended(task, now);
    }

    /// A task of a service is asked to end.
    pub(super) fn service_task_killed(&mut self, task: &TaskId, now: Mono) {
        if let Some(problem) = self.history.killed(task, now) {
            self.problems.push(problem);
        }
    }

    /// More is used on a machine than it has.
    pub(super) fn over_committed(&mut self, host: usize, milli_cpus: i64, containers: &str) {
        self.problems
            .push(format!("on host {host} {milli_cpus} thousandths of a CPU are in use: {containers}"));
    }

    /// A framework's task is asked to end, and its scheduler did not ask for it.
    pub(super) fn killed_for_nothing(&mut self, host: usize, task: &TaskId) {
        self.problems.push(format!("the task {task} on host {host} is killed, and nobody asked for it"));
    }

    /// An agent is lost, by an operator or with its data: what it ran is started elsewhere.
    pub(super) fn lost_agent(&mut self, now: Mono) {
        self.history.lost_agent(now);
    }

    pub(super) fn told(&mut self, node: u64, conn: ConnId, event: &Event, now: Mono) {
        self.problems.extend(self.books.told(node, conn, event, now));
    }

    pub(super) fn called(&mut self, conn: ConnId, call: &Call, now: Mono) {
        self.books.called(conn, call, now);
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        self.books.close(conn);
    }

    /// An agent has come to a master, or has come back: what was declined of it counts no more.
    pub(super) fn agent_came(&mut self) {
        self.books.forget_filters();
    }

    pub(super) fn commits(&self) -> u64 {
        self.committed.len() as u64
    }

    pub(super) fn launches(&self) -> u64 {
        self.launched.len() as u64
    }

    /// The last command that anybody applied.
    pub(super) fn last(&self) -> u64 {
        self.committed.keys().next_back().copied().unwrap_or(0)
    }
}

/// `earlier` is at most `span` before `later`.
pub(super) fn within(earlier: Mono, later: Mono, span: Duration) -> bool {
    later.since(earlier) <= span
}
