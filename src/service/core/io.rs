//! Inputs and effects.

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1;
use crate::api::v1::scheduler;
use crate::service::model::{Command, Reply, State};

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// The replicated state changed.
    State(Arc<State>),
    /// The master sent an event.
    Event(Box<scheduler::Event>),
    /// The subscription ended, or could not be made.
    Disconnected,
    /// A proposal was committed; the state that it made came before this.
    Committed {
        /// Its number.
        seq: u64,
        /// What applying it answered.
        reply: Reply,
    },
    /// A probe has run.
    Probed {
        /// Of which task.
        task_id: String,
        /// Which of its checks.
        index: usize,
        /// Well, or why not.
        result: Result<(), String>,
    },
    /// Somebody wants these tasks killed (they are replaced if their app still wants them).
    Kill {
        /// Their ids.
        tasks: Vec<String>,
    },
    /// Somebody wants an app's launches not to wait any longer.
    ResetDelay {
        /// The app.
        app_id: String,
    },
    /// A deadline passed.
    Tick,
}

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// GET this path.
    Http {
        /// `host:port`.
        address: String,
        /// Starts with a slash.
        path: String,
    },
    /// Connect.
    Tcp {
        /// `host:port`.
        address: String,
    },
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Subscribe with the master.
    Subscribe(Box<v1::FrameworkInfo>),
    /// Call the master.
    Call(Box<scheduler::Call>),
    /// Propose a command; [`Input::Committed`] follows.
    Propose {
        /// Number of the proposal.
        seq: u64,
        /// The command.
        command: Box<Command>,
    },
    /// Run a probe; [`Input::Probed`] follows.
    Probe {
        /// Of which task.
        task_id: String,
        /// Which of its checks.
        index: usize,
        /// Where.
        target: Target,
        /// How long it may take.
        timeout: Duration,
    },
}
