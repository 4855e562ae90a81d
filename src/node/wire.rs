//! A master that is a process of its own: its identity, and the way to the others over mutual TLS.
//!
//! ```text
//! <data>/identity/          key and certificate of this node, the authority's certificate
//! <data>/identity/secrets/  on the first node: the authority's key until the registry has it, and
//!                           the join tokens (readable by the owner only)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::data::Data;
use super::desk::Desk;
use super::listen;
use super::start::StartError;
use crate::base::address::host_port;
use crate::base::chance::Chance;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Shutdown, Tasks};
use crate::base::time::{Clock, Timestamp};
use crate::client::AgentPeer;
use crate::config::{Begin, PeerConfig};
use crate::peer::wire::{
    self, Authority, CallError, Credentials, Dialler, Faults, Hello, Identity, JoinRequest, KeyRequest,
    PeerName, PeerServer, Refusal, Role, Token, WireNetwork, secret_digest,
};
use crate::registry::core::{
    self as registry, Change, Command, KNOWS_MASTERS, MasterEntry, TokenEntry, VERSION,
};
use crate::registry::run::{Link, Others, Registry, RegistryConfig};

/// Masters that a joining node asks one after another, each naming the leader.
const HOPS: usize = 5;
/// Pause before something that did not work is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node waits at its start until somebody leads.
const SETTLE: Duration = Duration::from_secs(5);
/// Pause before the next certificate is asked for again.
const RENEW_PAUSE: Duration = Duration::from_secs(60);

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
    let advertised = host_port(&listen::advertised(config.advertise.as_deref(), address), address.port());
    let entry = MasterEntry { peer_address: advertised, ..entry };
    let directory = data.root().join("identity");
    let now = clock.now().wall;
    let found = Identity::load(&directory, now).map_err(peer)?;
    let (identity, named, is_first) = match (found, &config.begin) {
        (Some(identity), Begin::Bootstrap) => return Err(already(&directory, &identity)),
        (Some(identity), _) => (identity, BTreeMap::new(), false),
        (None, _) if data.has_registry() => {
            return Err(StartError::Peer(format!(
                "{} holds a registry, but no identity: restore {}, or choose an empty --data-dir and join again",
                data.root().display(),
                directory.display()
            )));
        }
        (None, Begin::Again) => {
            return Err(StartError::Peer(format!(
                "{} is empty: start the first node of a new cluster with --bootstrap, every other with --join ADDR --token TOKEN",
                data.root().display()
            )));
        }
        (None, Begin::Bootstrap) => (found_cluster(&directory, now)?, BTreeMap::new(), true),
        (None, Begin::Join { address, token }) => {
            let (identity, named) = join(&directory, address, token, &entry, now).await?;
            (identity, named, false)
        }
    };
    let name = identity.name().clone();
    // The first node of a cluster may have been stopped before its first record.
    let is_first = is_first || secrets(&directory).join(AUTHORITY).exists();
    let credentials = Credentials::new(identity);
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

/// File of the authority's key.
const AUTHORITY: &str = "authority.key";
/// File of its certificate.
const AUTHORITY_CERTIFICATE: &str = "authority.crt";

/// Whether this data directory is one of a node that belongs to a cluster.
#[must_use]
pub fn is_member(data_dir: &Path) -> bool {
    Identity::is_in(&data_dir.join("identity"))
}

fn secrets(directory: &Path) -> PathBuf {
    directory.join("secrets")
}

fn peer(error: impl std::fmt::Display) -> StartError {
    StartError::Peer(error.to_string())
}

fn already(directory: &Path, identity: &Identity) -> StartError {
    StartError::Peer(format!(
        "{} belongs to the node {} of the cluster {}: start it without --bootstrap, or choose an empty --data-dir",
        directory.display(),
        identity.name().node_id,
        identity.name().cluster_id
    ))
}

/// A random id: it is never used again once its data directory is gone.
fn new_id() -> NodeId {
    loop {
        if let Some(id) = NodeId::new(rand::random()) {
            return id;
        }
    }
}

/// What a master tells of itself when a connection begins.
fn hello_of(node_id: NodeId, entry: &MasterEntry) -> Hello {
    Hello {
        node_id,
        cluster_id: String::new(),
        version: entry.version.clone(),
        max_command_version: VERSION,
        peer_address: entry.peer_address.clone(),
        apis: BTreeMap::from([
            ("master".to_owned(), entry.master_address.clone()),
            ("marathon".to_owned(), entry.marathon_address.clone()),
        ]),
    }
}

/// What a master told of itself.
pub(super) fn entry_of(hello: &Hello) -> MasterEntry {
    let api = |name: &str| hello.apis.get(name).cloned().unwrap_or_default();
    MasterEntry {
        peer_address: hello.peer_address.clone(),
        master_address: api("master"),
        marathon_address: api("marathon"),
        max_command_version: hello.max_command_version,
        version: hello.version.clone(),
    }
}

/// A new cluster: its authority, its join tokens, and the identity of its first node.
fn found_cluster(directory: &Path, now: Timestamp) -> Result<Identity, StartError> {
    let cluster_id = Chance::new(rand::random()).uuid().to_string();
    let authority = Authority::generate(&cluster_id, now).map_err(peer)?;
    let name = PeerName { cluster_id, role: Role::Master, node_id: new_id() };
    let identity = Identity::issue(&authority, &name, now).map_err(peer)?;
    let secrets = secrets(directory);
    write_secret(&secrets, AUTHORITY_CERTIFICATE, authority.certificate_pem())?;
    write_secret(&secrets, AUTHORITY, &authority.key_pem())?;
    for role in [Role::Master, Role::Agent] {
        let token = Token::generate(authority.digest()).map_err(peer)?;
        write_secret(&secrets, &token_file(role), &token.reveal())?;
    }
    // Last: with an identity there is a cluster.
    identity.save(directory).map_err(peer)?;
    Ok(identity)
}

fn token_file(role: Role) -> String {
    format!("join-token-{role}")
}

fn write_secret(directory: &Path, name: &str, text: &str) -> Result<(), StartError> {
    let failed = |source| StartError::DataDir { path: directory.join(name), source };
    crate::os::files::write_private(directory, name, text.as_bytes()).map_err(failed)
}

async fn join(
    directory: &Path,
    address: &str,
    token: &str,
    entry: &MasterEntry,
    now: Timestamp,
) -> Result<(Identity, BTreeMap<NodeId, String>), StartError> {
    let token = Token::parse(token).map_err(peer)?;
    let (mut address, id) = (address.to_owned(), new_id());
    for _ in 0..HOPS {
        let key = KeyRequest::generate().map_err(peer)?;
        let request = JoinRequest { role: Role::Master, hello: hello_of(id, entry), key };
        match wire::join(&address, &token, request, now).await {
            Ok(joined) => {
                joined.identity.save(directory).map_err(peer)?;
                return Ok((joined.identity, joined.masters));
            }
            Err(CallError::Refused(Refusal::NotLeader { leader: Some(leader) })) if leader != address => {
                address = leader;
            }
            Err(error) => return Err(StartError::Peer(format!("this node cannot join: {error}"))),
        }
    }
    Err(StartError::Peer(
        "this node cannot join: the masters do not agree on who leads; try again".to_owned(),
    ))
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
        let renewing = Renewing {
            registry: registry.clone(),
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

/// Tells the network who the masters are, whenever the registry says something new.
async fn follow_peers(
    registry: Registry,
    network: Arc<WireNetwork>,
    named: BTreeMap<NodeId, String>,
    own: NodeId,
) -> Result<(), Fatal> {
    let mut applied = registry.watch();
    let mut last = named;
    loop {
        applied.borrow_and_update();
        let state = registry.view();
        if state.is_removed_master(own) {
            return Err(Fatal {
                what: "this node was removed from the cluster".to_owned(),
                remedy: "Remove its data directory and join again with a new token".to_owned(),
            });
        }
        let peers: BTreeMap<NodeId, String> =
            state.masters().map(|(id, entry)| (id, entry.peer_address.clone())).collect();
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
    let failed = |problem: String| Fatal {
        what: format!("the secrets in {} cannot be used: {problem}", secrets.display()),
        remedy: "Restore the directory from a backup".to_owned(),
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

/// Asks for the next certificate in time.
struct Renewing {
    registry: Registry,
    dialler: Dialler,
    credentials: Credentials,
    directory: PathBuf,
    clock: Arc<SystemClock>,
}

impl Renewing {
    async fn run(self) -> Result<(), Fatal> {
        loop {
            let due = self.credentials.identity().renew_at();
            let wait = due.since(self.clock.now().wall);
            if wait.is_zero() {
                if let Err(problem) = self.renew().await {
                    tracing::warn!(%problem, "the certificate of this node is not renewed yet");
                    tokio::time::sleep(RENEW_PAUSE).await;
                }
            } else {
                // In pieces: the wall clock may be set.
                tokio::time::sleep(wait.min(RENEW_PAUSE * 60)).await;
            }
        }
    }

    async fn renew(&self) -> Result<(), String> {
        let leader = self.registry.leading().ok_or("no master leads")?;
        let key = KeyRequest::generate().map_err(|error| error.to_string())?;
        let now = self.clock.now().wall;
        let renewed = self.dialler.renew(&leader.peer_address, &key, now).await;
        let identity = renewed.map_err(|error| error.to_string())?;
        identity.save(&self.directory).map_err(|error| error.to_string())?;
        self.credentials.replace(identity).map_err(|error| error.to_string())
    }
}

/// The leading master, wherever it is.
pub(super) struct Remote {
    registry: Registry,
    dialler: Dialler,
    own: Arc<dyn AgentPeer>,
}

impl Remote {
    fn leader(&self) -> Option<String> {
        self.registry.leading().map(|leader| leader.peer_address).filter(|address| !address.is_empty())
    }
}

impl AgentPeer for Remote {
    fn connect(
        &self,
    ) -> crate::base::future::BoxFuture<'_, Result<crate::client::AgentLink, crate::client::ApiError>> {
        use crate::client::{AgentLink, ApiError};

        Box::pin(async move {
            if self.registry.leads() {
                return self.own.connect().await;
            }
            let leader = self.leader().ok_or(ApiError::NotLeader { leader: None })?;
            let call = self.dialler.agent(&leader).await;
            let call = call.map_err(|error| ApiError::Unavailable(error.to_string()))?;
            Ok(AgentLink { to_master: call.to_master, from_master: call.from_master })
        })
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
            let leader = self.leader().ok_or("no master leads now; try again")?;
            self.dialler.forward(&leader, request).await.map_err(|error| error.to_string())
        })
    }
}
