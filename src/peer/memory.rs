//! Connections within one process: queues in place of sockets, and their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::link::{Event, Frame, Network, SendError};
use crate::base::id::NodeId;

/// Events that may wait for one node; what does not fit is lost, as on a network.
const QUEUE: usize = 4_096;

/// Where nodes of one process meet; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The connection that counts, by the number of its turn: a node that starts again has a new one.
    nodes: BTreeMap<NodeId, (u64, mpsc::Sender<Event>)>,
    turns: u64,
    /// From whom nothing arrives where.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// How long frames are on their way.
    delay: Duration,
    /// Frames on their way, by sender and receiver. Whoever has one keeps it, so that its frames stay in
    /// order.
    lanes: BTreeMap<(NodeId, NodeId), mpsc::Sender<(Instant, Frame)>>,
}

impl Hub {
    /// Connects a node. Its connections break when what is returned is dropped.
    #[must_use]
    pub fn connect(&self, id: NodeId) -> (Arc<MemoryNetwork>, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut shared = self.lock();
        shared.turns += 1;
        let turn = shared.turns;
        shared.nodes.insert(id, (turn, sender));
        drop(shared);
        (Arc::new(MemoryNetwork { id, turn, hub: self.clone() }), events)
    }

    /// Lets nothing through from one node to another: in this direction only, and without telling
    /// either, as a cable that is cut.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    /// Lets every frame be on its way for this long.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Undoes every [`Hub::cut`] and [`Hub::delay`].
    pub fn heal(&self) {
        let mut shared = self.lock();
        shared.cut.clear();
        shared.delay = Duration::ZERO;
    }

    /// Puts a frame on its way, where frames are late.
    fn send_later(&self, lane: (NodeId, NodeId), frame: Frame) -> Result<(), SendError> {
        let mut shared = self.lock();
        let due = Instant::now() + shared.delay;
        let sender = shared.lanes.entry(lane).or_insert_with(|| {
            let (sender, frames) = mpsc::channel(QUEUE);
            tokio::spawn(travel(self.clone(), lane, frames));
            sender
        });
        sender.try_send((due, frame)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    /// A frame arrives, unless the way is cut.
    fn arrive(&self, (from, to): (NodeId, NodeId), frame: Frame) -> Result<(), SendError> {
        let shared = self.lock();
        let (_, receiver) = shared.nodes.get(&to).ok_or(SendError::NotConnected)?;
        let is_snapshot = matches!(frame, Frame::Snapshot { .. });
        let is_cut = shared.cut.contains(&(from, to));
        if !is_cut {
            receiver.try_send(Event::Received { from, frame }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            })?;
        }
        if let Some((_, own)) = shared.nodes.get(&from).filter(|_| is_snapshot) {
            // Without room for the news, consensus finds out by its own deadline.
            let _ = own.try_send(Event::SnapshotSent { to, arrived: !is_cut });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's connections.
#[derive(Debug)]
pub struct MemoryNetwork {
    id: NodeId,
    turn: u64,
    hub: Hub,
}

impl Network for MemoryNetwork {
    fn send(&self, to: NodeId, frame: Frame) -> Result<(), SendError> {
        let lane = (self.id, to);
        let is_late = {
            let shared = self.hub.lock();
            !shared.delay.is_zero() || shared.lanes.contains_key(&lane)
        };
        if is_late { self.hub.send_later(lane, frame) } else { self.hub.arrive(lane, frame) }
    }
}

/// Carries frames from one node to another, each for as long as it takes.
async fn travel(hub: Hub, lane: (NodeId, NodeId), mut frames: mpsc::Receiver<(Instant, Frame)>) {
    while let Some((due, frame)) = frames.recv().await {
        tokio::time::sleep_until(due).await;
        let is_snapshot = matches!(frame, Frame::Snapshot { .. });
        if hub.arrive(lane, frame).is_err() {
            let shared = hub.lock();
            if let Some((_, own)) = shared.nodes.get(&lane.0) {
                // Without room for the news, consensus finds out by itself.
                let _ = own.try_send(Event::Unreachable { to: lane.1 });
                if is_snapshot {
                    let _ = own.try_send(Event::SnapshotSent { to: lane.1, arrived: false });
                }
            }
        }
    }
}

impl Drop for MemoryNetwork {
    fn drop(&mut self) {
        let mut shared = self.hub.lock();
        if shared.nodes.get(&self.id).is_some_and(|(turn, _)| *turn == self.turn) {
            shared.nodes.remove(&self.id);
        }
        for (to, (_, sender)) in &shared.nodes {
            // The end of a process is heard of only where a connection stands.
            if shared.cut.contains(&(self.id, *to)) {
                continue;
            }
            // Who has no room for the news finds out by the election timeout.
            let _ = sender.try_send(Event::Broken { peer: self.id, round_trip: Duration::ZERO });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u8) -> Frame {
        Frame::Message(vec![number])
    }

    fn id(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    async fn next(events: &mut mpsc::Receiver<Event>) -> Frame {
        match events.recv().await {
            Some(Event::Received { frame, .. }) => frame,
            other => panic!("{other:?} is no frame"),
        }
    }

    #[tokio::test]
    async fn late_frames_stay_in_order_and_a_cut_takes_what_is_on_its_way() {
        let delay = Duration::from_millis(30);
        let hub = Hub::default();
        let (one, _own) = hub.connect(id(1));
        let (_two, mut events) = hub.connect(id(2));
        one.send(id(2), frame(0)).expect("connected");
        assert_eq!(next(&mut events).await, frame(0));
        hub.delay(delay);
        let start = Instant::now();
        one.send(id(2), frame(1)).expect("connected");
        // What is sent without a delay does not overtake.
        hub.delay(Duration::ZERO);
        one.send(id(2), frame(2)).expect("connected");
        assert_eq!((next(&mut events).await, next(&mut events).await), (frame(1), frame(2)));
        assert!(start.elapsed() >= delay);
        hub.delay(delay);
        one.send(id(2), frame(3)).expect("connected");
        hub.cut(id(1), id(2));
        let waited = tokio::time::timeout(delay * 3, events.recv()).await;
        assert!(waited.is_err(), "{waited:?} got through");
        hub.heal();
        one.send(id(2), frame(4)).expect("connected");
        assert_eq!(next(&mut events).await, frame(4));
    }
}
