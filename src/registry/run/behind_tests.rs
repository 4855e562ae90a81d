//! A member that is far behind, and how large the data grows meanwhile: three members on disk, in one
//! process. `MESITA_ENTRIES` sets how many entries (the promise says a million; the default keeps the suite
//! short).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;

use super::{Link, Others, Registry, RegistryConfig};
use crate::api::v1;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::spawn::Tasks;
use crate::base::time::{Clock as _, Timestamp};
use crate::peer::memory::Hub;
use crate::registry::core::{Change, Command, MasterEntry, VERSION};
use crate::storage::SledStore;

/// Entries of a short run.
const ENTRIES: usize = 12_000;
/// Proposals at a time.
const TOGETHER: usize = 512;
/// What is not live data may be so many times larger than it, and this much (DESIGN's bound on a store).
const TIMES: u64 = 8;
const BESIDE: u64 = 64 * 1024 * 1024;
/// Everything that is waited for comes sooner.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// The same agent tells something new: the state does not grow.
fn news(number: usize) -> Command {
    let agent_id = Some(v1::AgentId { value: "S1".to_owned() });
    let hostname = format!("host-{number}");
    let info = Arc::new(v1::AgentInfo { hostname, id: agent_id, ..Default::default() });
    let change = match number {
        0 => Change::AdmitAgent { info, node: None },
        _ => Change::UpdateAgent { info, node: None },
    };
    Command { time: Timestamp::from_nanos(1), change }
}

/// Proposes so many commands, many at a time.
async fn propose(leader: &Registry, range: std::ops::Range<usize>) {
    let mut under_way = FuturesUnordered::new();
    for number in range {
        if under_way.len() >= TOGETHER {
            under_way.next().await.expect("some are under way");
        }
        let leader = leader.clone();
        under_way.push(async move {
            while leader.propose(news(number)).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
    }
    while under_way.next().await.is_some() {}
}

/// The last command that a member has applied. (A borrowed value would lock the member until the end of the
/// statement that it is borrowed in.)
fn applied(member: &Registry) -> u64 {
    *member.watch().borrow()
}

async fn reach(member: &Registry, index: u64) {
    let mut applied = member.watch();
    let reached = applied.wait_for(|applied| *applied >= index);
    tokio::time::timeout(PATIENCE, reached).await.expect("in time").expect("it runs");
}

struct Three {
    tasks: Tasks,
    hub: Hub,
    members: Vec<Registry>,
    stores: Vec<Arc<SledStore>>,
    /// What masters tell of themselves, as long as it lives.
    _told: watch::Sender<BTreeMap<NodeId, MasterEntry>>,
}

/// Three members on disk, none of which leads.
async fn three(folder: &Path, clock: &Arc<SystemClock>) -> Three {
    let (mut tasks, _failures) = Tasks::new();
    let hub = Hub::default();
    let ids: BTreeSet<NodeId> = (1..=3).map(id).collect();
    let entry = MasterEntry { max_command_version: VERSION, ..MasterEntry::default() };
    let told: BTreeMap<NodeId, MasterEntry> = ids.iter().map(|id| (*id, entry.clone())).collect();
    let (told, heard) = watch::channel(told);
    let (mut members, mut stores) = (Vec::new(), Vec::new());
    for own in &ids {
        let directory = folder.join(own.to_string());
        std::fs::create_dir(&directory).expect("a directory");
        let store = Arc::new(SledStore::open(&directory).expect("opened"));
        stores.push(Arc::clone(&store));
        let (network, events) = hub.connect(*own);
        let link = Link { network, events };
        let config =
            RegistryConfig { id: *own, first_masters: ids.clone(), ..RegistryConfig::alone("c1".to_owned()) };
        let others = Some(Others { link, told: heard.clone() });
        let member = Registry::start(&mut tasks, store, config, others, Arc::clone(clock)).await;
        members.push(member.expect("started"));
    }
    Three { tasks, hub, members, stores, _told: told }
}

#[expect(clippy::print_stdout, reason = "figures of a run, for whoever asked for it")]
fn say(text: &str) {
    println!("{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_cut_off_catches_up_and_nothing_grows_without_bound() {
    let entries = std::env::var("MESITA_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES);
    let folder = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(SystemClock::new());
    let Three { tasks, hub, members, stores, _told } = three(folder.path(), &clock).await;
    members[0].campaign().expect("it runs");
    let leader = members[0].clone();
    let mut leadership = leader.leadership();
    let leads = leadership.wait_for(|role| matches!(role, super::Leadership::Leader { .. }));
    tokio::time::timeout(PATIENCE, leads).await.expect("in time").expect("it runs");
    propose(&leader, 0..100).await;
    reach(&members[2], applied(&leader)).await;

    for other in [id(1), id(2)] {
        hub.cut(other, id(3));
        hub.cut(id(3), other);
    }
    let began = clock.now().mono;
    propose(&leader, 100..entries).await;
    let wrote = clock.now().mono.since(began);
    let behind = applied(&leader) - applied(&members[2]);
    assert!(behind >= u64::try_from(entries - 100).expect("small"), "it is {behind} behind");
    hub.heal();
    // While it catches up the others go on: each of these has a majority at once.
    let (healed, last) = (clock.now().mono, applied(&leader));
    let mut slowest = Duration::ZERO;
    let (returning, watching) = (members[2].clone(), Arc::clone(&clock));
    let mut caught_up = tokio::spawn(async move {
        reach(&returning, last).await;
        watching.now().mono.since(healed)
    });
    let mut number = entries;
    let took = loop {
        let began = clock.now().mono;
        tokio::select! {
            took = &mut caught_up => break took.expect("in time"),
            proposed = leader.propose(news(number)) => {
                proposed.expect("committed");
                slowest = slowest.max(clock.now().mono.since(began));
                number += 1;
            }
        }
    };
    assert!(slowest < Duration::from_secs(1), "the others were stalled for {slowest:?}");
    // The last may have been given up while it was under way: this one comes after it.
    propose(&leader, number + 1..number + 2).await;
    reach(&members[2], applied(&leader)).await;
    assert_eq!(*members[2].view(), *leader.view());
    let sizes: Vec<u64> = stores.iter().map(|store| store.size_on_disk().expect("readable")).collect();
    say(&format!(
        "{entries} entries in {wrote:?}; {behind} behind, caught up in {took:?}, slowest commit meanwhile {slowest:?}; bytes on disk {sizes:?}"
    ));
    for (store, size) in stores.iter().zip(&sizes) {
        use crate::storage::Store as _;
        let live: usize =
            store.scan(b"").expect("whole").iter().map(|(key, value)| key.len() + value.len()).sum();
        let bound = TIMES * u64::try_from(live).expect("small") + BESIDE;
        assert!(*size <= bound, "{size} bytes on disk for {live} live ones");
    }
    drop((leader, members));
    assert!(tasks.stop(Duration::from_secs(30), std::future::pending()).await, "stopped in time");
}
