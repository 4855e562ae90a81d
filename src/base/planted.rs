//! Bugs that are planted on purpose, to see whether the simulator finds them. They exist only in builds with
//! `MESITA_PLANTED=1`, and each only on the threads that chose it.
//!
//! This is the one thing that a core reads and is not given: handing it through every core would leave
//! traces of the bugs in builds that do not have them.

use std::cell::Cell;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A member answers before what it answers with is on disk.
    AnswerBeforeSync,
    /// A member forgets in one term for whom it voted.
    VoteTwice,
    /// A member that starts again applies the last command of its snapshot once more.
    ApplyTwice,
    /// A member takes a snapshot and keeps its old state.
    KeepOldState,
    /// Entries of a lost term stay on the disk behind those that took their place.
    KeepLostTail,
    /// A leader answers reads without asking whether it still leads.
    StaleRead,
    /// An agent sends an update once only.
    SkipResend,
    /// An agent that comes back does not tell of its first task.
    ForgetTask,
    /// What is offered counts as free.
    OfferTwice,
    /// What a framework declined is offered again at once.
    ForgetFilter,
    /// What a task uses counts as free as soon as somebody asked it to end.
    ReleaseEarly,
    /// An agent that was marked gone may come back.
    ResurrectGone,
    /// Tasks of an agent that was unreachable are killed when it comes back.
    KillReturned,
    /// After a change of leaders services are launched again instead of asked for.
    LaunchAgain,
    /// The first step of a deployment counts as done when it begins.
    SkipStep,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AnswerBeforeSync,
        Self::VoteTwice,
        Self::ApplyTwice,
        Self::KeepOldState,
        Self::KeepLostTail,
        Self::StaleRead,
        Self::SkipResend,
        Self::ForgetTask,
        Self::OfferTwice,
        Self::ForgetFilter,
        Self::ReleaseEarly,
        Self::ResurrectGone,
        Self::KillReturned,
        Self::LaunchAgain,
        Self::SkipStep,
    ];
}

thread_local! {
    static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Gives this thread a bug, or takes it away.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.set(bug);
}

/// Whether this thread has the bug.
#[must_use]
pub fn has(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}
