//! What consensus sees of the other masters: frames out, events in.

use std::time::Duration;

use crate::base::id::NodeId;

/// Something from one master to another. The content is consensus' own business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A consensus message.
    Message(Vec<u8>),
    /// A snapshot: its message without the data, and the data, which may be large.
    Snapshot {
        /// The message.
        header: Vec<u8>,
        /// The data.
        data: Vec<u8>,
    },
}

/// What a network reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame arrived. `from` is who the connection belongs to, not what the frame says.
    Received {
        /// The sender.
        from: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// The last snapshot for a peer is over: it has all of it, or something went wrong on the way.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// Whether it arrived.
        arrived: bool,
    },
    /// Frames for a peer were lost since the last event of this kind.
    Unreachable {
        /// The receiver.
        to: NodeId,
    },
    /// A connection that stood is broken: the peer's process probably ended.
    Broken {
        /// The peer.
        peer: NodeId,
        /// How long a message takes to it and back, as last measured.
        round_trip: Duration,
    },
    /// A peer says that this node is no member of the cluster any more.
    Removed {
        /// Who says so.
        by: NodeId,
    },
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection now.
    #[error("there is no connection to the peer")]
    NotConnected,
    /// Too much waits for the peer.
    #[error("too much waits for the peer")]
    Full,
}

/// One master's connections to the others. Messages of one sender arrive in order or not at all; a
/// snapshot may be overtaken by them.
pub trait Network: Send + Sync {
    /// Hands a frame over at once.
    ///
    /// # Errors
    /// It was not taken, and nothing will be reported of it.
    fn send(&self, to: NodeId, frame: Frame) -> Result<(), SendError>;
}
