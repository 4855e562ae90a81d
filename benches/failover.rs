//! What the loss of the leader costs: until a change is committed, until a framework has an offer, until
//! all agents are back; with three real nodes, with three etcd, and with many simulated tasks.
//!
//! `scripts/bench.sh` runs it. Nothing here is a test. `MESITA_BENCH_LARGE=1` adds 100,000 tasks.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on must end")]

use std::path::Path;
use std::time::{Duration, Instant};

use mesita::Cluster;
use mesita::api::v1::{FrameworkId, TaskState};
use mesita::client::http::{HttpClient, Reply};
use mesita::cluster::Executor;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[path = "support/nodes.rs"]
mod nodes;
#[expect(dead_code, reason = "shared by all benchmarks, and none needs all of it")]
mod support;

use nodes::Nodes;
use support::etcd::{Client, Etcd};
use support::framework::Framework;
use support::process::{on_path, signal};
use support::{header, now, quantile, row, runtime, until};

/// Times that a leader is lost.
const ROUNDS: usize = 10;
/// After that, whoever waits for an answer asks somebody else.
const TRY: Duration = Duration::from_millis(250);
/// Simulated agents, and tasks of one ACCEPT.
const AGENTS: usize = 10;
const CHUNK: usize = 250;
/// Apache Mesos' figure, by PERFORMANCE.md.
const MESOS: &str = "Apache Mesos, killed: offers after 10.0 s";
const TARGET: &str = "≤ 2 s (2× the election timeout)";

/// Masters that may be asked, whoever of them leads.
struct Masters(Vec<String>);

impl Masters {
    /// Asks one after another, until one of them gives what is wanted.
    async fn ask<T>(&self, what: &str, mut ask: impl AsyncFnMut(&str) -> Option<T>) -> T {
        until(what, async || {
            for master in &self.0 {
                if let Ok(Some(answer)) = tokio::time::timeout(TRY, ask(master)).await {
                    return Some(answer);
                }
            }
            None
        })
        .await
    }

    async fn operator(&self, call: &str, is_right: impl Fn(&Value) -> bool) {
        let body = json!({ "type": call });
        // Long answers take their time.
        until(call, async || {
            for master in &self.0 {
                let client = HttpClient::new(master, Duration::from_secs(10)).unwrap();
                let reply = client.post("/api/v1", &body).await;
                if reply.as_ref().is_ok_and(|reply| reply.status() == 200 && is_right(&reply.json())) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Until all three vote and have everything.
    async fn voters(&self) {
        self.ask("three voters", async |master| {
            let client = HttpClient::new(master, TRY).unwrap();
            let status = client.get("/mesita/v1/cluster").await.ok()?.json();
            let masters = status["masters"].as_array()?;
            let votes = |one: &Value| one["role"] != "learner" && one["is_alive"] == true && one["lag"] == 0;
            (masters.len() == 3 && masters.iter().all(votes)).then_some(())
        })
        .await;
    }

    /// Until so many agents are active.
    async fn agents(&self, count: usize) {
        self.operator("GET_AGENTS", |answer| {
            let agents = answer["get_agents"]["agents"].as_array();
            agents.is_some_and(|agents| agents.iter().filter(|one| one["active"] == true).count() == count)
        })
        .await;
    }

    /// Until so many tasks are known.
    async fn tasks(&self, count: usize) {
        self.operator("GET_TASKS", |answer| {
            answer["get_tasks"]["tasks"].as_array().is_some_and(|tasks| tasks.len() == count)
        })
        .await;
    }

    /// Until a new app is accepted. `name` is its own.
    async fn commit(&self, name: &str) {
        let app = json!({ "id": name, "cmd": "true", "cpus": 0.01, "mem": 1, "instances": 0 });
        self.ask("a change", async |master| {
            let client = HttpClient::new(master, TRY).unwrap();
            let reply = client.put(&format!("/v2/apps{name}?force=true"), &app).await;
            reply.is_ok_and(|reply: Reply| reply.is_success()).then_some(())
        })
        .await;
    }

    /// Until a framework is subscribed, for the first time or again.
    async fn subscribe(&self, id: Option<FrameworkId>) -> Framework {
        self.ask("a subscription", async |master| Framework::subscribe(master, id.clone()).await.ok()).await
    }

    /// Which of them leads, as they say.
    async fn leader(&self) -> usize {
        self.ask("a leader", async |master| {
            let state = HttpClient::new(master, TRY).unwrap().get("/state").await.ok()?.json();
            let leader = state["leader"].as_str()?;
            self.0.iter().position(|url| leader.ends_with(url.trim_start_matches("http://")))
        })
        .await
    }
}

/// The times of several rounds: a change, an offer, all agents.
#[derive(Default)]
struct Times([Vec<Duration>; 3]);

impl Times {
    fn rows(mut self, how: &str) {
        for (times, what) in self.0.iter_mut().zip(["a change is committed", "an offer", "all agents"]) {
            let target = if what == "an offer" { format!("{TARGET}; {MESOS}") } else { TARGET.to_owned() };
            row(&format!("{how}, until {what}"), "", &spread(times), "", &target);
        }
    }
}

fn spread(times: &mut [Duration]) -> String {
    format!("median {:.0} ms, most {:.0} ms", quantile(times, 0.5), quantile(times, 1.0))
}

async fn timed(start: Instant, work: impl Future<Output = ()>) -> Duration {
    work.await;
    start.elapsed()
}

/// A leader is killed, or stopped and continued afterwards.
async fn nodes(parent: &Path, by: Signal) {
    let mut three = Nodes::start(parent);
    let mut times = Times::default();
    let all = Masters(three.masters(&[0, 1, 2]));
    all.agents(3).await;
    let mut framework = all.subscribe(None).await;
    framework.offer().await;
    for round in 0..ROUNDS {
        let all = Masters(three.masters(&[0, 1, 2]));
        all.voters().await;
        all.agents(3).await;
        let leader = all.leader().await;
        let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
        let left = Masters(three.masters(&others));
        let id = framework.id.clone();
        let start = now();
        signal(&three.nodes[leader].process.0, by);
        let (mut again, name) = (None, format!("/bench-{round}"));
        let offer = async {
            let mut framework = left.subscribe(id).await;
            framework.offer().await;
            again = Some(framework);
        };
        let (commit, offer, agents) =
            tokio::join!(timed(start, left.commit(&name)), timed(start, offer), timed(start, left.agents(2)));
        for (list, time) in times.0.iter_mut().zip([commit, offer, agents]) {
            list.push(time);
        }
        framework = again.unwrap();
        if by == Signal::SIGSTOP {
            signal(&three.nodes[leader].process.0, Signal::SIGCONT);
        } else {
            three.restart(leader);
        }
    }
    times.rows(if by == Signal::SIGSTOP { "leader stopped (SIGSTOP)" } else { "leader killed (kill -9)" });
}

async fn etcd(parent: &Path) {
    if !on_path("etcd") {
        row("etcd, leader killed", "", "not measured: no `etcd` on PATH", "", "");
        return;
    }
    let mut etcd = Etcd::start(parent).await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let leader = etcd.leader(&[0, 1, 2]).await;
        let others = (0..3).filter(|number| *number != leader).map(|number| etcd.port(number));
        let others: Vec<u16> = others.collect();
        let start = now();
        signal(&etcd.members[leader].0, Signal::SIGKILL);
        until("a put", async || {
            for port in &others {
                let put = async { Client::connect(*port).await?.put(vec![1], vec![2]).await };
                if matches!(tokio::time::timeout(TRY, put).await, Ok(Ok(()))) {
                    return Some(());
                }
            }
            None
        })
        .await;
        times.push(start.elapsed());
        etcd.restart(leader);
        let port = etcd.port(leader);
        until("etcd's return", async || Client::connect(port).await.ok()?.put(vec![1], vec![2]).await.ok())
            .await;
    }
    row("etcd, leader killed (kill -9), until a put succeeds", "", &spread(&mut times), "", "");
}

/// Loses the leader of three in this process while so many tasks run: until a change is committed, and
/// until all agents are back with all tasks.
async fn tasks(count: usize) -> [Duration; 2] {
    let cluster = Cluster::builder().masters(3).agents(AGENTS).executor(Executor::Fake);
    let cluster = cluster.agent_resources("cpus:100000;mem:10000000;disk:100000").start().await.unwrap();
    let urls = cluster.master_urls();
    let mut framework = Masters(urls.clone()).subscribe(None).await;
    let mut running = 0;
    for first in (0..count).step_by(CHUNK) {
        framework.launch("sleep", first..(first + CHUNK).min(count)).await;
        while framework.offers.is_empty() && running < count {
            let status = framework.next().await;
            running += usize::from(status.is_some_and(|status| status.state() == TaskState::TaskRunning));
        }
    }
    framework.until(TaskState::TaskRunning, count - running).await;
    framework.acknowledged().await;
    let leader = until("a leader", async || cluster.leader().await).await;
    let left = urls.into_iter().enumerate().filter(|(number, _)| *number != leader);
    let left = Masters(left.map(|(_, url)| url).collect());
    let start = now();
    cluster.kill_master(leader).await.unwrap();
    let back = async {
        left.agents(AGENTS).await;
        left.tasks(count).await;
    };
    let (commit, back) = tokio::join!(timed(start, left.commit("/bench")), timed(start, back));
    cluster.shutdown().await.unwrap();
    [commit, back]
}

async fn many_tasks() {
    let is_large = std::env::var_os("MESITA_BENCH_LARGE").is_some();
    let counts: &[usize] = if is_large { &[1_000, 10_000, 100_000] } else { &[1_000, 10_000] };
    let mut last: Option<[Duration; 2]> = None;
    for count in counts {
        let took = tasks(*count).await;
        for (number, what) in
            ["a change is committed", "all agents are back with all tasks"].iter().enumerate()
        {
            let ratio = last.map(|last| took[number].as_secs_f64() / last[number].as_secs_f64());
            row(
                &format!(
                    "leader of three in one process killed, {count} tasks on {AGENTS} agents, until {what}"
                ),
                "",
                &format!("{:.0} ms", took[number].as_secs_f64() * 1_000.0),
                &ratio.map(|ratio| format!("{ratio:.1}× of a tenth of the tasks")).unwrap_or_default(),
                "1M tasks ≤ 1.5× 10k",
            );
        }
        last = Some(took);
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    header();
    runtime().block_on(async {
        nodes(target, Signal::SIGKILL).await;
        nodes(target, Signal::SIGSTOP).await;
        etcd(target).await;
        many_tasks().await;
    });
}
