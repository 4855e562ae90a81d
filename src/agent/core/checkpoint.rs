//! What is written down, and how.
//!
//! `agent` the agent's id · `framework/<id>` FrameworkInfo · `task/<framework>/<task>` the TaskInfo
//! with its container · `updates/<framework>/<task>` the updates that are not acknowledged. Each value
//! begins with a version.

use prost::Message;

use super::state::{Stream, Update};
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

/// Ids are bounded, so both fit into a key; a separator that no id contains keeps them apart.
fn key(prefix: &[u8], parts: &[&str]) -> Vec<u8> {
    [prefix, parts.join("\n").as_bytes()].concat()
}

pub(super) fn framework_key(id: &FrameworkId) -> Vec<u8> {
    key(FRAMEWORK, &[id.as_str()])
}

/// Task keys are shortened to the checksum of a long id: the record itself holds the whole.
pub(super) fn task_key(task: &Key) -> Vec<u8> {
    key(TASK, &[&short(task.0.as_str()), &short(task.1.as_str())])
}

pub(super) fn updates_key(task: &Key) -> Vec<u8> {
    key(UPDATES, &[&short(task.0.as_str()), &short(task.1.as_str())])
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
    (task_key(key), Some(record))
}

pub(super) fn updates(key: &Key, stream: &Stream) -> Change {
    let mut record = vec![VERSION];
    for update in &stream.updates {
        let bytes = update.status.encode_to_vec();
        record.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend(bytes);
    }
    (updates_key(key), Some(record))
}

/// A part with its length before it.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
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

pub(super) fn read_updates(bytes: &[u8]) -> Option<Vec<Update>> {
    let (version, mut rest) = bytes.split_first()?;
    let mut updates = Vec::new();
    while !rest.is_empty() {
        let (bytes, more) = part(rest)?;
        let status = v1::TaskStatus::decode(bytes).ok()?;
        let uuid = Uuid::from_slice(status.uuid.as_deref()?)?;
        updates.push(Update { status, uuid, durable: true });
        rest = more;
    }
    (*version == VERSION).then_some(updates)
}
