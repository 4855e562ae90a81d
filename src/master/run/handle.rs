//! What others hold of the master: the interfaces of the scheduler, operator and agent APIs.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::member::{Member, Request};
use crate::api::v1::{master, scheduler};
use crate::api::{peer, validate};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, FrameworkId, NodeId};
use crate::base::spawn::Tasks;
use crate::client::{
    AgentLink, AgentPeer, ApiError, OperatorApi, Principal, SchedulerApi, SubscriptionStream,
};
use crate::master::core::Config;
use crate::registry::run::{ProposeError, Registry};

/// Requests that may wait for the loop; callers wait beyond that.
const QUEUE: usize = 4_096;
/// Events of a stream on their way to its reader; what does not fit waits in the stream's outbox.
const SCHEDULER_EVENTS: usize = 256;
/// The same for messages to an agent.
const AGENT_MESSAGES: usize = 256;
/// Messages of an agent that may wait for the loop.
const AGENT_QUEUE: usize = 1_024;

/// A handle of the master of this node, leading or not.
pub struct Handle {
    requests: mpsc::Sender<Request>,
    registry: Registry,
}

impl Handle {
    /// Starts the loop.
    #[must_use]
    pub fn start(
        tasks: &mut Tasks,
        config: Config,
        registry: Registry,
        clock: Arc<SystemClock>,
    ) -> Arc<Self> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let shutdown = tasks.shutdown();
        tasks.spawn("master", Member::new(config, registry.clone(), clock).run(queue, shutdown));
        Arc::new(Self { requests, registry })
    }

    fn is_leading(&self) -> Result<(), ApiError> {
        if self.registry.leads() {
            return Ok(());
        }
        let Some(leader) = self.registry.leading() else { return Err(ApiError::NotLeader { leader: None }) };
        match leader.reachable_api() {
            Some(address) => Err(ApiError::NotLeader { leader: Some(address.to_owned()) }),
            None => Err(ApiError::Unavailable(format!(
                "the master of {} leads, but its API is bound to {}: start it with --insecure --master-addr HOST:PORT (and --advertise HOST)",
                leader.peer_address, leader.master_address
            ))),
        }
    }

    /// Makes sure that this master still leads: one that was deposed and does not know it yet would answer
    /// what is no longer true.
    async fn confirm(&self) -> Result<(), ApiError> {
        self.registry.read().await.map_err(|error| match error {
            ProposeError::NotLeader => ApiError::NotLeader { leader: None },
            error => ApiError::Unavailable(error.to_string()),
        })
    }

    /// A master whose disk is nearly full takes on no new framework.
    fn expect_room(&self) -> Result<(), ApiError> {
        let shortage = self.registry.shortage();
        shortage.map_or(Ok(()), |shortage| Err(ApiError::Unavailable(shortage.to_string())))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        let stopped = || ApiError::Unavailable("the master has stopped".to_owned());
        self.requests.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())
    }
}

impl SchedulerApi for Handle {
    fn leads(&self) -> Result<(), ApiError> {
        self.is_leading()
    }

    fn subscribe(
        &self,
        call: scheduler::Call,
        principal: Principal,
    ) -> BoxFuture<'_, Result<SubscriptionStream<scheduler::Event>, ApiError>> {
        Box::pin(async move {
            validate::scheduler_call(&call)?;
            let Some(subscribe) = call.subscribe else {
                return Err(ApiError::Invalid("Expecting 'subscribe' to be present".to_owned()));
            };
            if subscribe.framework_info.id.is_none() {
                self.expect_room()?;
            }
            let (events, receiver) = mpsc::channel(SCHEDULER_EVENTS);
            let (guard, dropped) = oneshot::channel::<()>();
            let subscribe = Box::new(subscribe);
            let request = |answer| Request::Subscribe { subscribe, principal, events, dropped, answer };
            let stream_id = self.ask(request).await??;
            Ok(SubscriptionStream { stream_id, events: receiver, guard: Box::new(guard) })
        })
    }

    fn call(
        &self,
        call: scheduler::Call,
        stream_id: Option<String>,
        principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move {
            if validate::scheduler_call(&call)? == scheduler::call::Type::Subscribe {
                return Err(ApiError::Invalid("SUBSCRIBE opens a stream".to_owned()));
            }
            let call = Box::new(call);
            self.ask(|answer| Request::Call { call, stream_id, principal, answer }).await?
        })
    }
}

impl OperatorApi for Handle {
    fn leads(&self) -> Result<(), ApiError> {
        self.is_leading()
    }

    fn call(
        &self,
        call: master::Call,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<Option<master::Response>, ApiError>> {
        Box::pin(async move {
            match validate::master_call(&call)? {
                master::call::Type::Teardown => {
                    let id = call.teardown.map(|teardown| teardown.framework_id.value);
                    let framework_id = FrameworkId::from(id.unwrap_or_default());
                    self.ask(|answer| Request::Teardown { framework_id, answer }).await??;
                    return Ok(None);
                }
                master::call::Type::MarkAgentGone => {
                    let id = call.mark_agent_gone.map(|gone| gone.agent_id.value);
                    let agent_id = AgentId::from(id.unwrap_or_default());
                    self.ask(|answer| Request::MarkGone { agent_id, answer }).await??;
                    return Ok(None);
                }
                _ => {}
            }
            self.confirm().await?;
            let call = Box::new(call);
            self.ask(|answer| Request::Query { call, answer }).await?.map(|response| Some(*response))
        })
    }

    fn legacy_state(&self, _principal: Principal) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async move {
            self.confirm().await?;
            self.ask(|answer| Request::LegacyState { answer }).await?
        })
    }
}

impl AgentPeer for Handle {
    fn connect(&self, node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move {
            let (to_agent, from_master) = mpsc::channel(AGENT_MESSAGES);
            let (to_master, from_agent) = mpsc::channel::<peer::FromAgent>(AGENT_QUEUE);
            self.ask(|answer| Request::Connect { node, from_agent, to_agent, answer }).await??;
            Ok(AgentLink { to_master, from_master })
        })
    }
}
