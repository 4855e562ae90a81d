//! Small conversions between the wire and our own types.

use std::sync::Arc;

use crate::api::v1::scheduler::{Event, event};
use crate::api::{peer, v1};
use crate::base::id::{AgentId, FrameworkId, NodeId, OfferId, TaskId};
use crate::base::time::Timestamp;

/// What an agent told when it registered, with or without an id.
#[derive(Clone, Debug, Default)]
pub(super) struct Registration {
    pub(super) info: Arc<v1::AgentInfo>,
    pub(super) version: String,
    pub(super) capabilities: Vec<v1::agent_info::Capability>,
    pub(super) frameworks: Vec<v1::FrameworkInfo>,
    pub(super) tasks: Vec<v1::Task>,
    /// The node to be recorded for it.
    pub(super) node: Option<NodeId>,
}

impl From<peer::Register> for Registration {
    fn from(register: peer::Register) -> Self {
        Self {
            info: Arc::new(register.agent_info),
            version: register.version,
            capabilities: register.capabilities,
            frameworks: Vec::new(),
            tasks: Vec::new(),
            node: None,
        }
    }
}

impl From<peer::Reregister> for Registration {
    fn from(register: peer::Reregister) -> Self {
        Self {
            info: Arc::new(register.agent_info),
            version: register.version,
            capabilities: register.capabilities,
            frameworks: register.frameworks,
            tasks: register.tasks,
            node: None,
        }
    }
}

pub(super) fn framework_id(id: &FrameworkId) -> v1::FrameworkId {
    v1::FrameworkId { value: id.to_string() }
}

pub(super) fn agent_id(id: &AgentId) -> v1::AgentId {
    v1::AgentId { value: id.to_string() }
}

pub(super) fn task_id(id: &TaskId) -> v1::TaskId {
    v1::TaskId { value: id.to_string() }
}

pub(super) fn offer_id(id: &OfferId) -> v1::OfferId {
    v1::OfferId { value: id.to_string() }
}

pub(super) fn time_info(time: Timestamp) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: time.nanos() }
}

/// An event of a type, to be filled in.
pub(super) fn event(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

/// An UPDATE event.
pub(super) fn update(status: v1::TaskStatus) -> Event {
    Event { update: Some(event::Update { status }), ..event(event::Type::Update) }
}

/// An ERROR event.
pub(super) fn error(message: impl Into<String>) -> Event {
    Event { error: Some(event::Error { message: message.into() }), ..event(event::Type::Error) }
}

/// Whether a state ends a task.
pub(super) fn is_terminal(state: v1::TaskState) -> bool {
    use v1::TaskState as State;

    match state {
        State::TaskFinished
        | State::TaskFailed
        | State::TaskKilled
        | State::TaskError
        | State::TaskLost
        | State::TaskDropped
        | State::TaskGone
        | State::TaskGoneByOperator => true,
        State::TaskStaging
        | State::TaskStarting
        | State::TaskRunning
        | State::TaskKilling
        | State::TaskUnreachable
        | State::TaskUnknown => false,
    }
}

/// The state of a task; a number of a later version counts as unknown.
pub(super) fn state_of(task: &v1::Task) -> v1::TaskState {
    v1::TaskState::try_from(task.state).unwrap_or(v1::TaskState::TaskUnknown)
}

/// Whether the update in flight ends its task.
pub(super) fn is_ending(task: &v1::Task) -> bool {
    let in_flight = task.status_update_state.and_then(|state| v1::TaskState::try_from(state).ok());
    in_flight.is_some_and(is_terminal)
}

/// A status that the master makes: no uuid, not to be acknowledged.
pub(super) fn master_status(
    task_id: v1::TaskId,
    agent_id: Option<v1::AgentId>,
    state: v1::TaskState,
    reason: v1::task_status::Reason,
    message: impl Into<String>,
    time: Timestamp,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id,
        state: state.into(),
        message: Some(message.into()),
        source: Some(v1::task_status::Source::Master.into()),
        reason: Some(reason.into()),
        agent_id,
        timestamp: Some(time.seconds()),
        ..Default::default()
    }
}
