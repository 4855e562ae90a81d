//! What a master does for the cluster itself.

use std::sync::Arc;

use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::time::Clock;
use crate::client::ApiError;
use crate::client::cluster::{ClusterApi, ClusterStatus, MasterStatus, TokenAsk, TokenGiven};
use crate::registry::core::{Change, Command, Reply};
use crate::registry::run::{ProposeError, Registry};

/// The cluster, as one master knows it.
pub(super) struct Admin {
    pub(super) registry: Registry,
    pub(super) clock: Arc<SystemClock>,
}

impl Admin {
    fn check_leads(&self) -> Result<(), ApiError> {
        if self.registry.leads() { Ok(()) } else { Err(ApiError::NotLeader { leader: None }) }
    }

    async fn record(&self, change: Change) -> Result<(), ApiError> {
        let command = Command { time: self.clock.now().wall, change };
        match self.registry.propose(command).await.map_err(|error| unavailable(&error))?.reply {
            Reply::Refused(reason) => Err(ApiError::Conflict(reason)),
            Reply::Done | Reply::Service(_) => Ok(()),
        }
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

    fn remove_master(&self, id: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move {
            self.check_leads()?;
            let parsed = NodeId::parse(&id).filter(|id| self.registry.view().master(*id).is_some());
            let Some(parsed) = parsed else {
                return Err(ApiError::NotFound(format!(
                    "there is no master {id}; mesita cluster status lists them"
                )));
            };
            self.record(Change::RemoveMaster { id: parsed }).await
        })
    }
}
