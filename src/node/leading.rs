//! The masters of one process, as one: every call goes to the one that leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::marathon::{Refusal, Request, Response};
use crate::api::v1::{master, scheduler};
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::client::cluster::{ClusterApi, ClusterStatus, TokenAsk, TokenGiven};
use crate::client::{
    AgentLink, AgentPeer, ApiError, MarathonApi, OperatorApi, Principal, SchedulerApi, SubscriptionStream,
};

/// What one master offers.
#[derive(Clone)]
pub(super) struct Offered {
    pub(super) scheduler: Arc<dyn SchedulerApi>,
    pub(super) operator: Arc<dyn OperatorApi>,
    pub(super) agents: Arc<dyn AgentPeer>,
    pub(super) marathon: Arc<dyn MarathonApi>,
    pub(super) cluster: Arc<dyn ClusterApi>,
}

/// Everything that the masters of one process offer; clones share it.
#[derive(Clone, Default)]
pub(super) struct Leading {
    masters: Arc<Mutex<BTreeMap<NodeId, Offered>>>,
}

impl Leading {
    /// Adds a master.
    pub(super) fn put(&self, id: NodeId, offered: Offered) {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).insert(id, offered);
    }

    /// Forgets every master: what they hold is let go.
    pub(super) fn clear(&self) {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn leader(&self) -> Result<Offered, ApiError> {
        let masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner);
        let leading = masters.values().find(|offered| offered.operator.leads().is_ok());
        leading.cloned().ok_or(ApiError::NotLeader { leader: None })
    }
}

impl SchedulerApi for Leading {
    fn leads(&self) -> Result<(), ApiError> {
        self.leader().map(drop)
    }

    fn subscribe(
        &self,
        call: scheduler::Call,
        principal: Principal,
    ) -> BoxFuture<'_, Result<SubscriptionStream<scheduler::Event>, ApiError>> {
        Box::pin(async move { self.leader()?.scheduler.subscribe(call, principal).await })
    }

    fn call(
        &self,
        call: scheduler::Call,
        stream_id: Option<String>,
        principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.leader()?.scheduler.call(call, stream_id, principal).await })
    }
}

impl OperatorApi for Leading {
    fn leads(&self) -> Result<(), ApiError> {
        self.leader().map(drop)
    }

    fn call(
        &self,
        call: master::Call,
        principal: Principal,
    ) -> BoxFuture<'_, Result<Option<master::Response>, ApiError>> {
        Box::pin(async move { self.leader()?.operator.call(call, principal).await })
    }

    fn legacy_state(&self, principal: Principal) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async move { self.leader()?.operator.legacy_state(principal).await })
    }
}

impl AgentPeer for Leading {
    fn connect(&self, node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move { self.leader()?.agents.connect(node).await })
    }
}

impl MarathonApi for Leading {
    fn call(&self, request: Request, principal: Principal) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async move {
            let leader = self.leader().map_err(|_| Refusal::Unavailable("no master leads".to_owned()))?;
            leader.marathon.call(request, principal).await
        })
    }

    fn leader(&self) -> Option<String> {
        Self::leader(self).ok().and_then(|leader| leader.marathon.leader())
    }
}

impl ClusterApi for Leading {
    fn status(&self) -> BoxFuture<'_, Result<ClusterStatus, ApiError>> {
        Box::pin(async move { self.leader()?.cluster.status().await })
    }

    fn join_token(&self, ask: TokenAsk) -> BoxFuture<'_, Result<TokenGiven, ApiError>> {
        Box::pin(async move { self.leader()?.cluster.join_token(ask).await })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, ApiError>> {
        Box::pin(async move { self.leader()?.cluster.snapshot().await })
    }

    fn remove_node(&self, id: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.leader()?.cluster.remove_node(id).await })
    }
}
