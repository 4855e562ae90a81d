//! Clusters in this process, their faults on request, and what waits say: each as a test of another project
//! would use them.

use std::net::TcpListener;
use std::time::Duration;

use mesita::Cluster;
use mesita::api::v1::TaskState;
use mesita::base::time::Clock as _;
use mesita::cluster::{Event, Executor, Part, Skew, What};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

async fn three() -> Cluster {
    let builder = Cluster::builder().masters(3).agents(2).testing().without_sockets();
    builder.start().await.expect("a cluster")
}

async fn web(cluster: &Cluster, instances: usize) {
    let app = json!({ "id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16, "instances": instances });
    cluster.deploy(app).await.expect("accepted");
    cluster.wait_healthy("/web", SOON).await.expect("healthy");
}

fn ids(cluster: &Cluster) -> Vec<String> {
    let mut ids: Vec<String> = cluster.tasks().iter().map(|task| task.id().to_owned()).collect();
    ids.sort();
    ids
}

/// Waits until so many tasks run.
async fn wait_running(cluster: &Cluster, what: &str, is_right: impl Fn(usize) -> bool) {
    let look = async || match cluster.tasks().len() {
        running if is_right(running) => Ok(()),
        running => Err(format!("{running} run")),
    };
    cluster.wait_for(what, SOON, look).await.expect("it comes to that");
}

/// Waits until another master than this one leads.
async fn another_leads(cluster: &Cluster, than: usize) -> usize {
    let what = format!("another than master {than} to lead");
    let look = async || match cluster.leader().await {
        Some(leader) if leader != than => Ok(()),
        other => Err(format!("{other:?} leads")),
    };
    cluster.wait_for(&what, SOON, look).await.expect("another leads");
    cluster.leader().await.expect("it still leads")
}

fn is_state(event: &Event, wanted: TaskState) -> bool {
    matches!(&event.what, What::Task { status, .. } if status.state() == wanted)
}

#[tokio::test]
async fn a_leader_that_nobody_hears_is_replaced_and_follows_when_it_is_back() {
    let cluster = three().await;
    web(&cluster, 2).await;
    let tasks = ids(&cluster);
    let cut = cluster.leader().await.expect("a leader");
    let others: Vec<usize> = (0..3).filter(|number| *number != cut).collect();
    cluster.partition(&[Part::Master(cut)], &[Part::Agent(0), Part::Agent(1)]).expect("known parts");
    cluster.partition(&[cut], &others).expect("known parts");
    let next = another_leads(&cluster, cut).await;
    assert!(others.contains(&next));
    web(&cluster, 3).await;
    assert!(tasks.iter().all(|task| ids(&cluster).contains(task)), "a task was replaced");
    cluster.heal();
    // The third is ended: what is left has a majority only with the old leader, which has caught up by then.
    let third = others.into_iter().find(|number| *number != next).expect("three");
    cluster.kill(Part::Master(third)).await.expect("it runs");
    cluster.wait_leader(SOON).await.expect("two are enough");
    web(&cluster, 4).await;
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_way_that_is_cut_in_one_direction_only() {
    let cluster = three().await;
    let leader = cluster.leader().await.expect("a leader");
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    // It is heard and hears nothing: it cannot know that it still leads.
    cluster.partition_one_way(&others, &[leader]).expect("known parts");
    another_leads(&cluster, leader).await;
    web(&cluster, 1).await;
    cluster.heal();
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn what_stands_still_is_replaced_and_is_no_second_leader_when_it_goes_on() {
    let cluster = three().await;
    web(&cluster, 2).await;
    let tasks = ids(&cluster);
    let paused = cluster.leader().await.expect("a leader");
    cluster.pause(Part::Master(paused)).await.expect("it runs");
    another_leads(&cluster, paused).await;
    web(&cluster, 3).await;
    cluster.resume(Part::Master(paused)).await.expect("it stands still");
    web(&cluster, 4).await;
    assert!(tasks.iter().all(|task| ids(&cluster).contains(task)), "a task was replaced");
    // What stands still can be ended and started again, too.
    cluster.pause(Part::Master(paused)).await.expect("it runs");
    cluster.kill(Part::Master(paused)).await.expect("it is there");
    cluster.restart(Part::Master(paused)).await.expect("it was ended");
    cluster.pause(Part::Agent(0)).await.expect("it runs");
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn an_agent_that_is_cut_off_is_given_up_and_comes_back_without_what_was_replaced() {
    let cluster = three().await;
    web(&cluster, 4).await;
    let mut events = cluster.events();
    let lost = cluster.tasks()[0].agent();
    cluster.drop_agent(lost).expect("it is there");
    wait_running(&cluster, "tasks to be replaced", |running| running > 4).await;
    cluster.wait_healthy("/web", SOON).await.expect("healthy");
    cluster.heal();
    let is_back = |event: &Event| event.what == What::Registering(lost);
    events.next_matching(SOON, is_back).await.expect("it comes back");
    wait_running(&cluster, "what is too much to end", |running| running == 4).await;
    cluster.wait_healthy("/web", SOON).await.expect("healthy");
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_disk_that_fails_ends_its_part_and_no_other() {
    let cluster = three().await;
    web(&cluster, 2).await;
    let tasks = ids(&cluster);
    let leader = cluster.leader().await.expect("a leader");
    cluster.fail_disk_write(Part::Master(leader)).expect("it is there");
    // The next write finds it out: the elected one has to make it.
    let _ = cluster.deploy(json!({ "id": "/other", "cmd": "x", "cpus": 0.1, "mem": 16 })).await;
    another_leads(&cluster, leader).await;
    web(&cluster, 3).await;
    cluster.restart(Part::Master(leader)).await.expect("its disk is whole again");
    assert!(tasks.iter().all(|task| ids(&cluster).contains(task)), "a task was replaced");

    let task = cluster.tasks().remove(0);
    let agent = Part::Agent(task.agent());
    let mut events = cluster.events();
    cluster.fail_disk_write(agent).expect("it is there");
    // It has to write down that a task ended.
    task.exit(1).expect("it runs");
    let has_ended = |event: &Event| event.to_string().contains(&format!("the {agent} ends"));
    events.next_matching(SOON, has_ended).await.expect("it ends");
    cluster.restart(agent).await.expect("it ended");
    let again = |event: &Event| is_state(event, TaskState::TaskRunning);
    events.next_matching(SOON, again).await.expect("another instance runs");
    web(&cluster, 3).await;
    cluster.shutdown().await.expect("the cluster itself did not fail");
}

#[tokio::test]
async fn a_full_disk_takes_nothing_new_until_there_is_room() {
    let cluster = Cluster::builder().without_sockets().start().await.expect("a cluster");
    cluster.fill_disk(Part::Master(0)).expect("it is there");
    let app = json!({ "id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16 });
    let refused = cluster.deploy(app.clone()).await.expect_err("there is no room");
    assert!(refused.to_string().contains("nearly full"), "{refused}");
    cluster.heal();
    cluster.deploy(app.clone()).await.expect("there is room");
    cluster.wait_healthy("/web", SOON).await.expect("healthy");
    // An agent launches nothing more.
    cluster.fill_disk(Part::Agent(0)).expect("it is there");
    let mut more = app;
    more["instances"] = json!(2);
    cluster.deploy(more).await.expect("the master has room");
    let waited = cluster.wait_healthy("/web", Duration::from_millis(300)).await;
    assert!(waited.is_err() && cluster.tasks().len() == 1, "{waited:?}");
    cluster.heal();
    cluster.wait_healthy("/web", SOON).await.expect("there is room");
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn late_messages_and_clocks_that_are_off_change_nothing_but_the_time_it_takes() {
    let cluster = three().await;
    for (number, skew) in [Skew::Ahead(Duration::from_secs(86_400)), Skew::Behind(Duration::from_secs(3_600))]
        .into_iter()
        .enumerate()
    {
        cluster.skew_clock(Part::Master(number), skew).expect("it is there");
        cluster.skew_clock(Part::Agent(number), skew).expect("it is there");
    }
    cluster.delay(Duration::from_millis(20));
    web(&cluster, 3).await;
    let leader = cluster.kill_leader().await.expect("a leader");
    another_leads(&cluster, leader).await;
    web(&cluster, 4).await;
    // Frameworks see the clock of the agent.
    let agent = cluster.tasks()[0].agent();
    let times = cluster.history().into_iter().filter_map(|event| match event.what {
        What::Task { agent: told, status } if told == agent => status.timestamp,
        _ => None,
    });
    let told = times.fold(0.0, f64::max);
    let off = told - mesita::base::clock::SystemClock::new().now().wall.seconds();
    let wanted = if agent == 0 { 86_400.0 } else { -3_600.0 };
    assert!((off - wanted).abs() < 60.0, "{off} s");
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_task_ends_as_it_is_told_and_is_started_again() {
    let cluster = Cluster::builder().testing().without_sockets().start().await.expect("a cluster");
    web(&cluster, 1).await;
    let mut events = cluster.events();
    let task = cluster.tasks().pop().expect("it runs");
    task.exit(137).expect("it runs");
    assert!(task.exit(0).is_err(), "it has ended");
    assert!(cluster.task(task.id()).is_err(), "it has ended");
    let failed = events.next_matching(SOON, |event| is_state(event, TaskState::TaskFailed)).await;
    let failed = failed.expect("it is told").to_string();
    assert!(failed.contains(task.id()) && failed.contains("137"), "{failed}");
    let again = events.next_matching(SOON, |event| is_state(event, TaskState::TaskRunning)).await;
    assert!(!again.expect("it runs again").to_string().contains(task.id()), "under another id");
    let states: Vec<TaskState> = cluster
        .history()
        .iter()
        .filter_map(|event| match &event.what {
            What::Task { status, .. } if status.task_id.value == task.id() => Some(status.state()),
            _ => None,
        })
        .collect();
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn an_agent_that_ends_and_comes_back_finds_its_tasks_again() {
    let cluster = three().await;
    web(&cluster, 4).await;
    let tasks = ids(&cluster);
    cluster.kill(Part::Agent(0)).await.expect("it runs");
    assert!(cluster.kill(Part::Agent(0)).await.is_err(), "it was ended");
    cluster.restart(Part::Agent(0)).await.expect("it was ended");
    assert!(cluster.restart(Part::Agent(0)).await.is_err(), "it runs");
    cluster.wait_healthy("/web", SOON).await.expect("healthy");
    assert_eq!(ids(&cluster), tasks);
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_broken() {
    let cluster = three().await;
    let unknown = [
        cluster.partition(&[0], &[3]),
        cluster.drop_agent(2),
        cluster.fail_disk_write(Part::Agent(9)),
        cluster.fill_disk(3),
        cluster.skew_clock(Part::Master(3), Skew::Ahead(SOON)),
        cluster.pause(3).await,
        cluster.resume(Part::Agent(2)).await,
        cluster.kill(3).await,
        cluster.restart(0).await,
    ];
    for refused in unknown {
        let text = refused.expect_err("there is no such part").to_string();
        assert!(text.contains("there is no master") || text.contains("there is no agent"), "{text}");
    }
    cluster.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_wait_in_vain_says_what_happened() {
    let cluster = Cluster::builder().testing().without_sockets().start().await.expect("a cluster");
    let large = json!({ "id": "/large", "cmd": "x", "cpus": 100, "mem": 16 });
    cluster.deploy(large).await.expect("accepted");
    let error = cluster.wait_healthy("/large", Duration::from_secs(2)).await.expect_err("it never fits");
    let text = error.to_string();
    for part in [
        "0 of 1 instances",
        "InsufficientCpus",
        "master 0 leads",
        "agent 0 registers",
        "this master leads",
        "registry",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let mut events = cluster.events();
    let none = events.next_matching(Duration::from_millis(50), |_| false).await.expect_err("nothing matches");
    assert!(none.to_string().contains("agent 0 registers"), "{none}");
    cluster.shutdown().await.expect("nothing is left");
}

#[test]
fn listeners_that_are_bound_already_are_used_and_used_again() {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (master, marathon, agent) = (listener(), listener(), listener());
    let urls = [&master, &marathon, &agent].map(|it| format!("http://{}", it.local_addr().expect("bound")));
    let builder = Cluster::builder().master_listener(0, master).marathon_listener(0, marathon);
    let cluster = builder.agent_listener(0, agent).start_blocking().expect("a cluster");
    assert_eq!(cluster.master_url(), urls[0]);
    assert_eq!(cluster.marathon_url(), urls[1]);
    assert_eq!(cluster.agent_urls(), [urls[2].clone()]);
    cluster.kill(Part::Agent(0)).expect("it runs");
    cluster.restart(Part::Agent(0)).expect("it was ended");
    let agent = urls[2].trim_start_matches("http://");
    std::net::TcpStream::connect(agent).expect("it listens where it did");
    cluster.shutdown().expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_shared_by_tasks() {
    let cluster = std::sync::Arc::new(three().await);
    let shared = std::sync::Arc::clone(&cluster);
    let waiting = tokio::spawn(async move { shared.wait_healthy("/web", SOON).await });
    web(&cluster, 1).await;
    waiting.await.expect("no panic").expect("healthy");
}

#[test]
fn without_sockets_nothing_listens() {
    let cluster =
        Cluster::builder().masters(3).agents(2).without_sockets().start_blocking().expect("a cluster");
    assert!(cluster.master_urls().is_empty() && cluster.agent_urls().is_empty());
    assert_eq!((cluster.master_url(), cluster.marathon_url()), (String::new(), String::new()));
    cluster.deploy(json!({ "id": "/web", "cmd": "x", "cpus": 0.1, "mem": 16 })).expect("accepted");
    cluster.wait_healthy("/web", SOON).expect("healthy");
    cluster.shutdown().expect("nothing is left");
}

#[test]
fn process_tasks_need_their_launcher_and_docker_tasks_do_not() {
    let refused = Cluster::builder().executor(Executor::Process).start_blocking().err().expect("no launcher");
    assert!(refused.to_string().contains("launcher"), "{refused}");
    if cfg!(feature = "docker") {
        let cluster = Cluster::builder().executor(Executor::Docker).start_blocking().expect("a cluster");
        cluster.deploy(json!({ "id": "/plain", "cmd": "x", "cpus": 0.1, "mem": 16 })).expect("accepted");
        let error = cluster.wait_healthy("/plain", Duration::from_secs(3)).expect_err("no image");
        assert!(error.to_string().contains("only docker tasks"), "{error}");
        cluster.shutdown().expect("nothing is left");
    }
}

/// Run by the test after it, as a test of a user that fails.
#[test]
#[ignore = "it fails on purpose"]
fn fails_on_purpose() {
    let builder = Cluster::builder().masters(3).testing().without_sockets().keep_on_failure();
    let cluster = builder.start_blocking().expect("a cluster");
    cluster.deploy(json!({ "id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 16 })).expect("accepted");
    cluster.wait_healthy("/web", SOON).expect("healthy");
    panic!("as a test that found something");
}

#[test]
fn a_test_that_fails_is_shown_what_happened_and_keeps_its_files() {
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "fails_on_purpose", "--ignored", "--nocapture"])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, kept) = said.split_once("its files are kept in ").expect("it is said where");
    let kept = std::path::Path::new(kept.lines().next().expect("a path"));
    assert!(kept.join("agent-0/work").is_dir(), "{said}");
    std::fs::remove_dir_all(kept).expect("ours");
    for part in ["master 0 leads", "TASK_RUNNING web.instance-", "INFO  master-0 this master leads"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
