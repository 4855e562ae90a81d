//! Commands and replies.

use std::sync::Arc;

use prost::Message as _;

use super::joining::{self, Authority, TokenEntry};
use super::masters::{MasterEntry, node_id, some_node};
use super::{KNOWS_MASTERS, VERSION};
use crate::api::{registry as wire, v1};
use crate::base::id::{AgentId, FrameworkId, NodeId};
use crate::base::time::Timestamp;
use crate::service::model;

/// A replicated command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The proposer's clock.
    pub time: Timestamp,
    /// What it changes.
    pub change: Change,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Names the cluster; the first command of all.
    CreateCluster {
        /// The name, for ever.
        cluster_id: String,
        /// Version of commands from the start.
        version: u32,
    },
    /// An agent joins; `info.id` is set.
    AdmitAgent {
        /// What it told.
        info: Arc<v1::AgentInfo>,
        /// The node of its certificate. Since version 4.
        node: Option<NodeId>,
    },
    /// An admitted agent told something new.
    UpdateAgent {
        /// What it told.
        info: Arc<v1::AgentInfo>,
        /// The node of its certificate; none: what is known stays. Since version 4.
        node: Option<NodeId>,
    },
    /// An agent left for good.
    RemoveAgent {
        /// Which.
        agent_id: AgentId,
    },
    /// An agent has been silent too long.
    MarkUnreachable {
        /// Which.
        agent_id: AgentId,
    },
    /// An unreachable or unknown agent came back.
    MarkReachable {
        /// What it told.
        info: Arc<v1::AgentInfo>,
        /// As in [`Change::UpdateAgent`].
        node: Option<NodeId>,
    },
    /// An operator says that an agent will never come back.
    MarkGone {
        /// Which.
        agent_id: AgentId,
    },
    /// A framework subscribed for the first time, or told something new; `info.id` is set.
    AddFramework {
        /// What it told.
        info: Arc<v1::FrameworkInfo>,
    },
    /// A scheduler went away (deadline) or came back (none).
    SetFrameworkDeadline {
        /// Which.
        framework_id: FrameworkId,
        /// When the framework is removed unless it comes back.
        deadline: Option<Timestamp>,
    },
    /// A framework is over; its id is refused from now on.
    RemoveFramework {
        /// Which.
        framework_id: FrameworkId,
    },
    /// Agents were unreachable or gone for very long; those that came back stay. Since version 2.
    ForgetAgents {
        /// Which.
        agent_ids: Vec<AgentId>,
    },
    /// Masters join, or told something new of themselves. As soon as any master is recorded, those that are
    /// not do not vote: the first are recorded together. Since version 3.
    PutMasters {
        /// Who, and what they told.
        masters: Vec<(NodeId, MasterEntry)>,
    },
    /// A master leaves for good: its id is refused from now on. Since version 3.
    RemoveMaster {
        /// Which.
        id: NodeId,
    },
    /// A node, master or not, leaves for good: it is refused from now on, and its agents are gone. Since
    /// version 4.
    RemoveNode {
        /// Which.
        id: NodeId,
    },
    /// The authority that signs certificates of nodes; it is set once. Since version 3.
    SetAuthority(Authority),
    /// A join token exists. Since version 3.
    PutToken {
        /// SHA-256 of its secret.
        digest: Vec<u8>,
        /// What it is good for.
        entry: TokenEntry,
    },
    /// A node joins with a token; refused if the token is not good (any more). Since version 3.
    SpendToken {
        /// SHA-256 of its secret.
        digest: Vec<u8>,
    },
    /// A command of the service framework.
    Service(model::Command),
    /// Every member knows this version from now on.
    RaiseVersion(u32),
}

/// What applying a command answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It does not fit the state; nothing changed.
    Refused(String),
    /// What the service framework's state answers.
    Service(model::Reply),
}

/// Bytes that are no command of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; upgrade this node")]
pub struct DecodeError(pub String);

impl Command {
    /// Protobuf bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::Command { time_ns: self.time.nanos(), command: Some(self.change.to_wire()) }.encode_to_vec()
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are malformed, or a later version's command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = wire::Command::decode(bytes).map_err(|error| DecodeError(error.to_string()))?;
        let command =
            message.command.ok_or_else(|| DecodeError("a command of a later version".to_owned()))?;
        Ok(Self { time: Timestamp::from_nanos(message.time_ns), change: Change::from_wire(command)? })
    }
}

impl Change {
    fn to_wire(&self) -> wire::command::Command {
        use wire::command::Command as Wire;

        let agent_id = AgentId::to_string;
        match self {
            Self::CreateCluster { cluster_id, version } => Wire::CreateCluster(wire::CreateCluster {
                cluster_id: cluster_id.clone(),
                version: Some(*version),
            }),
            Self::AdmitAgent { info, node } => Wire::AdmitAgent(wire::AdmitAgent {
                agent_info: (**info).clone(),
                node_id: node.map(NodeId::get),
            }),
            Self::UpdateAgent { info, node } => Wire::UpdateAgent(wire::UpdateAgent {
                agent_info: (**info).clone(),
                node_id: node.map(NodeId::get),
            }),
            Self::RemoveAgent { agent_id: id } => {
                Wire::RemoveAgent(wire::RemoveAgent { agent_id: agent_id(id) })
            }
            Self::MarkUnreachable { agent_id: id } => {
                Wire::MarkAgentUnreachable(wire::MarkAgentUnreachable { agent_id: agent_id(id) })
            }
            Self::MarkReachable { info, node } => Wire::MarkAgentReachable(wire::MarkAgentReachable {
                agent_info: (**info).clone(),
                node_id: node.map(NodeId::get),
            }),
            Self::MarkGone { agent_id: id } => {
                Wire::MarkAgentGone(wire::MarkAgentGone { agent_id: agent_id(id) })
            }
            Self::AddFramework { info } => {
                Wire::AddFramework(wire::AddFramework { framework_info: (**info).clone() })
            }
            Self::SetFrameworkDeadline { framework_id, deadline } => {
                Wire::SetFrameworkDeadline(wire::SetFrameworkDeadline {
                    framework_id: framework_id.to_string(),
                    deadline_ns: deadline.map(Timestamp::nanos),
                })
            }
            Self::RemoveFramework { framework_id } => {
                Wire::RemoveFramework(wire::RemoveFramework { framework_id: framework_id.to_string() })
            }
            Self::ForgetAgents { agent_ids } => {
                Wire::ForgetAgents(wire::ForgetAgents { agent_ids: agent_ids.iter().map(agent_id).collect() })
            }
            Self::PutMasters { masters } => Wire::PutMasters(wire::PutMasters {
                masters: masters.iter().map(|(id, entry)| entry.to_wire(*id)).collect(),
            }),
            Self::RemoveMaster { id } => Wire::RemoveMaster(wire::RemoveMaster { node_id: id.get() }),
            Self::RemoveNode { id } => Wire::RemoveNode(wire::RemoveNode { node_id: id.get() }),
            Self::SetAuthority(authority) => Wire::SetAuthority(wire::SetAuthority {
                authority: wire::Authority {
                    certificate: authority.certificate.clone(),
                    key: authority.key.clone(),
                },
            }),
            Self::PutToken { digest, entry } => {
                Wire::PutToken(wire::PutToken { token: joining::token_to_wire(digest, entry) })
            }
            Self::SpendToken { digest } => Wire::SpendToken(wire::SpendToken { digest: digest.clone() }),
            Self::Service(command) => Wire::Service(command.encode()),
            Self::RaiseVersion(version) => Wire::RaiseVersion(wire::RaiseVersion { version: *version }),
        }
    }

    fn from_wire(command: wire::command::Command) -> Result<Self, DecodeError> {
        use wire::command::Command as Wire;

        Ok(match command {
            Wire::CreateCluster(create) => Self::CreateCluster {
                cluster_id: create.cluster_id,
                version: known(create.version.unwrap_or(KNOWS_MASTERS))?,
            },
            Wire::AdmitAgent(admit) => {
                Self::AdmitAgent { info: Arc::new(admit.agent_info), node: some_node(admit.node_id)? }
            }
            Wire::UpdateAgent(update) => {
                Self::UpdateAgent { info: Arc::new(update.agent_info), node: some_node(update.node_id)? }
            }
            Wire::RemoveAgent(remove) => Self::RemoveAgent { agent_id: remove.agent_id.into() },
            Wire::MarkAgentUnreachable(mark) => Self::MarkUnreachable { agent_id: mark.agent_id.into() },
            Wire::MarkAgentReachable(mark) => {
                Self::MarkReachable { info: Arc::new(mark.agent_info), node: some_node(mark.node_id)? }
            }
            Wire::MarkAgentGone(mark) => Self::MarkGone { agent_id: mark.agent_id.into() },
            Wire::AddFramework(add) => Self::AddFramework { info: Arc::new(add.framework_info) },
            Wire::SetFrameworkDeadline(set) => Self::SetFrameworkDeadline {
                framework_id: set.framework_id.into(),
                deadline: set.deadline_ns.map(Timestamp::from_nanos),
            },
            Wire::RemoveFramework(remove) => {
                Self::RemoveFramework { framework_id: remove.framework_id.into() }
            }
            Wire::ForgetAgents(forget) => {
                Self::ForgetAgents { agent_ids: forget.agent_ids.into_iter().map(AgentId::from).collect() }
            }
            Wire::PutMasters(put) => {
                let masters = put.masters.into_iter().map(MasterEntry::from_wire);
                Self::PutMasters { masters: masters.collect::<Result<_, _>>()? }
            }
            Wire::RemoveMaster(remove) => Self::RemoveMaster { id: node_id(remove.node_id)? },
            Wire::RemoveNode(remove) => Self::RemoveNode { id: node_id(remove.node_id)? },
            Wire::SetAuthority(set) => {
                let wire::Authority { certificate, key } = set.authority;
                Self::SetAuthority(Authority { certificate, key })
            }
            Wire::PutToken(put) => {
                let (digest, entry) = joining::token_from_wire(put.token);
                Self::PutToken { digest, entry }
            }
            Wire::SpendToken(spend) => Self::SpendToken { digest: spend.digest },
            Wire::Service(bytes) => Self::Service(model::Command::decode(&bytes).map_err(DecodeError)?),
            Wire::RaiseVersion(raise) => Self::RaiseVersion(known(raise.version)?),
        })
    }
}

/// A version of commands, if this program knows them all.
fn known(version: u32) -> Result<u32, DecodeError> {
    if version <= VERSION {
        return Ok(version);
    }
    Err(DecodeError(format!("the cluster uses commands of version {version}, this program knows {VERSION}")))
}
