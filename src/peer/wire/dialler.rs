//! Calls to a master.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::ca::KeyRequest;
use super::credentials::Credentials;
use super::desk::{ForwardReply, ForwardRequest, Leader};
use super::dial::{Connection, open};
use super::error::{CallError, CertificateError};
use super::hello::Hello;
use super::identity::{Identity, pem};
use super::limits::{
    AGENT_MESSAGE_BYTES, AGENT_QUEUE, CALL_TIMEOUT, ENVELOPE_BYTES, FORWARD_BYTES, FORWARD_POOL,
    FORWARD_QUEUE, SHORT_BYTES,
};
use super::name::{PeerName, Role};
use super::proto;
use super::refusal::{Refusal, call_error};
use super::token::Token;
use super::verify::{MasterVerifier, find_authority};
use crate::api::peer::{FromAgent, ToAgent};
use crate::base::id::NodeId;
use crate::base::time::Timestamp;

/// What a node that wants to join says.
#[derive(Debug)]
pub struct JoinRequest {
    /// What it wants to be.
    pub role: Role,
    /// What it says of itself; the cluster id is not known yet.
    pub hello: Hello,
    /// Its new key.
    pub key: KeyRequest,
}

/// A node that has joined.
#[derive(Debug)]
pub struct Joining {
    /// Its identity, to be saved.
    pub identity: Identity,
    /// Peer addresses of the masters.
    pub masters: BTreeMap<NodeId, String>,
}

/// An agent's connection to the leading master. Dropping either half ends it.
#[derive(Debug)]
pub struct AgentCall {
    /// What the agent says.
    pub to_master: mpsc::Sender<FromAgent>,
    /// What the master says; ends with the connection.
    pub from_master: mpsc::Receiver<ToAgent>,
}

/// Joins a cluster at one of its masters. The authority is pinned by the token, and the secret is sent
/// only to a master that the authority signed for.
///
/// # Errors
/// No connection, a master that the token does not vouch for, a refusal, or an answer that is no use.
pub async fn join(
    address: &str,
    token: &Token,
    request: JoinRequest,
    now: Timestamp,
) -> Result<Joining, CallError> {
    let verifier = MasterVerifier::authority(*token.authority());
    let mut connection = open(address, None, verifier, SHORT_BYTES).await?;
    let node_id = request.hello.node_id;
    let ask = proto::JoinRequest {
        secret: token.secret().to_owned(),
        role: node_role(request.role).into(),
        csr: request.key.csr().to_vec().into(),
        hello: Some(request.hello.into()),
        wall_nanos: now.nanos(),
    };
    let reply = within(address, CALL_TIMEOUT, connection.client.join(ask)).await?;
    let nonsense = |reason: String| CallError::Broken { address: address.to_owned(), reason };
    let authority = find_authority(&connection.chain, token.authority())
        .ok_or_else(|| nonsense("it showed no authority".to_owned()))?;
    let identity = Identity::assemble(request.key.key_pem(), &reply.certificate, &pem(&authority), now)
        .map_err(|error| nonsense(error.to_string()))?;
    let expected = PeerName { cluster_id: reply.cluster_id, role: request.role, node_id };
    if *identity.name() != expected {
        return Err(nonsense(format!("it gave a certificate for {}, not for {expected}", identity.name())));
    }
    Ok(Joining { identity, masters: masters(reply.masters) })
}

/// Calls masters with a node's certificate. Each call opens a connection of its own, except that
/// forwarded requests to one address share one.
#[derive(Clone, Debug)]
pub struct Dialler {
    credentials: Credentials,
    pool: Arc<Mutex<BTreeMap<String, Connection>>>,
}

impl Dialler {
    /// Calls as the owner of these credentials.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, pool: Arc::default() }
    }

    /// The node as which it calls.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.credentials.name().node_id
    }

    /// Connects an agent to the leading master.
    ///
    /// # Errors
    /// No connection, or a refusal: `NotLeader` names the leader if it is known.
    pub async fn agent(&self, address: &str) -> Result<AgentCall, CallError> {
        let mut connection = self.open(address, AGENT_MESSAGE_BYTES + ENVELOPE_BYTES).await?;
        let (to_master, outgoing) = mpsc::channel(AGENT_QUEUE);
        let (incoming, from_master) = mpsc::channel(AGENT_QUEUE);
        let call = connection.client.agent(ReceiverStream::new(outgoing));
        let messages = within(address, CALL_TIMEOUT, call).await?;
        tokio::spawn(pump(messages, incoming));
        Ok(AgentCall { to_master, from_master })
    }

    /// Has the leader answer a request. The body of the answer may go on for ever.
    ///
    /// # Errors
    /// No connection, or a refusal. Unless it is one, the request may have been done.
    pub async fn forward(&self, address: &str, request: ForwardRequest) -> Result<ForwardReply, CallError> {
        let mut connection = self.pooled(address).await?;
        let ask = proto::ForwardRequest {
            method: request.method,
            path: request.path,
            headers: headers(request.headers),
            body: request.body,
            principal: request.principal,
        };
        let mut replies =
            connection.client.forward(ask).await.map_err(|status| call_error(address, &status))?.into_inner();
        let first = replies.next().await.transpose().map_err(|status| call_error(address, &status))?;
        let Some(proto::forward_reply::Reply::Head(head)) = first.and_then(|first| first.reply) else {
            let reason = "its answer does not begin with a head".to_owned();
            return Err(CallError::Broken { address: address.to_owned(), reason });
        };
        let (chunks, body) = mpsc::channel(FORWARD_QUEUE);
        tokio::spawn(pump_body(address.to_owned(), replies, chunks));
        let headers = head.headers.into_iter().map(|header| (header.name, header.value)).collect();
        Ok(ForwardReply { status: u16::try_from(head.status).unwrap_or(500), headers, body })
    }

    /// Asks for the next certificate for a new key.
    ///
    /// # Errors
    /// No connection, a refusal, or an answer that is no use.
    pub async fn renew(
        &self,
        address: &str,
        key: &KeyRequest,
        now: Timestamp,
    ) -> Result<Identity, CallError> {
        let mut connection = self.open(address, SHORT_BYTES).await?;
        let ask = proto::RenewRequest { csr: key.csr().to_vec().into() };
        let reply = within(address, CALL_TIMEOUT, connection.client.renew(ask)).await?;
        let own = self.credentials.identity();
        let check = |identity: Identity| match identity.name() == own.name() {
            true => Ok(identity),
            false => Err(CertificateError::WrongName {
                found: identity.name().to_string(),
                expected: own.name().to_string(),
            }),
        };
        Identity::assemble(key.key_pem(), &reply.certificate, &own.authority_pem(), now)
            .and_then(check)
            .map_err(|error| CallError::Broken { address: address.to_owned(), reason: error.to_string() })
    }

    /// Asks a master who leads.
    ///
    /// # Errors
    /// No connection, or a refusal.
    pub async fn leader(&self, address: &str) -> Result<Leader, CallError> {
        let mut connection = self.open(address, SHORT_BYTES).await?;
        let reply = within(address, CALL_TIMEOUT, connection.client.leader(proto::LeaderRequest {})).await?;
        let node_id = reply.node_id.and_then(NodeId::new);
        Ok(Leader { node_id, peer_address: reply.peer_address, masters: masters(reply.masters) })
    }

    /// A connection for forwarding: one that stands, or a new one.
    async fn pooled(&self, address: &str) -> Result<Connection, CallError> {
        let pool = || self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pool().get(address).filter(|found| !found.is_closed()) {
            return Ok(found.clone());
        }
        let opened = self.open(address, FORWARD_BYTES + ENVELOPE_BYTES).await?;
        let mut pool = pool();
        pool.retain(|_, connection| !connection.is_closed());
        if pool.len() < FORWARD_POOL {
            pool.insert(address.to_owned(), opened.clone());
        }
        Ok(opened)
    }

    async fn open(&self, address: &str, message_bytes: usize) -> Result<Connection, CallError> {
        let verifier = MasterVerifier::member(&self.credentials.identity(), None)
            .map_err(|error| CallError::Broken { address: address.to_owned(), reason: error.to_string() })?;
        open(address, Some(&self.credentials), verifier, message_bytes).await
    }
}

fn masters<M: IntoIterator<Item = (u64, String)>>(masters: M) -> BTreeMap<NodeId, String> {
    masters.into_iter().filter_map(|(id, at)| Some((NodeId::new(id)?, at))).collect()
}

/// The answer to a call, in time.
async fn within<T>(
    address: &str,
    after: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(after, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(call_error(address, &status)),
        Err(_) => Err(CallError::Timeout { address: address.to_owned(), after }),
    }
}

/// Moves messages from a connection into a queue until either ends.
pub(super) async fn pump<T>(mut messages: Streaming<T>, queue: mpsc::Sender<T>) {
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            () = queue.closed() => return,
        };
        match message {
            Ok(Some(message)) => {
                if queue.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a stream between nodes ended");
                return;
            }
        }
    }
}

async fn pump_body(
    address: String,
    mut replies: Streaming<proto::ForwardReply>,
    chunks: mpsc::Sender<Result<bytes::Bytes, Refusal>>,
) {
    loop {
        let reply = tokio::select! {
            reply = replies.message() => reply,
            () = chunks.closed() => return,
        };
        let chunk = match reply {
            Ok(None) => return,
            Ok(Some(proto::ForwardReply { reply: Some(proto::forward_reply::Reply::Chunk(chunk)) })) => {
                Ok(chunk)
            }
            Ok(Some(_)) => Err(Refusal::Unavailable(format!("{address} sent something else than a body"))),
            Err(status) => Err(match call_error(&address, &status) {
                CallError::Refused(refusal) => refusal,
                other => Refusal::Unavailable(other.to_string()),
            }),
        };
        let is_last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}

pub(super) fn headers(headers: Vec<(String, bytes::Bytes)>) -> Vec<proto::Header> {
    headers.into_iter().map(|(name, value)| proto::Header { name, value }).collect()
}

pub(super) const fn node_role(role: Role) -> proto::NodeRole {
    match role {
        Role::Master => proto::NodeRole::Master,
        Role::Agent => proto::NodeRole::Agent,
    }
}
