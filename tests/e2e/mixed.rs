//! A cluster with one node on the previous version: `MESITA_PREVIOUS` is the path of its program
//! (`scripts/previous.sh` builds it).

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::cluster::{Cluster, Plan};
use crate::chaos::http;
use crate::masters::wait_running;

const BACK: Duration = Duration::from_secs(30);
const RESOURCES: &str = "cpus:2;mem:1024;disk:1024;ports:[31000-31039]";
/// The node that runs the previous version at first.
const OLD: usize = 2;

fn previous() -> Option<PathBuf> {
    let path = std::env::var_os("MESITA_PREVIOUS").map(PathBuf::from).filter(|path| path.exists());
    if path.is_none() {
        assert!(
            std::env::var("MESITA_REQUIRE_PREVIOUS").is_err(),
            "the previous version is required: set MESITA_PREVIOUS to its program (scripts/previous.sh)"
        );
        eprintln!("SKIPPED: MESITA_PREVIOUS names no program (MESITA_REQUIRE_PREVIOUS=1 makes this fail)");
    }
    path
}

/// Makes one of `wanted` lead, by stopping whoever else does; all nodes run afterwards.
fn lead(cluster: &mut Cluster, wanted: &[usize]) -> usize {
    for _ in 0..5 {
        let leader = cluster.wait_settled("a leader with all agents", BACK);
        if wanted.contains(&leader) {
            return leader;
        }
        // It hands over to one that is alive: those that are not wanted are not, for a moment.
        let unwanted: Vec<usize> =
            (0..3).filter(|number| *number != leader && !wanted.contains(number)).collect();
        for number in &unwanted {
            cluster.freeze(*number);
        }
        cluster.wait("the leader to miss who is not wanted", BACK, || {
            let masters = status(cluster, leader)["masters"].as_array()?.clone();
            (masters.iter().filter(|master| master["is_alive"] == false).count() == unwanted.len())
                .then_some(())
        });
        assert_eq!(cluster.end(leader, "TERM"), Some(0), "a planned stop");
        for number in unwanted {
            cluster.thaw(number);
        }
        cluster.wait_settled("another leader", BACK);
        cluster.restart(leader);
    }
    panic!("none of {wanted:?} came to lead\n{}", cluster.standing());
}

fn status(cluster: &Cluster, asked: usize) -> Value {
    http::get(&cluster.members[asked].master, "/mesita/v1/cluster").json()
}

/// Stops a node, puts the program that was built in its place, and starts it on the same data.
fn upgrade(cluster: &mut Cluster, number: usize) {
    assert_eq!(cluster.end(number, "TERM"), Some(0), "a planned stop");
    cluster.members[number].program = PathBuf::from(env!("CARGO_BIN_EXE_mesita"));
    cluster.restart(number);
}

#[test]
fn a_node_of_the_previous_version_works_with_the_others_and_is_upgraded() {
    let Some(previous) = previous() else { return };
    let mut plan = Plan::new(RESOURCES);
    // The cluster is the previous version's, and two nodes of it are upgraded: what only the later one knows
    // cannot be used before the third is.
    plan.programs = std::array::from_fn(|_| previous.clone());
    let mut cluster = Cluster::start(&plan);
    for number in (0..3).filter(|number| *number != OLD) {
        cluster.wait_settled("a leader before an upgrade", BACK);
        upgrade(&mut cluster, number);
    }
    let leader = cluster.wait_settled("the first leader", BACK);
    let cmd = format!("{} $MESOS_TASK_ID $MARATHON_APP_ID long", cluster.task());
    let app = json!({ "id": "/web", "cmd": cmd, "cpus": 0.1, "mem": 8, "instances": 3 });
    assert_eq!(http::post(&cluster.members[leader].master, "/v2/apps", &app).status(), 201);
    let mut instances = 3;
    let mut tasks = wait_running(&cluster.members[leader].master, "/web", instances);
    // Each version leads in turn; the others ask it for changes.
    for wanted in [vec![0, 1], vec![OLD], vec![0, 1]] {
        let leader = lead(&mut cluster, &wanted);
        instances += 1;
        let body = json!({ "instances": instances }).to_string();
        let asked = cluster.members[(leader + 1) % 3].master.clone();
        let answer = http::send(&asked, "PUT", "/v2/apps/web?force=true", "", &body, http::ANSWER);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let more = wait_running(&asked, "/web", instances);
        assert!(more.is_superset(&tasks), "a task was restarted or lost: {tasks:?} {more:?}");
        tasks = more;
    }
    let before = status(&cluster, 0)["command_version"].as_u64().expect("a version");
    // The upgrade: stop, another program, start on the same data.
    upgrade(&mut cluster, OLD);
    cluster.wait_settled("the upgraded node", BACK);
    assert_eq!(wait_running(&cluster.members[OLD].master, "/web", instances), tasks);
    let ours = u64::from(mesita::registry::core::VERSION);
    cluster.wait("the command version that all support", BACK, || {
        (status(&cluster, 0)["command_version"].as_u64()? == ours).then_some(())
    });
    assert!(before <= ours);
    lead(&mut cluster, &[OLD]);
    assert_eq!(wait_running(&cluster.members[0].master, "/web", instances), tasks);
    let starts = cluster.evidence().starts.len();
    assert_eq!(starts, instances, "a task was started more than once");
}
