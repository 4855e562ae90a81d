//! What a master does for the cluster itself.

use std::sync::Arc;

use crate::api::v1;
use crate::api::v1::master as api;
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, NodeId};
use crate::base::time::Clock;
use crate::client::cluster::{
    AgentNodeStatus, ClusterApi, ClusterStatus, MasterStatus, TokenAsk, TokenGiven,
};
use crate::client::{ApiError, OperatorApi};
use crate::registry::core::{AgentEntry, Change, KNOWS_NODES, Standing, State};
use crate::registry::run::{ProposeError, RecordError, Registry};

/// The cluster, as one master knows it.
pub(super) struct Admin {
    pub(super) registry: Registry,
    /// The master beside it.
    pub(super) master: Arc<dyn OperatorApi>,
    pub(super) clock: Arc<SystemClock>,
}

impl Admin {
    fn check_leads(&self) -> Result<(), ApiError> {
        if self.registry.leads() { Ok(()) } else { Err(ApiError::NotLeader { leader: None }) }
    }

    async fn record(&self, change: Change) -> Result<(), ApiError> {
        self.registry.record(change, self.clock.now().wall).await.map_err(|error| match error {
            RecordError::Refused(reason) => ApiError::Conflict(reason),
            RecordError::Lost(error) => unavailable(&error),
        })
    }

    /// Nodes that have agents and no master.
    async fn agent_nodes(&self, state: &State) -> Result<Vec<AgentNodeStatus>, ApiError> {
        let kind = Some(api::call::Type::GetAgents.into());
        let call = api::Call { r#type: kind, ..Default::default() };
        let response = self.master.call(call, None).await?;
        let here = response.and_then(|response| response.get_agents).unwrap_or_default().agents;
        let nodes = agents_of(state).filter(|(node, _, _)| state.master(*node).is_none());
        Ok(nodes
            .map(|(node, agent_id, entry)| {
                let id = agent_id.to_string();
                let known = here
                    .iter()
                    .find(|agent| agent.agent_info.id.as_ref().is_some_and(|known| known.value == id));
                AgentNodeStatus {
                    id: node.to_string(),
                    agent_id: id,
                    hostname: entry.info.hostname.clone(),
                    is_alive: known.is_some_and(|agent| agent.active),
                    version: known.map(|agent| agent.version.clone()).unwrap_or_default(),
                }
            })
            .collect())
    }

    /// Removes a node. Its agents end as agents do that an operator declares gone; those that nobody could
    /// tell are gone with it.
    async fn remove(&self, id: &str) -> Result<(), ApiError> {
        self.check_leads()?;
        let state = self.registry.view();
        let is_known =
            |id: &NodeId| state.master(*id).is_some() || agents_of(&state).any(|(node, _, _)| node == *id);
        let Some(node) = NodeId::parse(id).filter(is_known) else {
            return Err(ApiError::NotFound(format!(
                "there is no node {id}; mesita cluster status lists them"
            )));
        };
        if state.version() < KNOWS_NODES {
            return self.record(Change::RemoveMaster { id: node }).await;
        }
        if state.master(node).is_some() && state.masters().count() == 1 {
            return Err(ApiError::Conflict(format!("the master {node} is the last one")));
        }
        // First, while it is still heard: it ends what it runs.
        let agents = agents_of(&state).filter(|(owner, _, _)| *owner == node);
        for (_, agent_id, _) in agents {
            let agent_id = v1::AgentId { value: agent_id.to_string() };
            let call = api::Call {
                r#type: Some(api::call::Type::MarkAgentGone.into()),
                mark_agent_gone: Some(api::call::MarkAgentGone { agent_id }),
                ..Default::default()
            };
            match self.master.call(call, None).await {
                // It is not known any more: that is what is wanted.
                Ok(_) | Err(ApiError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.record(Change::RemoveNode { id: node }).await
    }

    async fn look(&self) -> Result<ClusterStatus, ApiError> {
        self.check_leads()?;
        // What a deposed leader believes is of no use.
        self.registry.read().await.map_err(|error| unavailable(&error))?;
        let status = self.registry.status().await.map_err(|error| unavailable(&error))?;
        let (state, leader) = (self.registry.view(), self.registry.leader());
        let masters = status.members.iter().map(|member| {
            let id = NodeId::new(member.id);
            let entry = id.and_then(|id| state.master(id)).cloned().unwrap_or_default();
            let role = match (id == leader, member.is_voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            MasterStatus {
                id: id.map(|id| id.to_string()).unwrap_or_default(),
                role: role.to_owned(),
                is_alive: member.is_active,
                lag: if id == leader { 0 } else { status.last.saturating_sub(member.matched) },
                peer_address: entry.peer_address,
                master_address: entry.master_address,
                version: entry.version,
            }
        });
        Ok(ClusterStatus {
            cluster_id: state.cluster_id().to_owned(),
            term: status.term,
            command_version: state.version(),
            committed: status.committed,
            applied: status.applied,
            snapshot: status.snapshot,
            masters: masters.collect(),
            agent_nodes: self.agent_nodes(&state).await?,
        })
    }

    #[cfg(feature = "tls")]
    async fn give_token(&self, ask: TokenAsk) -> Result<TokenGiven, ApiError> {
        use std::time::Duration;

        use crate::peer::wire::{Authority, Token, secret_digest};
        use crate::registry::core::TokenEntry;

        self.check_leads()?;
        let for_masters = match ask.role.as_str() {
            "master" => true,
            "agent" => false,
            other => {
                return Err(ApiError::Invalid(format!(
                    "role is {other:?}; it must be \"master\" or \"agent\""
                )));
            }
        };
        let state = self.registry.view();
        let Some(authority) = state.authority() else { return Err(no_peers()) };
        let internal = |error: &dyn std::fmt::Display| ApiError::Internal(error.to_string());
        let authority =
            Authority::from_pem(&authority.certificate, &authority.key).map_err(|error| internal(&error))?;
        let token = Token::generate(authority.digest()).map_err(|error| internal(&error))?;
        let now = self.clock.now().wall;
        let expires = ask.expires_in_seconds.map(|seconds| now.after(Duration::from_secs(seconds)));
        let entry = TokenEntry { for_masters, expires, once: ask.once, spent: false };
        let digest = secret_digest(token.secret()).to_vec();
        self.record(Change::PutToken { digest, entry }).await?;
        Ok(TokenGiven { token: token.reveal() })
    }

    #[cfg(not(feature = "tls"))]
    async fn give_token(&self, _ask: TokenAsk) -> Result<TokenGiven, ApiError> {
        Err(no_peers())
    }
}

fn no_peers() -> ApiError {
    ApiError::Conflict("nobody can join this cluster: it was not started by mesita node".to_owned())
}

fn unavailable(error: &ProposeError) -> ApiError {
    ApiError::Unavailable(error.to_string())
}

impl ClusterApi for Admin {
    fn status(&self) -> BoxFuture<'_, Result<ClusterStatus, ApiError>> {
        Box::pin(self.look())
    }

    fn join_token(&self, ask: TokenAsk) -> BoxFuture<'_, Result<TokenGiven, ApiError>> {
        Box::pin(self.give_token(ask))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, ApiError>> {
        Box::pin(async move {
            self.check_leads()?;
            // Everything that was acknowledged before is in it.
            self.registry.read().await.map_err(|error| unavailable(&error))?;
            Ok(super::snapshots::take(&self.registry, self.clock.now().wall).1)
        })
    }

    fn remove_node(&self, id: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.remove(&id).await })
    }
}

/// Agents that are not gone, with the nodes that they belong to.
fn agents_of(state: &State) -> impl Iterator<Item = (NodeId, &AgentId, &AgentEntry)> {
    let present = state.agents().filter(|(_, entry)| entry.standing != Standing::Gone);
    present.filter_map(|(id, entry)| Some((entry.node?, id, entry)))
}
