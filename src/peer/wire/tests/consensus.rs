//! The consensus stream as a peer that does not keep the rules meets it.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::support::{Node, authority, credentials, hello, id, identity, message, raw, soon};
use crate::peer::link::{Event, Frame};
use crate::peer::wire::limits::{CHUNK_BYTES, ENVELOPE_BYTES, MESSAGE_BYTES};
use crate::peer::wire::proto::{
    ConsensusEcho, ConsensusFrame, Opening, SnapshotEnd, consensus_echo, consensus_frame,
};
use crate::peer::wire::refusal::call_error;
use crate::peer::wire::snapshot::Departure;
use crate::peer::wire::{Authority, Hello, Role};

/// A node, and another master's raw stream to it.
struct Raw {
    node: Node,
    frames: mpsc::Sender<ConsensusFrame>,
    echoes: Result<Streaming<ConsensusEcho>, Status>,
}

impl Raw {
    /// Node 2 speaks to node 1, with any hello.
    async fn open(hello: Hello, to: u64) -> Self {
        let authority: Authority = authority();
        let node = Node::start(identity(&authority, Role::Master, 1)).await;
        let own = credentials(&authority, Role::Master, 2);
        let mut connection = raw(&node.address, Some(&own), &own.identity()).await.expect("a connection");
        let (frames, outgoing) = mpsc::channel(4);
        let opening = Opening { hello: Some(hello.into()), to, answers: false };
        let first = ConsensusFrame { frame: Some(consensus_frame::Frame::Opening(opening)) };
        frames.send(first).await.expect("there is room");
        let call = connection.client.consensus(ReceiverStream::new(outgoing));
        let echoes = soon("an answer", call).await.map(tonic::Response::into_inner);
        Self { node, frames, echoes }
    }

    async fn send(&self, frame: consensus_frame::Frame) {
        let frame = ConsensusFrame { frame: Some(frame) };
        soon("room", self.frames.send(frame)).await.expect("the stream stands");
    }

    async fn echo(&mut self) -> Result<Option<consensus_echo::Echo>, Status> {
        let echoes = self.echoes.as_mut().expect("accepted");
        soon("an echo", echoes.message()).await.map(|echo| echo.and_then(|echo| echo.echo))
    }

    /// The reason why it was refused at once; and nothing came of it.
    fn refused(mut self) -> String {
        let status = self.echoes.expect_err("refused");
        assert!(self.node.desk.lock().hellos.is_empty());
        assert!(self.node.events.try_recv().is_err());
        call_error("", &status).to_string()
    }
}

#[tokio::test]
async fn a_hello_must_be_the_certificates() {
    let error = Raw::open(hello(3), 1).await.refused();
    assert!(
        error.contains("certificate is of the node 0000000000000002, not of 0000000000000003"),
        "{error}"
    );
    let elsewhere = Hello { cluster_id: "c2".to_owned(), ..hello(2) };
    let error = Raw::open(elsewhere, 1).await.refused();
    assert!(error.contains("not of \"c2\""), "{error}");
}

#[tokio::test]
async fn a_stream_for_somebody_else_is_refused() {
    let error = Raw::open(hello(2), 9).await.refused();
    assert!(error.contains("this is the node 0000000000000001, not 0000000000000009"), "{error}");
}

#[tokio::test]
async fn a_hello_is_answered_and_told_to_the_desk() {
    let mut raw = Raw::open(hello(2), 1).await;
    let Ok(Some(consensus_echo::Echo::Hello(answer))) = raw.echo().await else { panic!("no hello") };
    assert_eq!((answer.node_id, answer.peer_address), (1, raw.node.address.clone()));
    assert_eq!(raw.node.desk.lock().hellos, [hello(2)]);
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_stream() {
    for length in [MESSAGE_BYTES + 1, MESSAGE_BYTES + 2 * ENVELOPE_BYTES] {
        let mut raw = Raw::open(hello(2), 1).await;
        raw.echo().await.expect("a hello");
        raw.send(consensus_frame::Frame::Message(vec![0; length].into())).await;
        let status = raw.echo().await.expect_err("refused");
        let error = call_error("", &status).to_string();
        assert!(error.starts_with("refused: "), "{error}");
        assert!(matches!(raw.node.event().await, Event::Broken { .. }), "nothing was received");
    }
}

#[tokio::test]
async fn a_second_hello_ends_the_stream() {
    let mut raw = Raw::open(hello(2), 1).await;
    raw.echo().await.expect("a hello");
    let opening = Opening { hello: Some(hello(3).into()), to: 1, answers: false };
    raw.send(consensus_frame::Frame::Opening(opening)).await;
    raw.echo().await.expect_err("refused");
    assert_eq!(raw.node.desk.lock().hellos.len(), 1);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_stream_goes_on() {
    let mut raw = Raw::open(hello(2), 1).await;
    raw.echo().await.expect("a hello");
    let mut departure = Departure::new(b"header".to_vec(), vec![5; 3 * CHUNK_BYTES]);
    raw.send(consensus_frame::Frame::Snapshot(departure.header.clone())).await;
    let mut at = 0;
    while let Some(mut chunk) = departure.next() {
        if at == 1 {
            let mut flipped = chunk.data.to_vec();
            flipped[99] ^= 4;
            chunk.data = flipped.into();
        }
        at += 1;
        raw.send(consensus_frame::Frame::Chunk(chunk)).await;
    }
    let Ok(Some(consensus_echo::Echo::Snapshot(SnapshotEnd { arrived, reason }))) = raw.echo().await else {
        panic!("no end of the snapshot")
    };
    assert!(!arrived && reason.contains("damaged"), "{reason}");
    raw.send(consensus_frame::Frame::Message(b"next".as_slice().into())).await;
    let received = Event::Received { from: id(2), frame: message("next") };
    assert_eq!(raw.node.event().await, received, "and nothing before it");
}

#[tokio::test]
async fn messages_stand_between_the_pieces_of_a_snapshot() {
    let mut raw = Raw::open(hello(2), 1).await;
    raw.echo().await.expect("a hello");
    let data = vec![5; CHUNK_BYTES + 1];
    let mut departure = Departure::new(b"header".to_vec(), data.clone());
    raw.send(consensus_frame::Frame::Snapshot(departure.header.clone())).await;
    raw.send(consensus_frame::Frame::Chunk(departure.next().expect("two pieces"))).await;
    raw.send(consensus_frame::Frame::Message(b"heartbeat".as_slice().into())).await;
    raw.send(consensus_frame::Frame::Chunk(departure.next().expect("two pieces"))).await;
    let from = id(2);
    assert_eq!(raw.node.event().await, Event::Received { from, frame: message("heartbeat") });
    let frame = Frame::Snapshot { header: b"header".to_vec(), data };
    assert_eq!(raw.node.event().await, Event::Received { from, frame });
    let end = raw.echo().await.expect("an echo");
    assert_eq!(
        end,
        Some(consensus_echo::Echo::Snapshot(SnapshotEnd { arrived: true, reason: String::new() }))
    );
}

#[tokio::test]
async fn a_peer_that_is_removed_meanwhile_is_sent_away() {
    let mut raw = Raw::open(hello(2), 1).await;
    raw.echo().await.expect("a hello");
    let ping = |number| consensus_frame::Frame::Ping(crate::peer::wire::proto::Ping { number });
    raw.send(ping(1)).await;
    assert_eq!(raw.echo().await.expect("an echo"), Some(consensus_echo::Echo::Pong(1)));
    raw.node.desk.lock().removed.insert(id(2));
    raw.send(ping(2)).await;
    let status = raw.echo().await.expect_err("sent away");
    assert!(call_error("", &status).to_string().contains("removed"));
}
