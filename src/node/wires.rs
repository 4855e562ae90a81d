//! Faults between the parts of a cluster in one process, on request: ways that are cut or slow. Without a
//! request nothing of this is there.
//!
//! Between masters the frames go through [`Hub`]; between an agent and the leading master through what is
//! here. A connection across a way that is cut stands, as one of TCP does: neither side hears of it, what is
//! sent arrives when the way is whole again.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::journal::Journal;
use super::leading::Leading;
use crate::api::peer;
use crate::base::clock::sleep_until;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::client::{AgentLink, AgentPeer, ApiError};
use crate::peer::memory::Hub;

/// Messages of one connection that may be on their way in one direction.
const QUEUE: usize = 1_024;

/// How long a master may take to answer an agent that connects.
const PATIENCE: Duration = Duration::from_secs(2);

/// A part of a cluster in one process that can fail by itself, counted from 0. A plain number is a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A master.
    Master(usize),
    /// An agent.
    Agent(usize),
}

impl From<usize> for Part {
    fn from(number: usize) -> Self {
        Self::Master(number)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(number) => write!(f, "master {number}"),
            Self::Agent(number) => write!(f, "agent {number}"),
        }
    }
}

/// The id of a master in one process: they are numbered, as their directories are.
pub(super) fn id_of(number: usize) -> Option<NodeId> {
    u64::try_from(number + 1).ok().and_then(NodeId::new)
}

fn number_of(id: NodeId) -> usize {
    usize::try_from(id.get() - 1).unwrap_or(usize::MAX)
}

#[derive(Clone, Debug, Default)]
struct Ways {
    /// From whom nothing arrives where.
    cut: BTreeSet<(Part, Part)>,
    /// How long messages are on their way.
    delay: Duration,
}

/// The ways between all parts; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Wires {
    ways: watch::Sender<Ways>,
    /// Those between several masters.
    hub: Option<Hub>,
}

impl Wires {
    pub(super) fn new(hub: Option<Hub>) -> Self {
        Self { ways: watch::channel(Ways::default()).0, hub }
    }

    /// Lets nothing through from one part to another, in this direction only.
    pub(super) fn cut(&self, from: Part, to: Part) {
        if let (Some(hub), Part::Master(from), Part::Master(to)) = (&self.hub, from, to)
            && let (Some(from), Some(to)) = (id_of(from), id_of(to))
        {
            hub.cut(from, to);
        }
        self.ways.send_modify(|ways| ways.cut.extend([(from, to)]));
    }

    /// Lets every message be on its way for this long.
    pub(super) fn delay(&self, delay: Duration) {
        if let Some(hub) = &self.hub {
            hub.delay(delay);
        }
        self.ways.send_modify(|ways| ways.delay = delay);
    }

    /// Undoes both.
    pub(super) fn heal(&self) {
        if let Some(hub) = &self.hub {
            hub.heal();
        }
        self.ways.send_replace(Ways::default());
    }

    fn is_cut(&self, from: Part, to: Part) -> bool {
        self.ways.borrow().cut.contains(&(from, to))
    }

    /// Carries what comes out of one channel into another, over the way from one part to another; `note`
    /// sees it when it is sent.
    fn lead<T: Send + 'static>(
        &self,
        way: (Part, Part),
        messages: mpsc::Receiver<T>,
        arrival: mpsc::Sender<T>,
        note: impl Fn(&T) + Send + 'static,
    ) {
        tokio::spawn(travel(self.ways.subscribe(), way, messages, arrival, note));
    }
}

/// Carries messages until either end lets go. The end of one side, too, is heard of only over a whole way.
async fn travel<T>(
    mut ways: watch::Receiver<Ways>,
    way: (Part, Part),
    mut messages: mpsc::Receiver<T>,
    arrival: mpsc::Sender<T>,
    note: impl Fn(&T),
) {
    let mut waiting: VecDeque<(Instant, T)> = VecDeque::new();
    let mut has_ended = false;
    while !(has_ended && waiting.is_empty()) {
        let next = waiting.front().map(|(due, _)| *due);
        tokio::select! {
            message = messages.recv(), if !has_ended && waiting.len() < QUEUE => match message {
                Some(message) => {
                    note(&message);
                    let delay = ways.borrow().delay;
                    waiting.push_back((Instant::now() + delay, message));
                }
                None => has_ended = true,
            },
            () = sleep_until(next), if next.is_some() => {
                whole(&mut ways, way).await;
                if let Some((_, message)) = waiting.pop_front()
                    && arrival.send(message).await.is_err()
                {
                    return;
                }
            }
            () = arrival.closed() => return whole(&mut ways, way).await,
        }
    }
    whole(&mut ways, way).await;
}

/// Waits until a way is not cut.
async fn whole(ways: &mut watch::Receiver<Ways>, way: (Part, Part)) {
    // Without a sender the cluster is gone, and everything with it.
    let _ = ways.wait_for(|ways| !ways.cut.contains(&way)).await;
}

/// The leading master, as an agent sees it over ways that may be cut.
pub(super) struct Wired {
    pub(super) agent: usize,
    pub(super) leading: Leading,
    pub(super) wires: Wires,
    pub(super) journal: Journal,
}

impl AgentPeer for Wired {
    fn connect(&self, node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move {
            let (id, leader) = self.leading.leader()?;
            let (agent, master) = (Part::Agent(self.agent), Part::Master(number_of(id)));
            if self.wires.is_cut(agent, master) || self.wires.is_cut(master, agent) {
                return Err(ApiError::Unavailable(format!("nothing gets through to {master}")));
            }
            // One that stands still does not answer, and another may lead by then.
            let connecting = tokio::time::timeout(PATIENCE, leader.agents.connect(node)).await;
            let silent = |_| ApiError::Unavailable(format!("{master} does not answer"));
            let link = connecting.map_err(silent)??;
            let (to_master, said) = mpsc::channel::<peer::FromAgent>(1);
            let (journal, number) = (self.journal.clone(), self.agent);
            let note = move |said: &peer::FromAgent| {
                said.message.iter().for_each(|message| journal.said(number, message));
            };
            self.wires.lead((agent, master), said, link.to_master, note);
            let (arrival, from_master) = mpsc::channel(1);
            self.wires.lead((master, agent), link.from_master, arrival, |_| {});
            Ok(AgentLink { to_master, from_master })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: (Part, Part) = (Part::Agent(0), Part::Master(0));
    /// In which something would arrive that does not.
    const MOMENT: Duration = Duration::from_millis(30);

    fn way(wires: &Wires) -> (mpsc::Sender<u32>, mpsc::Receiver<u32>) {
        let (sender, messages) = mpsc::channel(8);
        let (arrival, arrived) = mpsc::channel(8);
        wires.lead(WAY, messages, arrival, |_| {});
        (sender, arrived)
    }

    #[tokio::test]
    async fn what_is_sent_over_a_cut_way_arrives_when_it_is_whole_again() {
        let wires = Wires::new(None);
        let (sender, mut arrived) = way(&wires);
        sender.send(1).await.expect("open");
        assert_eq!(arrived.recv().await, Some(1));
        wires.cut(WAY.0, WAY.1);
        // The other direction has nothing to do with it.
        wires.cut(WAY.1, WAY.0);
        sender.send(2).await.expect("open");
        drop(sender);
        let waited = tokio::time::timeout(MOMENT, arrived.recv()).await;
        assert!(waited.is_err(), "{waited:?} got through");
        wires.heal();
        assert_eq!((arrived.recv().await, arrived.recv().await), (Some(2), None));
    }

    #[tokio::test]
    async fn a_slow_way_takes_its_time_and_keeps_the_order() {
        let wires = Wires::new(None);
        let (sender, mut arrived) = way(&wires);
        let start = Instant::now();
        wires.delay(MOMENT);
        sender.send(1).await.expect("open");
        sender.send(2).await.expect("open");
        assert_eq!(arrived.recv().await, Some(1));
        assert!(start.elapsed() >= MOMENT);
        assert_eq!(arrived.recv().await, Some(2));
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_heard_of_only_over_a_whole_way() {
        let wires = Wires::new(None);
        let (sender, arrived) = way(&wires);
        wires.cut(WAY.0, WAY.1);
        drop(arrived);
        let heard = tokio::time::timeout(MOMENT, sender.closed()).await;
        assert!(heard.is_err());
        wires.heal();
        sender.closed().await;
    }
}
