//! [`Network`] over sockets. Each master dials each other master and sends on its own connection only;
//! what a pair knows of each other (addresses, the round trip, whether a loss was reported) is here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::credentials::Credentials;
use super::faults::Faults;
use super::hello::Hello;
use super::limits::{EVENTS, MESSAGE_BYTES, QUEUE_BYTES, QUEUE_MESSAGES, SNAPSHOT_BYTES};
use super::outbound;
use crate::base::id::NodeId;
use crate::peer::link::{Event, Frame, Network, SendError};

/// A master's connections to the others. Dropping it ends those that it opened.
///
/// Messages keep their order; a snapshot goes in pieces between them, so that heartbeats are not held
/// up, and may be overtaken.
#[derive(Debug)]
pub struct WireNetwork {
    shared: Arc<Shared>,
}

impl WireNetwork {
    /// A network without peers, and its events. The node and the cluster of `hello` become those of the
    /// certificate. `faults` is for tests; `Faults::default()` does nothing.
    #[must_use]
    pub fn new(credentials: Credentials, hello: Hello, faults: Faults) -> (Self, mpsc::Receiver<Event>) {
        let (events, reader) = mpsc::channel(EVENTS);
        let name = credentials.name();
        let own = name.node_id;
        let hello = Hello { node_id: own, cluster_id: name.cluster_id, ..hello };
        let shared = Shared { own, hello, credentials, faults, events, peers: Mutex::default() };
        (Self { shared: Arc::new(shared) }, reader)
    }

    /// Says who the other masters are and where. New ones are dialled, those not named are let go (a
    /// connection that such a one opened itself remains, and is answered, until it ends). Itself among
    /// them is ignored. Must be called within a runtime.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, String>) {
        let own = self.shared.own;
        for (id, address) in peers.iter().filter(|(id, _)| **id != own) {
            let peer = self.shared.peer(*id);
            peer.give(address);
            self.shared.settle(&peer);
        }
        let others: Vec<Arc<Peer>> = {
            let known = self.shared.lock();
            known.values().filter(|peer| !peers.contains_key(&peer.id)).cloned().collect()
        };
        for peer in others {
            self.shared.demote(&peer);
        }
    }

    /// How long a message to a peer and back takes, as last measured.
    #[must_use]
    pub fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        let found = self.shared.lock().get(&peer).cloned()?;
        let state = found.lock();
        state.queue.as_ref().map(|_| state.round_trip)
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Network for WireNetwork {
    fn send(&self, to: NodeId, frame: Frame) -> Result<(), SendError> {
        let peer = self.shared.lock().get(&to).cloned().ok_or(SendError::NotConnected)?;
        let state = peer.lock();
        state.queue.as_ref().ok_or(SendError::NotConnected)?.push(frame)
    }
}

impl Drop for WireNetwork {
    fn drop(&mut self) {
        for peer in self.shared.lock().values() {
            peer.end_task();
        }
    }
}

/// What all connections of a network share.
#[derive(Debug)]
pub(super) struct Shared {
    own: NodeId,
    hello: Hello,
    pub credentials: Credentials,
    pub faults: Faults,
    events: mpsc::Sender<Event>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

impl Shared {
    pub(super) const fn own(&self) -> NodeId {
        self.own
    }

    pub(super) fn hello(&self) -> Hello {
        self.hello.clone()
    }

    /// Reports, waiting for room. False when nobody listens any more.
    pub(super) async fn report(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// A peer opened a connection. One that was not known is dialled while it lasts: whoever is behind
    /// must be able to answer the leader.
    pub(super) fn incoming_began(self: &Arc<Self>, hello: &Hello, answers: bool) -> (Arc<Peer>, u64) {
        let peer = self.peer(hello.node_id);
        peer.advertise(&hello.peer_address);
        let serial = {
            let mut state = peer.lock();
            state.serial += 1;
            state.incoming = Some(Incoming { serial: state.serial, answers });
            state.is_armed = true;
            state.serial
        };
        self.settle(&peer);
        peer.wake.notify_one();
        (peer, serial)
    }

    /// A connection that a peer opened is over.
    pub(super) async fn incoming_ended(self: &Arc<Self>, peer: &Arc<Peer>, serial: u64) {
        let broken = {
            let mut state = peer.lock();
            if state.incoming.as_ref().is_none_or(|incoming| incoming.serial != serial) {
                return;
            }
            state.incoming = None;
            state.broken(peer.id)
        };
        self.settle(peer);
        if let Some(event) = broken {
            self.report(event).await;
        }
    }

    /// A peer is no master any more as far as we were told. What we said to it as to one ends.
    fn demote(self: &Arc<Self>, peer: &Arc<Peer>) {
        if peer.lock().given.take().is_some() {
            peer.end_task();
        }
        self.settle(peer);
    }

    /// Dials a peer if it is to be dialled, else lets it go.
    fn settle(self: &Arc<Self>, peer: &Arc<Peer>) {
        // The map first, always.
        let mut peers = self.lock();
        let (is_wanted, is_here) = {
            let state = peer.lock();
            let is_calling = state.incoming.as_ref().is_some_and(|incoming| !incoming.answers);
            (state.given.is_some() || is_calling, state.incoming.is_some())
        };
        if is_wanted {
            self.keep(peer);
            return;
        }
        peer.end_task();
        if !is_here && peers.get(&peer.id).is_some_and(|known| Arc::ptr_eq(known, peer)) {
            peers.remove(&peer.id);
        }
    }

    fn peer(&self, id: NodeId) -> Arc<Peer> {
        self.lock().entry(id).or_insert_with(|| Arc::new(Peer::new(id))).clone()
    }

    /// Dials a peer from now on.
    fn keep(self: &Arc<Self>, peer: &Arc<Peer>) {
        let mut state = peer.lock();
        if state.task.is_none() {
            let task = tokio::spawn(outbound::keep(self.clone(), peer.clone()));
            state.task = Some(task.abort_handle());
        }
    }

    /// Whether a peer is dialled; none when nothing of it is kept.
    #[cfg(test)]
    pub(super) fn is_dialled(&self, id: NodeId) -> Option<bool> {
        self.lock().get(&id).map(|peer| peer.lock().task.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another master.
#[derive(Debug)]
pub(super) struct Peer {
    pub id: NodeId,
    /// It may be worth trying at once.
    pub wake: Notify,
    state: Mutex<PeerState>,
}

#[derive(Debug, Default)]
struct PeerState {
    /// Its address as we were told.
    given: Option<String>,
    /// Its address as it says itself.
    advertised: Option<String>,
    /// To the connection that we opened, while it stands.
    queue: Option<Queue>,
    /// The newest connection that it opened, while it stands.
    incoming: Option<Incoming>,
    serial: u64,
    /// A connection began since a break was last reported.
    is_armed: bool,
    round_trip: Duration,
    task: Option<AbortHandle>,
}

/// A connection that a peer opened.
#[derive(Debug)]
struct Incoming {
    serial: u64,
    /// It is there only because we dialled the peer.
    answers: bool,
}

impl PeerState {
    /// The report of a break, once.
    fn broken(&mut self, peer: NodeId) -> Option<Event> {
        let round_trip = self.round_trip;
        std::mem::take(&mut self.is_armed).then_some(Event::Broken { peer, round_trip })
    }
}

impl Peer {
    fn new(id: NodeId) -> Self {
        Self { id, wake: Notify::new(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, address: &str) {
        let mut state = self.lock();
        if state.given.as_deref() != Some(address) {
            state.given = Some(address.to_owned());
            // What we were just told is newer than what it said last.
            state.advertised = None;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The peer says itself where it can be dialled.
    pub(super) fn advertise(&self, address: &str) {
        if !address.is_empty() {
            self.lock().advertised = Some(address.to_owned());
        }
    }

    /// Where to dial it after so many failures: what it says itself and what we were told, by turns.
    pub(super) fn address(&self, failures: usize) -> Option<String> {
        let state = self.lock();
        let mut known: Vec<&String> = state.advertised.iter().chain(&state.given).collect();
        known.dedup();
        (!known.is_empty()).then(|| known[failures % known.len()].clone())
    }

    /// Our connection to it stands.
    pub(super) fn outgoing_began(&self, queue: Queue, round_trip: Duration) {
        let mut state = self.lock();
        // A task that was aborted may come this far: its connection ends at once.
        state.queue = state.task.is_some().then_some(queue);
        state.round_trip = round_trip;
        state.is_armed = true;
    }

    /// Our connection to it is over.
    pub(super) fn outgoing_ended(&self) -> Option<Event> {
        let mut state = self.lock();
        state.queue = None;
        state.broken(self.id)
    }

    pub(super) fn measured(&self, round_trip: Duration) {
        self.lock().round_trip = round_trip;
    }

    /// Nobody told us of it.
    pub(super) fn is_stranger(&self) -> bool {
        self.lock().given.is_none()
    }

    /// Ends our connection to it, and the attempts at one.
    fn end_task(&self) {
        let mut state = self.lock();
        state.queue = None;
        if let Some(task) = state.task.take() {
            task.abort();
        }
    }
}

/// What waits for one connection.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
    has_snapshot: Arc<AtomicBool>,
}

/// A frame and when it was handed over.
#[derive(Debug)]
pub(super) struct Waiting {
    pub frame: Frame,
    pub since: Instant,
}

impl Queue {
    pub(super) fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
        (Self { sender, bytes: Arc::default(), has_snapshot: Arc::default() }, receiver)
    }

    fn push(&self, frame: Frame) -> Result<(), SendError> {
        let waiting = |frame| Waiting { frame, since: Instant::now() };
        let not_taken = |error: TrySendError<Waiting>| match error {
            TrySendError::Full(_) => SendError::Full,
            // The connection has ended just now.
            TrySendError::Closed(_) => SendError::NotConnected,
        };
        match &frame {
            Frame::Message(message) => {
                let length = message.len();
                if length > MESSAGE_BYTES {
                    tracing::error!(
                        length,
                        "a consensus message is larger than {MESSAGE_BYTES} bytes: not sent"
                    );
                    return Err(SendError::Full);
                }
                // Only this queue's owner adds, under a lock: the bound cannot be passed meanwhile.
                if self.bytes.load(Ordering::Acquire) + length > QUEUE_BYTES {
                    return Err(SendError::Full);
                }
                // Counted first: it may leave at once.
                self.bytes.fetch_add(length, Ordering::AcqRel);
                self.sender.try_send(waiting(frame)).map_err(|error| {
                    self.took(length);
                    not_taken(error)
                })?;
            }
            Frame::Snapshot { header, data } => {
                if data.len() > SNAPSHOT_BYTES || header.len() > MESSAGE_BYTES {
                    tracing::error!(length = data.len(), "a snapshot is too large: not sent");
                    return Err(SendError::Full);
                }
                // One at a time, whatever its size.
                if self.has_snapshot.swap(true, Ordering::AcqRel) {
                    return Err(SendError::Full);
                }
                self.sender.try_send(waiting(frame)).map_err(|error| {
                    self.has_snapshot.store(false, Ordering::Release);
                    not_taken(error)
                })?;
            }
        }
        Ok(())
    }

    /// A message left the queue.
    pub(super) fn took(&self, length: usize) {
        self.bytes.fetch_sub(length, Ordering::AcqRel);
    }

    /// The snapshot is over. False when there was none.
    pub(super) fn end_snapshot(&self) -> bool {
        self.has_snapshot.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_in_messages_bytes_and_snapshots() {
        let (queue, mut waiting) = Queue::new();
        for _ in 0..QUEUE_MESSAGES {
            queue.push(Frame::Message(vec![1])).expect("room");
        }
        assert_eq!(queue.push(Frame::Message(vec![1])), Err(SendError::Full));
        while let Ok(taken) = waiting.try_recv() {
            assert_eq!(taken.frame, Frame::Message(vec![1]));
            queue.took(1);
        }
        for _ in 0..QUEUE_BYTES / MESSAGE_BYTES {
            queue.push(Frame::Message(vec![0; MESSAGE_BYTES])).expect("room");
        }
        assert_eq!(queue.push(Frame::Message(vec![1])), Err(SendError::Full));
        assert_eq!(queue.push(Frame::Message(vec![0; MESSAGE_BYTES + 1])), Err(SendError::Full));
        let snapshot = Frame::Snapshot { header: vec![1], data: vec![2] };
        queue.push(snapshot.clone()).expect("bytes do not count for it");
        assert_eq!(queue.push(snapshot.clone()), Err(SendError::Full));
        assert!(queue.end_snapshot());
        queue.push(snapshot).expect("the last one is over");
    }
}
