//! One member end to end, on memory and on disk.

use std::sync::Arc;
use std::time::Duration;

use super::{Registry, RegistryConfig};
use crate::api::v1;
use crate::base::clock::SystemClock;
use crate::base::spawn::Tasks;
use crate::base::time::Timestamp;
use crate::registry::core::{Change, Command, Reply};
use crate::storage::{MemoryStore, SledStore, Store};

async fn start(store: Arc<dyn Store>) -> (Tasks, Registry) {
    let (mut tasks, _failures) = Tasks::new();
    let config = RegistryConfig::alone("c1".to_owned());
    let registry = Registry::start(&mut tasks, store, config, None, Arc::new(SystemClock::new()))
        .await
        .expect("started");
    (tasks, registry)
}

fn admit(number: usize) -> Command {
    let id = Some(v1::AgentId { value: format!("S{number}") });
    let info = Arc::new(v1::AgentInfo { hostname: "h".into(), id, ..Default::default() });
    Command { time: Timestamp::from_nanos(1), change: Change::AdmitAgent { info, node: None } }
}

async fn stop(tasks: Tasks) {
    assert!(tasks.stop(Duration::from_secs(10), std::future::pending()).await, "stopped in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a directory");
    let open = || -> Arc<dyn Store> { Arc::new(SledStore::open(folder.path()).expect("opened")) };
    let (tasks, registry) = start(open()).await;
    let proposals: Vec<_> = (0..500).map(|number| tokio::spawn(registry.propose(admit(number)))).collect();
    for proposal in proposals {
        assert_eq!(proposal.await.expect("not cancelled").expect("committed").reply, Reply::Done);
    }
    let before = registry.view();
    assert_eq!(before.agents().count(), 500);
    drop(registry);
    stop(tasks).await;
    let (tasks, registry) = start(open()).await;
    assert_eq!(*registry.view(), *before);
    assert_eq!(registry.view().cluster_id(), "c1");
    stop(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_replies_and_views_are_as_new_as_answers() {
    let (tasks, registry) = start(Arc::new(MemoryStore::default())).await;
    let first = registry.propose(admit(1)).await.expect("committed");
    assert_eq!(registry.view().agents().count(), 1);
    assert!(*registry.watch().borrow() >= first.index);
    let second = registry.propose(admit(1)).await.expect("committed");
    assert!(second.index > first.index && matches!(second.reply, Reply::Refused(_)));
    stop(tasks).await;
    assert!(registry.propose(admit(2)).await.is_err(), "a stopped member commits nothing");
}
