//! Machines without power and networks that are cut, with each node in a network namespace of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Plan};
use super::framework::{Framework, LONG, Wish};
use super::history::{Event, History, Stage};
use super::http::{self, Answer};
use super::net::Network;
use super::wire::{Delay, Wire};
use crate::kills::Dice;
use crate::support::now;

const BACK: Duration = Duration::from_secs(30);
/// An agent is lost after so long without a word.
const UNREACHABLE: Duration = Duration::from_secs(10);
/// Its services run elsewhere after so long, without what they need to start.
const ELSEWHERE: Duration = Duration::from_secs(15);
/// An election, when the machine led.
const ELECTION: Duration = Duration::from_secs(1);
/// What a task of these tests needs to start on a busy machine.
const START: Duration = Duration::from_secs(2);
const RESOURCES: &str = "cpus:2;mem:1024;disk:1024;ports:[31000-31039]";

fn cluster() -> Option<Cluster> {
    let network = Network::new()?;
    let cluster = Cluster::start_in(&Plan::new(RESOURCES), Some(network));
    cluster.wait_settled("the first leader", BACK);
    Some(cluster)
}

fn network(cluster: &Cluster) -> &Network {
    cluster.network.as_ref().expect("it has one")
}

fn post(cluster: &Cluster, number: usize, path: &str, body: &Value) -> Answer {
    cluster.inside(|| http::post(&cluster.members[number].master, path, body))
}

fn app(cluster: &Cluster, id: &str, instances: usize) -> Value {
    let cmd = format!("{} $MESOS_TASK_ID $MARATHON_APP_ID long", cluster.task());
    json!({ "id": id, "cmd": cmd, "cpus": 0.1, "mem": 8, "instances": instances })
}

/// Tasks that are running, and the hosts where they are.
fn running(cluster: &Cluster, asked: usize) -> BTreeSet<(String, String)> {
    let tasks = cluster.inside(|| http::get(&cluster.members[asked].master, "/v2/tasks")).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tasks = tasks["tasks"].as_array().cloned().unwrap_or_default();
    let running = tasks.iter().filter(|task| task["state"] == "TASK_RUNNING");
    running.map(|task| (text(&task["id"]), text(&task["host"]))).collect()
}

/// Cuts a machine off, and brings it back.
fn power_off(leads: bool) {
    let Some(cluster) = cluster() else { return };
    let leader = cluster.wait_settled("a leader", BACK);
    let victim = if leads { leader } else { (leader + 1) % 3 };
    let left: Vec<usize> = (0..3).filter(|number| *number != victim).collect();
    let host = cluster.members[victim].master.split(':').next().unwrap_or_default().to_owned();
    // The others are full while it is placed, so that all of it is there.
    let mut full = app(&cluster, "/full", 2);
    full["cpus"] = json!(1.95);
    full["constraints"] = json!([["hostname", "UNLIKE", host], ["hostname", "UNIQUE"]]);
    assert_eq!(post(&cluster, leader, "/v2/apps", &full).status(), 201);
    cluster.wait("two full machines", BACK, || (running(&cluster, leader).len() == 2).then_some(()));
    // A framework's tasks are there, too; it launches no more.
    let (history, wish) = (History::default(), Wish::default());
    let (addresses, task) = (cluster.addresses.clone(), cluster.task());
    let dice = Dice::new(crate::kills::seed());
    let framework = cluster.inside(|| Framework::run(addresses, history.clone(), wish.clone(), task, dice));
    cluster.wait("tasks of a framework", BACK, || (last_states(&history).len() >= LONG).then_some(()));
    wish.rest.store(true, Ordering::Relaxed);
    cluster.wait("its short tasks to end", BACK, || wish.is_quiet.load(Ordering::Relaxed).then_some(()));
    let long = || last_states(&history).into_iter().filter(|(_, state)| !Stage::of(state).is_final());
    let own: BTreeSet<String> = long().map(|(task, _)| task).collect();
    assert!(!own.is_empty());
    let all_are = |wanted: &str| long().all(|(_, state)| state == wanted).then_some(());
    assert_eq!(post(&cluster, leader, "/v2/apps", &app(&cluster, "/web", 3)).status(), 201);
    cluster.wait("three instances", BACK, || (running(&cluster, leader).len() == 5).then_some(()));
    let deleted = cluster.inside(|| {
        http::send(&cluster.members[leader].master, "DELETE", "/v2/apps/full", "", "", http::ANSWER)
    });
    assert_eq!(deleted.status(), 200);
    let before = cluster.wait("the others to be empty", BACK, || {
        let tasks = running(&cluster, leader);
        (tasks.len() == 3).then_some(tasks)
    });
    assert!(before.iter().all(|(_, at)| *at == host), "{before:?}");
    let election = if leads { ELECTION } else { Duration::ZERO };
    let cut = now();
    network(&cluster).cut(victim);
    let lost = cluster.wait("its agent to be unreachable", BACK, || {
        let next = cluster.leader_among(&left)?;
        (cluster.active_agents(next)? == 2).then(|| cut.elapsed())
    });
    let elsewhere = cluster.wait("three instances elsewhere", BACK * 2, || {
        let next = cluster.leader_among(&left)?;
        let tasks = running(&cluster, next);
        (tasks.iter().filter(|(_, at)| *at != host).count() == 3).then(|| cut.elapsed())
    });
    eprintln!(
        "leader cut: {leads}; three instances were there; two agents left after {lost:?}, all elsewhere after {elsewhere:?}"
    );
    assert!(elsewhere <= ELSEWHERE + election + START, "{elsewhere:?} until its services ran elsewhere");
    // Silence counts from its last word, up to a third of that time before the cut.
    assert!(elsewhere >= UNREACHABLE * 2 / 3, "given up after {elsewhere:?}");
    cluster.wait("the framework to hear of it", BACK, || all_are("TASK_UNREACHABLE"));
    network(&cluster).plug_in(victim);
    cluster.wait_settled("the machine to be back", BACK);
    // What is too much is killed; what runs and what is shown are one. The framework's tasks all go on.
    cluster.wait("nothing surplus", BACK, || {
        let alive = cluster.evidence().alive;
        let shown: BTreeSet<String> = running(&cluster, left[0]).into_iter().map(|(id, _)| id).collect();
        (shown.len() == 3 && alive == shown.union(&own).cloned().collect()).then_some(())
    });
    cluster.wait("the framework to hear of it", BACK, || all_are("TASK_RUNNING"));
    assert_eq!(long().map(|(task, _)| task).collect::<BTreeSet<String>>(), own, "one of them ended");
    let evidence = cluster.evidence();
    let starts = evidence.starts.iter().filter(|start| own.contains(&start.task)).count();
    assert_eq!(starts, own.len(), "one of them began again");
    assert!(own.iter().all(|task| !evidence.terms.contains_key(task)), "one of them was asked to end");
    wish.end.store(true, Ordering::Relaxed);
    assert_eq!(framework.join().expect("it does not panic"), Vec::<String>::new());
}

/// What the framework heard last of each task.
fn last_states(history: &History) -> BTreeMap<String, String> {
    let records = history.records().into_iter();
    let heard = records.filter_map(|record| match record.event {
        Event::Update { task, state, .. } => Some((task, state)),
        _ => None,
    });
    heard.collect()
}

#[test]
fn a_machine_without_power_is_replaced_in_time() {
    power_off(false);
}

#[test]
fn so_is_the_machine_of_the_leader() {
    power_off(true);
}

/// Nothing passes between this host and those.
fn part(cluster: &Cluster, from: usize, others: &[usize]) {
    let address = |number: usize| network(cluster).space(number).address;
    let rules: Vec<(&str, String)> = others
        .iter()
        .flat_map(|other| {
            [
                ("in", format!("ip saddr {} drop", address(*other))),
                ("out", format!("ip daddr {} drop", address(*other))),
            ]
        })
        .collect();
    network(cluster).space(from).set_rules(&rules);
}

#[test]
fn a_minority_refuses_changes_and_catches_up_when_it_is_healed() {
    let Some(cluster) = cluster() else { return };
    let old = cluster.wait_settled("a leader", BACK);
    let others: Vec<usize> = (0..3).filter(|number| *number != old).collect();
    part(&cluster, old, &others);
    let said = cluster.wait("a refusal", BACK, || {
        let answer = post(&cluster, old, "/v2/apps", &app(&cluster, "/minority", 1));
        (answer.status() == 503).then(|| answer.text())
    });
    assert!(said.contains("lead"), "{said}");
    let next = cluster.wait("the majority to elect", BACK, || cluster.leader_among(&others));
    assert_ne!(next, old);
    cluster.wait("the majority to work", BACK, || {
        (post(&cluster, next, "/v2/apps", &app(&cluster, "/majority", 1)).status() == 201).then_some(())
    });
    network(&cluster).space(old).heal();
    cluster.wait_settled("the healed node", BACK);
    let shown = cluster.wait("an answer of the healed node", BACK, || {
        let answer = cluster.inside(|| http::get(&cluster.members[old].master, "/v2/apps/majority"));
        (answer.status() == 200).then_some(answer)
    });
    assert_eq!(shown.json()["app"]["id"], "/majority");
    let status = cluster.wait("every master to be up to date", BACK, || {
        let status = cluster.inside(|| http::get(&cluster.members[old].master, "/mesita/v1/cluster")).json();
        let masters = status["masters"].as_array()?;
        let is_well = |master: &Value| master["is_alive"] == true && master["lag"] == 0;
        (masters.len() == 3 && masters.iter().all(is_well)).then_some(status)
    });
    assert!(status["term"].as_u64().is_some(), "{status}");
}

#[test]
fn followers_that_do_not_hear_each_other_depose_nobody() {
    let Some(cluster) = cluster() else { return };
    let leader = cluster.wait_settled("a leader", BACK);
    let term = |asked: usize| {
        cluster.inside(|| http::get(&cluster.members[asked].master, "/mesita/v1/cluster")).json()["term"]
            .as_u64()
    };
    let before = term(leader).expect("a term");
    let followers: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    part(&cluster, followers[0], &followers[1..]);
    // Several election timeouts, each with a change that a majority has.
    let start = now();
    let mut changes = 0;
    while start.elapsed() < ELECTION * 5 {
        let id = format!("/app-{changes}");
        assert_eq!(post(&cluster, leader, "/v2/apps", &app(&cluster, &id, 0)).status(), 201);
        changes += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(term(leader), Some(before), "nobody campaigned with success");
    network(&cluster).space(followers[0]).heal();
    cluster.wait_settled("everybody", BACK);
    assert_eq!(term(leader), Some(before));
}

#[test]
fn a_leader_that_hears_nobody_gives_way() {
    let Some(cluster) = cluster() else { return };
    let old = cluster.wait_settled("a leader", BACK);
    let others: Vec<usize> = (0..3).filter(|number| *number != old).collect();
    // One way: it is heard, and hears nothing.
    let address = |number: &usize| network(&cluster).space(*number).address;
    let deaf: Vec<_> = others.iter().map(|one| ("in", format!("ip saddr {} drop", address(one)))).collect();
    network(&cluster).space(old).set_rules(&deaf);
    let next = cluster.wait("the others to elect", BACK, || cluster.leader_among(&others));
    cluster.wait("the majority to work", BACK, || {
        (post(&cluster, next, "/v2/apps", &app(&cluster, "/majority", 1)).status() == 201).then_some(())
    });
    let said = cluster.wait("a refusal", BACK, || {
        let answer = post(&cluster, old, "/v2/apps", &app(&cluster, "/deaf", 1));
        (answer.status() == 503).then(|| answer.text())
    });
    assert!(said.contains("lead") || said.contains("reach"), "{said}");
    network(&cluster).space(old).heal();
    cluster.wait_settled("the healed node", BACK);
}

#[test]
fn changes_pass_a_network_that_loses_packets() {
    let Some(cluster) = cluster() else { return };
    for number in 0..3 {
        let lossy = "ip saddr 10.77.0.0/29 numgen random mod 100 < 10 drop".to_owned();
        network(&cluster).space(number).set_rules(&[("in", lossy)]);
    }
    let apps = create(&cluster, "app", 20);
    for number in 0..3 {
        network(&cluster).space(number).heal();
    }
    cluster.wait_settled("everybody", BACK);
    assert_eq!(shown(&cluster, 0), apps);
}

/// Creates apps, each at the next node; whoever got no answer asks again: that it is there is one, too.
fn create(cluster: &Cluster, name: &str, count: usize) -> BTreeSet<String> {
    let created = (0..count).map(|number| {
        let id = format!("/{name}-{number}");
        cluster.wait("a change", BACK, || {
            let status = post(cluster, number % 3, "/v2/apps", &app(cluster, &id, 0)).status();
            (status == 201 || status == 409).then_some(())
        });
        id
    });
    created.collect()
}

/// The apps that a node shows.
fn shown(cluster: &Cluster, asked: usize) -> BTreeSet<String> {
    let apps = cluster.inside(|| http::get(&cluster.members[asked].master, "/v2/apps")).json();
    let ids = apps["apps"].as_array().cloned().unwrap_or_default();
    ids.iter().filter_map(|app| app["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn packets_that_are_late_and_overtake_each_other_depose_nobody_and_lose_nothing() {
    let Some(cluster) = cluster() else { return };
    let leader = cluster.wait_settled("a leader", BACK);
    let seed = crate::kills::seed();
    eprintln!("MESITA_SEED={seed}");
    let (least, most) = (Duration::from_millis(10), Duration::from_millis(60));
    let wire = Wire::lay(network(&cluster), Delay { least, most }, Dice::new(seed));
    let mut apps = BTreeSet::new();
    for number in 0..20 {
        let id = format!("/slow-{number}");
        let asked = now();
        let status = post(&cluster, leader, "/v2/apps", &app(&cluster, &id, 0)).status();
        assert_eq!(status, 201, "the leader leads all the while");
        // A majority has it: there and back.
        assert!(asked.elapsed() >= least * 2, "{id} after {:?}", asked.elapsed());
        apps.insert(id);
    }
    let (passed, overtaken) = wire.counts();
    eprintln!("{overtaken} of {passed} packets were overtaken");
    assert!(overtaken * 20 > passed, "{overtaken} of {passed} packets were overtaken");
    assert_eq!(cluster.leader_among(&[0, 1, 2]), Some(leader));
    // So slow that elections do not end: nothing that is acknowledged is lost.
    wire.set(Delay { least: Duration::from_millis(200), most: Duration::from_millis(1_500) });
    for number in 0..3 {
        let id = format!("/slowest-{number}");
        if post(&cluster, number % 3, "/v2/apps", &app(&cluster, &id, 0)).status() == 201 {
            apps.insert(id);
        }
    }
    wire.set(Delay { least, most });
    cluster.wait_settled("a leader on a wire that is a little slow", BACK);
    apps.extend(create(&cluster, "after", 3));
    drop(wire);
    cluster.wait_settled("everybody", BACK);
    for number in 0..3 {
        let lost: Vec<String> = apps.difference(&shown(&cluster, number)).cloned().collect();
        assert!(lost.is_empty(), "{lost:?} at node {number}");
    }
}
