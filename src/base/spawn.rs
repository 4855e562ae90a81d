//! Named tasks with one policy: a task that panics or fails is reported by name through a channel
//! to whoever composed the node; all stop together at a shutdown signal, within a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Why a node ends although nobody asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}. {remedy}")]
pub struct Fatal {
    /// What broke.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
}

/// A signal that is given once and can be awaited by many.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// Waits until shutdown is asked for (or the asker is gone).
    pub async fn requested(&mut self) {
        // An error means that the sender was dropped: that, too, is the end.
        let _ = self.receiver.wait_for(|stop| *stop).await;
    }

    /// Whether shutdown was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow()
    }
}

/// The tasks of one node.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<()>,
    stop: watch::Sender<bool>,
    fatal: mpsc::UnboundedSender<Fatal>,
}

impl Tasks {
    /// An empty set, and the channel on which failures arrive. It is unbounded because each task
    /// sends at most one message.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Fatal>) {
        let (fatal, failures) = mpsc::unbounded_channel();
        let (stop, _) = watch::channel(false);
        (Self { set: JoinSet::new(), stop, fatal }, failures)
    }

    /// The signal that [`Tasks::stop`] gives.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        Shutdown { receiver: self.stop.subscribe() }
    }

    /// The channel on which anything may report that the node must end.
    #[must_use]
    pub fn fatal(&self) -> mpsc::UnboundedSender<Fatal> {
        self.fatal.clone()
    }

    /// Runs `work` under `name`. An error or a panic is reported as fatal.
    pub fn spawn<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), Fatal>> + Send + 'static,
    {
        let fatal = self.fatal.clone();
        let task = tokio::spawn(work);
        self.set.spawn(async move {
            let failure = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure,
                Err(error) if error.is_cancelled() => return,
                Err(error) => Fatal {
                    what: format!("the task {name:?} panicked: {error}"),
                    remedy: "This is a bug of mesita; please report it with the log".to_owned(),
                },
            };
            // Nobody listens any more once the node is being dropped.
            let _ = fatal.send(failure);
        });
    }

    /// Asks every task to stop and waits for them, at most `deadline`. True when all ended.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async { while self.set.join_next().await.is_some() {} };
        tokio::time::timeout(deadline, all).await.is_ok()
    }
}
