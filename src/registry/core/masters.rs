//! The masters of the cluster: who votes, and where each of them answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::command::{DecodeError, Reply};
use crate::api::registry as wire;
use crate::base::id::NodeId;

/// Removed masters that are remembered, so that they are refused by name.
const MAX_REMOVED: usize = 1_000;

/// What a master tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterEntry {
    /// `host:port` for other nodes; empty for masters of one process.
    pub peer_address: String,
    /// `host:port` of its Mesos API, as others reach it.
    pub master_address: String,
    /// `host:port` of its Marathon API, as others reach it.
    pub marathon_address: String,
    /// The newest command that it understands.
    pub max_command_version: u32,
    /// Version of the program, for people.
    pub version: String,
}

impl MasterEntry {
    /// Where schedulers are sent while it leads. None: its API is bound to loopback, on another machine.
    #[must_use]
    pub fn reachable_api(&self) -> Option<&str> {
        let is_local = |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        // Masters whose peers are local as well are all on this machine.
        let is_here = self.peer_address.is_empty() || is_local(&self.peer_address);
        let is_reachable = !self.master_address.is_empty() && (is_here || !is_local(&self.master_address));
        is_reachable.then_some(self.master_address.as_str())
    }

    pub(super) fn to_wire(&self, id: NodeId) -> wire::Master {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        wire::Master {
            node_id: id.get(),
            peer_address: text(&self.peer_address),
            master_address: text(&self.master_address),
            marathon_address: text(&self.marathon_address),
            max_command_version: Some(self.max_command_version),
            version: text(&self.version),
            removed: None,
        }
    }

    pub(super) fn from_wire(master: wire::Master) -> Result<(NodeId, Self), DecodeError> {
        let entry = Self {
            peer_address: master.peer_address.unwrap_or_default(),
            master_address: master.master_address.unwrap_or_default(),
            marathon_address: master.marathon_address.unwrap_or_default(),
            max_command_version: master.max_command_version.unwrap_or_default(),
            version: master.version.unwrap_or_default(),
        };
        Ok((node_id(master.node_id)?, entry))
    }
}

/// The id of this number.
pub(super) fn node_id(number: u64) -> Result<NodeId, DecodeError> {
    NodeId::new(number).ok_or_else(|| DecodeError("a node has the id zero".to_owned()))
}

/// The same, where there may be none.
pub(super) fn some_node(number: Option<u64>) -> Result<Option<NodeId>, DecodeError> {
    number.map(node_id).transpose()
}

/// The masters, and who was one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Masters {
    pub(super) present: BTreeMap<NodeId, MasterEntry>,
    removed: BTreeSet<NodeId>,
}

impl Masters {
    pub(super) fn put(&mut self, masters: Vec<(NodeId, MasterEntry)>) -> Reply {
        if let Some((id, _)) = masters.iter().find(|(id, _)| self.removed.contains(id)) {
            return Reply::Refused(format!("the master {id} was removed from the cluster"));
        }
        self.present.extend(masters);
        Reply::Done
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Reply {
        if !self.present.contains_key(&id) {
            return Reply::Refused(format!("the master {id} is not known"));
        }
        if self.present.len() == 1 {
            return Reply::Refused(format!("the master {id} is the last one"));
        }
        self.present.remove(&id);
        self.refuse(id);
        Reply::Done
    }

    /// Refuses a node from now on.
    pub(super) fn refuse(&mut self, id: NodeId) {
        self.removed.insert(id);
        if self.removed.len() > MAX_REMOVED {
            self.removed.pop_first();
        }
    }

    /// One master is left, and all others are refused from now on.
    pub(super) fn leave_only(&mut self, id: NodeId, entry: MasterEntry) {
        for (other, _) in std::mem::take(&mut self.present) {
            if other != id {
                self.refuse(other);
            }
        }
        self.present.insert(id, entry);
    }

    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    pub(super) fn to_wire(&self) -> Vec<wire::Master> {
        let present = self.present.iter().map(|(id, entry)| entry.to_wire(*id));
        let removed = self.removed.iter().map(|id| wire::Master {
            node_id: id.get(),
            removed: Some(true),
            ..Default::default()
        });
        present.chain(removed).collect()
    }

    pub(super) fn from_wire(masters: Vec<wire::Master>) -> Result<Self, DecodeError> {
        let mut all = Self::default();
        for master in masters {
            let is_removed = master.removed == Some(true);
            let (id, entry) = MasterEntry::from_wire(master)?;
            if is_removed {
                all.removed.insert(id);
            } else {
                all.present.insert(id, entry);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_are_sent_only_where_they_can_go() {
        let reachable = |peer: &str, api: &str| {
            let entry = MasterEntry {
                peer_address: peer.to_owned(),
                master_address: api.to_owned(),
                ..MasterEntry::default()
            };
            entry.reachable_api().is_some()
        };
        assert!(reachable("", "127.0.0.1:5050"), "masters of one process");
        assert!(reachable("127.0.0.1:5052", "127.0.0.1:5050") && reachable("[::1]:5052", "[::1]:5050"));
        assert!(reachable("10.0.0.1:5052", "10.0.0.1:5050") && reachable("10.0.0.1:5052", "node-1:5050"));
        assert!(!reachable("10.0.0.1:5052", "127.0.0.1:5050") && !reachable("node-1:5052", "localhost:5050"));
        assert!(!reachable("10.0.0.1:5052", ""));
    }
}
