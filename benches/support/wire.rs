//! Masters' connections over mutual TLS on loopback, all in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesita::base::clock::SystemClock;
use mesita::base::future::BoxFuture;
use mesita::base::id::NodeId;
use mesita::base::time::Clock;
use mesita::consensus::run::Link;
use mesita::peer::wire::{
    AgentStream, Authority, Credentials, Desk, Faults, ForwardReply, ForwardRequest, Hello, Identity,
    JoinAsk, Joined, Leader, Membership, PeerName, PeerServer, Refusal, Role, WireNetwork,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::id;

/// A desk at which there is nothing but consensus.
struct Closed;

fn closed<T>() -> BoxFuture<'static, Result<T, Refusal>>
where
    T: Send + 'static,
{
    Box::pin(async { Err(Refusal::Unavailable("this node only votes".to_owned())) })
}

impl Desk for Closed {
    fn membership(&self, _node_id: NodeId) -> Membership {
        Membership::Member
    }

    fn join(&self, _ask: JoinAsk) -> BoxFuture<'_, Result<Joined, Refusal>> {
        closed()
    }

    fn renew(&self, _peer: PeerName, _csr: Vec<u8>) -> BoxFuture<'_, Result<String, Refusal>> {
        closed()
    }

    fn agent(&self, _peer: PeerName, _stream: AgentStream) -> BoxFuture<'_, Result<(), Refusal>> {
        closed()
    }

    fn forward(
        &self,
        _peer: PeerName,
        _request: ForwardRequest,
    ) -> BoxFuture<'_, Result<ForwardReply, Refusal>> {
        closed()
    }

    fn leader(&self) -> Leader {
        Leader::default()
    }

    fn hello(&self, _hello: Hello) {}
}

/// Connects so many masters to each other. The listeners end when the set is dropped.
pub(crate) async fn connect(count: usize) -> (JoinSet<()>, Vec<Link>) {
    let now = SystemClock::new().now().wall;
    let authority = Authority::generate("bench", now).unwrap();
    let (mut servers, mut networks, mut links) = (JoinSet::new(), Vec::new(), Vec::new());
    let mut addresses = BTreeMap::new();
    for number in 0..count {
        let node_id = id(number);
        let cluster_id = "bench".to_owned();
        let name = PeerName { cluster_id: cluster_id.clone(), role: Role::Master, node_id };
        let credentials = Credentials::new(Identity::issue(&authority, &name, now).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer_address = listener.local_addr().unwrap().to_string();
        addresses.insert(node_id, peer_address.clone());
        let hello = Hello {
            node_id,
            cluster_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_command_version: 1,
            peer_address,
            apis: BTreeMap::new(),
        };
        let (network, events) = WireNetwork::new(credentials.clone(), hello, Faults::default());
        let server = PeerServer::new(credentials, Arc::new(Closed), &network).unwrap();
        servers.spawn(server.serve(listener, std::future::pending()));
        let network = Arc::new(network);
        links.push(Link { network: Arc::clone(&network) as _, events });
        networks.push(network);
    }
    for (number, network) in networks.iter().enumerate() {
        let others = addresses.iter().filter(|(node, _)| **node != id(number));
        network.set_peers(others.map(|(node, address)| (*node, address.clone())).collect());
    }
    for (number, network) in networks.iter().enumerate() {
        let others = (0..count).filter(|other| *other != number).map(id);
        crate::support::until("connections", async || {
            others.clone().all(|other| network.round_trip(other).is_some()).then_some(())
        })
        .await;
    }
    (servers, links)
}
