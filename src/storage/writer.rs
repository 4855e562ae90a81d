//! A thread that owns the commits of one store: batches keep their order, and what waits while a
//! commit runs is committed together.

use std::sync::Arc;
use std::sync::mpsc as blocking;

use tokio::sync::mpsc;

use super::{Batch, Store, StoreError};

/// Batches that one commit takes at the most: more would only delay the first of them.
const GROUP: usize = 500;

/// What the writer reports: the highest sequence number that is durable, or why nothing more will be.
pub type Persisted = Result<u64, StoreError>;

/// Commits batches in order.
#[derive(Debug)]
pub struct Writer {
    queue: blocking::Sender<(u64, Batch)>,
}

impl Writer {
    /// Starts the thread. It ends when the writer is dropped and everything is committed.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        store: Arc<dyn Store>,
        persisted: mpsc::UnboundedSender<Persisted>,
    ) -> Result<Self, StoreError> {
        let (queue, waiting) = blocking::channel();
        std::thread::Builder::new()
            .name("mesita-storage".to_owned())
            .spawn(move || write(store.as_ref(), &waiting, &persisted))
            .map_err(|error| StoreError::Failed(format!("no thread for the store: {error}")))?;
        Ok(Self { queue })
    }

    /// Hands over a batch; sequence numbers grow.
    pub fn submit(&self, seq: u64, batch: Batch) {
        // The thread only ends before us after a failed commit, which it has reported.
        let _ = self.queue.send((seq, batch));
    }
}

fn write(
    store: &dyn Store,
    waiting: &blocking::Receiver<(u64, Batch)>,
    persisted: &mpsc::UnboundedSender<Persisted>,
) {
    while let Ok((mut last, mut batch)) = waiting.recv() {
        for (seq, more) in waiting.try_iter().take(GROUP) {
            last = seq;
            batch.changes.extend(more.changes);
        }
        let outcome = if batch.is_empty() { Ok(()) } else { store.commit(batch) };
        let failed = outcome.is_err();
        // Without a listener there is nobody to acknowledge to.
        if persisted.send(outcome.map(|()| last)).is_err() || failed {
            return;
        }
    }
}
