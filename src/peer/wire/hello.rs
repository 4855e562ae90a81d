//! What a node says of itself when a connection begins.

use std::collections::BTreeMap;

use super::name::PeerName;
use super::proto;
use super::refusal::Refusal;
use crate::base::id::NodeId;

/// A node as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub node_id: NodeId,
    /// Its cluster; empty when it is about to join one.
    pub cluster_id: String,
    /// Version of the program.
    pub version: String,
    /// The newest replicated commands that it understands.
    pub max_command_version: u32,
    /// `host:port` of its peer listener as others should dial it; empty without one.
    pub peer_address: String,
    /// Name of each API (`master`, `agent`, …) to its `host:port`.
    pub apis: BTreeMap<String, String>,
}

impl Hello {
    /// Whether this is what the holder of a certificate may say.
    pub(super) fn check(&self, name: &PeerName) -> Result<(), Refusal> {
        if self.node_id != name.node_id {
            let (said, is) = (self.node_id, name.node_id);
            return Err(Refusal::Refused(format!("the certificate is of the node {is}, not of {said}")));
        }
        if self.cluster_id != name.cluster_id {
            let (said, is) = (&self.cluster_id, &name.cluster_id);
            return Err(Refusal::Refused(format!(
                "the certificate is of the cluster {is:?}, not of {said:?}"
            )));
        }
        Ok(())
    }
}

impl From<Hello> for proto::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            node_id: hello.node_id.get(),
            cluster_id: hello.cluster_id,
            version: hello.version,
            max_command_version: hello.max_command_version,
            peer_address: hello.peer_address,
            apis: hello.apis,
        }
    }
}

/// Reads a hello; absent or without a node it is none.
pub(super) fn read(hello: Option<proto::Hello>) -> Result<Hello, Refusal> {
    let hello = hello.ok_or_else(|| Refusal::Refused("a hello was expected".to_owned()))?;
    let node_id = NodeId::new(hello.node_id)
        .ok_or_else(|| Refusal::Refused("the hello names no node (its id is 0)".to_owned()))?;
    Ok(Hello {
        node_id,
        cluster_id: hello.cluster_id,
        version: hello.version,
        max_command_version: hello.max_command_version,
        peer_address: hello.peer_address,
        apis: hello.apis,
    })
}
