//! Inputs and effects.

use super::container::{Exit, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started};
use crate::api::peer::{from_agent, to_agent};
use crate::base::id::ContainerId;
use std::time::Duration;

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection to a master stands.
    Connected,
    /// It broke.
    Disconnected,
    /// The master said something.
    Master(Box<to_agent::Message>),
    /// The containerizer started a container.
    Started {
        /// Which.
        container_id: ContainerId,
        /// What it is.
        started: Started,
    },
    /// The containerizer could not start a container.
    LaunchFailed {
        /// Which.
        container_id: ContainerId,
        /// Why.
        failure: LaunchFailure,
    },
    /// A container ended.
    Exited {
        /// Which.
        container_id: ContainerId,
        /// How.
        exit: Exit,
        /// It used more memory than allowed.
        out_of_memory: bool,
    },
    /// A signal could not be sent.
    SignalFailed {
        /// To which container.
        container_id: ContainerId,
        /// Which signal.
        signal: Signal,
    },
    /// A probe has run.
    Probed {
        /// Of which container.
        container_id: ContainerId,
        /// A health check, not a check.
        health: bool,
        /// What it found.
        result: ProbeResult,
    },
    /// Everything up to this [`Effect::Persist`] is on disk.
    Persisted {
        /// Its number.
        seq: u64,
    },
    /// The agent is to stop: its tasks are asked to end. It may stop when [`super::Agent::is_idle`].
    Stop,
    /// The agent is to leave its cluster: its tasks end and their frameworks hear of it, then it
    /// unregisters. [`Effect::Drained`] follows.
    Drain,
    /// How much room the disk has for more tasks.
    Room {
        /// Too little.
        is_short: bool,
    },
    /// A deadline passed.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell the master.
    Tell(Box<from_agent::Message>),
    /// Write these pairs down (`None` removes), then say [`Input::Persisted`].
    Persist {
        /// Number of the write.
        seq: u64,
        /// The changes.
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    },
    /// Start a container.
    Launch(Box<LaunchSpec>),
    /// Give a launch up that has not answered yet; [`Input::LaunchFailed`] or [`Input::Started`] follows.
    Abandon {
        /// Which.
        container_id: ContainerId,
    },
    /// Send a signal to a container.
    Signal {
        /// Which.
        container_id: ContainerId,
        /// What.
        signal: Signal,
    },
    /// Run a probe.
    Probe {
        /// Against which container.
        container_id: ContainerId,
        /// A health check, not a check.
        health: bool,
        /// What.
        probe: Box<Probe>,
        /// How long it may take; zero: unlimited.
        timeout: Duration,
    },
    /// The remains of a container may go.
    Forget {
        /// Which.
        container_id: ContainerId,
    },
    /// The master is silent: drop the connection and look for another.
    Reconnect,
    /// The drain is over: the agent may end.
    Drained {
        /// The master has recorded that it left; else it will count as lost.
        unregistered: bool,
        /// Updates that nobody acknowledged.
        unacknowledged: usize,
        /// Tasks that could not be ended.
        unended: usize,
    },
    /// The master does not want this agent: end everything.
    Shutdown {
        /// Why.
        reason: String,
    },
}
