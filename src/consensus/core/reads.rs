//! Reads that see everything that was committed before they came: the leader asks a majority whether
//! it still leads, once for all reads that wait, and answers when it has applied that far.

use raft::ReadState;

use super::driver::Consensus;
use super::io::{Effect, Role};
#[cfg(planted)]
use crate::base::planted::{self, Bug};

/// Ticks after which a question that nobody answered is asked again: raft drops it without a word when
/// leadership is lost or just begins.
const ASK_AGAIN: u64 = 10;

/// A question to the other members.
#[derive(Debug)]
struct Question {
    context: Vec<u8>,
    asked_at: u64,
    reads: Vec<u64>,
    /// What must be applied, once they have answered.
    index: Option<u64>,
}

/// Reads on their way.
#[derive(Debug)]
pub(super) struct Reads {
    /// Not asked for yet.
    waiting: Vec<u64>,
    question: Option<Question>,
    /// Makes contexts unique: member, incarnation, counter.
    stem: [u8; 16],
    counter: u64,
}

impl Reads {
    pub(super) fn new(id: u64, incarnation: u64) -> Self {
        let mut stem = [0; 16];
        stem[..8].copy_from_slice(&id.to_be_bytes());
        stem[8..].copy_from_slice(&incarnation.to_be_bytes());
        Self { waiting: Vec::new(), question: None, stem, counter: 0 }
    }

    /// Takes in what raft answered.
    pub(super) fn answered(&mut self, states: Vec<ReadState>) {
        for state in states {
            let question = self.question.as_mut().filter(|question| question.context == state.request_ctx);
            if let Some(question) = question {
                question.index = Some(state.index);
            }
        }
    }
}

impl Consensus {
    pub(super) fn read(&mut self, id: u64, effects: &mut Vec<Effect>) {
        #[cfg(planted)]
        if planted::has(Bug::StaleRead) && matches!(self.role, Role::Leader { .. }) {
            return effects.push(Effect::Readable { read: id });
        }
        if matches!(self.role, Role::Leader { .. }) {
            self.reads.waiting.push(id);
        } else {
            effects.push(Effect::NotReadable { read: id });
        }
    }

    /// Asks for the reads that wait, or again for those that were not answered.
    pub(super) fn ask_to_read(&mut self) {
        if !matches!(self.role, Role::Leader { .. }) {
            return;
        }
        let reads = &mut self.reads;
        let was_lost =
            |question: &Question| question.index.is_none() && self.ticks >= question.asked_at + ASK_AGAIN;
        if let Some(question) = reads.question.take_if(|question| was_lost(question)) {
            reads.waiting.splice(0..0, question.reads);
        }
        if reads.question.is_some() || reads.waiting.is_empty() {
            return;
        }
        reads.counter += 1;
        let context = [&reads.stem[..], &reads.counter.to_be_bytes()].concat();
        reads.question = Some(Question {
            context: context.clone(),
            asked_at: self.ticks,
            reads: std::mem::take(&mut reads.waiting),
            index: None,
        });
        self.node.read_index(context);
    }

    pub(super) fn release_reads(&mut self, effects: &mut Vec<Effect>) {
        let applied = self.applied;
        let is_due = |question: &mut Question| question.index.is_some_and(|index| index <= applied);
        if let Some(question) = self.reads.question.take_if(is_due) {
            effects.extend(question.reads.into_iter().map(|read| Effect::Readable { read }));
        }
        if !matches!(self.role, Role::Leader { .. }) {
            let asked = self.reads.question.take().map(|question| question.reads).unwrap_or_default();
            let lost = asked.into_iter().chain(self.reads.waiting.drain(..));
            effects.extend(lost.map(|read| Effect::NotReadable { read }));
        }
    }
}
