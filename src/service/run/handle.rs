//! What others hold of the service framework.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::member::{Asked, Member};
use crate::api::marathon::{Refusal, Request, Response};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::spawn::Tasks;
use crate::client::{MarathonApi, Principal, SchedulerApi};
use crate::registry::run::Registry;

/// Requests that may wait for the loop; callers wait beyond that.
const QUEUE: usize = 1_024;

/// A handle of the service framework of this node, leading or not.
pub struct Handle {
    requests: mpsc::Sender<Asked>,
    registry: Registry,
    address: String,
}

impl Handle {
    /// Starts the loop. `address` is where this node answers `/v2`.
    #[must_use]
    pub fn start(
        tasks: &mut Tasks,
        registry: Registry,
        scheduler: Arc<dyn SchedulerApi>,
        clock: Arc<SystemClock>,
        address: SocketAddr,
    ) -> Arc<Self> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let shutdown = tasks.shutdown();
        let address = address.to_string();
        let member = Member::new(registry.clone(), scheduler, clock, address.clone());
        tasks.spawn("services", member.run(queue, shutdown));
        Arc::new(Self { requests, registry, address })
    }
}

impl MarathonApi for Handle {
    fn call(&self, request: Request, _principal: Principal) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async move {
            let stopped = || Refusal::Unavailable("the service framework has stopped".to_owned());
            // One that was deposed and does not know it yet would answer what is no longer true.
            let confirmed = self.registry.read().await;
            confirmed.map_err(|error| Refusal::Unavailable(format!("no master leads: {error}")))?;
            if let Some(shortage) = self.registry.shortage().filter(|_| request.is_addition()) {
                return Err(Refusal::Unavailable(format!("nothing was changed: {shortage}")));
            }
            let (answer, answered) = oneshot::channel();
            self.requests.send(Asked { request, answer }).await.map_err(|_| stopped())?;
            // The term that took it is over: the next leader may or may not know of it.
            let lost = "leadership was lost before the answer; look at what is there, and ask again";
            answered.await.unwrap_or_else(|_| Err(Refusal::Unavailable(lost.to_owned())))
        })
    }

    fn leader(&self) -> Option<String> {
        self.registry.leads().then(|| self.address.clone())
    }
}
