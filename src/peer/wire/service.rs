//! The service itself: each call says whose certificate it demands, then asks the desk.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::credentials::Credentials;
use super::desk::{AgentStream, Desk, ForwardReply, ForwardRequest, JoinAsk, Membership};
use super::dialler::{headers, pump};
use super::hello::read;
use super::inbound;
use super::limits::{AGENT_QUEUE, FORWARD_BYTES, FRAMES, HELLO_TIMEOUT};
use super::name::{PeerName, Role};
use super::network::Shared;
use super::proto::wire_server::Wire;
use super::proto::{
    ConsensusEcho, ConsensusFrame, ForwardHead, JoinReply, JoinRequest, LeaderReply, LeaderRequest, NodeRole,
    RenewReply, RenewRequest, consensus_echo, consensus_frame, forward_reply,
};
use super::refusal::Refusal;
use crate::api::peer::{FromAgent, ToAgent};
use crate::base::id::NodeId;
use crate::base::time::Timestamp;

/// Who opened the connection of a request; nobody without a certificate.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub Option<PeerName>);

/// What all connections of a listener share.
pub(super) struct Service {
    pub credentials: Credentials,
    pub desk: Arc<dyn Desk>,
    pub network: Arc<Shared>,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    /// A node of our cluster that was not removed.
    fn member<T>(&self, request: &Request<T>) -> Result<PeerName, Refusal> {
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.0.clone());
        let name = caller
            .ok_or_else(|| Refusal::Refused("this call needs a certificate of the cluster".to_owned()))?;
        let ours = self.credentials.name().cluster_id;
        if name.cluster_id != ours {
            let theirs = &name.cluster_id;
            return Err(Refusal::Refused(format!(
                "the certificate is of the cluster {theirs:?}, this is {ours:?}"
            )));
        }
        match self.desk.membership(name.node_id) {
            Membership::Removed => Err(Refusal::Removed),
            Membership::Member | Membership::Unknown => Ok(name),
        }
    }

    /// Such a node that is a master.
    fn master<T>(&self, request: &Request<T>) -> Result<PeerName, Refusal> {
        let name = self.member(request)?;
        match name.role {
            Role::Master => Ok(name),
            Role::Agent => Err(Refusal::Refused(format!(
                "this call is for masters, and the certificate of the node {} says agent",
                name.node_id
            ))),
        }
    }
}

#[tonic::async_trait]
impl Wire for Service {
    type ConsensusStream = ReceiverStream<Result<ConsensusEcho, Status>>;
    type AgentStream = Replies<ToAgent>;
    type ForwardStream = Replies<super::proto::ForwardReply>;

    async fn consensus(
        &self,
        request: Request<Streaming<ConsensusFrame>>,
    ) -> Result<Response<Self::ConsensusStream>, Status> {
        let name = self.master(&request)?;
        let mut frames = request.into_inner();
        let late = || Refusal::Refused("no hello came in time".to_owned());
        let first = tokio::time::timeout(HELLO_TIMEOUT, frames.message()).await.map_err(|_| late())??;
        let Some(consensus_frame::Frame::Opening(opening)) = first.and_then(|first| first.frame) else {
            return Err(Refusal::Refused("the first frame is no hello".to_owned()).into());
        };
        let hello = read(opening.hello)?;
        hello.check(&name)?;
        let own = self.network.own();
        if opening.to != own.get() {
            let meant = NodeId::new(opening.to).map_or_else(|| "nobody".to_owned(), |id| id.to_string());
            return Err(Refusal::Refused(format!("this is the node {own}, not {meant}")).into());
        }
        self.desk.hello(hello.clone());
        let (echoes, outgoing) = mpsc::channel(FRAMES);
        let answer = consensus_echo::Echo::Hello(self.network.hello().into());
        // The receiver is at hand: this cannot fail.
        let _ = echoes.try_send(Ok(ConsensusEcho { echo: Some(answer) }));
        let (network, desk) = (self.network.clone(), self.desk.clone());
        tokio::spawn(inbound::receive(network, desk, (hello, opening.answers), frames, echoes));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn agent(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::AgentStream>, Status> {
        let name = self.member(&request)?;
        let (to_agent, outgoing) = mpsc::channel(AGENT_QUEUE);
        let (incoming, from_agent) = mpsc::channel(AGENT_QUEUE);
        self.desk.agent(name, AgentStream { to_agent, from_agent }).await?;
        tokio::spawn(pump(request.into_inner(), incoming));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing).map(Ok))))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let request = request.into_inner();
        let role = match NodeRole::try_from(request.role) {
            Ok(NodeRole::Master) => Role::Master,
            Ok(NodeRole::Agent) => Role::Agent,
            _ => return Err(Refusal::Refused("a node joins as master or agent".to_owned()).into()),
        };
        let ask = JoinAsk {
            secret: request.secret,
            role,
            csr: request.csr.into(),
            hello: read(request.hello)?,
            wall: Timestamp::from_nanos(request.wall_nanos),
        };
        let joined = self.desk.join(ask).await?;
        Ok(Response::new(JoinReply {
            certificate: joined.certificate,
            cluster_id: joined.cluster_id,
            masters: joined.masters.into_iter().map(|(id, at)| (id.get(), at)).collect(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let name = self.member(&request)?;
        let certificate = self.desk.renew(name, request.into_inner().csr.into()).await?;
        Ok(Response::new(RenewReply { certificate }))
    }

    async fn forward(
        &self,
        request: Request<super::proto::ForwardRequest>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let name = self.master(&request)?;
        let request = request.into_inner();
        let ask = ForwardRequest {
            method: request.method,
            path: request.path,
            headers: request.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: request.body,
            principal: request.principal,
        };
        let reply = self.desk.forward(name, ask).await?;
        Ok(Response::new(Box::pin(replies(reply))))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderReply>, Status> {
        self.member(&request)?;
        let leader = self.desk.leader();
        Ok(Response::new(LeaderReply {
            node_id: leader.node_id.map(NodeId::get),
            peer_address: leader.peer_address,
            masters: leader.masters.into_iter().map(|(id, at)| (id.get(), at)).collect(),
        }))
    }
}

/// The head, then the body in pieces that fit.
fn replies(reply: ForwardReply) -> impl Stream<Item = Result<super::proto::ForwardReply, Status>> + Send {
    use forward_reply::Reply::{Chunk, Head};
    let message = |reply| Ok(super::proto::ForwardReply { reply: Some(reply) });
    let head = Head(ForwardHead { status: reply.status.into(), headers: headers(reply.headers) });
    let chunks = futures_util::StreamExt::flat_map(ReceiverStream::new(reply.body), move |chunk| {
        let pieces = match chunk {
            Ok(chunk) => pieces(chunk).into_iter().map(|piece| message(Chunk(piece))).collect(),
            Err(refusal) => vec![Err(refusal.into())],
        };
        tokio_stream::iter(pieces)
    });
    tokio_stream::once(message(head)).chain(chunks)
}

fn pieces(mut chunk: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while chunk.len() > FORWARD_BYTES {
        pieces.push(chunk.split_to(FORWARD_BYTES));
    }
    pieces.push(chunk);
    pieces
}
