//! The batch against a cluster in this process, while parts of it fail.

use std::time::Duration;

use batch::{Batch, Progress};
use mesita::Cluster;
use mesita::api::v1::TaskState;
use mesita::cluster::{Event, Part, What};
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(20);

/// A cluster, and a batch of four jobs that run on it.
async fn running() -> (Cluster, watch::Receiver<Progress>) {
    let builder = Cluster::builder().masters(3).agents(2).testing().without_sockets();
    let cluster = builder.start().await.expect("a cluster");
    let (batch, progress) = Batch::new(cluster.scheduler(), &["one", "two", "three", "four"]);
    tokio::spawn(batch.run());
    run(&cluster, 4).await;
    (cluster, progress)
}

/// Waits until so many tasks run.
async fn run(cluster: &Cluster, count: usize) {
    let look = async || match cluster.tasks().len() {
        running if running == count => Ok(()),
        running => Err(format!("{running} run")),
    };
    cluster.wait_for(&format!("{count} tasks to run"), SOON, look).await.expect("they run");
}

/// Lets every job end well, and waits for the end of the batch.
async fn finish(cluster: &Cluster, progress: &mut watch::Receiver<Progress>) -> Progress {
    let look = async || {
        // A job that is started again has to end, too.
        cluster.tasks().iter().for_each(|task| drop(task.exit(0)));
        let done = progress.borrow().done;
        if done == 4 { Ok(()) } else { Err(format!("{done} of 4 are done")) }
    };
    cluster.wait_for("the batch to end", SOON, look).await.expect("it ends");
    progress.borrow().clone()
}

#[tokio::test]
async fn a_job_that_fails_is_started_again() {
    let (cluster, mut progress) = running().await;
    let killed = cluster.tasks().remove(0);
    killed.exit(137).expect("it runs");
    progress.wait_for(|progress| progress.failed == 1).await.expect("it hears of it");
    run(&cluster, 4).await;
    let ended = finish(&cluster, &mut progress).await;
    assert_eq!((ended.done, ended.failed), (4, 1));
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn the_loss_of_the_leading_master_loses_and_doubles_no_job() {
    let (cluster, mut progress) = running().await;
    let mut before: Vec<String> = cluster.tasks().iter().map(|task| task.id().to_owned()).collect();
    let lost = cluster.kill_leader().await.expect("one leads");
    assert_ne!(cluster.wait_leader(SOON).await.expect("another leads"), lost);
    progress.wait_for(|progress| progress.subscribed == 2).await.expect("it subscribes again");
    let mut after: Vec<String> = cluster.tasks().iter().map(|task| task.id().to_owned()).collect();
    before.sort();
    after.sort();
    assert_eq!(after, before);
    let ended = finish(&cluster, &mut progress).await;
    assert_eq!(ended.failed, 0);
    // Each was launched once.
    let launches = cluster.history();
    let is_start = |event: &&Event| matches!(&event.what, What::Task { status, .. } if status.state() == TaskState::TaskStarting);
    assert_eq!(launches.iter().filter(is_start).count(), 4);
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_master_that_is_cut_off_from_the_others_is_left() {
    let (cluster, mut progress) = running().await;
    let leader = cluster.leader().await.expect("one leads");
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    cluster.partition(&[leader], &others).expect("known parts");
    progress.wait_for(|progress| progress.subscribed == 2).await.expect("it finds the next leader");
    cluster.heal();
    assert_eq!(finish(&cluster, &mut progress).await.failed, 0);
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn an_agent_that_ends_and_comes_back_has_its_jobs_still() {
    let (cluster, mut progress) = running().await;
    let agent = cluster.tasks()[0].agent();
    cluster.kill(Part::Agent(agent)).await.expect("it runs");
    cluster.restart(Part::Agent(agent)).await.expect("it was ended");
    assert_eq!(finish(&cluster, &mut progress).await.failed, 0);
    cluster.shutdown().await.expect("nothing is left");
}
