//! What others hold of an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::files;
use super::member::Member;
use crate::agent::core::Config;
use crate::agent::core::container::{ContainerEvent, Kind};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::AgentId;
use crate::base::spawn::Tasks;
use crate::client::{AgentApi, AgentPeer, ApiError, FileChunk, FileEntry};
use crate::containerizer::Containerizer;
use crate::storage::Store;

/// What the loop tells the handle.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: Mutex<Option<AgentId>>,
    /// The agent is to be drained.
    pub(super) drain: watch::Sender<bool>,
    /// How that ended.
    pub(super) drained: watch::Sender<Option<Drained>>,
}

/// How the drain of an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Its tasks ended; the cluster may know that it left, and updates may be left over.
    Left {
        /// The master has recorded that it left; else it will count as lost.
        unregistered: bool,
        /// Updates that no framework acknowledged.
        unacknowledged: usize,
        /// Tasks that could not be ended.
        unended: usize,
    },
    /// The agent ended for another reason.
    Ended,
}

/// A handle of a running agent.
pub struct Handle {
    shared: Arc<Shared>,
    work_dir: PathBuf,
}

impl Handle {
    /// Starts the loop. It recovers first, then connects.
    #[must_use]
    pub fn start(
        tasks: &mut Tasks,
        config: Config,
        master: Arc<dyn AgentPeer>,
        containerizers: BTreeMap<Kind, Arc<dyn Containerizer>>,
        events: mpsc::UnboundedReceiver<ContainerEvent>,
        store: Arc<dyn Store>,
        clock: Arc<SystemClock>,
    ) -> Arc<Self> {
        let (drain, drained) = (watch::channel(false).0, watch::channel(None).0);
        let shared = Arc::new(Shared { id: Mutex::default(), drain, drained });
        let work_dir = config.work_dir.clone();
        let member = Member::new(config, master, containerizers, store, clock, Arc::clone(&shared));
        let shutdown = tasks.shutdown();
        tasks.spawn("agent", member.run(events, shutdown));
        Arc::new(Self { shared, work_dir })
    }

    /// Lets the agent leave its cluster: nothing of it is offered any more, its tasks end, their frameworks
    /// hear of it, and it unregisters. Waits until that is over.
    pub async fn drain(self: Arc<Self>) -> Drained {
        self.shared.drain.send_replace(true);
        let mut drained = self.shared.drained.subscribe();
        let outcome = drained.wait_for(Option::is_some).await.map(|outcome| *outcome);
        // The sender lives in `shared`.
        outcome.ok().flatten().unwrap_or(Drained::Ended)
    }
}

impl AgentApi for Handle {
    fn agent_id(&self) -> Option<AgentId> {
        self.shared.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn list_files(&self, path: String) -> BoxFuture<'_, Result<Vec<FileEntry>, ApiError>> {
        let (work_dir, id) = (self.work_dir.clone(), self.agent_id());
        blocking(move || files::list(&work_dir, id.as_ref(), &path))
    }

    fn read_file(
        &self,
        path: String,
        offset: u64,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<FileChunk, ApiError>> {
        let (work_dir, id) = (self.work_dir.clone(), self.agent_id());
        blocking(move || files::read(&work_dir, id.as_ref(), &path, offset, length))
    }
}

/// Disk work away from the loops.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> BoxFuture<'static, Result<T, ApiError>> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(ApiError::Internal(format!("reading files failed: {error}"))))
    })
}
