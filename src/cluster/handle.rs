//! A running cluster and its thread.

use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Builder, ClusterError};
use crate::client::{MarathonApi, OperatorApi, SchedulerApi};
use crate::config::NodeConfig;
use crate::node::{Addresses, Node};

/// How long the agents may take to register.
const AGENTS_DEADLINE: Duration = Duration::from_secs(20);
/// How long dropping a cluster waits for its thread, beyond the node's own deadline.
const DROP_DEADLINE: Duration = Duration::from_secs(30);

/// A cluster in this process.
pub struct Cluster {
    addresses: Addresses,
    marathon: Arc<dyn MarathonApi>,
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
    /// Dropping it stops the cluster.
    orders: Option<mpsc::Sender<Order>>,
    ended: blocking::Receiver<()>,
    result: Option<oneshot::Receiver<Result<(), ClusterError>>>,
}

/// What is asked of the cluster's thread.
enum Order {
    Leader(oneshot::Sender<Option<usize>>),
    Kill(usize, oneshot::Sender<Result<(), ClusterError>>),
    Restart(usize, oneshot::Sender<Result<(), ClusterError>>),
}

/// What the cluster's thread hands out once everything runs.
struct Running {
    addresses: Addresses,
    marathon: Arc<dyn MarathonApi>,
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
}

impl Cluster {
    /// Settings of a new cluster.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Base URL of the Mesos API of the first master. Of several, another may lead: it sends schedulers there.
    #[must_use]
    pub fn master_url(&self) -> String {
        self.master_urls().into_iter().next().unwrap_or_default()
    }

    /// Base URLs of the Mesos APIs of the masters.
    #[must_use]
    pub fn master_urls(&self) -> Vec<String> {
        self.addresses.master_urls()
    }

    /// Base URL of Marathon's API.
    #[must_use]
    pub fn marathon_url(&self) -> String {
        self.addresses.marathon.map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// Base URLs of the agents' APIs.
    #[must_use]
    pub fn agent_urls(&self) -> Vec<String> {
        self.addresses.agents.iter().map(|address| format!("http://{address}")).collect()
    }

    /// Marathon's API, without a socket.
    #[must_use]
    pub fn marathon(&self) -> Arc<dyn MarathonApi> {
        Arc::clone(&self.marathon)
    }

    /// The scheduler API, without a socket.
    #[must_use]
    pub fn scheduler(&self) -> Arc<dyn SchedulerApi> {
        Arc::clone(&self.scheduler)
    }

    /// The master's operator API, without a socket.
    #[must_use]
    pub fn operator(&self) -> Arc<dyn OperatorApi> {
        Arc::clone(&self.operator)
    }

    /// The number of the master that leads, counted from 0. None: an election goes on.
    pub async fn leader(&self) -> Option<usize> {
        self.order(Order::Leader).await.ok().flatten()
    }

    /// Ends a master as a crash would: what is not on disk is lost, nobody is told.
    ///
    /// # Errors
    /// It was ended before, there is no such master, or it did not end in time.
    pub async fn kill_master(&self, number: usize) -> Result<(), ClusterError> {
        self.order(|answer| Order::Kill(number, answer)).await?
    }

    /// Starts a master again that was ended, on the state that it had.
    ///
    /// # Errors
    /// It was not ended, or does not start.
    pub async fn restart_master(&self, number: usize) -> Result<(), ClusterError> {
        self.order(|answer| Order::Restart(number, answer)).await?
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, ClusterError> {
        let ended = || ClusterError::Invalid("the cluster has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or_else(ended)?;
        orders.send(order(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())
    }

    /// Ends every task and every role.
    ///
    /// # Errors
    /// A part failed while the cluster ran, or something of it is left.
    pub async fn shutdown(mut self) -> Result<(), ClusterError> {
        drop(self.orders.take());
        let lost = || ClusterError::Left(vec!["the cluster's thread ended without a word".to_owned()]);
        match self.result.take() {
            Some(result) => result.await.unwrap_or_else(|_| Err(lost())),
            None => Err(lost()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Both a message and a closed channel mean that the thread is done; a deadline that passes
        // leaves it behind, which is better than a test that hangs.
        if self.ended.recv_timeout(DROP_DEADLINE) == Err(blocking::RecvTimeoutError::Timeout) {
            tracing::error!("a cluster did not stop in time");
        }
    }
}

/// Starts a node on a runtime and thread of its own.
pub(super) async fn start(config: NodeConfig) -> Result<Cluster, ClusterError> {
    let (orders, given) = mpsc::channel(1);
    let (ready, is_ready) = oneshot::channel();
    let (finish, result) = oneshot::channel();
    let (end, ended) = blocking::channel();
    let thread = std::thread::Builder::new().name("mesita-cluster".to_owned()).spawn(move || {
        let outcome = live(config, ready, given);
        // Nobody may be waiting any more: then the outcome was not wanted.
        let _ = finish.send(outcome);
        drop(end);
    });
    thread.map_err(|error| ClusterError::Start(error.to_string()))?;
    let running = match is_ready.await {
        Ok(running) => running?,
        Err(_) => return Err(ClusterError::Start("its thread ended without a word".to_owned())),
    };
    Ok(Cluster {
        addresses: running.addresses,
        marathon: running.marathon,
        scheduler: running.scheduler,
        operator: running.operator,
        orders: Some(orders),
        ended,
        result: Some(result),
    })
}

/// The life of the cluster's thread.
fn live(
    config: NodeConfig,
    ready: oneshot::Sender<Result<Running, ClusterError>>,
    given: mpsc::Receiver<Order>,
) -> Result<(), ClusterError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mesita-cluster")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(live_on(config, ready, given)),
        Err(error) => {
            let failure = ClusterError::Start(error.to_string());
            // The starter may have gone away: then nobody needs to know.
            let _ = ready.send(Err(failure.clone()));
            Err(failure)
        }
    }
}

async fn live_on(
    config: NodeConfig,
    ready: oneshot::Sender<Result<Running, ClusterError>>,
    given: mpsc::Receiver<Order>,
) -> Result<(), ClusterError> {
    let wanted = config.agents;
    let mut node = match Box::pin(Node::start(config)).await {
        Ok(node) => node,
        Err(error) => {
            let failure = ClusterError::Start(error.to_string());
            // As above.
            let _ = ready.send(Err(failure.clone()));
            return Err(failure);
        }
    };
    let registered = node.wait_for_agents(AGENTS_DEADLINE).await.map_err(|registered| ClusterError::Agents {
        registered,
        wanted,
        seconds: AGENTS_DEADLINE.as_secs(),
    });
    let running = registered.map(|()| Running {
        addresses: node.addresses().clone(),
        marathon: node.marathon(),
        scheduler: node.scheduler(),
        operator: node.operator(),
    });
    let all_well = running.is_ok();
    // As above; a starter that is gone has also dropped its orders.
    let _ = ready.send(running);
    let failure = if all_well { obey(&mut node, given).await } else { None };
    let left = Box::pin(node.stop(std::future::pending())).await;
    match (failure, left) {
        (Some(failure), _) => Err(failure),
        (None, Err(left)) => Err(ClusterError::Left(left)),
        (None, Ok(())) => Ok(()),
    }
}

/// Does what is asked until the handle is gone or the node fails.
async fn obey(node: &mut Node, mut given: mpsc::Receiver<Order>) -> Option<ClusterError> {
    loop {
        let order = tokio::select! {
            order = given.recv() => order?,
            fatal = node.failed() => return Some(ClusterError::Failed(fatal)),
        };
        // Whoever asked may have gone away: then the answers are not wanted.
        match order {
            Order::Leader(answer) => drop(answer.send(node.leader())),
            Order::Kill(number, answer) => {
                let ended = node.kill_master(number).await;
                let problem = || ClusterError::Invalid(format!("there is no master {number} that runs"));
                drop(answer.send(ended.then_some(()).ok_or_else(problem)));
            }
            Order::Restart(number, answer) => {
                let started = Box::pin(node.restart_master(number)).await;
                drop(answer.send(started.map_err(|error| ClusterError::Invalid(error.to_string()))));
            }
        }
    }
}
