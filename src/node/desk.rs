//! What this master answers other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, watch};
use tower_service::Service as _;

use super::identity::entry_of;
use crate::base::clock::{SystemClock, sleep_until};
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::time::Clock;
use crate::client::{AgentLink, AgentPeer, ApiError};
use crate::peer::wire::{
    AgentStream, Authority, ForwardReply, ForwardRequest, Hello, JoinAsk, Joined, Leader, Membership,
    PeerName, Refusal, Role, secret_digest, secret_matches,
};
use crate::registry::core::{Change, MasterEntry};
use crate::registry::run::{RecordError, Registry};

/// How far the clock of a node that joins may be off.
const CLOCK_OFF: Duration = Duration::from_secs(300);
/// How long a removed agent's connection stands for the master's last words.
const FAREWELL: Duration = Duration::from_secs(5);
/// Pieces of a forwarded answer on their way.
const PIECES: usize = 16;

/// This master, for other nodes.
pub(super) struct Desk {
    pub(super) registry: Registry,
    pub(super) master: Arc<dyn AgentPeer>,
    pub(super) told: watch::Sender<BTreeMap<NodeId, MasterEntry>>,
    pub(super) clock: Arc<SystemClock>,
    /// Answers forwarded requests.
    pub(super) router: Router,
}

impl Desk {
    fn check_leads(&self) -> Result<(), Refusal> {
        if self.registry.leads() {
            return Ok(());
        }
        Err(Refusal::NotLeader { leader: self.leader_address() })
    }

    fn leader_address(&self) -> Option<String> {
        self.registry.leading().map(|leader| leader.peer_address)
    }

    async fn record(&self, change: Change) -> Result<(), Refusal> {
        self.registry.record(change, self.clock.now().wall).await.map_err(|error| match error {
            RecordError::Refused(reason) => Refusal::Refused(reason),
            RecordError::Lost(error) => Refusal::Unavailable(error.to_string()),
        })
    }

    fn sign(&self, csr: &[u8], name: &PeerName) -> Result<String, Refusal> {
        let state = self.registry.view();
        let missing = || Refusal::Unavailable("the cluster has no authority yet; try again".to_owned());
        let authority = state.authority().ok_or_else(missing)?;
        let unusable = |error: &dyn std::fmt::Display| Refusal::Unavailable(error.to_string());
        let authority =
            Authority::from_pem(&authority.certificate, &authority.key).map_err(|error| unusable(&error))?;
        authority.sign(csr, name, self.clock.now().wall).map_err(|error| Refusal::Refused(error.to_string()))
    }

    /// The token's digest, if it is good for what is asked.
    fn check_ask(&self, ask: &JoinAsk) -> Result<Vec<u8>, Refusal> {
        let refused = |reason: String| Err(Refusal::Refused(reason));
        let (state, now) = (self.registry.view(), self.clock.now().wall);
        let off = now.since(ask.wall).max(ask.wall.since(now));
        if off > CLOCK_OFF {
            return refused(format!(
                "the clock of this node is {} s off; set it, then join again",
                off.as_secs()
            ));
        }
        let mut tokens = state.tokens();
        let found = tokens.find(|(digest, _)| {
            <&[u8; 32]>::try_from(*digest).is_ok_and(|stored| secret_matches(&ask.secret, stored))
        });
        let Some((_, token)) = found else {
            return refused("the join token is not known to this cluster".to_owned());
        };
        if token.for_masters != (ask.role == Role::Master) {
            let is_for = if token.for_masters { "masters" } else { "agents" };
            return refused(format!(
                "this join token is for {is_for}, not for a node that is a {}",
                ask.role
            ));
        }
        let (theirs, needed) = (ask.hello.max_command_version, state.version());
        if ask.role == Role::Master && theirs < needed {
            return refused(format!(
                "this cluster uses commands of version {needed}, and this node knows {theirs}: upgrade it"
            ));
        }
        token.check(now).map_err(|reason| Refusal::Refused(reason.to_owned()))?;
        let id = ask.hello.node_id;
        if state.master(id).is_some() || state.is_removed_node(id) {
            return refused(format!("the node {id} has joined before"));
        }
        Ok(secret_digest(&ask.secret).to_vec())
    }

    async fn admit(&self, ask: JoinAsk) -> Result<Joined, Refusal> {
        self.check_leads()?;
        let digest = self.check_ask(&ask)?;
        let cluster_id = self.registry.view().cluster_id().to_owned();
        let node_id = ask.hello.node_id;
        let name = PeerName { cluster_id: cluster_id.clone(), role: ask.role, node_id };
        let certificate = self.sign(&ask.csr, &name)?;
        self.record(Change::SpendToken { digest }).await?;
        if ask.role == Role::Master {
            let entry = entry_of(&ask.hello);
            self.record(Change::PutMasters { masters: vec![(node_id, entry)] }).await?;
            let count = self.registry.view().masters().count();
            if count.is_multiple_of(2) {
                tracing::warn!("{count} masters stand no more losses than {} would: add one", count - 1);
            }
        }
        let state = self.registry.view();
        let masters = state.masters().map(|(id, entry)| (id, entry.peer_address.clone())).collect();
        Ok(Joined { certificate, cluster_id, masters })
    }

    async fn answer(&self, request: ForwardRequest) -> Result<ForwardReply, Refusal> {
        self.check_leads()?;
        let malformed = |error: &dyn std::fmt::Display| Refusal::Refused(error.to_string());
        let mut built = Request::builder().method(request.method.as_str()).uri(&request.path);
        for (name, value) in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| malformed(&error))?;
            let value = HeaderValue::from_bytes(&value).map_err(|error| malformed(&error))?;
            built = built.header(name, value);
        }
        let request = built.body(Body::from(request.body)).map_err(|error| malformed(&error))?;
        let mut router = self.router.clone();
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, mut body) = response.into_parts();
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let piece = match frame.map(hyper::body::Frame::into_data) {
                    Ok(Ok(data)) => Ok(data),
                    // Trailers: there are none.
                    Ok(Err(_)) => continue,
                    Err(error) => Err(Refusal::Unavailable(error.to_string())),
                };
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec().into()));
        Ok(ForwardReply { status: parts.status.as_u16(), headers: headers.collect(), body: pieces })
    }
}

impl crate::peer::wire::Desk for Desk {
    fn membership(&self, node_id: NodeId) -> Membership {
        let state = self.registry.view();
        if state.is_removed_node(node_id) {
            return Membership::Removed;
        }
        if state.master(node_id).is_some() { Membership::Member } else { Membership::Unknown }
    }

    fn join(&self, ask: JoinAsk) -> BoxFuture<'_, Result<Joined, Refusal>> {
        Box::pin(self.admit(ask))
    }

    fn renew(&self, peer: PeerName, csr: Vec<u8>) -> BoxFuture<'_, Result<String, Refusal>> {
        Box::pin(async move { self.sign(&csr, &peer) })
    }

    fn agent(&self, peer: PeerName, stream: AgentStream) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let link = self.master.connect(Some(peer.node_id)).await.map_err(|error| match error {
                ApiError::NotLeader { .. } => Refusal::NotLeader { leader: self.leader_address() },
                error => Refusal::Unavailable(error.to_string()),
            })?;
            let known = (self.registry.clone(), Arc::clone(&self.clock));
            tokio::spawn(carry(peer.node_id, known, stream, link));
            Ok(())
        })
    }

    fn forward(
        &self,
        _peer: PeerName,
        request: ForwardRequest,
    ) -> BoxFuture<'_, Result<ForwardReply, Refusal>> {
        Box::pin(self.answer(request))
    }

    fn leader(&self) -> Leader {
        let mut masters: BTreeMap<NodeId, String> = BTreeMap::new();
        let state = self.registry.view();
        masters.extend(state.masters().map(|(id, entry)| (id, entry.peer_address.clone())));
        // What they told last is newer than what is recorded.
        for (id, entry) in &*self.told.borrow() {
            if !entry.peer_address.is_empty() && !state.is_removed_node(*id) {
                masters.insert(*id, entry.peer_address.clone());
            }
        }
        Leader { node_id: self.registry.leader(), peer_address: self.leader_address(), masters }
    }

    fn hello(&self, hello: Hello) {
        let (id, entry) = (hello.node_id, entry_of(&hello));
        self.told.send_if_modified(|told| told.insert(id, entry.clone()) != Some(entry));
    }
}

/// Carries messages between an agent's stream and the master until either ends. A node that is removed
/// is not heard any more; what the master still has to say reaches it.
async fn carry(
    peer: NodeId,
    (registry, clock): (Registry, Arc<SystemClock>),
    mut stream: AgentStream,
    mut link: AgentLink,
) {
    let mut applied = registry.watch();
    let (mut is_removed, mut farewell) = (false, None);
    loop {
        let carried = tokio::select! {
            message = stream.from_agent.recv(), if !is_removed => match message {
                Some(message) => link.to_master.send(message).await.is_ok(),
                None => false,
            },
            message = link.from_master.recv() => match message {
                Some(message) => stream.to_agent.send(message).await.is_ok(),
                None => false,
            },
            changed = applied.changed(), if !is_removed => {
                is_removed = registry.view().is_removed_node(peer);
                farewell = is_removed.then(|| clock.instant(clock.now().mono.after(FAREWELL)));
                changed.is_ok()
            }
            () = sleep_until(farewell) => false,
        };
        if !carried {
            return;
        }
    }
}
