//! Proposals of a core, one after another.
//!
//! A core counts on the order of what it proposes: a framework comes, then it goes. So one task hands
//! them in, and tells the loop what became of them in the order of the log. One that the registry cannot
//! take now is handed in again, and holds up those behind it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::handle::Committed;
use crate::base::future::BoxFuture;
use crate::consensus::run::ProposeError;
use crate::registry::core::{Command, Reply};

/// Pause before a proposal that was not taken is handed in again.
const AGAIN: Duration = Duration::from_millis(20);

/// A command that was handed in.
pub type HandedIn = Result<BoxFuture<'static, Result<Committed, ProposeError>>, ProposeError>;

/// What became of a proposal: its number, and what applying it answered. None: it is lost, and so may be
/// the leadership; nothing follows.
pub type Outcome = Option<(u64, Reply)>;

/// Works until the loop's term is over (`queue` closes, `tell` answers false), or the leadership.
pub async fn propose_in_order(
    hand_in: impl Fn(&Command) -> HandedIn,
    mut queue: mpsc::UnboundedReceiver<(u64, Command)>,
    tell: impl Fn(Outcome) -> bool,
) {
    let mut under_way = FuturesOrdered::new();
    let mut held: VecDeque<(u64, Command)> = VecDeque::new();
    loop {
        let ended = tokio::select! {
            biased;
            Some((seq, command, result)) = under_way.next() => match result {
                Ok(Committed { reply, .. }) => !tell(Some((seq, reply))),
                Err(ProposeError::Busy) => {
                    held.push_front((seq, command));
                    false
                }
                Err(_) => true,
            },
            () = tokio::time::sleep(AGAIN), if !held.is_empty() => false,
            next = queue.recv(), if held.is_empty() => match next {
                Some(next) => {
                    held.push_back(next);
                    false
                }
                // The term is over.
                None => return,
            },
        };
        let mut lost = ended;
        while let Some((seq, command)) = held.pop_front() {
            match hand_in(&command) {
                Ok(committed) => under_way.push_back(async move { (seq, command, committed.await) }),
                Err(ProposeError::Busy) => {
                    held.push_front((seq, command));
                    break;
                }
                Err(_) => {
                    lost = true;
                    break;
                }
            }
        }
        if lost {
            // The term may be over: then nobody asks.
            let _ = tell(None);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::base::time::Timestamp;
    use crate::registry::core::Change;

    type Answer = oneshot::Sender<Result<Committed, ProposeError>>;

    type Queue = mpsc::UnboundedSender<(u64, Command)>;
    type Inbox = mpsc::UnboundedReceiver<Outcome>;

    /// A registry that takes so many commands and then is busy so many times.
    struct Fake {
        room: usize,
        taken: Vec<(Change, Answer)>,
    }

    fn command(version: u32) -> Command {
        Command { time: Timestamp::default(), change: Change::RaiseVersion(version) }
    }

    fn start(room: usize) -> (Rc<RefCell<Fake>>, Queue, Inbox) {
        let fake = Rc::new(RefCell::new(Fake { room, taken: Vec::new() }));
        let (queue, proposals) = mpsc::unbounded_channel();
        let (told, inbox) = mpsc::unbounded_channel();
        let shared = Rc::clone(&fake);
        let hand_in = move |command: &Command| -> HandedIn {
            let mut fake = shared.borrow_mut();
            if fake.room == 0 {
                return Err(ProposeError::Busy);
            }
            fake.room -= 1;
            let (answer, answered) = oneshot::channel();
            fake.taken.push((command.change.clone(), answer));
            Ok(Box::pin(async move { answered.await.unwrap_or(Err(ProposeError::Stopped)) }))
        };
        tokio::task::spawn_local(propose_in_order(hand_in, proposals, move |outcome| {
            told.send(outcome).is_ok()
        }));
        (fake, queue, inbox)
    }

    fn committed(seq: u64) -> Result<Committed, ProposeError> {
        Ok(Committed { index: seq, reply: Reply::Done })
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    /// Waits until so many commands were taken.
    async fn taken(fake: &RefCell<Fake>, count: usize) {
        let wait = async {
            while fake.borrow().taken.len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("taken in time");
    }

    fn seq(outcome: Option<Outcome>) -> Option<u64> {
        outcome.flatten().map(|(seq, _)| seq)
    }

    #[tokio::test]
    async fn a_busy_registry_is_asked_again_and_order_is_kept() {
        local(async {
            let (fake, queue, mut inbox) = start(1);
            for number in 1..=3_u32 {
                queue.send((number.into(), command(number))).expect("open");
            }
            taken(&fake, 1).await;
            fake.borrow_mut().room = 9;
            taken(&fake, 3).await;
            let all: Vec<(Change, Answer)> = fake.borrow_mut().taken.drain(..).collect();
            let changes: Vec<&Change> = all.iter().map(|(change, _)| change).collect();
            assert_eq!(changes, [1, 2, 3].map(Change::RaiseVersion).iter().collect::<Vec<_>>());
            // The answers come in the wrong order.
            for (number, (_, answer)) in (1..).zip(all).collect::<Vec<_>>().into_iter().rev() {
                answer.send(committed(number)).expect("awaited");
            }
            for number in 1..=3 {
                assert_eq!(seq(inbox.recv().await), Some(number));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn one_that_was_not_taken_after_all_is_made_again() {
        local(async {
            let (fake, queue, mut inbox) = start(9);
            queue.send((1, command(1))).expect("open");
            taken(&fake, 1).await;
            let (_, answer) = fake.borrow_mut().taken.remove(0);
            answer.send(Err(ProposeError::Busy)).expect("awaited");
            taken(&fake, 1).await;
            let (change, answer) = fake.borrow_mut().taken.remove(0);
            assert_eq!(change, Change::RaiseVersion(1));
            answer.send(committed(1)).expect("awaited");
            assert_eq!(seq(inbox.recv().await), Some(1));
        })
        .await;
    }

    #[tokio::test]
    async fn lost_leadership_ends_it() {
        local(async {
            let (fake, queue, mut inbox) = start(9);
            queue.send((1, command(1))).expect("open");
            taken(&fake, 1).await;
            let (_, answer) = fake.borrow_mut().taken.remove(0);
            answer.send(Err(ProposeError::NotLeader)).expect("awaited");
            assert_eq!(inbox.recv().await, Some(None));
            assert!(inbox.recv().await.is_none());
        })
        .await;
    }
}
