//! The interface of a containerizer.

use std::time::Duration;

use crate::agent::core::container::{
    ContainerEvent, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started, Survivor,
};
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, ContainerId};

/// Starts, signals, probes and finds again the containers of one agent.
pub trait Containerizer: Send + Sync {
    /// Starts a container: sandbox, fetch, image, process. Exactly one [`ContainerEvent::Exited`]
    /// follows on the agent's event channel for every success, none for a failure.
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'_, Result<Started, LaunchFailure>>;

    /// Ends whatever came of a launch whose future was dropped before it answered. No event follows.
    fn abandon(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>>;

    /// Sends a signal to the whole container. Unknown and ended containers are no error.
    fn signal(&self, container_id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), String>>;

    /// Runs a probe against a running container, at most `timeout` long (zero: unlimited).
    fn probe(&self, container_id: ContainerId, probe: Probe, timeout: Duration)
    -> BoxFuture<'_, ProbeResult>;

    /// Finds again what survived the agent: every id of `known` gets an answer (an id that nobody
    /// knows any more is `Ended` with `Exit::Lost`). Containers of this agent that are not in
    /// `known` are killed and removed; an agent without an id has none.
    fn recover(
        &self,
        agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> BoxFuture<'_, Result<Vec<Survivor>, String>>;

    /// The agent took note of the end of a container: its remains (exit record, engine container)
    /// may go. The sandbox stays.
    fn forget(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>>;

    /// Ends everything at once and waits until it is gone, at most `deadline`: the agent stops and
    /// its tasks with it.
    fn destroy_all(&self, deadline: Duration) -> BoxFuture<'_, Result<(), String>>;

    /// The agent stops and its tasks go on: nothing more is started or reported, and another
    /// containerizer may find them again at once. Containers that need nobody need nothing for that.
    fn leave(&self) {}
}

/// The channel on which containerizers report.
pub type Events = tokio::sync::mpsc::UnboundedSender<ContainerEvent>;
