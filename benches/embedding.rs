//! What a cluster costs a test that starts one, and how much time the simulator makes of a second.
//!
//! `scripts/bench.sh` runs it. Nothing here is a test.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on must end")]

use std::time::Duration;

use mesita::Cluster;
use mesita::sim::{Options, run};

#[expect(dead_code, reason = "shared by all benchmarks, and none needs all of it")]
mod support;

use support::{header, median, now, row};

/// Starts of each kind of cluster.
const STARTS: usize = 20;
/// Worlds that are simulated, and how long each has faults.
const WORLDS: (u64, Duration) = (100, Duration::from_secs(60));

/// A runtime as a cluster has one, started and ended: what a start cannot be cheaper than.
fn runtimes() -> f64 {
    let times = (0..STARTS).map(|_| {
        let start = now();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {});
        drop(runtime);
        start.elapsed()
    });
    median(times.collect())
}

/// From the builder to a leader with all agents, and from there to the end; medians in milliseconds.
fn starts(masters: usize, agents: usize, sockets: bool) -> (f64, f64) {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let builder = Cluster::builder().masters(masters).agents(agents);
        let builder = if sockets { builder } else { builder.without_sockets() };
        let start = now();
        let cluster = builder.start_blocking().unwrap();
        starts.push(start.elapsed());
        let end = now();
        cluster.shutdown().unwrap();
        ends.push(end.elapsed());
    }
    (median(starts), median(ends))
}

/// CPU time of this process, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn main() {
    header();
    let floor = runtimes();
    for (masters, agents) in [(1, 1), (3, 3), (5, 20)] {
        for sockets in [true, false] {
            let (start, end) = starts(masters, agents, sockets);
            let how = if sockets { "" } else { ", without sockets" };
            let target = if (masters, sockets) == (3, true) { "≤ 500 ms" } else { "" };
            row(
                &format!("a cluster of {masters} + {agents} starts{how}"),
                &format!("{floor:.2} ms (a runtime of two threads, begun and ended)"),
                &format!("{start:.1} ms, and ends in {end:.1} ms"),
                &format!("{:.0}×", start / floor),
                target,
            );
        }
    }
    let (worlds, duration) = WORLDS;
    let before = cpu();
    let mut steps = 0;
    for seed in 0..worlds {
        let options = Options { duration, ..Options::default() };
        steps += run(seed, &options).unwrap().steps;
    }
    let used = cpu() - before;
    let count = u32::try_from(steps).unwrap();
    let hours = duration.as_secs_f64() * f64::from(u32::try_from(worlds).unwrap()) / 3_600.0;
    row(
        &format!("{worlds} simulated clusters under faults for {} s each", duration.as_secs()),
        "one CPU second",
        &format!("{:.0} events/s", f64::from(count) / used),
        &format!("{:.2} simulated hours per CPU second", hours / used),
        "",
    );
}
