//! A running cluster and its thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::logs::Logs;
use super::{Builder, ClusterError};
use crate::api::marathon::{Mode, Request};
use crate::base::future::BoxFuture;
use crate::client::{MarathonApi, OperatorApi, SchedulerApi};
use crate::config::NodeConfig;
use crate::node::{Addresses, Broken, Given, Levers, Node};

/// How long the agents may take to register.
const AGENTS_DEADLINE: Duration = Duration::from_secs(20);
/// How long dropping a cluster waits for its thread, beyond the node's own deadline.
const DROP_DEADLINE: Duration = Duration::from_secs(30);

/// Events that a failing test is shown.
const TOLD_EVENTS: usize = 50;
/// Lines of the log that a failing test is shown.
const TOLD_LINES: usize = 50;

/// A cluster in this process.
pub struct Cluster {
    addresses: Addresses,
    marathon: Arc<dyn MarathonApi>,
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
    pub(super) levers: Levers,
    pub(super) logs: Logs,
    is_kept: Arc<AtomicBool>,
    keeps_on_failure: bool,
    root: PathBuf,
    /// Dropping it stops the cluster.
    orders: Option<mpsc::Sender<Order>>,
    ended: Mutex<blocking::Receiver<()>>,
    result: Option<oneshot::Receiver<Result<(), ClusterError>>>,
}

/// What is asked of the cluster's thread.
type Order = Box<dyn for<'a> FnOnce(&'a mut Node) -> BoxFuture<'a, ()> + Send>;

/// What the cluster's thread hands out once everything runs.
struct Running {
    addresses: Addresses,
    marathon: Arc<dyn MarathonApi>,
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
    levers: Levers,
    root: PathBuf,
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
        self.ask(|node| Box::pin(std::future::ready(node.leader()))).await.ok().flatten()
    }

    /// Creates a service, or changes it: the body of `PUT /v2/apps`.
    ///
    /// # Errors
    /// Marathon's answer, where it is a refusal.
    pub async fn deploy(&self, app: Value) -> Result<(), ClusterError> {
        let request = Request::PutApps { apps: vec![app], mode: Mode::Update, single: false, force: true };
        match self.marathon().call(request, None).await {
            Ok(_) => Ok(()),
            Err(refusal) => Err(ClusterError::Invalid(format!("the service was refused: {refusal}"))),
        }
    }

    /// Asks something of the node.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl for<'a> FnOnce(&'a mut Node) -> BoxFuture<'a, T> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let ended = || ClusterError::Invalid("the cluster has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let order: Order = Box::new(move |node| {
            let asked = ask(node);
            Box::pin(async move {
                // Whoever asked may have gone away: then the answer is not wanted.
                let _ = answer.send(asked.await);
            })
        });
        let orders = self.orders.as_ref().ok_or_else(ended)?;
        orders.send(order).await.map_err(|_| ended())?;
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

impl Cluster {
    /// A test fails: what happened is told, and where it is asked for its files are kept.
    fn tell_failure(&self) {
        let mut text = String::from("\nthe cluster of this test:\n");
        for event in self.levers.journal().last(TOLD_EVENTS) {
            text.push_str(&format!("  {event}\n"));
        }
        text.push_str("its log:\n");
        for line in self.logs.last(TOLD_LINES) {
            text.push_str(&format!("  {line}\n"));
        }
        if self.keeps_on_failure && self.root.exists() {
            self.is_kept.store(true, Ordering::Release);
            text.push_str(&format!("its files are kept in {}\n", self.root.display()));
        }
        eprint!("{text}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_failure();
        }
        drop(self.orders.take());
        // Both a message and a closed channel mean that the thread is done; a deadline that passes
        // leaves it behind, which is better than a test that hangs.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(DROP_DEADLINE) == Err(blocking::RecvTimeoutError::Timeout) {
            tracing::error!("a cluster did not stop in time");
        }
    }
}

/// What a cluster is started with beside its node's settings.
#[derive(Default)]
pub(super) struct Options {
    pub(super) given: Given,
    pub(super) keeps_on_failure: bool,
}

/// Starts a node on a runtime and thread of its own.
pub(super) async fn start(config: NodeConfig, options: Options) -> Result<Cluster, ClusterError> {
    let logs = Logs::new();
    let is_kept = Arc::new(AtomicBool::new(false));
    let (orders, given) = mpsc::channel(1);
    let (ready, is_ready) = oneshot::channel();
    let (finish, result) = oneshot::channel();
    let (end, ended) = blocking::channel();
    let life = Life {
        config,
        given: options.given,
        logs: logs.clone(),
        is_kept: Arc::clone(&is_kept),
        keeps_on_failure: options.keeps_on_failure,
    };
    let thread = std::thread::Builder::new().name("mesita-cluster".to_owned()).spawn(move || {
        let _guard = life.logs.capture();
        let outcome = live(life, ready, given);
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
        levers: running.levers,
        logs,
        is_kept,
        keeps_on_failure: options.keeps_on_failure,
        root: running.root,
        orders: Some(orders),
        ended: Mutex::new(ended),
        result: Some(result),
    })
}

/// What a cluster's thread begins with.
struct Life {
    config: NodeConfig,
    given: Given,
    logs: Logs,
    is_kept: Arc<AtomicBool>,
    keeps_on_failure: bool,
}

/// The life of the cluster's thread.
fn live(
    life: Life,
    ready: oneshot::Sender<Result<Running, ClusterError>>,
    given: mpsc::Receiver<Order>,
) -> Result<(), ClusterError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mesita-cluster")
        .on_thread_start(life.logs.on_thread())
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(live_on(life, ready, given)),
        Err(error) => {
            let failure = ClusterError::Start(error.to_string());
            // The starter may have gone away: then nobody needs to know.
            let _ = ready.send(Err(failure.clone()));
            Err(failure)
        }
    }
}

async fn live_on(
    life: Life,
    ready: oneshot::Sender<Result<Running, ClusterError>>,
    given: mpsc::Receiver<Order>,
) -> Result<(), ClusterError> {
    let wanted = life.config.agents;
    let mut node = match Box::pin(Node::start_on(life.config, life.given)).await {
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
        levers: node.levers(),
        root: node.data_dir().to_owned(),
    });
    let all_well = running.is_ok();
    // As above; a starter that is gone has also dropped its orders.
    let _ = ready.send(running);
    let failure = if all_well { obey(&mut node, given).await } else { None };
    // The test of a cluster that failed fails with it.
    if life.is_kept.load(Ordering::Acquire) || life.keeps_on_failure && failure.is_some() {
        node.keep();
    }
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
        let broken = tokio::select! {
            order = given.recv() => {
                order?(node).await;
                continue;
            }
            broken = node.broken() => broken,
        };
        match broken {
            Broken::Node(fatal) => return Some(ClusterError::Failed(fatal)),
            Broken::Part(part, fatal) => node.end(part, &fatal).await,
        }
    }
}
