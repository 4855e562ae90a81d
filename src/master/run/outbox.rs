//! What waits to be read by one scheduler or agent.
//!
//! The loop never waits for a reader, and much can come at once (an answer for every task of a
//! framework, the end of a large agent). So each stream has a queue of its own, bounded in bytes, and a
//! task that hands over what fits. A reader that lags further than the bound is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Bytes that may wait for one reader: more than a few hundred thousand status updates.
pub(super) const MAX_WAITING: usize = 128 * 1024 * 1024;
/// What a message takes beside its encoded bytes, roughly.
const OVERHEAD: usize = 256;
/// How long a closed stream's reader may still take for the rest.
const REST: Duration = Duration::from_secs(10);

/// The reader is gone, or too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CutOff {
    /// Nobody reads any more.
    #[error("nobody reads it any more")]
    Gone,
    /// More than the bound waits.
    #[error("its reader is more than {MAX_WAITING} bytes behind")]
    Behind,
}

/// The writing end. Dropping it closes the stream after what still waits.
pub(super) struct Outbox<T> {
    queue: mpsc::UnboundedSender<(T, usize)>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    forwarder: tokio::task::AbortHandle,
    /// Tells the forwarder that nothing more will come.
    _open: oneshot::Sender<()>,
}

impl<T: prost::Message + 'static> Outbox<T> {
    /// A queue of so many bytes before `reader`'s own.
    pub(super) fn start(reader: mpsc::Sender<T>, limit: usize) -> Self {
        Self::with_rest(reader, limit, REST)
    }

    fn with_rest(reader: mpsc::Sender<T>, limit: usize, rest: Duration) -> Self {
        // Unbounded in number: it is bounded in bytes.
        let (queue, messages) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (open, closed) = oneshot::channel::<()>();
        let counter = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = forward(messages, reader, &counter) => {}
                () = rest_is_over(closed, rest) => {}
            }
        });
        Self { queue, waiting, limit, forwarder: task.abort_handle(), _open: open }
    }

    /// Puts a message into the queue.
    ///
    /// # Errors
    /// The reader is cut off: what waits is dropped.
    pub(super) fn send(&self, message: T) -> Result<(), CutOff> {
        let bytes = message.encoded_len() + OVERHEAD;
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            self.forwarder.abort();
            return Err(CutOff::Behind);
        }
        self.queue.send((message, bytes)).map_err(|_| CutOff::Gone)
    }
}

async fn forward<T>(
    mut messages: mpsc::UnboundedReceiver<(T, usize)>,
    reader: mpsc::Sender<T>,
    waiting: &AtomicUsize,
) {
    while let Some((message, bytes)) = messages.recv().await {
        if reader.send(message).await.is_err() {
            return;
        }
        waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Ends some time after the outbox was dropped.
async fn rest_is_over(closed: oneshot::Receiver<()>, rest: Duration) {
    // Nothing is ever sent: the error is the news.
    let _ = closed.await;
    tokio::time::sleep(rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::TaskId;

    fn message(number: usize) -> TaskId {
        TaskId { value: number.to_string() }
    }

    #[tokio::test]
    async fn much_at_once_reaches_a_slow_reader_in_order_and_then_the_end() {
        let (sender, mut reader) = mpsc::channel(4);
        let outbox = Outbox::start(sender, MAX_WAITING);
        for number in 0..20_000 {
            outbox.send(message(number)).expect("room");
        }
        drop(outbox);
        for number in 0..20_000 {
            assert_eq!(reader.recv().await, Some(message(number)));
        }
        assert_eq!(reader.recv().await, None);
    }

    #[tokio::test]
    async fn a_reader_too_far_behind_is_cut_off() {
        let (sender, mut reader) = mpsc::channel(1);
        let outbox = Outbox::start(sender, 10 * OVERHEAD);
        let sent = (0..20).map(|number| outbox.send(message(number))).collect::<Vec<_>>();
        let taken = sent.iter().take_while(|sent| sent.is_ok()).count();
        assert!(taken < 10, "{taken} fit");
        assert_eq!(sent[taken], Err(CutOff::Behind));
        let mut rest = 0;
        while reader.recv().await.is_some() {
            rest += 1;
        }
        assert!(rest <= taken);
    }

    #[tokio::test]
    async fn a_closed_stream_does_not_wait_for_its_reader_for_ever() {
        let (sender, reader) = mpsc::channel(1);
        let outbox = Outbox::with_rest(sender, MAX_WAITING, Duration::from_millis(1));
        for number in 0..5 {
            outbox.send(message(number)).expect("room");
        }
        let forwarder = outbox.forwarder.clone();
        drop(outbox);
        let ended = async {
            while !forwarder.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
        drop(reader);
    }
}
