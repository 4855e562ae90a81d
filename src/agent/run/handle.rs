//! What others hold of an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

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
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) id: Mutex<Option<AgentId>>,
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
        let shared = Arc::new(Shared::default());
        let work_dir = config.work_dir.clone();
        let member = Member::new(config, master, containerizers, store, clock, Arc::clone(&shared));
        let shutdown = tasks.shutdown();
        tasks.spawn("agent", member.run(events, shutdown));
        Arc::new(Self { shared, work_dir })
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
