//! Named tasks with one policy: a task that panics or fails is reported by name through a channel
//! to whoever composed the node; all stop together at a shutdown signal, within a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
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
    /// The part of the node that broke, where it has parts that can end by themselves.
    pub part: Option<String>,
}

impl Fatal {
    /// What broke, and what the operator can do.
    #[must_use]
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), is_removal: false, part: None }
    }

    /// The node was removed from its cluster, as it says in `what`.
    #[must_use]
    pub fn removed(what: impl Into<String>) -> Self {
        let remedy = "Remove its data directory and join again with a new token".to_owned();
        Self { what: what.into(), remedy, is_removal: true, part: None }
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

/// The span in which the tasks of a part work; its field has the same name.
pub const PART: &str = "part";

/// What holds tasks up.
#[derive(Debug, Default)]
enum Hold {
    /// Nothing.
    #[default]
    Open,
    /// They stand still; who is to be woken when they go on.
    Paused(Mutex<Vec<Waker>>),
    /// They end where they stand.
    Ended,
}

/// Held for reading by whoever works: once it is set, nobody works on as before.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<RwLock<Hold>>);

impl Gate {
    fn set(&self, hold: Hold) {
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), hold);
        if let Hold::Paused(waiting) = before {
            waiting.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().for_each(Waker::wake);
        }
    }

    /// Lets go on what stands still.
    fn release(&self) {
        let is_paused = matches!(*self.0.read().unwrap_or_else(PoisonError::into_inner), Hold::Paused(_));
        if is_paused {
            self.set(Hold::Open);
        }
    }
}

/// Work that may be held up wherever it waits.
struct Gated {
    work: Pin<Box<dyn Future<Output = Result<(), Fatal>> + Send>>,
    gate: Gate,
    /// The part that it belongs to, for logs.
    span: tracing::Span,
}

impl Future for Gated {
    type Output = Result<(), Fatal>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { work, gate, span } = self.get_mut();
        let _entered = span.enter();
        match &*gate.0.read().unwrap_or_else(PoisonError::into_inner) {
            Hold::Open => work.as_mut().poll(context),
            Hold::Ended => Poll::Ready(Ok(())),
            Hold::Paused(waiting) => {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// The tasks of one node, or of a part of it.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<()>,
    stop: watch::Sender<Stage>,
    fatal: mpsc::UnboundedSender<Fatal>,
    part: Option<String>,
    gate: Gate,
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
        Self { set: JoinSet::new(), stop, fatal, part: None, gate: Gate::default() }
    }

    /// The same for a part of the node: its failures carry this name.
    #[must_use]
    pub fn of_part(fatal: mpsc::UnboundedSender<Fatal>, part: impl Into<String>) -> Self {
        Self { part: Some(part.into()), ..Self::reporting_to(fatal) }
    }

    /// Lets every task stand still where it waits, as a process that is stopped, until [`Tasks::resume`].
    /// What they started beside themselves goes on.
    pub fn pause(&self) {
        self.gate.set(Hold::Paused(Mutex::default()));
    }

    /// Lets tasks that stand still go on.
    pub fn resume(&self) {
        self.gate.set(Hold::Open);
    }

    /// Ends every task where it waits, as a crash would: none does anything more. Waits at most `deadline`
    /// for those that are at work; true when all ended.
    pub async fn crash(self, deadline: Duration) -> bool {
        self.gate.set(Hold::Ended);
        // Whoever waits for something looks up.
        self.stop(deadline, std::future::ready(())).await
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
        let (fatal, part) = (self.fatal.clone(), self.part.clone());
        let span = part.as_ref().map_or_else(tracing::Span::none, |part| tracing::trace_span!(PART, part));
        let task = tokio::spawn(Gated { work: Box::pin(work), gate: self.gate.clone(), span });
        self.set.spawn(async move {
            let mut failure = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure,
                Err(error) if error.is_cancelled() => return,
                Err(error) => Fatal::new(
                    format!("the task {name:?} panicked: {error}"),
                    "This is a bug of mesita; please report it with the log",
                ),
            };
            failure.part = part;
            // Nobody listens any more once the node is being dropped.
            let _ = fatal.send(failure);
        });
    }

    /// Asks every task to stop and waits for them, at most `deadline`; when `hurry` ends they are told
    /// that there is no more time. True when all ended.
    pub async fn stop(mut self, deadline: Duration, hurry: impl Future<Output = ()>) -> bool {
        self.gate.release();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A set with a task that counts, and what it counts with.
    fn counting(tasks: &mut Tasks) -> mpsc::UnboundedReceiver<u32> {
        let (count, counted) = mpsc::unbounded_channel();
        let mut shutdown = tasks.shutdown();
        tasks.spawn("counting", async move {
            for number in 0.. {
                let sleep = tokio::time::sleep(Duration::from_millis(1));
                tokio::select! {
                    () = sleep => {
                        let _ = count.send(number);
                    }
                    () = shutdown.requested() => break,
                }
            }
            // Who counts may have gone.
            let _ = count.send(u32::MAX);
            Ok(())
        });
        counted
    }

    #[tokio::test]
    async fn what_is_paused_stands_still_and_goes_on() {
        let (mut tasks, _failures) = Tasks::new();
        let mut counted = counting(&mut tasks);
        let first = counted.recv().await.expect("it counts");
        tasks.pause();
        // What it sent before it stood still.
        tokio::task::yield_now().await;
        while counted.try_recv().is_ok() {}
        let waited = tokio::time::timeout(Duration::from_millis(20), counted.recv()).await;
        assert!(waited.is_err(), "{waited:?} while it is paused");
        tasks.resume();
        assert!(counted.recv().await.expect("it goes on") > first);
        tasks.pause();
        assert!(tasks.stop(Duration::from_secs(10), std::future::pending()).await, "paused, and stopped");
    }

    #[tokio::test]
    async fn a_crash_lets_nothing_be_done_any_more() {
        for is_paused in [false, true] {
            let (mut tasks, mut failures) = Tasks::new();
            let mut counted = counting(&mut tasks);
            counted.recv().await.expect("it counts");
            if is_paused {
                tasks.pause();
            }
            assert!(tasks.crash(Duration::from_secs(10)).await);
            while let Some(number) = counted.recv().await {
                assert_ne!(number, u32::MAX, "it ended in its own way");
            }
            assert_eq!(failures.recv().await, None);
        }
    }
}
