//! The loop with a real registry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Handle;
use crate::api::v1;
use crate::api::v1::scheduler::{self, call, event};
use crate::base::clock::SystemClock;
use crate::base::spawn::Tasks;
use crate::client::{SchedulerApi, SubscriptionStream};
use crate::master::core::Config;
use crate::registry::run::{Registry, RegistryConfig};
use crate::storage::MemoryStore;

async fn start() -> (Tasks, Arc<Handle>) {
    let (mut tasks, _failures) = Tasks::new();
    let clock = Arc::new(SystemClock::new());
    let config = RegistryConfig::alone("c1".to_owned());
    let store = Arc::new(MemoryStore::default());
    let registry =
        Registry::start(&mut tasks, store, config, None, Arc::clone(&clock)).await.expect("a registry");
    let config = Config::new(SocketAddr::from(([127, 0, 0, 1], 5050)));
    let handle = Handle::start(&mut tasks, config, registry, clock);
    (tasks, handle)
}

async fn subscribe(handle: &Handle) -> (SubscriptionStream<scheduler::Event>, v1::FrameworkId) {
    let framework_info =
        v1::FrameworkInfo { user: "u".to_owned(), name: "f".to_owned(), ..Default::default() };
    let call = scheduler::Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe { framework_info, ..Default::default() }),
        ..Default::default()
    };
    let mut stream = handle.subscribe(call, None).await.expect("a stream");
    let first = stream.events.recv().await.and_then(|event| event.subscribed).expect("SUBSCRIBED");
    (stream, first.framework_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_events_does_not_cut_the_scheduler_off() {
    const TASKS: usize = 20_000;
    let (tasks, handle) = start().await;
    let (mut stream, framework_id) = subscribe(&handle).await;
    let one = |number: usize| call::reconcile::Task {
        task_id: v1::TaskId { value: format!("t{number}") },
        agent_id: None,
    };
    let call = scheduler::Call {
        framework_id: Some(framework_id),
        r#type: Some(call::Type::Reconcile.into()),
        reconcile: Some(call::Reconcile { tasks: (0..TASKS).map(one).collect() }),
        ..Default::default()
    };
    let stream_id = stream.stream_id.clone();
    handle.call(call, Some(stream_id), None).await.expect("accepted");
    let mut answers = 0;
    while answers < TASKS {
        let event = stream.events.recv().await.expect("the stream goes on");
        answers += usize::from(event.r#type == Some(event::Type::Update.into()));
    }
    assert!(tasks.stop(Duration::from_secs(10), std::future::pending()).await, "stopped in time");
}
