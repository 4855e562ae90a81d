//! Whose agent it is. An agent that came with a node's certificate is that node's: nobody else may speak
//! for it, or take its place.

use super::io::LinkId;
use super::state::Master;
use crate::base::id::{AgentId, NodeId};

impl Master {
    /// An agent opened a connection.
    pub(super) fn agent_connected(&mut self, link: LinkId, node: Option<NodeId>) {
        self.link_nodes.extend(node.map(|node| (link, node)));
    }

    /// Why whoever is behind a connection may not speak for an agent.
    pub(super) fn not_its_own(&self, link: LinkId, id: &AgentId) -> Option<String> {
        let owner = *self.owners.get(id)?;
        match self.link_nodes.get(&link) {
            Some(node) if *node == owner => None,
            Some(node) => Some(format!("the agent {id} belongs to the node {owner}, not to {node}")),
            None => Some(format!("the agent {id} belongs to the node {owner}")),
        }
    }

    /// The node to be recorded for an agent that comes through a connection: none if it is known, or if
    /// not every member of the registry understands it.
    pub(super) fn new_owner(&self, link: LinkId, id: &AgentId) -> Option<NodeId> {
        let is_new = self.knows_nodes && !self.owners.contains_key(id);
        self.link_nodes.get(&link).copied().filter(|_| is_new)
    }
}
