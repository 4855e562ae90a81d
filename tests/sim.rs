//! Many worlds, each decided by one seed: masters, agents, services and frameworks under faults.
//!
//! `MESITA_SIM_SEEDS` sets how many worlds are run (the default keeps the suite short), `MESITA_SIM_SECONDS`
//! how long each has faults, `MESITA_SEED` which is the first. A seed that fails is cut down to the events
//! that it needs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesita::sim::{Failure, Options, Report, run, shrink};

/// Worlds of a short run.
const SEEDS: u64 = 20;
/// Seconds with faults.
const SECONDS: u64 = 60;
/// Seeds that failed once.
const FAILED: &str = include_str!("../testdata/sim/seeds.txt");

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> Vec<u64> {
    let first = number("MESITA_SEED").unwrap_or(1);
    (first..first + number("MESITA_SIM_SEEDS").unwrap_or(SEEDS)).collect()
}

fn options() -> Options {
    let duration = Duration::from_secs(number("MESITA_SIM_SECONDS").unwrap_or(SECONDS));
    Options { duration, ..Options::default() }
}

/// Runs all seeds, some at a time; the first that fails, or what all of them did.
fn run_all(seeds: &[u64], options: &Options) -> Result<Vec<Report>, Failure> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Ok(Vec::new())));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while found.lock().expect("not poisoned").is_ok() {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(seed) = seeds.get(at) else { return };
                    let ran = run(*seed, options);
                    let mut found = found.lock().expect("not poisoned");
                    match (ran, found.as_mut()) {
                        (Ok(report), Ok(reports)) => reports.push(report),
                        (Err(failure), Ok(_)) => *found = Err(failure),
                        (_, Err(_)) => {}
                    }
                }
            });
        }
    });
    found.into_inner().expect("not poisoned")
}

/// Fails with what a seed needs to fail.
fn give_up(failure: &Failure, options: &Options) -> ! {
    eprintln!("{failure}\ncutting it down ...");
    if let Some((left, smaller)) = shrink(failure.seed, options) {
        eprintln!("{} events are enough, which end in: {}", left.len(), smaller.what);
        for event in &left {
            eprintln!("  {:?} {:?}, lasting {:?} ({})", event.at, event.what, event.lasts, event.draw);
        }
        smaller.trace.iter().for_each(|step| eprintln!("  {step}"));
    }
    let seconds = options.duration.as_secs();
    panic!(
        "MESITA_SEED={} MESITA_SIM_SEEDS=1 MESITA_SIM_SECONDS={seconds} cargo test --test sim: {}",
        failure.seed, failure.what
    )
}

fn sum(reports: &[Report], of: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

fn hold(seeds: &[u64], options: &Options) {
    let reports = run_all(seeds, options).unwrap_or_else(|failure| give_up(&failure, options));
    let all = |of: fn(&Report) -> u64| sum(&reports, of);
    eprintln!(
        "{} worlds: {} steps, {} faults, {} commands, {} reads, {} tasks, {} snapshots sent, {} members replaced",
        reports.len(),
        all(|it| it.steps),
        all(|it| it.faults),
        all(|it| it.commits),
        all(|it| it.reads),
        all(|it| it.launches),
        all(|it| it.restores),
        all(|it| it.replacements),
    );
    assert!(all(|it| it.faults) > 0 && all(|it| it.commits) > 0 && all(|it| it.launches) > 0);
}

#[test]
fn whatever_goes_wrong_it_comes_to_rest_as_it_should() {
    hold(&seeds(), &options());
}

#[test]
fn a_majority_is_enough_to_go_on() {
    let seeds: Vec<u64> = seeds().into_iter().step_by(4).collect();
    hold(&seeds, &Options { only_majority: true, ..options() });
}

#[test]
fn what_failed_once_does_not_fail_again() {
    for line in FAILED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut next = || words.next().and_then(|word| word.parse().ok()).expect("seed, seconds, mode");
        let (seed, seconds, mode): (u64, u64, u64) = (next(), next(), next());
        let duration = Duration::from_secs(seconds);
        let options = Options { duration, only_majority: mode == 1, ..Options::default() };
        if let Err(failure) = run(seed, &options) {
            give_up(&failure, &options);
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    let options = Options { duration: Duration::from_secs(20), ..Options::default() };
    for seed in seeds() {
        let twice =
            [run(seed, &options), run(seed, &options)].map(|ran| ran.map_err(|failure| failure.to_string()));
        assert_eq!(twice[0], twice[1]);
    }
}

/// Each bug that is planted on purpose, and the first seed that finds it.
#[cfg(planted)]
#[test]
fn planted_bugs_are_found() {
    use mesita::base::planted::{Bug, choose};

    /// Within so many seeds.
    const WITHIN: u64 = 500;
    let mut missed = Vec::new();
    std::panic::set_hook(Box::new(|_| {}));
    for bug in Bug::ALL {
        choose(Some(bug));
        let found = (1..=WITHIN).find_map(|seed| run(seed, &options()).err());
        choose(None);
        match found {
            Some(failure) => eprintln!("{bug:?}: seed {}: {}", failure.seed, failure.what),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {WITHIN} seeds: {missed:?}");
}
