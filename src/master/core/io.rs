//! Inputs and effects.

use crate::api::ApiError;
use crate::api::peer::{from_agent, to_agent};
use crate::api::v1::scheduler;
use crate::base::id::{AgentId, FrameworkId, NodeId};
use crate::registry::core::{Change, Reply};

/// A scheduler's event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// An agent's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyId(pub u64);

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// A scheduler opened a stream with SUBSCRIBE.
    Subscribe {
        /// Its stream.
        conn: ConnId,
        /// The new stream's id.
        stream_id: String,
        /// The call's member.
        subscribe: Box<scheduler::call::Subscribe>,
        /// Who calls.
        principal: Option<String>,
    },
    /// A scheduler's stream is gone.
    Disconnected {
        /// Which.
        conn: ConnId,
    },
    /// Any other scheduler call; its form was checked.
    Call {
        /// Where the answer goes.
        reply: ReplyId,
        /// The call.
        call: Box<scheduler::Call>,
        /// The stream that it says it belongs to.
        stream_id: Option<String>,
        /// Who calls.
        principal: Option<String>,
    },
    /// An operator ends a framework.
    Teardown {
        /// Where the answer goes.
        reply: ReplyId,
        /// Which.
        framework_id: FrameworkId,
    },
    /// An agent opened a connection.
    AgentConnected {
        /// Which.
        link: LinkId,
        /// The node of its certificate; none on this machine, within one process.
        node: Option<NodeId>,
    },
    /// An agent said something.
    Agent {
        /// Its connection.
        link: LinkId,
        /// What it said.
        message: Box<from_agent::Message>,
    },
    /// An agent's connection is gone.
    AgentDisconnected {
        /// Which.
        link: LinkId,
    },
    /// An operator says that an agent will never come back.
    MarkGone {
        /// Where the answer goes.
        reply: ReplyId,
        /// Which.
        agent_id: AgentId,
    },
    /// A proposal was committed and applied.
    Committed {
        /// Its number.
        seq: u64,
        /// What applying it answered.
        reply: Reply,
    },
    /// A deadline passed.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a call.
    Reply {
        /// Which.
        reply: ReplyId,
        /// Accepted, or why not.
        result: Result<(), ApiError>,
    },
    /// Send an event to a scheduler.
    Send {
        /// Its stream.
        conn: ConnId,
        /// The event.
        event: Box<scheduler::Event>,
    },
    /// Close a scheduler's stream.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Tell an agent something.
    Tell {
        /// Its connection.
        link: LinkId,
        /// What.
        message: Box<to_agent::Message>,
    },
    /// Close an agent's connection.
    Unlink {
        /// Which.
        link: LinkId,
    },
    /// Propose a change to the registry; [`Input::Committed`] follows.
    Propose {
        /// Number of the proposal.
        seq: u64,
        /// The change.
        change: Box<Change>,
    },
}
