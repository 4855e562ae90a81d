//! The state.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use super::VERSION;
use super::command::{Change, Command, DecodeError, Reply};
use super::joining::{Authority, Joining, TokenEntry};
use super::masters::{MasterEntry, Masters, some_node};
use crate::api::{registry as wire, v1};
use crate::base::id::{AgentId, FrameworkId, NodeId};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Timestamp;
use crate::service::model;

/// Removed frameworks that are remembered, so that their ids stay refused.
pub const MAX_REMOVED_FRAMEWORKS: usize = 1_000;

/// How an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to the cluster.
    Admitted,
    /// It was silent too long; it may come back.
    Unreachable,
    /// It never comes back.
    Gone,
}

/// What is kept of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEntry {
    /// What it last told.
    pub info: Arc<v1::AgentInfo>,
    /// How it stands.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
    /// The node whose certificate it came with: no other may speak for it.
    pub node: Option<NodeId>,
}

/// What is kept of a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkEntry {
    /// What its scheduler last told; of a removed one only the id.
    pub info: Arc<v1::FrameworkInfo>,
    /// When it first subscribed.
    pub registered: Timestamp,
    /// When it is removed unless its scheduler comes back.
    pub deadline: Option<Timestamp>,
    /// When it was removed.
    pub removed: Option<Timestamp>,
}

/// The registry's state. Cloning it is cheap: the parts are shared until they change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    cluster_id: String,
    version: u32,
    agents: Arc<BTreeMap<AgentId, AgentEntry>>,
    frameworks: Arc<BTreeMap<FrameworkId, FrameworkEntry>>,
    service: Arc<model::State>,
    masters: Arc<Masters>,
    joining: Arc<Joining>,
}

impl State {
    /// The cluster's name; empty before the first command.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The version of commands that every member knows.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Every agent that was ever admitted and not removed.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &AgentEntry)> {
        self.agents.iter()
    }

    /// One agent.
    #[must_use]
    pub fn agent(&self, id: &AgentId) -> Option<&AgentEntry> {
        self.agents.get(id)
    }

    /// Every framework, removed ones too.
    pub fn frameworks(&self) -> impl Iterator<Item = (&FrameworkId, &FrameworkEntry)> {
        self.frameworks.iter()
    }

    /// One framework.
    #[must_use]
    pub fn framework(&self, id: &FrameworkId) -> Option<&FrameworkEntry> {
        self.frameworks.get(id)
    }

    /// The masters, as far as they are recorded: a master that is alone from its start on is not.
    pub fn masters(&self) -> impl Iterator<Item = (NodeId, &MasterEntry)> {
        self.masters.present.iter().map(|(id, entry)| (*id, entry))
    }

    /// One master.
    #[must_use]
    pub fn master(&self, id: NodeId) -> Option<&MasterEntry> {
        self.masters.present.get(&id)
    }

    /// Whether a node was removed, for ever.
    #[must_use]
    pub fn is_removed_node(&self, id: NodeId) -> bool {
        self.masters.is_removed(id)
    }

    /// The authority of the cluster; none while it has one master for ever.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.joining.authority.as_ref()
    }

    /// The join tokens, under the SHA-256 of their secrets.
    pub fn tokens(&self) -> impl Iterator<Item = (&[u8], &TokenEntry)> {
        self.joining.tokens.iter().map(|(digest, entry)| (digest.as_slice(), entry))
    }

    /// The service framework's part.
    #[must_use]
    pub fn service(&self) -> &Arc<model::State> {
        &self.service
    }

    /// Makes one master the only one, outside of any log: every other is refused from then on. Unless masters
    /// are recorded at all, nothing changes.
    pub fn leave_only_master(&mut self, id: NodeId) {
        if !self.masters.present.is_empty() {
            let entry =
                self.masters.present.get(&id).cloned().unwrap_or_else(|| MasterEntry {
                    max_command_version: VERSION,
                    ..MasterEntry::default()
                });
            Arc::make_mut(&mut self.masters).leave_only(id, entry);
        }
    }

    /// Applies a command.
    pub fn apply(&mut self, command: Command) -> Reply {
        let time = command.time;
        match command.change {
            Change::CreateCluster { cluster_id, version } => self.create(cluster_id, version),
            Change::AdmitAgent { info, node } => self.admit(info, node, time),
            Change::UpdateAgent { info, node } => self.update_agent(info, node),
            Change::RemoveAgent { agent_id } => self.remove_agent(&agent_id),
            Change::MarkUnreachable { agent_id } => self.mark(&agent_id, Standing::Unreachable, time),
            Change::MarkGone { agent_id } => self.mark(&agent_id, Standing::Gone, time),
            Change::MarkReachable { info, node } => self.mark_reachable(info, node, time),
            Change::ForgetAgents { agent_ids } => self.forget_agents(&agent_ids),
            Change::AddFramework { info } => self.add_framework(info, time),
            Change::SetFrameworkDeadline { framework_id, deadline } => {
                self.set_deadline(&framework_id, deadline)
            }
            Change::RemoveFramework { framework_id } => self.remove_framework(&framework_id, time),
            Change::PutMasters { masters } => Arc::make_mut(&mut self.masters).put(masters),
            Change::RemoveMaster { id } => Arc::make_mut(&mut self.masters).remove(id),
            Change::RemoveNode { id } => self.remove_node(id, time),
            Change::SetAuthority(authority) => Arc::make_mut(&mut self.joining).set_authority(authority),
            Change::PutToken { digest, entry } => {
                Arc::make_mut(&mut self.joining).put_token(digest, entry, time)
            }
            Change::SpendToken { digest } => Arc::make_mut(&mut self.joining).spend(&digest, time),
            Change::Service(command) => Reply::Service(Arc::make_mut(&mut self.service).apply(command, time)),
            Change::RaiseVersion(version) => {
                self.version = self.version.max(version);
                Reply::Done
            }
        }
    }

    fn create(&mut self, cluster_id: String, version: u32) -> Reply {
        if !self.cluster_id.is_empty() {
            return Reply::Refused(format!("the cluster is already called {}", self.cluster_id));
        }
        self.cluster_id = cluster_id;
        self.version = version;
        Reply::Done
    }

    fn admit(&mut self, info: Arc<v1::AgentInfo>, node: Option<NodeId>, since: Timestamp) -> Reply {
        let Some(id) = agent_id(&info) else { return Reply::Refused("the agent has no id".to_owned()) };
        if self.agents.contains_key(&id) {
            return Reply::Refused(format!("the agent {id} was admitted before"));
        }
        if let Some(refusal) = self.refused(node) {
            return refusal;
        }
        let entry = AgentEntry { info, standing: Standing::Admitted, since, node };
        Arc::make_mut(&mut self.agents).insert(id, entry);
        Reply::Done
    }

    fn update_agent(&mut self, info: Arc<v1::AgentInfo>, node: Option<NodeId>) -> Reply {
        let id = agent_id(&info);
        let entry = id.and_then(|id| Arc::make_mut(&mut self.agents).get_mut(&id));
        match entry.filter(|entry| entry.standing == Standing::Admitted) {
            Some(entry) => {
                entry.info = info;
                entry.node = node.or(entry.node);
                Reply::Done
            }
            None => Reply::Refused("the agent is not admitted".to_owned()),
        }
    }

    fn remove_agent(&mut self, id: &AgentId) -> Reply {
        match Arc::make_mut(&mut self.agents).remove(id) {
            Some(_) => Reply::Done,
            None => Reply::Refused(format!("the agent {id} is not known")),
        }
    }

    fn forget_agents(&mut self, ids: &[AgentId]) -> Reply {
        let agents = Arc::make_mut(&mut self.agents);
        for id in ids {
            if agents.get(id).is_some_and(|entry| entry.standing != Standing::Admitted) {
                agents.remove(id);
            }
        }
        Reply::Done
    }

    fn mark(&mut self, id: &AgentId, standing: Standing, since: Timestamp) -> Reply {
        match Arc::make_mut(&mut self.agents).get_mut(id) {
            Some(entry) if entry.standing == Standing::Gone => {
                Reply::Refused(format!("the agent {id} is gone"))
            }
            Some(entry) => {
                entry.standing = standing;
                entry.since = since;
                Reply::Done
            }
            None => Reply::Refused(format!("the agent {id} is not known")),
        }
    }

    fn mark_reachable(&mut self, info: Arc<v1::AgentInfo>, node: Option<NodeId>, since: Timestamp) -> Reply {
        let Some(id) = agent_id(&info) else { return Reply::Refused("the agent has no id".to_owned()) };
        #[cfg(planted)]
        if planted::has(Bug::ResurrectGone) {
            Arc::make_mut(&mut self.agents).remove(&id);
        }
        if self.agents.get(&id).is_some_and(|entry| entry.standing == Standing::Gone) {
            return Reply::Refused(format!("the agent {id} is gone"));
        }
        if let Some(refusal) = self.refused(node) {
            return refusal;
        }
        let node = node.or_else(|| self.agents.get(&id)?.node);
        let entry = AgentEntry { info, standing: Standing::Admitted, since, node };
        Arc::make_mut(&mut self.agents).insert(id, entry);
        Reply::Done
    }

    /// The answer to an agent of a node that was removed.
    fn refused(&self, node: Option<NodeId>) -> Option<Reply> {
        let node = node.filter(|node| self.is_removed_node(*node))?;
        Some(Reply::Refused(format!("the node {node} was removed from the cluster")))
    }

    fn remove_node(&mut self, id: NodeId, since: Timestamp) -> Reply {
        let has_agents = self.agents.values().any(|entry| entry.node == Some(id));
        let masters = Arc::make_mut(&mut self.masters);
        if masters.present.contains_key(&id) {
            let reply = masters.remove(id);
            if reply != Reply::Done {
                return reply;
            }
        } else if has_agents {
            masters.refuse(id);
        } else {
            return Reply::Refused(format!("the node {id} is not known"));
        }
        if has_agents {
            for entry in Arc::make_mut(&mut self.agents).values_mut() {
                if entry.node == Some(id) && entry.standing != Standing::Gone {
                    entry.standing = Standing::Gone;
                    entry.since = since;
                }
            }
        }
        Reply::Done
    }

    fn add_framework(&mut self, info: Arc<v1::FrameworkInfo>, time: Timestamp) -> Reply {
        let Some(id) = info.id.as_ref().map(|id| FrameworkId::new(&id.value)) else {
            return Reply::Refused("the framework has no id".to_owned());
        };
        let frameworks = Arc::make_mut(&mut self.frameworks);
        match frameworks.get_mut(&id) {
            Some(entry) if entry.removed.is_some() => {
                return Reply::Refused("Framework has been removed".to_owned());
            }
            Some(entry) => {
                entry.info = info;
                entry.deadline = None;
            }
            None => {
                frameworks
                    .insert(id, FrameworkEntry { info, registered: time, deadline: None, removed: None });
            }
        }
        Reply::Done
    }

    fn set_deadline(&mut self, id: &FrameworkId, deadline: Option<Timestamp>) -> Reply {
        match Arc::make_mut(&mut self.frameworks).get_mut(id) {
            Some(entry) if entry.removed.is_none() => {
                entry.deadline = deadline;
                Reply::Done
            }
            _ => Reply::Refused(format!("the framework {id} is not known")),
        }
    }

    fn remove_framework(&mut self, id: &FrameworkId, time: Timestamp) -> Reply {
        let frameworks = Arc::make_mut(&mut self.frameworks);
        let Some(entry) = frameworks.get_mut(id).filter(|entry| entry.removed.is_none()) else {
            return Reply::Refused(format!("the framework {id} is not known"));
        };
        entry.removed = Some(time);
        entry.info = tombstone(id);
        let removed = frameworks.iter().filter_map(|(id, entry)| entry.removed.map(|at| (at, id.clone())));
        let mut removed: Vec<_> = removed.collect();
        removed.sort();
        for (_, id) in removed.iter().take(removed.len().saturating_sub(MAX_REMOVED_FRAMEWORKS)) {
            frameworks.remove(id);
        }
        Reply::Done
    }

    /// The whole state as protobuf bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        use wire::agent::Standing as Wire;

        let agents = self.agents.values().map(|entry| wire::Agent {
            agent_info: (*entry.info).clone(),
            standing: match entry.standing {
                Standing::Admitted => Wire::Admitted,
                Standing::Unreachable => Wire::Unreachable,
                Standing::Gone => Wire::Gone,
            }
            .into(),
            since_ns: entry.since.nanos(),
            node_id: entry.node.map(NodeId::get),
        });
        let frameworks = self.frameworks.values().map(|entry| wire::Framework {
            framework_info: (*entry.info).clone(),
            registered_ns: entry.registered.nanos(),
            deadline_ns: entry.deadline.map(Timestamp::nanos),
            removed_ns: entry.removed.map(Timestamp::nanos),
        });
        let snapshot = wire::Snapshot {
            // Members that are older must be able to read it, so it is no newer than the commands are.
            format: self.version,
            command_version: self.version,
            cluster_id: Some(self.cluster_id.clone()),
            agents: agents.collect(),
            frameworks: frameworks.collect(),
            service: Some(self.service.encode()),
            masters: self.masters.to_wire(),
            authority: self.joining.authority.as_ref().map(|authority| wire::Authority {
                certificate: authority.certificate.clone(),
                key: authority.key.clone(),
            }),
            tokens: self.joining.tokens_to_wire(),
        };
        snapshot.encode_to_vec()
    }

    /// Reads what [`State::snapshot`] wrote; no bytes are the state before the first command.
    ///
    /// # Errors
    /// The bytes are malformed, or a later version's snapshot.
    pub fn restore(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let snapshot = wire::Snapshot::decode(bytes).map_err(|error| DecodeError(error.to_string()))?;
        if snapshot.format > VERSION {
            return Err(DecodeError(format!(
                "the snapshot has format {}, this version knows {VERSION}",
                snapshot.format
            )));
        }
        let mut agents = BTreeMap::new();
        for agent in snapshot.agents {
            let standing = match wire::agent::Standing::try_from(agent.standing) {
                Ok(wire::agent::Standing::Admitted) => Standing::Admitted,
                Ok(wire::agent::Standing::Unreachable) => Standing::Unreachable,
                Ok(wire::agent::Standing::Gone) => Standing::Gone,
                Err(_) => return Err(DecodeError("an agent's standing is not known".to_owned())),
            };
            let since = Timestamp::from_nanos(agent.since_ns);
            let info = Arc::new(agent.agent_info);
            let id = agent_id(&info).ok_or_else(|| DecodeError("an agent has no id".to_owned()))?;
            agents.insert(id, AgentEntry { info, standing, since, node: some_node(agent.node_id)? });
        }
        let mut frameworks = BTreeMap::new();
        for framework in snapshot.frameworks {
            let id = framework.framework_info.id.as_ref().map(|id| FrameworkId::new(&id.value));
            let id = id.ok_or_else(|| DecodeError("a framework has no id".to_owned()))?;
            // Earlier snapshots kept everything of a removed one.
            let is_removed = framework.removed_ns.is_some();
            let entry = FrameworkEntry {
                info: if is_removed { tombstone(&id) } else { Arc::new(framework.framework_info) },
                registered: Timestamp::from_nanos(framework.registered_ns),
                deadline: framework.deadline_ns.map(Timestamp::from_nanos),
                removed: framework.removed_ns.map(Timestamp::from_nanos),
            };
            frameworks.insert(id, entry);
        }
        let service = model::State::decode(&snapshot.service.unwrap_or_default()).map_err(DecodeError)?;
        Ok(Self {
            cluster_id: snapshot.cluster_id.unwrap_or_default(),
            version: snapshot.command_version,
            agents: Arc::new(agents),
            frameworks: Arc::new(frameworks),
            service: Arc::new(service),
            masters: Arc::new(Masters::from_wire(snapshot.masters)?),
            joining: Arc::new(Joining::from_wire(snapshot.authority, snapshot.tokens)),
        })
    }
}

/// What is kept of a removed framework: its id is refused for ever, nothing else of it matters.
fn tombstone(id: &FrameworkId) -> Arc<v1::FrameworkInfo> {
    let id = Some(v1::FrameworkId { value: id.to_string() });
    Arc::new(v1::FrameworkInfo { id, ..Default::default() })
}

fn agent_id(info: &v1::AgentInfo) -> Option<AgentId> {
    info.id.as_ref().map(|id| AgentId::new(&id.value))
}
