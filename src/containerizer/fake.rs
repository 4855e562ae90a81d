//! A containerizer that runs nothing: tasks stay running until they are killed or told to end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Containerizer, Events};
use crate::agent::core::container::{
    ContainerEvent, Exit, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started, Survivor,
    SurvivorState,
};
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, ContainerId};
use crate::base::time::Timestamp;

/// Containers that exist only by name.
#[derive(Debug)]
pub struct Fake {
    events: Events,
    running: Mutex<BTreeMap<ContainerId, LaunchSpec>>,
}

impl Fake {
    /// A fake that reports on this channel.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { events, running: Mutex::new(BTreeMap::new()) }
    }

    /// What runs.
    #[must_use]
    pub fn running(&self) -> Vec<LaunchSpec> {
        self.containers().values().cloned().collect()
    }

    /// Ends a container.
    pub fn exit(&self, container_id: &ContainerId, exit: Exit) {
        if self.containers().remove(container_id).is_some() {
            let container_id = container_id.clone();
            let event =
                ContainerEvent::Exited { container_id, exit, at: Timestamp::default(), out_of_memory: false };
            // The agent may have ended.
            let _ = self.events.send(event);
        }
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<ContainerId, LaunchSpec>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Containerizer for Fake {
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'_, Result<Started, LaunchFailure>> {
        self.containers().insert(spec.container_id.clone(), spec);
        Box::pin(async { Ok(Started { pid: None, addresses: Vec::new(), network: None, inspect: None }) })
    }

    fn abandon(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        self.containers().remove(&container_id);
        Box::pin(async { Ok(()) })
    }

    fn signal(&self, container_id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), String>> {
        self.exit(&container_id, Exit::Signal(if signal == Signal::Term { 15 } else { 9 }));
        Box::pin(async { Ok(()) })
    }

    fn probe(
        &self,
        container_id: ContainerId,
        _probe: Probe,
        _timeout: Duration,
    ) -> BoxFuture<'_, ProbeResult> {
        let runs = self.containers().contains_key(&container_id);
        Box::pin(async move {
            if runs {
                ProbeResult::Tcp(true)
            } else {
                ProbeResult::Failed("the container does not run".to_owned())
            }
        })
    }

    fn recover(
        &self,
        _agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> BoxFuture<'_, Result<Vec<Survivor>, String>> {
        let lost = SurvivorState::Ended { exit: Exit::Lost, at: Timestamp::default(), out_of_memory: false };
        let survivors =
            known.into_iter().map(|spec| Survivor { container_id: spec.container_id, state: lost.clone() });
        let survivors = survivors.collect();
        Box::pin(async move { Ok(survivors) })
    }

    fn forget(&self, _container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn destroy_all(&self, _deadline: Duration) -> BoxFuture<'_, Result<(), String>> {
        self.containers().clear();
        Box::pin(async { Ok(()) })
    }
}
