//! Who a node is among others: the identity in its data directory, a new cluster's, or one that a cluster
//! gives to a node that joins.
//!
//! ```text
//! <data>/identity/          key and certificate of this node, the authority's certificate
//! <data>/identity/masters   of a node without a master: where the masters were last
//! <data>/identity/secrets/  on the first node: the authority's key until the registry has it, and
//!                           the join tokens (readable by the owner only)
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::data::Data;
use super::start::StartError;
use crate::base::chance::Chance;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::time::{Clock, Timestamp};
use crate::config::Begin;
use crate::peer::wire::{
    self, Authority, CallError, Credentials, Dialler, Hello, Identity, JoinRequest, KeyRequest, PeerName,
    Refusal, Role, Token,
};
use crate::registry::core::{self as registry, MasterEntry, VERSION};
use crate::registry::run::salvage;

/// How long a node that joins asks masters that cannot admit it now.
const JOIN: Duration = Duration::from_secs(30);
/// Pause before it asks again.
const JOIN_PAUSE: Duration = Duration::from_millis(250);
/// Masters that are followed to a leader without one.
const HOPS: u32 = 3;

/// File of the authority's key.
pub(super) const AUTHORITY: &str = "authority.key";
/// File of its certificate.
pub(super) const AUTHORITY_CERTIFICATE: &str = "authority.crt";

/// What a node begins with.
pub(super) struct Beginning {
    pub(super) credentials: Credentials,
    /// Masters that were named, newer than what the data directory holds.
    pub(super) named: BTreeMap<NodeId, String>,
    /// The cluster begins with this node.
    pub(super) is_first: bool,
    pub(super) directory: PathBuf,
}

/// Finds or obtains the identity of a node that plays `role` and tells `entry` of itself.
pub(super) async fn begin(
    data: &Data,
    begin: &Begin,
    role: Role,
    entry: &MasterEntry,
    clock: &SystemClock,
) -> Result<Beginning, StartError> {
    let directory = data.root().join("identity");
    let now = clock.now().wall;
    let mut found = Identity::load(&directory).map_err(peer)?;
    if let Some(identity) = &mut found {
        check_role(&directory, identity, role)?;
        if !identity.is_valid(now) {
            *identity = renew_alone(data, &directory, identity, now)?;
        }
    }
    let (identity, named, is_new) = match (found, begin) {
        (Some(identity), Begin::Bootstrap) => return Err(already(&directory, &identity)),
        (Some(identity), Begin::Join { address, token }) => {
            check_cluster(&directory, &identity, token)?;
            let named = ask_where(&identity, address).await?;
            (identity, named, false)
        }
        (Some(identity), Begin::Again) => (identity, BTreeMap::new(), false),
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
        (None, Begin::Bootstrap) if role == Role::Agent => {
            return Err(StartError::Peer(
                "a cluster begins with a master: --bootstrap needs the role master".to_owned(),
            ));
        }
        (None, Begin::Bootstrap) => (found_cluster(&directory, now)?, BTreeMap::new(), true),
        (None, Begin::Join { token, .. }) if token.is_empty() => {
            return Err(StartError::Peer(
                "a node that joins needs a join token: give --token-file FILE, or set MESITA_JOIN_TOKEN"
                    .to_owned(),
            ));
        }
        (None, Begin::Join { address, token }) => {
            let token = Token::parse(token).map_err(peer)?;
            let joining = Join { directory: &directory, token, role, entry };
            let (identity, named) = joining.ask(address, now).await?;
            (identity, named, false)
        }
    };
    // The first node of a cluster may have been stopped before its first record.
    let is_first = is_new || secrets(&directory).join(AUTHORITY).exists();
    Ok(Beginning { credentials: Credentials::new(identity), named, is_first, directory })
}

/// A new certificate for a node that was away for so long, or has had so wrong a clock, that nobody takes the
/// one that it has: a master has the authority's key in its registry. Of a master that was removed meanwhile
/// the others know, whatever its certificate.
fn renew_alone(
    data: &Data,
    directory: &Path,
    identity: &Identity,
    now: Timestamp,
) -> Result<Identity, StartError> {
    let name = identity.name();
    let refused = |remedy: &str| {
        StartError::Peer(format!(
            "the certificate of the node {} in {} is not valid now ({now}; it ends {}): look at the clock of this machine. If that is right, {remedy}",
            name.node_id,
            directory.display(),
            identity.expires_at()
        ))
    };
    let authority = match name.role {
        Role::Agent => None,
        Role::Master => authority_in(data)?,
    };
    let Some(authority) = authority else {
        return Err(refused(
            "the node was away for too long: start it with an empty --data-dir and a token, so that it joins again, and remove the old one with `mesita cluster remove`",
        ));
    };
    let authority = Authority::from_pem(&authority.certificate, &authority.key).map_err(peer)?;
    if authority.digest() != identity.authority_digest() {
        return Err(refused(
            "the certificate is of another authority than the registry: restore the one or the other",
        ));
    }
    let renewed = Identity::issue(&authority, name, now).map_err(peer)?;
    renewed.save(directory).map_err(peer)?;
    tracing::warn!(node = %name.node_id, ended = %identity.expires_at(), "the certificate was out of date; this master made a new one");
    Ok(renewed)
}

/// The cluster's authority as the registry of a stopped master has it.
fn authority_in(data: &Data) -> Result<Option<registry::Authority>, StartError> {
    if !data.has_registry() {
        return Ok(None);
    }
    let store = data.registry_store()?;
    let salvaged = salvage(&*store).map_err(peer)?;
    Ok(salvaged.and_then(|salvaged| salvaged.state.authority().cloned()))
}

/// Whether this data directory is one of a node that belongs to a cluster.
#[must_use]
pub fn is_member(data_dir: &Path) -> bool {
    Identity::is_in(&data_dir.join("identity"))
}

pub(super) fn secrets(directory: &Path) -> PathBuf {
    directory.join("secrets")
}

pub(super) fn peer(error: impl std::fmt::Display) -> StartError {
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

fn check_role(directory: &Path, identity: &Identity, role: Role) -> Result<(), StartError> {
    let name = identity.name();
    if name.role == role {
        return Ok(());
    }
    Err(StartError::Peer(format!(
        "{} says that the node {} joined as {}, and its roles make it {role}: give it the roles it had, or an empty --data-dir and a token with which it joins as {role}",
        directory.display(),
        name.node_id,
        name.role
    )))
}

/// A node that has an identity does not join another cluster.
fn check_cluster(directory: &Path, identity: &Identity, token: &str) -> Result<(), StartError> {
    if token.is_empty() {
        return Ok(());
    }
    let token = Token::parse(token).map_err(peer)?;
    if *token.authority() == identity.authority_digest() {
        return Ok(());
    }
    let name = identity.name();
    Err(StartError::Peer(format!(
        "{} belongs to the node {} of the cluster {}, and the token is another cluster's: choose an empty --data-dir to join that one",
        directory.display(),
        name.node_id,
        name.cluster_id
    )))
}

/// A node that knows who it is was told of a master: where the others are now, if that one answers.
async fn ask_where(identity: &Identity, address: &str) -> Result<BTreeMap<NodeId, String>, StartError> {
    let dialler = Dialler::new(Credentials::new(identity.clone()));
    match dialler.leader(address).await {
        Ok(leader) => Ok(leader.masters),
        Err(CallError::Refused(Refusal::Removed)) => Err(peer(super::wire::removed())),
        Err(error) => {
            tracing::warn!(%error, "the master that was named is not asked where the others are");
            Ok(BTreeMap::new())
        }
    }
}

/// A random id: it is never used again once its data directory is gone.
pub(super) fn new_id() -> NodeId {
    loop {
        if let Some(id) = NodeId::new(rand::random()) {
            return id;
        }
    }
}

/// What a node tells of itself when a connection begins.
pub(super) fn hello_of(node_id: NodeId, entry: &MasterEntry) -> Hello {
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

/// Name of the file with the first token of a role.
pub(super) fn token_file(role: Role) -> String {
    format!("join-token-{role}")
}

fn write_secret(directory: &Path, name: &str, text: &str) -> Result<(), StartError> {
    let failed = |source| StartError::DataDir { path: directory.join(name), source };
    crate::os::files::write_private(directory, name, text.as_bytes()).map_err(failed)
}

/// A node that joins.
struct Join<'a> {
    directory: &'a Path,
    token: Token,
    role: Role,
    entry: &'a MasterEntry,
}

impl Join<'_> {
    /// Asks a master, and the leader that it names, until one admits the node or says no. One that cannot
    /// say is asked again for a while: the masters may be electing.
    async fn ask(
        &self,
        first: &str,
        now: Timestamp,
    ) -> Result<(Identity, BTreeMap<NodeId, String>), StartError> {
        let mut said = String::new();
        let asking = async {
            let (mut address, mut hops, id) = (first.to_owned(), 0, new_id());
            loop {
                let key = KeyRequest::generate().map_err(peer)?;
                let request = JoinRequest { role: self.role, hello: hello_of(id, self.entry), key };
                match wire::join(&address, &self.token, request, now).await {
                    Ok(joined) => {
                        joined.identity.save(self.directory).map_err(peer)?;
                        return Ok((joined.identity, joined.masters));
                    }
                    Err(CallError::Refused(Refusal::NotLeader { leader: Some(leader) }))
                        if leader != address =>
                    {
                        said = format!("{address} says that {leader} leads");
                        address = leader;
                        hops += 1;
                        // Masters that name each other are electing.
                        if hops < HOPS {
                            continue;
                        }
                    }
                    Err(error @ CallError::Refused(Refusal::NotLeader { .. } | Refusal::Unavailable(_))) => {
                        said = error.to_string()
                    }
                    // A leader that was named may have ended since.
                    Err(error @ CallError::Unreachable { .. }) if address != first => {
                        said = error.to_string();
                    }
                    Err(error) => return Err(cannot_join(&error)),
                }
                first.clone_into(&mut address);
                hops = 0;
                tokio::time::sleep(JOIN_PAUSE).await;
            }
        };
        let asked = tokio::time::timeout(JOIN, asking).await;
        asked.unwrap_or_else(|_| Err(cannot_join(&said)))
    }
}

fn cannot_join(error: &dyn std::fmt::Display) -> StartError {
    StartError::Peer(format!("this node cannot join: {error}"))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::config::DataDir;
    use crate::peer::wire::CERTIFICATE_LIFE;
    use crate::registry::core::{Change, Command, State};
    use crate::storage::Faults;

    /// Longer than the life of a certificate, and less than that of an authority.
    fn long_ago() -> Timestamp {
        let by = i64::try_from((CERTIFICATE_LIFE * 2).as_nanos()).expect("in range");
        Timestamp::from_nanos(SystemClock::new().now().wall.nanos() - by)
    }

    fn data(folder: &tempfile::TempDir) -> Data {
        let at = DataDir::At(folder.path().join("node"));
        Data::open(&at, None, Faults::default()).expect("a directory")
    }

    fn name(role: Role) -> PeerName {
        let node_id = NodeId::new(7).expect("not zero");
        PeerName { cluster_id: "c1".to_owned(), role, node_id }
    }

    fn entry() -> MasterEntry {
        MasterEntry {
            peer_address: "127.0.0.1:1".to_owned(),
            master_address: String::new(),
            marathon_address: String::new(),
            max_command_version: VERSION,
            version: String::new(),
        }
    }

    /// A registry that knows this authority.
    fn keep(data: &Data, authority: &Authority) {
        let mut state = State::default();
        for change in [
            Change::CreateCluster { cluster_id: "c1".to_owned(), version: VERSION },
            Change::SetAuthority(registry::Authority {
                certificate: authority.certificate_pem().to_owned(),
                key: authority.key_pem(),
            }),
        ] {
            state.apply(Command { time: long_ago(), change });
        }
        let store = data.registry_store().expect("a store");
        crate::registry::run::begin(&store, name(Role::Master).node_id, &state, (1, 1)).expect("written");
    }

    async fn begin_again(data: &Data, role: Role) -> Result<Beginning, StartError> {
        begin(data, &Begin::Again, role, &entry(), &SystemClock::new()).await
    }

    #[tokio::test]
    async fn a_master_that_was_away_for_very_long_makes_itself_a_certificate() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = data(&folder);
        let authority = Authority::generate("c1", long_ago()).expect("made");
        let old = Identity::issue(&authority, &name(Role::Master), long_ago()).expect("issued");
        old.save(&data.root().join("identity")).expect("saved");
        let now = SystemClock::new().now().wall;
        assert!(!old.is_valid(now) && old.is_valid(long_ago().after(CERTIFICATE_LIFE / 2)));
        // Without a registry nobody can.
        let error = begin_again(&data, Role::Master).await.err().expect("nobody signs").to_string();
        assert!(error.contains("clock") && error.contains("joins again"), "{error}");
        keep(&data, &authority);
        let identity = begin_again(&data, Role::Master).await.expect("renewed").credentials.identity();
        assert!(identity.is_valid(now));
        assert_eq!(identity.name(), &name(Role::Master));
        let saved = Identity::load(&data.root().join("identity")).expect("readable").expect("there");
        assert!(saved.is_valid(now));
    }

    #[tokio::test]
    async fn a_certificate_of_another_authority_is_not_renewed() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = data(&folder);
        let [one, other] = [(); 2].map(|()| Authority::generate("c1", long_ago()).expect("made"));
        let old = Identity::issue(&one, &name(Role::Master), long_ago()).expect("issued");
        old.save(&data.root().join("identity")).expect("saved");
        keep(&data, &other);
        let error = begin_again(&data, Role::Master).await.err().expect("refused").to_string();
        assert!(error.contains("another authority"), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_was_away_for_very_long_joins_again() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = data(&folder);
        let authority = Authority::generate("c1", long_ago()).expect("made");
        let old = Identity::issue(&authority, &name(Role::Agent), long_ago()).expect("issued");
        old.save(&data.root().join("identity")).expect("saved");
        let error = begin_again(&data, Role::Agent).await.err().expect("refused").to_string();
        assert!(error.contains("it ends 20") && error.contains("cluster remove"), "{error}");
    }
}
