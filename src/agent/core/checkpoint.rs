//! What is written down, and how.
//!
//! `agent` the agent's id · `framework/<id>` FrameworkInfo · `task/<framework>/<task>` the TaskInfo
//! with its container · `updates/<framework>/<task>` the last update that was acknowledged and those that
//! were not · `run/<framework>/<task>` when it began to run, and a kill that was begun. Each value begins
//! with a version.

use prost::Message;

use super::state::{KillCause, Stream, Update};
use crate::api::v1;
use crate::base::id::{AgentId, ContainerId, FrameworkId, TaskId, Uuid};
use crate::base::time::Timestamp;

/// Version of the values.
const VERSION: u8 = 1;

/// One change: a key, and its value or none.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);
type Key = (FrameworkId, TaskId);

/// A task as it was written down.
pub(super) struct TaskRecord {
    pub(super) info: v1::TaskInfo,
    pub(super) container_id: ContainerId,
}

pub(super) const AGENT: &[u8] = b"agent";
pub(super) const FRAMEWORK: &[u8] = b"framework/";
pub(super) const TASK: &[u8] = b"task/";
pub(super) const UPDATES: &[u8] = b"updates/";
pub(super) const RUN: &[u8] = b"run/";

/// What is known of a run beside its updates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RunRecord {
    /// When it began to run.
    pub(super) started: Option<Timestamp>,
    /// Why it is being killed, and when SIGKILL follows.
    pub(super) kill: Option<(KillCause, Timestamp)>,
}

/// Long ids are shortened, so that both fit into a key (the record itself holds the whole); a separator
/// that no id contains keeps them apart.
fn key(prefix: &[u8], parts: &[&str]) -> Vec<u8> {
    let parts: Vec<String> = parts.iter().map(|part| short(part)).collect();
    [prefix, parts.join("\n").as_bytes()].concat()
}

pub(super) fn framework_key(id: &FrameworkId) -> Vec<u8> {
    key(FRAMEWORK, &[id.as_str()])
}

fn key_of(prefix: &[u8], task: &Key) -> Vec<u8> {
    key(prefix, &[task.0.as_str(), task.1.as_str()])
}

pub(super) fn updates_key(task: &Key) -> Vec<u8> {
    key_of(UPDATES, task)
}

pub(super) fn run_key(task: &Key) -> Vec<u8> {
    key_of(RUN, task)
}

/// Nothing is known of a task any more.
pub(super) fn forget(task: &Key) -> Vec<Change> {
    [TASK, UPDATES, RUN].map(|prefix| (key_of(prefix, task), None)).to_vec()
}

fn short(id: &str) -> String {
    if id.len() <= 100 {
        return id.to_owned();
    }
    let cut = (0..=80).rev().find(|at| id.is_char_boundary(*at)).unwrap_or(0);
    format!("{}~{:08x}~{}", &id[..cut], crc32c::crc32c(id.as_bytes()), id.len())
}

fn value(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(message.encode_to_vec());
    bytes
}

pub(super) fn agent(id: &AgentId) -> Change {
    (AGENT.to_vec(), Some(value(&v1::AgentId { value: id.to_string() })))
}

pub(super) fn framework(id: &FrameworkId, info: &v1::FrameworkInfo) -> Change {
    (framework_key(id), Some(value(info)))
}

pub(super) fn task(key: &Key, info: &v1::TaskInfo, container_id: &ContainerId, time: Timestamp) -> Change {
    let mut record = vec![VERSION];
    for part in [key.0.as_str().as_bytes(), container_id.as_str().as_bytes(), &time.nanos().to_be_bytes()] {
        record.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend(part);
    }
    record.extend(info.encode_to_vec());
    (key_of(TASK, key), Some(record))
}

pub(super) fn updates(key: &Key, stream: &Stream) -> Change {
    let mut record = vec![VERSION];
    let mut add = |bytes: Vec<u8>| {
        record.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend(bytes);
    };
    add(stream.acknowledged.as_ref().map(Message::encode_to_vec).unwrap_or_default());
    for update in &stream.updates {
        add(update.status.encode_to_vec());
    }
    (updates_key(key), Some(record))
}

/// Codes of kill causes on disk.
const CAUSES: [(u8, KillCause); 5] = [
    (1, KillCause::Asked),
    (2, KillCause::Unhealthy),
    (3, KillCause::MaxCompletionTime),
    (4, KillCause::Framework),
    (5, KillCause::Draining),
];

pub(super) fn run(key: &Key, run: &RunRecord) -> Change {
    let code = |cause: KillCause| CAUSES.iter().find(|(_, one)| *one == cause).map_or(0, |(code, _)| *code);
    let nanos = |time: Option<Timestamp>| time.map_or(i64::MIN, Timestamp::nanos).to_be_bytes();
    let mut record = vec![VERSION, run.kill.map_or(0, |(cause, _)| code(cause))];
    record.extend(nanos(run.started));
    record.extend(nanos(run.kill.map(|(_, by)| by)));
    (run_key(key), Some(record))
}

pub(super) fn read_run(bytes: &[u8]) -> Option<RunRecord> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (started, rest) = rest.split_first_chunk::<8>()?;
    let (by, _) = rest.split_first_chunk::<8>()?;
    let time = |bytes: &[u8; 8]| {
        Some(i64::from_be_bytes(*bytes)).filter(|nanos| *nanos != i64::MIN).map(Timestamp::from_nanos)
    };
    let cause = CAUSES.iter().find(|(code, _)| *code == head[1]).map(|(_, cause)| *cause);
    (head[0] == VERSION).then(|| RunRecord { started: time(started), kill: cause.zip(time(by)) })
}

/// A part with its length before it.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Whether a later version wrote a value.
pub(super) fn is_newer(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|version| *version > VERSION)
}

pub(super) fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let (version, rest) = bytes.split_first()?;
    if *version == VERSION { M::decode(rest).ok() } else { None }
}

pub(super) fn read_task(bytes: &[u8]) -> Option<(FrameworkId, TaskRecord)> {
    let (version, rest) = bytes.split_first()?;
    let (framework_id, rest) = part(rest)?;
    let (container_id, rest) = part(rest)?;
    let (_time, rest) = part(rest)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let record =
        TaskRecord { info: v1::TaskInfo::decode(rest).ok()?, container_id: text(container_id)?.into() };
    (*version == VERSION).then_some((text(framework_id)?.into(), record))
}

/// The last acknowledged status, and the updates that wait.
type Updates = (Option<v1::TaskStatus>, Vec<Update>);

pub(super) fn read_updates(bytes: &[u8]) -> Option<Updates> {
    let (version, rest) = bytes.split_first()?;
    let (first, mut rest) = part(rest)?;
    let acknowledged = if first.is_empty() { None } else { Some(v1::TaskStatus::decode(first).ok()?) };
    let mut updates = Vec::new();
    while !rest.is_empty() {
        let (bytes, more) = part(rest)?;
        let status = v1::TaskStatus::decode(bytes).ok()?;
        let uuid = Uuid::from_slice(status.uuid.as_deref()?)?;
        updates.push(Update { status, uuid, durable: true });
        rest = more;
    }
    (*version == VERSION).then_some((acknowledged, updates))
}
