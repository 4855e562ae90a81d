//! The checker finds what it is there for: each history here is wrong in one way.

use std::collections::{BTreeMap, BTreeSet};

use super::checker::{End, accepted, check, counts, lives, resources, starts, updates, writes};
use super::history::{AgentSample, Amounts, Event, Evidence, Nanos, Outcome, Record, Stage, Start};

const SECOND: Nanos = 1_000_000_000;

fn history(events: Vec<Event>) -> Vec<Record> {
    let at = |second: usize| Nanos::try_from(second).expect("small") * SECOND;
    events.into_iter().enumerate().map(|(number, event)| Record { at: at(number + 1), event }).collect()
}

fn wrote(op: u64, value: Option<u32>, outcome: Outcome) -> Vec<Event> {
    vec![Event::Write { op, app: "/a".to_owned(), value }, Event::Wrote { op, outcome }]
}

fn read(value: Option<u32>) -> Vec<Event> {
    vec![Event::Read { app: "/a".to_owned(), value }]
}

fn apps(value: Option<u32>) -> BTreeMap<String, u32> {
    value.map(|value| ("/a".to_owned(), value)).into_iter().collect()
}

fn start(task: &str, app: Option<&str>, at: Nanos) -> Start {
    Start { task: task.to_owned(), app: app.map(str::to_owned), pid: 1, ticks: 1, at: at * SECOND }
}

/// Tasks that began and run.
fn running(starts: Vec<Start>) -> Evidence {
    let alive = starts.iter().map(|start| start.task.clone()).collect();
    Evidence { starts, alive, ..Evidence::default() }
}

fn launch(short: bool, outcome: Outcome) -> Event {
    Event::Launch { task: "t".to_owned(), short, outcome }
}

fn update(state: &str, uuid: &str) -> Event {
    let uuid = (!uuid.is_empty()).then(|| uuid.to_owned());
    Event::Update { task: "t".to_owned(), stage: Stage::of(state), state: state.to_owned(), uuid }
}

fn acknowledged(uuid: &str) -> Event {
    Event::Acknowledged { task: "t".to_owned(), uuid: uuid.to_owned(), outcome: Outcome::Done }
}

fn killed() -> Event {
    Event::Kill { task: "t".to_owned() }
}

fn says(wrong: &[String], words: &str) {
    assert!(wrong.len() == 1 && wrong[0].contains(words), "expected one line with {words:?}: {wrong:?}");
}

fn fine(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_lost_write_is_found() {
    use Outcome::{Done, Not, Unknown};
    let two = [wrote(1, Some(1), Done), wrote(2, Some(3), Done)].concat();
    fine(&writes(&history(two.clone()), &apps(Some(3))));
    says(&writes(&history(two.clone()), &apps(Some(1))), "at the end");
    says(&writes(&history(two.clone()), &apps(None)), "at the end");
    says(&writes(&history([two.clone(), read(Some(1))].concat()), &apps(Some(1))), "is read as");
    // What was refused is not there; what got no answer may be, but not for ever.
    let refused = [two.clone(), wrote(3, Some(4), Not)].concat();
    says(&writes(&history(refused), &apps(Some(4))), "at the end");
    let lost = [two.clone(), wrote(3, Some(4), Unknown)].concat();
    fine(&writes(&history(lost.clone()), &apps(Some(3))));
    fine(&writes(&history(lost.clone()), &apps(Some(4))));
    says(&writes(&history(lost.clone()), &apps(Some(2))), "at the end");
    let much_later: Vec<Event> = (0..70).map(|_| Event::Settled).collect();
    says(&writes(&history([lost, read(Some(3)), much_later].concat()), &apps(Some(4))), "at the end");
    // A deleted app that comes back, and one that nobody made.
    let deleted = [two, wrote(3, None, Done)].concat();
    says(&writes(&history(deleted), &apps(Some(3))), "at the end");
    says(&writes(&history(Vec::new()), &apps(Some(1))), "nobody created");
}

#[test]
fn a_task_that_starts_twice_or_too_late_is_found() {
    let launched = |outcome| history(vec![launch(false, outcome)]);
    fine(&starts(&launched(Outcome::Done), &running(vec![start("t", None, 1)])));
    let twice = running(vec![start("t", None, 1), start("t", None, 2)]);
    says(&starts(&launched(Outcome::Done), &twice), "started 2 times");
    says(&starts(&history(Vec::new()), &running(vec![start("t", None, 1)])), "never launched");
    says(&starts(&launched(Outcome::Not), &running(vec![start("t", None, 1)])), "was refused");
    let gone = history(vec![launch(false, Outcome::Done), update("TASK_GONE", "")]);
    says(&starts(&gone, &running(vec![start("t", None, 9)])), "was said to be TASK_GONE");
}

#[test]
fn a_service_that_restarts_its_tasks_is_found() {
    let up_and_down = [
        wrote(1, Some(2), Outcome::Done),
        wrote(2, Some(1), Outcome::Done),
        wrote(3, Some(2), Outcome::Done),
    ];
    let up_and_down = history(up_and_down.concat());
    let tasks = |count: u8| running((0..count).map(|n| start(&format!("a{n}"), Some("/a"), 1)).collect());
    fine(&starts(&up_and_down, &tasks(3)));
    says(&starts(&up_and_down, &tasks(4)), "started 4 tasks, and its scalings explain 3");
    says(&starts(&history(Vec::new()), &tasks(1)), "explain 0");
}

#[test]
fn a_task_that_vanishes_or_is_killed_without_a_reason_is_found() {
    let launched = vec![launch(false, Outcome::Done), update("TASK_RUNNING", "1")];
    let began = running(vec![start("t", None, 1)]);
    fine(&lives(&history(launched.clone()), &began));
    let vanished = Evidence { alive: BTreeSet::new(), ..began.clone() };
    says(&lives(&history(launched.clone()), &vanished), "runs no more");
    let sampled = AgentSample { running: BTreeSet::from(["t".to_owned()]), ..AgentSample::default() };
    let sampled = vec![launch(false, Outcome::Done), Event::Sample { agents: vec![sampled] }];
    says(&lives(&history(sampled), &vanished), "runs no more");
    // It was killed while it was launched, or its agent was: nobody was told that it ran.
    let fault = || vec![Event::Fault { what: "KillLeader 0".to_owned() }];
    fine(&lives(&history([fault(), launched[..1].to_vec()].concat()), &vanished));
    says(&lives(&history(launched[..1].to_vec()), &vanished), "runs no more");
    let never = vec![launch(true, Outcome::Done), update("TASK_FAILED", "1")];
    fine(&lives(&history([fault(), never.clone()].concat()), &Evidence::default()));
    says(&lives(&history(never), &Evidence::default()), "TASK_FAILED");
    let asked = Evidence { terms: BTreeMap::from([("t".to_owned(), 5)]), ..vanished.clone() };
    says(&lives(&history(launched.clone()), &asked), "never said so");
    let with_kill = [launched.clone(), vec![killed(), update("TASK_KILLED", "2")]].concat();
    fine(&lives(&history(with_kill), &asked));
    let lost = [launched.clone(), vec![update("TASK_LOST", "")]].concat();
    says(&lives(&history(lost), &began), "TASK_LOST");
    let failed = [launched, vec![killed(), update("TASK_FAILED", "2")]].concat();
    says(&lives(&history(failed), &asked), "TASK_FAILED");
    let short = vec![launch(true, Outcome::Done)];
    says(&lives(&history(short.clone()), &began), "ended by itself");
    let ended = Evidence { ends: BTreeSet::from(["t".to_owned()]), ..vanished };
    fine(&lives(&history([short.clone(), vec![update("TASK_FINISHED", "1")]].concat()), &ended));
    says(&lives(&history([short, vec![update("TASK_FAILED", "1")]].concat()), &ended), "TASK_FAILED");
}

#[test]
fn a_launch_that_nobody_hears_of_is_found() {
    let nothing = Evidence::default();
    let launched = vec![launch(false, Outcome::Done)];
    says(&accepted(&history(launched.clone()), &nothing), "never heard of");
    fine(&accepted(&history(vec![launch(false, Outcome::Unknown)]), &nothing));
    fine(&accepted(&history([launched.clone(), vec![update("TASK_DROPPED", "")]].concat()), &nothing));
    let idle = |count: usize| vec![Event::Settled; count];
    let late = [launched.clone(), idle(31), vec![update("TASK_GONE", "")]].concat();
    says(&accepted(&history(late), &nothing), "is not settled 32 s later");
    says(&accepted(&history([launched.clone(), idle(31)].concat()), &nothing), "is not settled");
    // The time counts from the last leader.
    let subscribed = vec![Event::Subscribed { master: String::new() }];
    let led = [launched, idle(20), subscribed, idle(20), vec![update("TASK_GONE", "")]].concat();
    fine(&accepted(&history(led), &nothing));
}

#[test]
fn updates_out_of_order_are_found() {
    let began = running(vec![start("t", None, 1)]);
    let ended = Evidence { alive: BTreeSet::new(), ..began.clone() };
    let up = vec![update("TASK_STARTING", "1"), update("TASK_RUNNING", "2")];
    fine(&updates(&history(up.clone()), &began));
    fine(&updates(&history([up.clone(), up.clone()].concat()), &began));
    let back = vec![update("TASK_RUNNING", "2"), update("TASK_STARTING", "1")];
    says(&updates(&history(back), &began), "TASK_STARTING at 2000000000 after Running");
    let known_as_less = [up.clone(), vec![update("TASK_STARTING", "")]].concat();
    says(&updates(&history(known_as_less), &began), "after Running");
    let down = [up.clone(), vec![update("TASK_FINISHED", "3"), acknowledged("3")]].concat();
    fine(&updates(&history(down.clone()), &ended));
    // Its acknowledgement may be lost on the way to the agent: the same update comes again.
    fine(&updates(&history([down.clone(), vec![update("TASK_FINISHED", "3")]].concat()), &ended));
    let again = [down.clone(), vec![update("TASK_FINISHED", "4")]].concat();
    says(&updates(&history(again), &ended), "after its end was acknowledged");
    let alive = [down, vec![update("TASK_RUNNING", "")]].concat();
    says(&updates(&history(alive), &ended), "after its end was acknowledged");
    let returned = [vec![update("TASK_GONE", "")], vec![update("TASK_FINISHED", "3")]].concat();
    says(&updates(&history(returned), &Evidence::default()), "after Absent");
    says(&updates(&history(Vec::new()), &began), "the last that was told is Staging");
    says(&updates(&history(up), &ended), "has ended, and the last that was told is Running");
    let away = vec![update("TASK_RUNNING", "2"), update("TASK_UNREACHABLE", ""), update("TASK_RUNNING", "")];
    fine(&updates(&history(away), &began));
}

#[test]
fn a_wrong_number_of_instances_is_found() {
    let shown = |tasks: &[&str]| tasks.iter().map(|task| (*task).to_owned()).collect::<BTreeSet<_>>();
    let end = |wanted, tasks: &[&str]| End {
        apps: apps(Some(wanted)),
        shown: BTreeMap::from([("/a".to_owned(), shown(tasks))]),
        ..End::default()
    };
    let one = running(vec![start("a0", Some("/a"), 1)]);
    fine(&counts(&one, &end(1, &["a0"])));
    says(&counts(&one, &end(2, &["a0", "a1"])), "should have 2");
    says(&counts(&one, &end(1, &["other"])), "should have 1");
    says(&counts(&one, &End::default()), "is deleted");
    says(&counts(&Evidence::default(), &end(1, &["a0"])), "should have 1");
}

#[test]
fn an_overcommitted_agent_is_found() {
    let some = |cpus: i64, ports: &[(u64, u64)]| Amounts {
        scalars: BTreeMap::from([("cpus".to_owned(), cpus)]),
        ports: ports.to_vec(),
    };
    let sample = |allocated: Amounts, offered: Amounts, tasks: Vec<Amounts>| AgentSample {
        agent: "s".to_owned(),
        total: some(1_000, &[(10, 19)]),
        allocated,
        offered,
        tasks,
        running: BTreeSet::new(),
    };
    let judge = |sample: AgentSample| resources(&history(vec![Event::Sample { agents: vec![sample] }]), &[]);
    let none = || some(0, &[]);
    fine(&judge(sample(some(600, &[(10, 10)]), some(400, &[(11, 19)]), vec![some(600, &[(10, 10)])])));
    says(
        &judge(sample(some(600, &[]), some(401, &[]), Vec::new())),
        "allocated and offered: 1001 of 1000 cpus",
    );
    says(&judge(sample(none(), none(), vec![some(600, &[]), some(600, &[])])), "tasks have: 1200");
    let ports = vec![some(1, &[(10, 12)]), some(1, &[(12, 13)])];
    says(&judge(sample(none(), none(), ports)), "overlap");
    says(&judge(sample(some(1, &[(19, 20)]), none(), Vec::new())), "has no ports");
    let leaked = sample(some(100, &[]), none(), Vec::new());
    says(&resources(&[], &[leaked]), "is allocated, tasks have");
}

#[test]
fn a_run_in_which_all_is_well_passes() {
    let events = [
        wrote(1, Some(1), Outcome::Done),
        read(Some(1)),
        vec![launch(false, Outcome::Done), update("TASK_STARTING", "1"), update("TASK_RUNNING", "2")],
    ];
    let evidence = running(vec![start("a0", Some("/a"), 1), start("t", None, 4)]);
    let shown = BTreeMap::from([("/a".to_owned(), BTreeSet::from(["a0".to_owned()]))]);
    let end = End { apps: apps(Some(1)), shown, agents: Vec::new() };
    fine(&check(&history(events.concat()), &evidence, &end));
    // Each part is looked at.
    let nothing = Evidence::default();
    assert!(!check(&history(events.concat()), &nothing, &end).is_empty());
    assert!(!check(&history(events.concat()), &evidence, &End::default()).is_empty());
}
