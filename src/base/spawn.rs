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
    /// The cluster does not want this node any more: nothing of it goes on.
    pub is_removal: bool,
}

impl Fatal {
    /// What broke, and what the operator can do.
    #[must_use]
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), is_removal: false }
    }

    /// The node was removed from its cluster, as it says in `what`.
    #[must_use]
    pub fn removed(what: impl Into<String>) -> Self {
        let remedy = "Remove its data directory and join again with a new token".to_owned();
        Self { what: what.into(), remedy, is_removal: true }
    }
}

/// How far the end of a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Everything ends in its own time.
    Stopping,
    /// What still takes its time is cut short.
    Hurrying,
}

/// A signal that is given once, and once more in a hurry; it can be awaited by many.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<Stage>,
}

impl Shutdown {
    /// Waits until shutdown is asked for (or the asker is gone).
    pub async fn requested(&mut self) {
        // An error means that the sender was dropped: that, too, is the end.
        let _ = self.receiver.wait_for(|stage| *stage >= Stage::Stopping).await;
    }

    /// Waits until there is no more time for anything (or the asker is gone).
    pub async fn hurried(&mut self) {
        // As above.
        let _ = self.receiver.wait_for(|stage| *stage == Stage::Hurrying).await;
    }
}

/// The tasks of one node.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<()>,
    stop: watch::Sender<Stage>,
    fatal: mpsc::UnboundedSender<Fatal>,
}

impl Tasks {
    /// An empty set, and the channel on which failures arrive. It is unbounded because each task
    /// sends at most one message.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Fatal>) {
        let (fatal, failures) = mpsc::unbounded_channel();
        (Self::reporting_to(fatal), failures)
    }

    /// An empty set that reports where another does, and is stopped by itself.
    #[must_use]
    pub fn reporting_to(fatal: mpsc::UnboundedSender<Fatal>) -> Self {
        let (stop, _) = watch::channel(Stage::Running);
        Self { set: JoinSet::new(), stop, fatal }
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
                Err(error) => Fatal::new(
                    format!("the task {name:?} panicked: {error}"),
                    "This is a bug of mesita; please report it with the log",
                ),
            };
            // Nobody listens any more once the node is being dropped.
            let _ = fatal.send(failure);
        });
    }

    /// Asks every task to stop and waits for them, at most `deadline`; when `hurry` ends they are told
    /// that there is no more time. True when all ended.
    pub async fn stop(mut self, deadline: Duration, hurry: impl Future<Output = ()>) -> bool {
        self.stop.send_replace(Stage::Stopping);
        let set = &mut self.set;
        let all = async { while set.join_next().await.is_some() {} };
        let hurrying = async {
            hurry.await;
            self.stop.send_replace(Stage::Hurrying);
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                () = all => {}
                () = hurrying => {}
            }
        };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }
}
