//! A cluster's authority, nodes on loopback, and a desk that does what the test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::time::{Clock as _, Timestamp};
use crate::peer::link::{Event, Network as _, SendError};
use crate::peer::wire::{
    AgentStream, Authority, Credentials, Desk, Digest, Faults, ForwardReply, ForwardRequest, Hello, Identity,
    JoinAsk, Joined, Leader, Membership, PeerName, PeerServer, Refusal, Role, WireNetwork, secret_matches,
};
use crate::peer::{Frame, wire};

/// Everything that a test waits for happens far sooner.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn now() -> Timestamp {
    SystemClock::new().now().wall
}

pub(super) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

pub(super) fn authority() -> Authority {
    Authority::generate("c1", now()).expect("an authority")
}

pub(super) fn name(role: Role, number: u64) -> PeerName {
    PeerName { cluster_id: "c1".to_owned(), role, node_id: id(number) }
}

pub(super) fn identity(authority: &Authority, role: Role, number: u64) -> Identity {
    Identity::issue(authority, &name(role, number), now()).expect("an identity")
}

pub(super) fn credentials(authority: &Authority, role: Role, number: u64) -> Credentials {
    Credentials::new(identity(authority, role, number))
}

pub(super) fn hello(number: u64) -> Hello {
    Hello {
        node_id: id(number),
        cluster_id: "c1".to_owned(),
        version: "0.1.0".to_owned(),
        max_command_version: 3,
        peer_address: String::new(),
        apis: BTreeMap::from([("master".to_owned(), format!("node-{number}:5050"))]),
    }
}

/// Waits for something, not for ever.
pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("this did not happen in time: {what}"),
    }
}

/// Waits for a condition.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, look).await;
}

/// A desk that records, and answers as its fields say.
#[derive(Default)]
pub(super) struct TestDesk {
    state: Mutex<DeskState>,
}

#[derive(Default)]
pub(super) struct DeskState {
    pub removed: BTreeSet<NodeId>,
    pub hellos: Vec<Hello>,
    pub joins: Vec<JoinAsk>,
    /// Signs for those who join with this secret.
    pub authority: Option<(Authority, Digest)>,
    /// Certifies somebody else than who joins.
    pub mixes_up: bool,
    pub leads: bool,
    pub agents: Option<mpsc::UnboundedSender<(PeerName, AgentStream)>>,
    pub forwarded: Vec<(PeerName, ForwardRequest)>,
    /// What a forwarded request gets.
    pub body: Vec<Result<Bytes, Refusal>>,
    /// Keeps the body open after that, by this sender.
    pub keeps_open: bool,
    pub open: Option<mpsc::Sender<Result<Bytes, Refusal>>>,
}

impl TestDesk {
    pub(super) fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, name: &PeerName, csr: &[u8]) -> Result<String, Refusal> {
        let state = self.lock();
        let (authority, _) =
            state.authority.as_ref().ok_or_else(|| Refusal::Unavailable("no authority here".to_owned()))?;
        authority.sign(csr, name, now()).map_err(|error| Refusal::Refused(error.to_string()))
    }

    fn leading(&self) -> Result<(), Refusal> {
        if self.lock().leads {
            return Ok(());
        }
        Err(Refusal::NotLeader { leader: Some("127.0.0.1:9".to_owned()) })
    }
}

impl Desk for TestDesk {
    fn membership(&self, node_id: NodeId) -> Membership {
        if self.lock().removed.contains(&node_id) { Membership::Removed } else { Membership::Unknown }
    }

    fn join(&self, ask: JoinAsk) -> BoxFuture<'_, Result<Joined, Refusal>> {
        Box::pin(async move {
            self.lock().joins.push(ask.clone());
            let is_right =
                self.lock().authority.as_ref().is_some_and(|(_, stored)| secret_matches(&ask.secret, stored));
            if !is_right {
                return Err(Refusal::Refused("the join token is not valid".to_owned()));
            }
            let mistake = u64::from(self.lock().mixes_up);
            let name = name(ask.role, ask.hello.node_id.get() + mistake);
            let certificate = self.sign(&name, &ask.csr)?;
            let masters = BTreeMap::from([(id(1), "node-1:5052".to_owned())]);
            Ok(Joined { certificate, cluster_id: "c1".to_owned(), masters })
        })
    }

    fn renew(&self, peer: PeerName, csr: Vec<u8>) -> BoxFuture<'_, Result<String, Refusal>> {
        Box::pin(async move { self.sign(&peer, &csr) })
    }

    fn agent(&self, peer: PeerName, stream: AgentStream) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            self.leading()?;
            let agents = self.lock().agents.clone().expect("the test listens");
            agents.send((peer, stream)).map_err(|_| Refusal::Unavailable("the test is over".to_owned()))
        })
    }

    fn forward(
        &self,
        peer: PeerName,
        request: ForwardRequest,
    ) -> BoxFuture<'_, Result<ForwardReply, Refusal>> {
        Box::pin(async move {
            self.leading()?;
            let chunks = std::mem::take(&mut self.lock().body);
            self.lock().forwarded.push((peer, request));
            let (sender, body) = mpsc::channel(chunks.len().max(1));
            for chunk in chunks {
                sender.try_send(chunk).expect("there is room");
            }
            let mut state = self.lock();
            state.open = state.keeps_open.then_some(sender);
            drop(state);
            let headers = vec![("content-type".to_owned(), Bytes::from_static(b"application/json"))];
            Ok(ForwardReply { status: 202, headers, body })
        })
    }

    fn leader(&self) -> Leader {
        Leader { node_id: Some(id(1)), peer_address: Some("node-1:5052".to_owned()), ..Leader::default() }
    }

    fn hello(&self, hello: Hello) {
        self.lock().hellos.push(hello);
    }
}

/// A master on loopback.
pub(super) struct Node {
    pub address: String,
    pub desk: Arc<TestDesk>,
    pub credentials: Credentials,
    pub network: WireNetwork,
    pub events: mpsc::Receiver<Event>,
    listener: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Node {
    /// Starts on a free port.
    pub(super) async fn start(identity: Identity) -> Self {
        Self::start_with(identity, Faults::default()).await
    }

    pub(super) async fn start_with(identity: Identity, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let credentials = Credentials::new(identity);
        let own = Hello { peer_address: address.clone(), ..hello(credentials.name().node_id.get()) };
        let (network, events) = WireNetwork::new(credentials.clone(), own, faults);
        let mut node = Self { address, desk: Arc::default(), credentials, network, events, listener: None };
        node.listen_on(listener);
        node
    }

    fn listen_on(&mut self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel::<()>();
        let server = PeerServer::new(self.credentials.clone(), self.desk.clone(), &self.network)
            .expect("good certificates");
        let shutdown = async {
            // The node may be dropped instead.
            let _ = stopped.await;
        };
        self.listener = Some((stop, tokio::spawn(server.serve(listener, shutdown))));
    }

    /// Ends the listener and its connections.
    pub(super) async fn stop_listening(&mut self) {
        let (stop, task) = self.listener.take().expect("it listens");
        stop.send(()).expect("it listens");
        task.await.expect("it ends well");
    }

    /// Listens again at the same address.
    pub(super) async fn listen_again(&mut self) {
        let listener = TcpListener::bind(&self.address).await.expect("the port is ours still");
        self.listen_on(listener);
    }

    pub(super) fn peers(&self, others: &[&Node]) {
        let peers = others.iter().map(|node| (node.id(), node.address.clone())).collect();
        self.network.set_peers(peers);
    }

    pub(super) fn id(&self) -> NodeId {
        self.credentials.name().node_id
    }

    /// Sends as soon as there is a connection.
    pub(super) async fn send(&self, to: NodeId, frame: Frame) {
        until("a connection", || match self.network.send(to, frame.clone()) {
            Ok(()) => true,
            Err(SendError::NotConnected) => false,
            Err(SendError::Full) => panic!("nothing else waits"),
        })
        .await;
    }

    pub(super) async fn connected(&self, to: NodeId) {
        until("a connection", || self.network.round_trip(to).is_some()).await;
    }

    pub(super) async fn event(&mut self) -> Event {
        soon("an event", self.events.recv()).await.expect("the network lives")
    }

    /// The next event that is not of the kind that may always come.
    pub(super) async fn event_but_unreachable(&mut self) -> Event {
        loop {
            match self.event().await {
                Event::Unreachable { .. } => {}
                event => return event,
            }
        }
    }
}

pub(super) fn message(text: &str) -> Frame {
    Frame::Message(text.as_bytes().to_vec())
}

/// A connection with any mixture of certificate and demand.
pub(super) async fn raw(
    address: &str,
    shown: Option<&Credentials>,
    trusted: &Identity,
) -> Result<wire::dial::Connection, wire::CallError> {
    let verifier = wire::verify::MasterVerifier::member(trusted, None).expect("a good authority");
    wire::dial::open(address, shown, verifier, 1 << 20).await
}
