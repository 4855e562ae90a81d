//! Many clusters, one after another in one process: nothing of them is left. `MESITA_CLUSTERS` sets how many
//! (`.ci/run` 500).

use mesita::Cluster;

/// Clusters of a short run.
const CLUSTERS: usize = 60;
/// After so many everything has been made that is made once.
const WARM: usize = 10;

/// What this process holds.
#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
    /// In KiB.
    memory: usize,
    directories: usize,
}

fn entries(path: &str) -> usize {
    std::fs::read_dir(path).expect("a directory of /proc").count()
}

fn held(run_id: &str) -> Held {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let memory =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let mine = std::fs::read_dir(std::env::temp_dir()).expect("a temporary directory").flatten();
    let mine = mine.filter(|entry| entry.file_name().to_string_lossy().contains(run_id));
    Held {
        threads: entries("/proc/self/task"),
        descriptors: entries("/proc/self/fd"),
        memory: memory.expect("VmRSS"),
        directories: mine.count(),
    }
}

#[test]
fn clusters_that_are_dropped_leave_nothing() {
    let count = std::env::var("MESITA_CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(CLUSTERS);
    let run = std::env::var("MESITA_RUN_ID").unwrap_or_else(|_| "test".to_owned());
    let run_id = format!("{run}-leaks-{}", std::process::id());
    let mut before = None;
    for number in 0..count {
        let builder = Cluster::builder().masters(1 + number % 2 * 2).agents(2).run_id(&run_id);
        let cluster = builder.start_blocking().expect("a cluster");
        if number % 3 == 0 {
            cluster.shutdown().expect("nothing is left");
        } else {
            drop(cluster);
        }
        if number + 1 == WARM {
            before = Some(held(&run_id));
        }
    }
    let before = before.expect("more than a few");
    let mut after = held(&run_id);
    // A thread that has done its work takes a moment to be gone.
    for _ in 0..1_000 {
        if after.threads <= before.threads {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
        after = held(&run_id);
    }
    eprintln!("{count} clusters: {before:?}, then {after:?}");
    assert_eq!(after.directories, 0);
    assert!(after.threads <= before.threads, "threads: {before:?}, then {after:?}");
    assert!(after.descriptors <= before.descriptors, "descriptors: {before:?}, then {after:?}");
    // What an allocator keeps varies; what each cluster left would add up.
    assert!(
        after.memory < before.memory + before.memory / 4 + count * 8,
        "memory: {before:?}, then {after:?}"
    );
}
