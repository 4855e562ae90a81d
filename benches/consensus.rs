//! What it costs to agree: commit latency of one proposer and throughput of many, with one, three and five
//! voters on real disk, within one process and over the real wire; beside the disk, the loopback and etcd.
//!
//! `scripts/bench.sh` runs it. Every figure of ours stands beside a floor that was measured in the same run:
//! compare the ratios, not the times. Nothing here is a test.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on must end")]

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesita::base::id::NodeId;
use mesita::base::spawn::{Fatal, Tasks};
use mesita::consensus::core::{Config, Role, SNAPSHOT_EVERY};
use mesita::consensus::run::{Handle, Link, Machine, MemberConfig, ProposeError, start};
use mesita::peer::memory::Hub;
use mesita::storage::SledStore;
use tempfile::TempDir;
use tokio::sync::mpsc;

#[expect(dead_code, reason = "shared by all benchmarks, and none needs all of it")]
mod support;
#[path = "support/wire.rs"]
mod wire;

use support::etcd::{Client, Etcd};
use support::process::on_path;
use support::{header, now, quantile, row, runtime, until};

/// Commits of the one proposer.
const SINGLES: usize = 1_000;
/// Proposers at the same time, and how long they go on.
const PROPOSERS: [usize; 2] = [256, 4_096];
const LOAD: Duration = Duration::from_secs(3);
/// Bytes of one entry.
const ENTRY: usize = 128;
/// Clients of etcd at the same time, and the connections that they share.
const ETCD: (usize, usize) = (512, 8);
/// As the nodes have it by default: elections after 1 s.
const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: usize = 10;

/// A state machine that only counts.
struct Counter(u64);

impl Machine for Counter {
    type Reply = u64;

    fn apply(&mut self, _index: u64, _data: &[u8]) -> Result<u64, String> {
        self.0 += 1;
        Ok(self.0)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn restore(&mut self, _index: u64, data: &[u8]) -> Result<(), String> {
        self.0 = u64::from_le_bytes(data.try_into().map_err(|_| "eight bytes were expected".to_owned())?);
        Ok(())
    }

    fn members(&self) -> BTreeSet<u64> {
        BTreeSet::new()
    }

    fn role(&mut self, _role: Role) {}

    fn applied(&mut self, _index: u64) {}
}

fn id(number: usize) -> NodeId {
    NodeId::new(u64::try_from(number).unwrap() + 1).unwrap()
}

/// Voters on disk, in directories of their own.
struct Voters {
    handles: Vec<Handle<u64>>,
    tasks: Tasks,
    fatal: mpsc::UnboundedReceiver<Fatal>,
    _folder: TempDir,
}

impl Voters {
    fn start(parent: &Path, links: Vec<Option<Link>>) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        let (mut tasks, fatal) = Tasks::new();
        let first_voters: Vec<u64> = (0..links.len()).map(|number| id(number).get()).collect();
        let member = |(number, link): (usize, Option<Link>)| {
            let core = Config {
                id: id(number).get(),
                election_ticks: ELECTION_TICKS,
                first_voters: first_voters.clone(),
                seed: id(number).get(),
                snapshot_every: SNAPSHOT_EVERY,
            };
            let path = folder.path().join(number.to_string());
            std::fs::create_dir(&path).unwrap();
            let store = Arc::new(SledStore::open(&path).unwrap());
            let config = MemberConfig { core, tick: TICK };
            start(&mut tasks, &config, store, link, |_| Ok(Counter(0))).unwrap()
        };
        let handles = links.into_iter().enumerate().map(member).collect();
        Self { handles, tasks, fatal, _folder: folder }
    }

    /// The one that leads, as soon as it commits.
    async fn leader(&self) -> Handle<u64> {
        // Without this, an election comes by itself, later.
        self.handles[0].campaign().unwrap();
        until("a leader", async || {
            for handle in &self.handles {
                if commit(handle).await.is_ok() {
                    return Some(handle.clone());
                }
            }
            None
        })
        .await
    }

    async fn stop(mut self) {
        let stopped = self.tasks.stop(Duration::from_secs(10), std::future::pending()).await;
        assert!(stopped, "voters did not stop");
        assert!(self.fatal.try_recv().is_err(), "a voter failed");
    }
}

async fn commit(handle: &Handle<u64>) -> Result<(), ProposeError> {
    handle.propose(vec![7; ENTRY])?.committed().await.map(|_| ())
}

/// Commits per second of many proposers that each wait for their last.
async fn throughput(leader: &Handle<u64>, proposers: usize) -> f64 {
    let count = Arc::new(AtomicUsize::new(0));
    let start = now();
    let one = |_| {
        let (leader, count) = (leader.clone(), Arc::clone(&count));
        tokio::spawn(async move {
            while start.elapsed() < LOAD {
                match commit(&leader).await {
                    Ok(()) => _ = count.fetch_add(1, Ordering::Relaxed),
                    Err(ProposeError::Busy) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    let all: Vec<_> = (0..proposers).map(one).collect();
    for proposer in all {
        proposer.await.unwrap();
    }
    rate(&count, start.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn rate(count: &AtomicUsize, elapsed: Duration) -> f64 {
    count.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64()
}

/// What the machine itself takes, in milliseconds, medians.
#[derive(Clone, Copy)]
struct Floor {
    sync: f64,
    trip: f64,
}

impl Floor {
    fn measure(folder: &Path) -> Self {
        Self { sync: sync(folder), trip: round_trip() }
    }

    /// What one commit needs at the least.
    fn commit(self, voters: usize) -> f64 {
        if voters == 1 { self.sync } else { self.sync + self.trip }
    }

    fn text(self, voters: usize) -> String {
        let Self { sync, trip } = self;
        if voters == 1 {
            format!("{sync:.2} ms (fdatasync)")
        } else {
            format!("{:.2} ms (fdatasync {sync:.2} + round trip {trip:.3})", sync + trip)
        }
    }
}

/// Write and fdatasync of 4 KiB, in a file that has its size.
fn sync(folder: &Path) -> f64 {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("floor");
    let file = OpenOptions::new().create_new(true).write(true).open(path).unwrap();
    file.write_all_at(&[1; 4_096], 0).unwrap();
    file.sync_all().unwrap();
    let one = |number: usize| {
        let block = [u8::try_from(number % 256).unwrap(); 4_096];
        let start = now();
        file.write_all_at(&block, 0).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..SINGLES).map(one).collect();
    quantile(&mut times, 0.5)
}

/// One byte there and back over TCP on loopback, between threads.
fn round_trip() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    here.set_nodelay(true).unwrap();
    there.set_nodelay(true).unwrap();
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while there.read_exact(&mut byte).is_ok() {
            there.write_all(&byte).unwrap();
        }
    });
    let mut one = |_| {
        let start = now();
        here.write_all(&[1]).unwrap();
        here.read_exact(&mut [0]).unwrap();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..SINGLES).map(&mut one).collect();
    drop(here);
    echo.join().unwrap();
    quantile(&mut times, 0.5)
}

fn latency_row(work: &str, floor: Floor, voters: usize, times: &mut [Duration]) {
    let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
    row(
        &format!("commit latency, {work}"),
        &floor.text(voters),
        &format!("p50 {p50:.2} ms, p99 {p99:.2} ms"),
        &format!("{:.1}×", p50 / floor.commit(voters)),
        if voters == 3 && !work.starts_with("etcd") { "p50 ≤ 1.5×" } else { "" },
    );
}

async fn measure(work: &str, floor: Floor, voters: &Voters) {
    let leader = voters.leader().await;
    let mut times = Vec::with_capacity(SINGLES);
    for _ in 0..SINGLES {
        let start = now();
        commit(&leader).await.unwrap();
        times.push(start.elapsed());
    }
    latency_row(work, floor, voters.handles.len(), &mut times);
    for proposers in PROPOSERS {
        let ours = throughput(&leader, proposers).await;
        let is_target = voters.handles.len() == 3 && proposers == PROPOSERS[1];
        row(
            &format!("commits per second, {work}, {proposers} proposers"),
            "",
            &format!("{ours:.0}/s"),
            "",
            if is_target { "≥ 100,000/s" } else { "" },
        );
    }
}

/// etcd's clients are connections to its leader; our proposers are in the leader's process.
async fn etcd(floor: Floor, parent: &Path) {
    if !on_path("etcd") {
        row("etcd, 3 voters", "", "not measured: no `etcd` on PATH", "", "");
        return;
    }
    let etcd = Etcd::start(parent).await;
    let port = etcd.port(etcd.leader(&[0, 1, 2]).await);
    let mut client = Client::connect(port).await.unwrap();
    let mut times = Vec::with_capacity(SINGLES);
    for number in 0..SINGLES {
        let start = now();
        client.put(number.to_le_bytes().to_vec(), vec![7; ENTRY]).await.unwrap();
        times.push(start.elapsed());
    }
    let work = "etcd, 3 voters (clients over gRPC, which ours do not need)";
    latency_row(work, floor, 3, &mut times);
    let (clients, connections) = ETCD;
    let mut shared = Vec::new();
    for _ in 0..connections {
        shared.push(Client::connect(port).await.unwrap());
    }
    let (count, start) = (Arc::new(AtomicUsize::new(0)), now());
    let one = |number: usize| {
        let (mut client, count) = (shared[number % connections].clone(), Arc::clone(&count));
        tokio::spawn(async move {
            while start.elapsed() < LOAD {
                client.put(number.to_le_bytes().to_vec(), vec![7; ENTRY]).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let all: Vec<_> = (0..clients).map(one).collect();
    for client in all {
        client.await.unwrap();
    }
    let rate = rate(&count, start.elapsed());
    row(&format!("commits per second, {work}, {clients} clients"), "", &format!("{rate:.0}/s"), "", "");
}

async fn all(parent: &Path) {
    for count in [1, 3, 5] {
        let floor = Floor::measure(parent);
        let hub = Hub::default();
        let link = |number| {
            let (network, events) = hub.connect(id(number));
            Some(Link { network, events })
        };
        // One that is alone has nobody to connect to.
        let links = if count == 1 { vec![None] } else { (0..count).map(link).collect() };
        let voters = Voters::start(parent, links);
        let voters_text =
            if count == 1 { "1 voter".to_owned() } else { format!("{count} voters in one process") };
        measure(&voters_text, floor, &voters).await;
        voters.stop().await;
    }
    let floor = Floor::measure(parent);
    let (servers, links) = wire::connect(3).await;
    let voters = Voters::start(parent, links.into_iter().map(Some).collect());
    measure("3 voters over mutual TLS on loopback", floor, &voters).await;
    voters.stop().await;
    drop(servers);
    etcd(Floor::measure(parent), parent).await;
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    // Not in a temporary directory of the system, which may be memory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    header();
    runtime().block_on(all(target));
}
