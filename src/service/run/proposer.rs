//! Proposals of the framework: they reach the log in the order in which the core made them, and one
//! that finds the registry's queue full is tried again.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::future::BoxFuture;
use crate::registry::core::{Command, Reply};
use crate::registry::run::{Committed, ProposeError};

/// Pause before a proposal is tried again: about the time of one group commit.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What became of a proposal; none if it is lost, and with it the term.
pub(super) type Outcome = Option<(u64, Reply)>;

/// Proposes one command after another until the term ends: `queue` closes, or `outcomes` refuses.
pub(super) async fn propose_in_order(
    mut queue: mpsc::UnboundedReceiver<(u64, Command)>,
    propose: impl Fn(Command) -> BoxFuture<'static, Result<Committed, ProposeError>>,
    outcomes: impl Fn(Outcome) -> bool + Clone + Send + 'static,
) {
    while let Some((seq, command)) = queue.recv().await {
        loop {
            let mut committed = propose(command.clone());
            // The first poll puts it into the registry's queue: what comes next comes after it.
            let first = poll_fn(|context| Poll::Ready(committed.as_mut().poll(context))).await;
            let outcomes = outcomes.clone();
            match first {
                Poll::Ready(Err(ProposeError::Busy)) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                    continue;
                }
                Poll::Ready(result) => {
                    if !outcomes(outcome(seq, result)) {
                        return;
                    }
                }
                Poll::Pending => {
                    tokio::spawn(async move {
                        let result = committed.await;
                        // The term may be over: then nobody asks.
                        let _ = outcomes(outcome(seq, result));
                    });
                }
            }
            break;
        }
    }
}

fn outcome(seq: u64, result: Result<Committed, ProposeError>) -> Outcome {
    result.ok().map(|committed| (seq, committed.reply))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::base::time::Timestamp;
    use crate::registry::core::Change;

    fn command(name: u32) -> Command {
        Command { time: Timestamp::default(), change: Change::RaiseVersion(name) }
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_and_order_is_kept() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let refusals = Arc::new(Mutex::new(3));
        let registry = {
            let taken = Arc::clone(&taken);
            move |command: Command| -> BoxFuture<'static, Result<Committed, ProposeError>> {
                let (taken, refusals) = (Arc::clone(&taken), Arc::clone(&refusals));
                Box::pin(async move {
                    {
                        let mut left = refusals.lock().expect("no panic");
                        if *left > 0 {
                            *left -= 1;
                            return Err(ProposeError::Busy);
                        }
                    }
                    let index = {
                        let mut taken = taken.lock().expect("no panic");
                        taken.push(command.change);
                        taken.len() as u64
                    };
                    // Later ones are answered sooner.
                    for _ in index..5 {
                        tokio::task::yield_now().await;
                    }
                    Ok(Committed { index, reply: Reply::Done })
                })
            }
        };
        let (sender, queue) = mpsc::unbounded_channel();
        let (told, mut outcomes) = mpsc::unbounded_channel();
        for seq in 1..=4_u32 {
            sender.send((u64::from(seq), command(seq))).expect("a queue");
        }
        drop(sender);
        propose_in_order(queue, registry, move |outcome| told.send(outcome).is_ok()).await;
        let mut answered = Vec::new();
        while let Some(outcome) = outcomes.recv().await {
            answered.push(outcome.expect("nothing is lost").0);
        }
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3, 4]);
        let order: Vec<Change> = (1..=4).map(Change::RaiseVersion).collect();
        assert_eq!(*taken.lock().expect("no panic"), order);
    }

    #[tokio::test]
    async fn lost_leadership_ends_the_term() {
        let (sender, queue) = mpsc::unbounded_channel();
        sender.send((1, command(1))).expect("a queue");
        sender.send((2, command(2))).expect("a queue");
        let (told, mut outcomes) = mpsc::unbounded_channel();
        let registry = |_| -> BoxFuture<'static, Result<Committed, ProposeError>> {
            Box::pin(async { Err(ProposeError::NotLeader) })
        };
        // Whoever listens stops at the first loss.
        propose_in_order(queue, registry, move |outcome| {
            let goes_on = outcome.is_some();
            told.send(outcome).is_ok() && goes_on
        })
        .await;
        assert_eq!(outcomes.recv().await, Some(None));
        assert_eq!(outcomes.recv().await, None, "what follows is not proposed");
    }
}
