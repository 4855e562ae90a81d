//! A master that is a process of its own, and its way to the others over mutual TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::data::Data;
use super::desk::Desk;
use super::identity::{
    self, AUTHORITY, AUTHORITY_CERTIFICATE, Beginning, hello_of, peer, secrets, token_file,
};
use super::listen;
use super::renewing::Renewing;
use super::start::StartError;
use crate::api::peer::{FromAgent, ToAgent};
use crate::base::address::host_port;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Shutdown, Tasks};
use crate::base::time::Clock;
use crate::client::{AgentLink, AgentPeer, ApiError};
use crate::config::PeerConfig;
use crate::peer::wire::{
    self, Authority, Credentials, Dialler, Faults, PeerServer, Role, Token, WireNetwork, secret_digest,
};
use crate::registry::core::{self as registry, Change, Command, KNOWS_MASTERS, MasterEntry, TokenEntry};
use crate::registry::run::{Leadership, Link, Others, Registry, RegistryConfig};

/// Pause before something that did not work is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an agent waits for somebody to lead before it counts an attempt as failed.
const ELECTED: Duration = Duration::from_secs(5);
/// How long a node waits at its start until somebody leads.
const SETTLE: Duration = Duration::from_secs(5);

/// Messages between an agent and the leader on their way through this node, each way.
pub(super) const AGENT_MESSAGES: usize = 256;

/// A master's place among others, before its registry runs.
pub(super) struct Seat {
    /// Where other nodes connect.
    pub(super) address: SocketAddr,
    listener: TcpListener,
    credentials: Credentials,
    network: Arc<WireNetwork>,
    told: watch::Sender<BTreeMap<NodeId, MasterEntry>>,
    /// Masters that were named when it joined.
    named: BTreeMap<NodeId, String>,
    directory: PathBuf,
}

/// Takes a place: with the identity that is there, a new cluster's, or one that the cluster gives.
pub(super) async fn take_seat(
    config: &PeerConfig,
    data: &Data,
    clock: &SystemClock,
    entry: MasterEntry,
) -> Result<(Seat, RegistryConfig, Others), StartError> {
    let listener = listen::bind(config.listen, "peer").await?;
    let address = listen::address_of(&listener, "peer")?;
    let advertised = host_port(&listen::advertised(config.advertise.as_ref(), address), address.port());
    let entry = MasterEntry { peer_address: advertised, ..entry };
    let beginning = identity::begin(data, &config.begin, Role::Master, &entry, clock).await?;
    let Beginning { credentials, named, is_first, directory } = beginning;
    let name = credentials.name();
    let hello = hello_of(name.node_id, &entry);
    let (network, events) = WireNetwork::new(credentials.clone(), hello, Faults::default());
    let network = Arc::new(network);
    network.set_peers(named.clone());
    let (told, heard) = watch::channel(BTreeMap::from([(name.node_id, entry)]));
    let registry_config = RegistryConfig {
        id: name.node_id,
        first_masters: if is_first { BTreeSet::from([name.node_id]) } else { BTreeSet::new() },
        ..RegistryConfig::alone(name.cluster_id)
    };
    let link = Link { network: Arc::clone(&network) as _, events };
    let seat = Seat { address, listener, credentials, network, told, named, directory };
    Ok((seat, registry_config, Others { link, told: heard }))
}

impl Seat {
    /// Serves other nodes, and keeps what is known of them up to date.
    pub(super) fn serve(
        self,
        tasks: &mut Tasks,
        registry: &Registry,
        master: Arc<dyn AgentPeer>,
        router: Router,
        clock: &Arc<SystemClock>,
    ) -> Result<(Arc<Remote>, oneshot::Receiver<()>), StartError> {
        let own = self.credentials.name().node_id;
        let dialler = Dialler::new(self.credentials.clone());
        let desk = Arc::new(Desk {
            registry: registry.clone(),
            master: Arc::clone(&master),
            told: self.told,
            clock: Arc::clone(clock),
            router,
        });
        let server = PeerServer::new(self.credentials.clone(), desk, &self.network).map_err(peer)?;
        let (listener, mut ended) = (self.listener, tasks.shutdown());
        tasks.spawn("peer server", async move {
            server.serve(listener, async move { ended.requested().await }).await;
            Ok(())
        });
        let follow = follow_peers(registry.clone(), self.network, self.named, own);
        tasks.spawn("peers", until(follow, tasks.shutdown()));
        let record = record_secrets(registry.clone(), secrets(&self.directory), Arc::clone(clock));
        let (done, recorded) = oneshot::channel();
        let record = async move {
            let outcome = record.await;
            // Whoever waits for it may have given up.
            let _ = done.send(());
            outcome
        };
        tasks.spawn("authority", until(record, tasks.shutdown()));
        let of_leader = registry.clone();
        let renewing = Renewing {
            leader: move || of_leader.leading().map(|leader| leader.peer_address),
            dialler: dialler.clone(),
            credentials: self.credentials,
            directory: self.directory,
            clock: Arc::clone(clock),
        };
        tasks.spawn("certificates", until(renewing.run(), tasks.shutdown()));
        let leader = Arc::new(Remote { registry: registry.clone(), dialler, own: master });
        Ok((leader, recorded))
    }
}

/// Waits until the cluster can be used through this node: somebody leads, and a new cluster has what
/// others join by. After a while it is let go: the other masters may not run yet.
pub(super) async fn settle(registry: &Registry, recorded: oneshot::Receiver<()>) {
    let (mut applied, mut leadership) = (registry.watch(), registry.leadership());
    let led = async {
        while registry.leading().is_none() {
            // It ends by itself.
            if registry.view().is_removed_node(registry.id()) {
                return;
            }
            tokio::select! {
                Ok(()) = applied.changed() => {}
                Ok(()) = leadership.changed() => {}
                else => return,
            }
        }
        // Its sender ends with the node only.
        let _ = recorded.await;
    };
    if tokio::time::timeout(SETTLE, led).await.is_err() {
        tracing::warn!("no master leads yet; this node waits for the others");
    }
}

async fn until(work: impl Future<Output = Result<(), Fatal>>, mut shutdown: Shutdown) -> Result<(), Fatal> {
    tokio::select! {
        outcome = work => outcome,
        () = shutdown.requested() => Ok(()),
    }
}

/// The end of a node that was removed.
pub(super) fn removed() -> Fatal {
    Fatal::removed("this node was removed from the cluster")
}

/// Tells the network who the masters are, whenever the registry says something new.
async fn follow_peers(
    registry: Registry,
    network: Arc<WireNetwork>,
    named: BTreeMap<NodeId, String>,
    own: NodeId,
) -> Result<(), Fatal> {
    let mut applied = registry.watch();
    let (mut last, mut recorded) = (named.clone(), BTreeMap::new());
    loop {
        applied.borrow_and_update();
        let state = registry.view();
        if state.is_removed_node(own) {
            return Err(removed());
        }
        // What was named at the start is newer than what was on record then.
        let mut address = |id: NodeId, entry: &MasterEntry| {
            let first = recorded.entry(id).or_insert_with(|| entry.peer_address.clone());
            let newer = named.get(&id).filter(|_| *first == entry.peer_address);
            (id, newer.unwrap_or(&entry.peer_address).clone())
        };
        let peers: BTreeMap<NodeId, String> = state.masters().map(|(id, entry)| address(id, entry)).collect();
        if !peers.is_empty() && peers != last {
            network.set_peers(peers.clone());
            last = peers;
        }
        if applied.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Brings the authority and the first tokens into the registry, then forgets the authority's key.
async fn record_secrets(registry: Registry, secrets: PathBuf, clock: Arc<SystemClock>) -> Result<(), Fatal> {
    if !secrets.join(AUTHORITY).exists() {
        return Ok(());
    }
    let failed = |problem: String| {
        Fatal::new(
            format!("the secrets in {} cannot be used: {problem}", secrets.display()),
            "Restore the directory from a backup",
        )
    };
    let read =
        |name: &str| std::fs::read_to_string(secrets.join(name)).map_err(|error| failed(error.to_string()));
    let authority = Authority::from_pem(&read(AUTHORITY_CERTIFICATE)?, &read(AUTHORITY)?)
        .map_err(|error| failed(error.to_string()))?;
    let mut changes = vec![Change::SetAuthority(registry::Authority {
        certificate: authority.certificate_pem().to_owned(),
        key: authority.key_pem(),
    })];
    for role in [Role::Master, Role::Agent] {
        let text = read(&token_file(role))?;
        let token = Token::parse(text.trim()).map_err(|error| failed(error.to_string()))?;
        let digest = secret_digest(token.secret()).to_vec();
        let entry =
            TokenEntry { for_masters: role == Role::Master, expires: None, once: false, spent: false };
        changes.push(Change::PutToken { digest, entry });
    }
    for change in changes {
        loop {
            let is_there = matches!(change, Change::SetAuthority(_)) && registry.view().authority().is_some();
            if is_there {
                break;
            }
            if registry.leads() && registry.view().version() >= KNOWS_MASTERS {
                let command = Command { time: clock.now().wall, change: change.clone() };
                match registry.propose(command).await {
                    Ok(_) => break,
                    Err(error) => tracing::debug!(%error, "the authority is not recorded yet"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    crate::os::files::remove(&secrets.join(AUTHORITY)).map_err(|error| failed(error.to_string()))
}

/// The leading master, wherever it is.
pub(super) struct Remote {
    registry: Registry,
    dialler: Dialler,
    own: Arc<dyn AgentPeer>,
}

impl Remote {
    async fn try_to_connect(&self) -> Result<AgentLink, ApiError> {
        if self.registry.leads() {
            return self.own.connect(Some(self.dialler.node_id())).await;
        }
        let leader = self.registry.leader();
        let address = self.leader().ok_or(ApiError::NotLeader { leader: None })?;
        let call = self.dialler.agent(&address).await;
        let call = call.map_err(|error| ApiError::Unavailable(error.to_string()))?;
        let (to_master, outgoing) = mpsc::channel(AGENT_MESSAGES);
        let (incoming, from_master) = mpsc::channel(AGENT_MESSAGES);
        let leads = still_leads(self.registry.leadership(), leader);
        tokio::spawn(carry(call, outgoing, incoming, leads, || {}));
        Ok(AgentLink { to_master, from_master })
    }

    fn leader(&self) -> Option<String> {
        self.registry.leading().map(|leader| leader.peer_address).filter(|address| !address.is_empty())
    }
}

impl AgentPeer for Remote {
    fn connect(
        &self,
        _node: Option<NodeId>,
    ) -> crate::base::future::BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move {
            // While another is elected, that is waited for: asking again ever later would take longer.
            let mut leadership = self.registry.leadership();
            let give_up = tokio::time::sleep(ELECTED);
            tokio::pin!(give_up);
            loop {
                leadership.borrow_and_update();
                let error = tokio::select! {
                    connected = self.try_to_connect() => match connected {
                        Err(error) => error,
                        connected => return connected,
                    },
                    // A machine without power does not even refuse.
                    changed = leadership.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Err(ApiError::NotLeader { leader: None }),
                    },
                };
                tokio::select! {
                    () = &mut give_up => return Err(error),
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = leadership.changed() => {}
                }
            }
        })
    }
}

/// Ends when somebody else leads, as far as this node knows.
async fn still_leads(mut leadership: watch::Receiver<Leadership>, leader: Option<NodeId>) {
    let is_another = |role: &Leadership| match role {
        Leadership::Leader { .. } => true,
        Leadership::Follower { leader: now } => now.is_some() && *now != leader,
    };
    if leadership.wait_for(is_another).await.is_err() {
        // The registry has ended, and with it the node: its other parts say so.
        std::future::pending::<()>().await;
    }
}

/// Carries an agent's messages until either side ends, or the leader is one no more: one that was stopped
/// would be waited for much longer than it takes to elect another. `heard` is told of each of its messages.
pub(super) async fn carry(
    mut call: wire::AgentCall,
    mut outgoing: mpsc::Receiver<FromAgent>,
    incoming: mpsc::Sender<ToAgent>,
    leads: impl Future<Output = ()>,
    heard: impl Fn(),
) {
    let up = async {
        while let Some(message) = outgoing.recv().await {
            if call.to_master.send(message).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(message) = call.from_master.recv().await {
            heard();
            if incoming.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        () = leads => tracing::info!("another master leads: the agent goes there"),
    }
}

impl crate::server::ToLeader for Remote {
    fn leads(&self) -> bool {
        self.registry.leads()
    }

    fn forward(
        &self,
        request: wire::ForwardRequest,
    ) -> crate::base::future::BoxFuture<'_, Result<wire::ForwardReply, String>> {
        Box::pin(async move {
            let leader = self.registry.leader();
            let address = self.leader().ok_or("no master leads now; try again")?;
            tokio::select! {
                reply = self.dialler.forward(&address, request) => reply.map_err(|error| error.to_string()),
                () = still_leads(self.registry.leadership(), leader) => Err(format!(
                    "{address} led, and another master was elected before it answered: look whether it was done, then try again"
                )),
            }
        })
    }
}
