//! The connection that another master opened to this one.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::desk::{Desk, Membership};
use super::faults::Fate;
use super::hello::Hello;
use super::limits::MESSAGE_BYTES;
use super::network::Shared;
use super::proto::{ConsensusEcho, ConsensusFrame, SnapshotEnd, consensus_echo, consensus_frame};
use super::refusal::Refusal;
use super::snapshot::Arrival;
use crate::base::id::NodeId;
use crate::peer::link::{Event, Frame};

type Echoes = mpsc::Sender<Result<ConsensusEcho, Status>>;

/// Reads a connection whose hello was accepted until it ends.
pub(super) async fn receive(
    shared: Arc<Shared>,
    desk: Arc<dyn Desk>,
    (hello, answers): (Hello, bool),
    frames: Streaming<ConsensusFrame>,
    echoes: Echoes,
) {
    let (peer, serial) = shared.incoming_began(&hello, answers);
    let receiver = Receiver { shared: &shared, desk: &*desk, from: hello.node_id, echoes };
    if let Err(status) = receiver.read(frames).await {
        tracing::info!(peer = %hello.node_id, %status, "a connection from a master ended");
        // The peer may be gone: then nobody wants to know.
        let _ = receiver.echoes.send(Err(status)).await;
    }
    drop(receiver);
    shared.incoming_ended(&peer, serial).await;
}

struct Receiver<'a> {
    shared: &'a Shared,
    desk: &'a dyn Desk,
    from: NodeId,
    echoes: Echoes,
}

impl Receiver<'_> {
    /// An error is for the peer to know; without one it went by itself, or nobody reads events here.
    async fn read(&self, mut frames: Streaming<ConsensusFrame>) -> Result<(), Status> {
        use consensus_frame::Frame as Part;
        let mut arrival = None;
        while let Some(frame) = frames.message().await? {
            let frame = match frame.frame {
                Some(Part::Message(message)) if message.len() > MESSAGE_BYTES => {
                    let length = message.len();
                    let reason = format!("the message of {length} bytes is larger than {MESSAGE_BYTES}");
                    return Err(Refusal::Refused(reason).into());
                }
                Some(Part::Message(message)) => Some(Frame::Message(message.into())),
                Some(Part::Snapshot(header)) => {
                    // A new one takes the place of one that was not finished.
                    arrival = match Arrival::begin(header) {
                        Ok(begun) => Some(begun),
                        Err(reason) => {
                            self.end(Some(reason)).await;
                            None
                        }
                    };
                    None
                }
                Some(Part::Chunk(chunk)) => self.piece(&mut arrival, &chunk.data).await,
                Some(Part::Ping(ping)) => {
                    self.pong(ping.number).await?;
                    None
                }
                Some(Part::Opening(_)) => {
                    return Err(Refusal::Refused("a hello in the middle of a connection".to_owned()).into());
                }
                // Something that a later version says.
                None => None,
            };
            let is_snapshot = matches!(frame, Some(Frame::Snapshot { .. }));
            if let Some(frame) = frame
                && !self.shared.report(Event::Received { from: self.from, frame }).await
            {
                return Ok(());
            }
            if is_snapshot {
                self.end(None).await;
            }
        }
        Ok(())
    }

    /// A piece of a snapshot; the last one gives the whole.
    async fn piece(&self, arrival: &mut Option<Arrival>, data: &[u8]) -> Option<Frame> {
        // Without a snapshot it is the rest of one that was refused.
        match arrival.as_mut()?.push(data) {
            Ok(false) => None,
            Ok(true) => arrival.take().map(Arrival::finish),
            Err(reason) => {
                *arrival = None;
                self.end(Some(reason)).await;
                None
            }
        }
    }

    async fn end(&self, reason: Option<String>) {
        let end = SnapshotEnd { arrived: reason.is_none(), reason: reason.unwrap_or_default() };
        self.echo(consensus_echo::Echo::Snapshot(end)).await;
    }

    /// Answers a ping, unless the peer was removed meanwhile.
    async fn pong(&self, number: u64) -> Result<(), Refusal> {
        if self.desk.membership(self.from) == Membership::Removed {
            return Err(Refusal::Removed);
        }
        self.echo(consensus_echo::Echo::Pong(number)).await;
        Ok(())
    }

    async fn echo(&self, echo: consensus_echo::Echo) {
        if let Fate::Passes(delay) = self.shared.faults.fate(self.shared.own(), self.from) {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // Without a reader the connection ends, and the next read says so.
            let _ = self.echoes.send(Ok(ConsensusEcho { echo: Some(echo) })).await;
        }
    }
}
