//! The masters of one process, as one: every call goes to the one that leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::marathon::{Refusal, Request, Response};
use crate::api::v1::{master, scheduler};
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::client::cluster::{ClusterApi, ClusterStatus, TokenAsk, TokenGiven};
use crate::client::{
    AgentLink, AgentPeer, ApiError, MarathonApi, OperatorApi, Principal, SchedulerApi, SubscriptionStream,
};
use crate::registry::run::Registry;

/// What one master offers.
#[derive(Clone)]
pub(super) struct Offered {
    pub(super) registry: Registry,
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
    /// Masters that stand still.
    paused: Arc<Mutex<BTreeSet<NodeId>>>,
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

    /// Asks nothing of a master that stands still, or asks it again.
    pub(super) fn pause(&self, id: NodeId, is_paused: bool) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if is_paused {
            paused.insert(id)
        } else {
            paused.remove(&id)
        };
    }

    /// Forgets a master that ended.
    pub(super) fn remove(&self, id: NodeId) {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The master that leads. One that was deposed and does not know it yet leads in an older term.
    pub(super) fn leader(&self) -> Result<(NodeId, Offered), ApiError> {
        let masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner);
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let moving = masters.iter().filter(|(id, _)| !paused.contains(id));
        let leading = moving.filter_map(|(id, offered)| Some((offered.registry.term()?, id, offered)));
        let newest = leading.max_by_key(|(term, id, _)| (*term, **id));
        newest.map(|(_, id, offered)| (*id, offered.clone())).ok_or(ApiError::NotLeader { leader: None })
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
        Box::pin(async move { self.leader()?.1.scheduler.subscribe(call, principal).await })
    }

    fn call(
        &self,
        call: scheduler::Call,
        stream_id: Option<String>,
        principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.leader()?.1.scheduler.call(call, stream_id, principal).await })
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
        Box::pin(async move { self.leader()?.1.operator.call(call, principal).await })
    }

    fn legacy_state(&self, principal: Principal) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async move { self.leader()?.1.operator.legacy_state(principal).await })
    }
}

impl AgentPeer for Leading {
    fn connect(&self, node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move { self.leader()?.1.agents.connect(node).await })
    }
}

impl MarathonApi for Leading {
    fn call(&self, request: Request, principal: Principal) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async move {
            let (_, leader) =
                self.leader().map_err(|_| Refusal::Unavailable("no master leads".to_owned()))?;
            leader.marathon.call(request, principal).await
        })
    }

    fn leader(&self) -> Option<String> {
        Self::leader(self).ok().and_then(|(_, leader)| leader.marathon.leader())
    }
}

impl ClusterApi for Leading {
    fn status(&self) -> BoxFuture<'_, Result<ClusterStatus, ApiError>> {
        Box::pin(async move { self.leader()?.1.cluster.status().await })
    }

    fn join_token(&self, ask: TokenAsk) -> BoxFuture<'_, Result<TokenGiven, ApiError>> {
        Box::pin(async move { self.leader()?.1.cluster.join_token(ask).await })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, ApiError>> {
        Box::pin(async move { self.leader()?.1.cluster.snapshot().await })
    }

    fn remove_node(&self, id: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.leader()?.1.cluster.remove_node(id).await })
    }
}
