//! What the host has (Mesos agent, resource auto-detection).

use std::path::Path;

use super::disk;

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// Resources that an agent offers when nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Hardware threads.
    pub cpus: u32,
    /// Memory in MiB, after what the system keeps.
    pub mem_mib: u64,
    /// Disk of the work directory's file system in MiB, after what the system keeps.
    pub disk_mib: u64,
}

/// Detects: all hardware threads (1 if unknown); memory less 1 GiB, or half below 2 GiB (1 GiB if
/// unknown); disk less 5 GiB, or half below 10 GiB (10 GiB if unknown).
#[must_use]
pub fn detect(work_dir: &Path) -> Host {
    let cpus =
        std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let mem = total_memory_mib().map_or(1_024, |total| keep(total, 1_024));
    let disk = total_disk_mib(work_dir).map_or(10_240, |total| keep(total, 5_120));
    Host { cpus, mem_mib: mem, disk_mib: disk }
}

/// What this host calls itself; `localhost` where it does not say.
#[must_use]
pub fn name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// What is left when the system keeps `kept`, or half if that were more than half.
fn keep(total: u64, kept: u64) -> u64 {
    if total >= 2 * kept { total - kept } else { total / 2 }
}

fn total_memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1_024)
}

fn total_disk_mib(path: &Path) -> Option<u64> {
    Some(disk::space(path)?.total / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something() {
        let host = detect(Path::new("/"));
        assert!(host.cpus >= 1 && host.mem_mib > 0 && host.disk_mib > 0, "{host:?}");
        assert_eq!((keep(4_096, 1_024), keep(1_000, 1_024)), (3_072, 500));
    }
}
