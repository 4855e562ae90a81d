//! Between nodes that are processes of their own: gRPC over mutual TLS, on one listener per master.
//!
//! A cluster has an [`Authority`] of its own. A node joins with a [`Token`], which lets it recognise
//! the cluster before it sends the secret ([`join`]), and gets an [`Identity`]: a certificate that says
//! which node of which cluster it is, and whether it is a master. From then on every connection is
//! mutually authenticated ([`Credentials`]), and every call checks cluster, role and node
//! ([`PeerServer`]); what needs a decision is asked of the [`Desk`], which is the node itself.
//!
//! Masters reach each other through [`WireNetwork`], agents and forwarded requests through [`Dialler`].
//! The walk of a consensus message: `WireNetwork::send` puts it into the peer's queue; `outbound` writes
//! it to the connection that this master opened; at the other master `inbound` reads it and reports it
//! as [`Event::Received`](super::Event::Received), from the node of the certificate.
//!
//! What this does not do: it decides nothing about membership, tokens or leadership, and knows nothing
//! of what consensus says.

mod ca;
mod credentials;
mod desk;
mod dial;
mod dialler;
mod error;
mod faults;
mod hello;
mod identity;
mod inbound;
pub mod limits;
mod listen;
mod name;
mod network;
mod outbound;
mod proto;
mod refusal;
mod service;
mod snapshot;
#[cfg(test)]
mod tests;
mod token;
mod verify;

pub use ca::{Authority, CERTIFICATE_LIFE, CLOCK_SKEW, KeyRequest};
pub use credentials::Credentials;
pub use desk::{AgentStream, Desk, ForwardReply, ForwardRequest, JoinAsk, Joined, Leader, Membership};
pub use dialler::{AgentCall, Dialler, JoinRequest, Joining, join};
pub use error::{CallError, CertificateError};
pub use faults::{Fate, Faults};
pub use hello::Hello;
pub use identity::Identity;
pub use listen::PeerServer;
pub use name::{PeerName, Role};
pub use network::WireNetwork;
pub use refusal::Refusal;
pub use token::{Digest, Token, TokenError, secret_digest, secret_matches};
