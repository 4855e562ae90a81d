//! What the benchmarks share: time, the table, a framework, etcd, processes.

pub(crate) mod etcd;
pub(crate) mod framework;
pub(crate) mod process;

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The value below which `share` (0 to 1) of all are, in milliseconds.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a list that fits into memory"
    )]
    let index = (times.len() as f64 * share) as usize;
    times[index.min(times.len() - 1)].as_secs_f64() * 1_000.0
}

pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    quantile(&mut times, 0.5)
}

pub(crate) fn row(work: &str, floor: &str, ours: &str, ratio: &str, target: &str) {
    let mut out = std::io::stdout().lock();
    std::io::Write::write_fmt(&mut out, format_args!("| {work} | {floor} | {ours} | {ratio} | {target} |\n"))
        .unwrap();
}

/// The head of the table.
pub(crate) fn header() {
    row("work", "floor of the same run", "ours", "ratio", "target");
    row("---", "---", "---", "---", "---");
}

/// Where the benchmarks run.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Waits until something happened, by asking often; ends the benchmark when it never does.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions: what is measured by asking is at most this much too high.
const POLL: Duration = Duration::from_millis(2);
