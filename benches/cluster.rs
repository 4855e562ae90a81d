//! What a cluster costs on this machine, beside what the machine itself costs: start to first offer, one
//! task from ACCEPT to RUNNING, process launches in bulk.
//!
//! `scripts/bench.sh` runs it. Every figure of ours stands beside a floor that was measured in the same run:
//! compare the ratios, not the times. Nothing here is a test.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on must end")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesita::api::v1::TaskState;
use serde_json::Value;

#[expect(dead_code, reason = "shared by all benchmarks, and none needs all of it")]
mod support;

use support::framework::Framework;
use support::{header, median, now, row, runtime};

/// Starts of a cluster.
const STARTS: usize = 20;
/// Tasks that are launched one after another.
const SINGLES: usize = 100;
/// Tasks that are launched in bulk, and how many an ACCEPT has at the most.
const BULK: (usize, usize) = (2_000, 250);
/// What every task runs.
const TRUE: &str = "/bin/true";
/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(5);

/// A `mesita dev` that is killed when dropped.
struct Dev {
    child: Child,
    master: String,
}

impl Dev {
    fn start() -> Self {
        let free = "127.0.0.1:0";
        let mut child = Command::new(env!("CARGO_BIN_EXE_mesita"))
            .args(["dev", "--json", "--master-addr", free, "--agent-addr", free, "--marathon-addr", free])
            .args(["--agent-resources", "cpus:100000;mem:1000000;disk:1000000;ports:[31000-31099]"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, master: ready["masters"][0].as_str().unwrap().to_owned() }
    }

    /// User and system time so far, in clock ticks of 10 ms, and resident KiB, with all descendants of ours.
    fn usage(&self) -> (u64, u64) {
        let own = std::fs::read_to_string(format!("/proc/{}/task/{0}/children", self.child.id())).unwrap();
        let pids = own.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([self.child.id()]);
        let mut sum = (0, 0);
        for pid in pids {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            sum.0 += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
            sum.1 += fields[21].parse::<u64>().unwrap() * 4;
        }
        sum
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // SIGTERM, so that the launcher and the temporary directory go, too.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Times of one child, started and waited for.
fn spawns(program: &str, argument: Option<&str>, count: usize) -> Vec<Duration> {
    let one = |_| {
        let start = now();
        let mut command = Command::new(program);
        command.args(argument).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        start.elapsed()
    };
    (0..count).map(one).collect()
}

async fn cold_start() {
    let floor = median(spawns(env!("CARGO_BIN_EXE_mesita"), Some("version"), STARTS));
    let (mut ready, mut offered) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = now();
        let dev = Dev::start();
        ready.push(start.elapsed());
        let mut framework = Framework::subscribe(&dev.master, None).await.unwrap();
        framework.offer().await;
        offered.push(start.elapsed());
    }
    let (ready, offered) = (median(ready), median(offered));
    let floor_text = format!("{floor:.1} ms (`mesita version`)");
    row(
        "`dev` to its ready line",
        &floor_text,
        &format!("{ready:.1} ms"),
        &format!("{:.1}×", ready / floor),
        "",
    );
    row(
        "`dev` to the first offer of a framework over HTTP",
        &floor_text,
        &format!("{offered:.1} ms"),
        &format!("{:.1}×", offered / floor),
        "≤ 30 ms",
    );
}

async fn idle() {
    let dev = Dev::start();
    let mut framework = Framework::subscribe(&dev.master, None).await.unwrap();
    framework.offer().await;
    let before = dev.usage().0;
    tokio::time::sleep(IDLE).await;
    let (after, kib) = dev.usage();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (share, mib) = ((after - before) as f64 / (IDLE.as_secs_f64() * 100.0), kib as f64 / 1_024.0);
    row("idle: resident, with the launcher", "", &format!("{mib:.1} MiB"), "", "≤ 15 MiB");
    row("idle: share of a core", "", &format!("{:.2} %", share * 100.0), "", "≤ 0.05 %");
}

async fn one_task() {
    let dev = Dev::start();
    let mut framework = Framework::subscribe(&dev.master, None).await.unwrap();
    let (mut running, mut finished) = (Vec::new(), Vec::new());
    for number in 0..SINGLES {
        let offer = framework.offer().await;
        framework.offers.push(offer);
        let start = now();
        framework.launch(TRUE, number..number + 1).await;
        framework.until(TaskState::TaskRunning, 1).await;
        running.push(start.elapsed());
        framework.until(TaskState::TaskFinished, 1).await;
        finished.push(start.elapsed());
    }
    let floor = median(spawns(TRUE, None, SINGLES));
    for (name, times) in [("RUNNING", running), ("FINISHED", finished)] {
        let ours = median(times);
        row(
            &format!("one task, ACCEPT → {name}"),
            &format!("{floor:.2} ms (spawn and wait)"),
            &format!("{ours:.2} ms"),
            &format!("{:.1}×", ours / floor),
            if name == "RUNNING" { "Apache Mesos: 105 ms" } else { "Apache Mesos: 200 ms" },
        );
    }
}

async fn bulk() {
    let (count, most) = BULK;
    let start = now();
    spawns(TRUE, None, count);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let rate = |elapsed: Duration| count as f64 / elapsed.as_secs_f64();
    let floor = rate(start.elapsed());
    let dev = Dev::start();
    let mut framework = Framework::subscribe(&dev.master, None).await.unwrap();
    let offer = framework.offer().await;
    framework.offers.push(offer);
    let start = now();
    let mut finished = 0;
    for first in (0..count).step_by(most) {
        framework.launch(TRUE, first..(first + most).min(count)).await;
        // What ends while the next offer is waited for is counted, too.
        while framework.offers.is_empty() && finished < count {
            let ended = framework.next().await;
            finished += usize::from(ended.is_some_and(|status| status.state() == TaskState::TaskFinished));
        }
    }
    framework.until(TaskState::TaskFinished, count - finished).await;
    let ours = rate(start.elapsed());
    row(
        &format!("{count} process tasks, launched, finished and acknowledged"),
        &format!("{floor:.0}/s (spawn and wait, one by one)"),
        &format!("{ours:.0}/s"),
        &format!("{:.2}×", ours / floor),
        "≥ 0.8× of the floor; Apache Mesos: 10/s",
    );
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    header();
    runtime().block_on(async {
        cold_start().await;
        idle().await;
        one_task().await;
        bulk().await;
    });
}
