//! What clients asked and were told, in order: the checker judges by nothing else than this and by the
//! evidence that tasks leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time in nanoseconds since 1970: tasks write the same clock.
pub(crate) type Nanos = u64;

#[expect(clippy::disallowed_methods, reason = "the history is compared with what tasks write")]
pub(crate) fn wall() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What a client learnt of its own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done (200, 201) or taken on (202).
    Done,
    /// It was not done: refused, or nobody was reached.
    Not,
    /// It may have been done, or may still be.
    Unknown,
}

/// State of a task, as far as order goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Staging,
    Starting,
    Running,
    Killing,
    /// It ended and says how.
    Ended,
    /// The master says that there is no such task, or that it never began.
    Absent,
    /// Its agent is unreachable: it may go on.
    Unreachable,
}

impl Stage {
    pub(crate) fn of(state: &str) -> Self {
        match state {
            "TASK_STAGING" => Self::Staging,
            "TASK_STARTING" => Self::Starting,
            "TASK_RUNNING" => Self::Running,
            "TASK_KILLING" => Self::Killing,
            "TASK_FINISHED" | "TASK_FAILED" | "TASK_KILLED" | "TASK_ERROR" => Self::Ended,
            "TASK_UNREACHABLE" => Self::Unreachable,
            _ => Self::Absent,
        }
    }

    /// Nothing comes after it.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Absent)
    }
}

/// An amount of each resource: scalars in thousandths, ports as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) scalars: BTreeMap<String, i64>,
    pub(crate) ports: Vec<(u64, u64)>,
}

/// What the leading master says of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AgentSample {
    pub(crate) agent: String,
    pub(crate) total: Amounts,
    pub(crate) allocated: Amounts,
    pub(crate) offered: Amounts,
    /// Each task that has not ended.
    pub(crate) tasks: Vec<Amounts>,
    /// Names of those that are running.
    pub(crate) running: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An app is created or scaled to so many instances, or deleted (none). One client writes one app.
    Write { op: u64, app: String, value: Option<u32> },
    /// The answer to a write.
    Wrote { op: u64, outcome: Outcome },
    /// An app as it was read between two writes.
    Read { app: String, value: Option<u32> },
    /// The framework is subscribed at this master.
    Subscribed { master: String },
    /// An ACCEPT with this task was answered.
    Launch { task: String, short: bool, outcome: Outcome },
    /// The framework asked to kill a task; whatever the answer, it may end now.
    Kill { task: String },
    /// News of a task; without a uuid it is the answer to a reconciliation.
    Update { task: String, stage: Stage, state: String, uuid: Option<String> },
    /// An acknowledgement was answered.
    Acknowledged { task: String, uuid: String, outcome: Outcome },
    /// What agents have and what is used of it.
    Sample { agents: Vec<AgentSample> },
    /// Something was done to the cluster.
    Fault { what: String },
    /// Somebody leads and every agent is back.
    Settled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: Nanos,
    pub(crate) event: Event,
}

/// The history of a run; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Record>>>);

impl History {
    pub(crate) fn add(&self, event: Event) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(Record { at: wall(), event });
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A task that began, as it wrote itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) task: String,
    /// The service; none for a task of the framework.
    pub(crate) app: Option<String>,
    pub(crate) pid: u32,
    /// Start time of the process in clock ticks: with the pid it names one process only.
    pub(crate) ticks: u64,
    pub(crate) at: Nanos,
}

/// What tasks left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) starts: Vec<Start>,
    /// Tasks that were asked to end, and when.
    pub(crate) terms: BTreeMap<String, Nanos>,
    /// Tasks that ended by themselves.
    pub(crate) ends: BTreeSet<String>,
    /// Tasks whose processes run now.
    pub(crate) alive: BTreeSet<String>,
}

/// What tasks run: they write down that they began, were asked to end, and ended.
pub(crate) const SCRIPT: &str = r#"#!/bin/sh
# task.sh LOG TASK APP long|short SECONDS
log=$1 task=$2 app=$3
say() { echo "$1 $task $app $$ $(cut -d' ' -f22 /proc/$$/stat) $(date +%s%N)" >>"$log"; }
trap 'say term; kill $! 2>/dev/null; exit 0' TERM
say start
if [ "$4" = short ]; then
    sleep "$5"
    say end
    exit 0
fi
while :; do sleep 1000 & wait $!; done
"#;

impl Evidence {
    /// Reads what tasks wrote, and looks which of them run.
    pub(crate) fn read(log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let mut evidence = Self::parse(&text);
        let runs = |start: &&Start| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", start.pid)).unwrap_or_default();
            stat.split(' ').nth(21).and_then(|ticks| ticks.parse().ok()) == Some(start.ticks)
        };
        evidence.alive = evidence.starts.iter().filter(runs).map(|start| start.task.clone()).collect();
        evidence
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut evidence = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, task, app, pid, ticks, at] = words[..] else { continue };
            let (Ok(pid), Ok(ticks), Ok(at)) = (pid.parse(), ticks.parse(), at.parse()) else { continue };
            let task = task.to_owned();
            match what {
                "start" => {
                    let app = (app != "-").then(|| app.to_owned());
                    evidence.starts.push(Start { task, app, pid, ticks, at });
                }
                "term" => drop(evidence.terms.entry(task).or_insert(at)),
                "end" => drop(evidence.ends.insert(task)),
                _ => {}
            }
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tasks_write_is_read() {
        let text =
            "start a /web 7 100 5\nterm a /web 7 100 9\nstart b - 8 101 6\nend b - 8 101 7\nnonsense\n";
        let evidence = Evidence::parse(text);
        assert_eq!(evidence.starts.len(), 2);
        assert_eq!(evidence.starts[0].app.as_deref(), Some("/web"));
        assert_eq!((evidence.starts[1].app.as_deref(), evidence.starts[1].ticks), (None, 101));
        assert_eq!(evidence.terms, BTreeMap::from([("a".to_owned(), 9)]));
        assert_eq!(evidence.ends, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn a_task_that_runs_is_seen() {
        let folder = tempfile::tempdir().expect("a directory");
        let (script, log) = (folder.path().join("task.sh"), folder.path().join("log"));
        std::fs::write(&script, SCRIPT).expect("written");
        let mut child = std::process::Command::new("sh")
            .args([&script, &log])
            .args(["one", "-", "long", "0"])
            .spawn()
            .expect("sh runs");
        let seen = crate::support::wait_for("the task to begin", || {
            let evidence = Evidence::read(&log);
            (!evidence.starts.is_empty()).then_some(evidence)
        });
        assert_eq!(seen.alive, BTreeSet::from(["one".to_owned()]), "{seen:?}");
        crate::support::signal_process(child.id(), "TERM");
        assert!(child.wait().expect("it ends").success());
        let seen = Evidence::read(&log);
        assert_eq!((seen.alive.len(), seen.terms.len()), (0, 1), "{seen:?}");
    }
}
