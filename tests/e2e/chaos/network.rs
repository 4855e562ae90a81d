//! Machines without power and networks that are cut, with each node in a network namespace of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Plan};
use super::http::{self, Answer};
use super::net::Network;
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
    network(&cluster).plug_in(victim);
    cluster.wait_settled("the machine to be back", BACK);
    // What is too much is killed; what runs and what is shown are one.
    cluster.wait("nothing surplus", BACK, || {
        let alive = cluster.evidence().alive;
        let shown: BTreeSet<String> = running(&cluster, left[0]).into_iter().map(|(id, _)| id).collect();
        (alive.len() == 3 && alive == shown).then_some(())
    });
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
    for number in 0..20 {
        let asked = number % 3;
        let id = format!("/app-{number}");
        // Whoever got no answer asks again; that it is there is an answer, too.
        cluster.wait("a change", BACK, || {
            let status = post(&cluster, asked, "/v2/apps", &app(&cluster, &id, 0)).status();
            (status == 201 || status == 409).then_some(())
        });
    }
    for number in 0..3 {
        network(&cluster).space(number).heal();
    }
    cluster.wait_settled("everybody", BACK);
    let apps = cluster.inside(|| http::get(&cluster.members[0].master, "/v2/apps")).json();
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(20), "{apps}");
}
