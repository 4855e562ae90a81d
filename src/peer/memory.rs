//! Connections within one process: queues in place of sockets, and their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

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

    /// Undoes every [`Hub::cut`].
    pub fn heal(&self) {
        self.lock().cut.clear();
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
        let shared = self.hub.lock();
        let (_, receiver) = shared.nodes.get(&to).ok_or(SendError::NotConnected)?;
        let is_snapshot = matches!(frame, Frame::Snapshot { .. });
        let is_cut = shared.cut.contains(&(self.id, to));
        if !is_cut {
            receiver.try_send(Event::Received { from: self.id, frame }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            })?;
        }
        if let Some((_, own)) = shared.nodes.get(&self.id).filter(|_| is_snapshot) {
            // Without room for the news, consensus finds out by its own deadline.
            let _ = own.try_send(Event::SnapshotSent { to, arrived: !is_cut });
        }
        Ok(())
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
