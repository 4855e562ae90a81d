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
    events: Mutex<Events>,
    containers: Mutex<BTreeMap<ContainerId, Container>>,
}

/// One that exists only by name.
#[derive(Debug)]
struct Container {
    spec: LaunchSpec,
    /// None: it runs.
    exit: Option<Exit>,
}

impl Fake {
    /// A fake that reports on this channel.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { events: Mutex::new(events), containers: Mutex::new(BTreeMap::new()) }
    }

    /// Reports on another channel from now on: its agent has started again.
    pub fn report_to(&self, events: Events) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
    }

    /// What runs.
    #[must_use]
    pub fn running(&self) -> Vec<LaunchSpec> {
        let containers = self.containers();
        let running = containers.values().filter(|container| container.exit.is_none());
        running.map(|container| container.spec.clone()).collect()
    }

    /// Ends a container. False: it had ended.
    pub fn exit(&self, container_id: &ContainerId, exit: Exit) -> bool {
        let runs = match self.containers().get_mut(container_id) {
            Some(container) => container.exit.replace(exit).is_none(),
            None => false,
        };
        if runs {
            let container_id = container_id.clone();
            let event =
                ContainerEvent::Exited { container_id, exit, at: Timestamp::default(), out_of_memory: false };
            // The agent may have ended.
            let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
        }
        runs
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn started() -> Started {
    Started { pid: None, addresses: Vec::new(), network: None, inspect: None }
}

impl Containerizer for Fake {
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'_, Result<Started, LaunchFailure>> {
        self.containers().insert(spec.container_id.clone(), Container { spec, exit: None });
        Box::pin(async { Ok(started()) })
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
        let runs = self.containers().get(&container_id).is_some_and(|container| container.exit.is_none());
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
        let mut containers = self.containers();
        // What the agent had not written down yet.
        containers.retain(|id, _| known.iter().any(|spec| spec.container_id == *id));
        let survivors = known.into_iter().map(|spec| {
            let exit = match containers.get(&spec.container_id) {
                Some(container) => container.exit,
                None => Some(Exit::Lost),
            };
            let ended = |exit| SurvivorState::Ended { exit, at: Timestamp::default(), out_of_memory: false };
            let state = exit.map_or_else(|| SurvivorState::Running(started()), ended);
            Survivor { container_id: spec.container_id, state }
        });
        let survivors = survivors.collect();
        Box::pin(async move { Ok(survivors) })
    }

    fn forget(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        self.containers().remove(&container_id);
        Box::pin(async { Ok(()) })
    }

    fn destroy_all(&self, _deadline: Duration) -> BoxFuture<'_, Result<(), String>> {
        self.containers().clear();
        Box::pin(async { Ok(()) })
    }
}
