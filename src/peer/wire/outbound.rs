//! The connection that this master opens to one other, again and again.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::dial::open;
use super::error::CallError;
use super::faults::Fate;
use super::hello::read;
use super::limits::{FRAMES, HELLO_TIMEOUT, PING_INTERVAL, PONG_TIMEOUT, RETRY, SHORT_BYTES};
use super::network::{Peer, Queue, Shared, Waiting};
use super::proto::{ConsensusEcho, ConsensusFrame, Opening, Ping, consensus_echo, consensus_frame};
use super::refusal::{Refusal, call_error};
use super::snapshot::Departure;
use super::verify::MasterVerifier;
use crate::base::backoff::Backoff;
use crate::peer::link::{Event, Frame};

/// Keeps a connection to a peer until the task is aborted.
pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut backoff = Backoff::new(RETRY.0, 2.0, RETRY.1);
    let mut failures = 0;
    let mut told = None;
    loop {
        let Some(address) = peer.address(failures) else {
            peer.wake.notified().await;
            continue;
        };
        let mut stood = false;
        let began = Instant::now();
        let error = Box::pin(attempt(&shared, &peer, &address, &mut stood)).await;
        if stood {
            failures = 0;
            // One that breaks at once, again and again, is no reason for haste.
            if began.elapsed() > RETRY.1 {
                backoff.reset();
            }
        } else {
            failures += 1;
        }
        if error == CallError::Refused(Refusal::Removed) {
            shared.report(Event::Removed { by: peer.id }).await;
        }
        // The same reason once, not every second.
        if stood || told.as_ref() != Some(&error) {
            tracing::info!(peer = %peer.id, %error, "no connection to a master");
        }
        told = Some(error);
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = peer.wake.notified() => backoff.reset(),
        }
    }
}

/// One connection, from its beginning to its end.
async fn attempt(shared: &Arc<Shared>, peer: &Arc<Peer>, address: &str, stood: &mut bool) -> CallError {
    let (frames, echoes, round_trip) = match greet(shared, peer, address).await {
        Ok(greeted) => greeted,
        Err(error) => return error,
    };
    *stood = true;
    let (queue, mut waiting) = Queue::new();
    peer.outgoing_began(queue.clone(), round_trip);
    let link = Link { shared, peer, address, queue, ping: Mutex::default() };
    let error = tokio::select! {
        () = link.write(&mut waiting, &frames) => link.broken("it takes no more"),
        error = link.read(echoes) => error,
    };
    let broken = peer.outgoing_ended();
    link.end_snapshot(false).await;
    // What waited is gone, and what was written may be.
    shared.report(Event::Unreachable { to: peer.id }).await;
    if let Some(broken) = broken {
        shared.report(broken).await;
    }
    error
}

type Greeted = (mpsc::Sender<ConsensusFrame>, Streaming<ConsensusEcho>, Duration);

/// Connects and exchanges hellos.
async fn greet(shared: &Shared, peer: &Peer, address: &str) -> Result<Greeted, CallError> {
    let broken = |reason: String| CallError::Broken { address: address.to_owned(), reason };
    if shared.faults.is_cut(shared.own(), peer.id) {
        return Err(broken("the link is cut on request".to_owned()));
    }
    let verifier = MasterVerifier::member(&shared.credentials.identity(), Some(peer.id))
        .map_err(|error| broken(error.to_string()))?;
    let mut connection = open(address, Some(&shared.credentials), verifier, SHORT_BYTES).await?;
    let (frames, outgoing) = mpsc::channel(FRAMES);
    let answers = peer.is_stranger();
    let opening = Opening { hello: Some(shared.hello().into()), to: peer.id.get(), answers };
    // The queue is empty: this cannot fail.
    let _ = frames.try_send(ConsensusFrame { frame: Some(consensus_frame::Frame::Opening(opening)) });
    let asked = Instant::now();
    let exchange = async {
        let mut echoes = connection.client.consensus(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = echoes.message().await?;
        Ok::<_, Status>((echoes, first))
    };
    let (echoes, first) = tokio::time::timeout(HELLO_TIMEOUT, exchange)
        .await
        .map_err(|_| CallError::Timeout { address: address.to_owned(), after: HELLO_TIMEOUT })?
        .map_err(|status| call_error(address, &status))?;
    let Some(consensus_echo::Echo::Hello(hello)) = first.and_then(|first| first.echo) else {
        return Err(broken("its first answer is no hello".to_owned()));
    };
    let hello = read(Some(hello))?;
    if hello.node_id != peer.id || hello.cluster_id != shared.hello().cluster_id {
        return Err(broken("its hello is not what its certificate says".to_owned()));
    }
    peer.advertise(&hello.peer_address);
    Ok((frames, echoes, asked.elapsed()))
}

/// A connection that stands.
struct Link<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    address: &'a str,
    queue: Queue,
    ping: Mutex<Pings>,
}

/// The ping that is on its way, if one is.
#[derive(Debug, Default)]
struct Pings {
    number: u64,
    sent: Option<Instant>,
}

impl Link<'_> {
    /// Sends what waits; a snapshot in pieces between the messages.
    async fn write(&self, waiting: &mut mpsc::Receiver<Waiting>, frames: &mpsc::Sender<ConsensusFrame>) {
        let mut departure = None;
        let mut pings = tokio::time::interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let frame = tokio::select! {
                waiting = waiting.recv() => match waiting {
                    Some(waiting) => self.take(waiting, &mut departure).await,
                    None => return,
                },
                _ = pings.tick() => self.ping(),
                permit = frames.reserve(), if departure.is_some() => match permit {
                    Ok(permit) => {
                        if let Some(frame) = self.piece(&mut departure).await {
                            permit.send(frame);
                        }
                        None
                    }
                    Err(_) => return,
                },
            };
            if let Some(frame) = frame
                && frames.send(ConsensusFrame { frame: Some(frame) }).await.is_err()
            {
                return;
            }
        }
    }

    /// What to send of a frame that waited, after what a fault asks for.
    async fn take(
        &self,
        waiting: Waiting,
        departure: &mut Option<Departure>,
    ) -> Option<consensus_frame::Frame> {
        let fate = self.shared.faults.fate(self.shared.own(), self.peer.id);
        if let Fate::Passes(delay) = fate
            && !delay.is_zero()
        {
            tokio::time::sleep_until(waiting.since + delay).await;
        }
        match waiting.frame {
            Frame::Message(message) => {
                self.queue.took(message.len());
                (fate != Fate::Lost).then(|| consensus_frame::Frame::Message(message.into()))
            }
            Frame::Snapshot { .. } if fate == Fate::Lost => {
                self.end_snapshot(false).await;
                None
            }
            Frame::Snapshot { header, data } => {
                let begun = departure.insert(Departure::new(header, data));
                Some(consensus_frame::Frame::Snapshot(begun.header.clone()))
            }
        }
    }

    /// The next piece of the snapshot.
    async fn piece(&self, departure: &mut Option<Departure>) -> Option<ConsensusFrame> {
        let piece = departure.as_mut().and_then(Departure::next);
        if piece.is_none() {
            *departure = None;
        } else if self.shared.faults.fate(self.shared.own(), self.peer.id) == Fate::Lost {
            *departure = None;
            self.end_snapshot(false).await;
            return None;
        }
        piece.map(|piece| ConsensusFrame { frame: Some(consensus_frame::Frame::Chunk(piece)) })
    }

    /// The next ping, unless one is still on its way.
    fn ping(&self) -> Option<consensus_frame::Frame> {
        let mut ping = self.ping.lock().unwrap_or_else(PoisonError::into_inner);
        if ping.sent.is_some() || self.shared.faults.fate(self.shared.own(), self.peer.id) == Fate::Lost {
            return None;
        }
        ping.number += 1;
        ping.sent = Some(Instant::now());
        Some(consensus_frame::Frame::Ping(Ping { number: ping.number }))
    }

    /// Reads echoes until the end, and says why it came.
    async fn read(&self, mut echoes: Streaming<ConsensusEcho>) -> CallError {
        loop {
            let echo = match tokio::time::timeout(PONG_TIMEOUT, echoes.message()).await {
                Ok(Ok(Some(echo))) => echo.echo,
                Ok(Ok(None)) => return self.broken("it was closed"),
                Ok(Err(status)) => return call_error(self.address, &status),
                Err(_) => return self.broken("it does not answer any more"),
            };
            match echo {
                Some(consensus_echo::Echo::Pong(number)) => self.pong(number),
                Some(consensus_echo::Echo::Snapshot(end)) => {
                    if !end.arrived {
                        tracing::warn!(peer = %self.peer.id, reason = end.reason, "a snapshot did not arrive");
                    }
                    self.end_snapshot(end.arrived).await;
                }
                // A second hello says nothing new; what is not known here is not for us.
                Some(consensus_echo::Echo::Hello(_)) | None => {}
            }
        }
    }

    fn pong(&self, number: u64) {
        let mut ping = self.ping.lock().unwrap_or_else(PoisonError::into_inner);
        if ping.number == number
            && let Some(sent) = ping.sent.take()
        {
            self.peer.measured(sent.elapsed());
        }
    }

    /// Reports the end of the snapshot, if one is on its way.
    async fn end_snapshot(&self, arrived: bool) {
        if self.queue.end_snapshot() {
            self.shared.report(Event::SnapshotSent { to: self.peer.id, arrived }).await;
        }
    }

    fn broken(&self, reason: &str) -> CallError {
        CallError::Broken { address: self.address.to_owned(), reason: reason.to_owned() }
    }
}
