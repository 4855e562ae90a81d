//! Every bound of the wire, with its reason.

use std::time::Duration;

/// The largest consensus message. Consensus packs about 1 MiB of entries into one, but a single entry
/// may be larger.
pub const MESSAGE_BYTES: usize = 8 << 20;
/// The largest snapshot. It is held in memory by both ends.
pub const SNAPSHOT_BYTES: usize = 512 << 20;
/// One piece of a snapshot: small, so that a heartbeat waits for little.
pub const CHUNK_BYTES: usize = 256 << 10;
/// The largest message between agent and master: a re-registration carries every task of the agent.
pub const AGENT_MESSAGE_BYTES: usize = 64 << 20;
/// The largest forwarded request, and the largest chunk of its answer.
pub const FORWARD_BYTES: usize = 16 << 20;
/// The largest request of the short calls (join, renew, leader).
pub const SHORT_BYTES: usize = 64 << 10;
/// What an envelope adds to its content, at most.
pub(super) const ENVELOPE_BYTES: usize = 64 << 10;

/// Consensus messages that may wait for one peer. More than a leader has in flight to it.
pub const QUEUE_MESSAGES: usize = 4_096;
/// Bytes of consensus messages that may wait for one peer.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Events that may wait for the reader of the network. Connections are not read while it is full.
pub const EVENTS: usize = 1_024;
/// Messages of an agent's stream that may wait, each way.
pub(super) const AGENT_QUEUE: usize = 256;
/// Chunks of a forwarded answer that may wait.
pub(super) const FORWARD_QUEUE: usize = 8;
/// Addresses to which a connection for forwarding is kept: more than a cluster has masters.
pub(super) const FORWARD_POOL: usize = 16;
/// Frames between a sender and its connection: few, for what waits here cannot be taken back.
pub(super) const FRAMES: usize = 4;

/// Handshakes at a time; more wait in the system's queue, as when all agents come back at once.
pub(super) const HANDSHAKES: usize = 256;
/// Connections without a certificate at a time; more are turned away.
pub(super) const STRANGERS: usize = 64;
/// How long a connection without a certificate may last: joining takes one request.
pub(super) const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// Requests that one connection may have open.
pub(super) const STREAMS: u32 = 1_024;

/// Time for a TCP connection and the TLS handshake together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the first frame of a consensus stream, and for its answer.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the answer to a short call. Joining waits for a commit.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the round trip to a peer is measured.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that answers no ping for this long counts as gone. An election is over long before.
pub(super) const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an otherwise idle connection is tried, and how long its answer may take.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Delays between attempts to reach a peer: the first and the longest.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
