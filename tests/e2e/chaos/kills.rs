//! The leader is killed again and again while apps are scaled, created and deleted, and a framework
//! launches.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checker;
use super::cluster::{Cluster, Plan};
use super::framework::{Framework, Wish};
use super::history::{Event, History};
use super::load::{self, Client};
use crate::kills::{Dice, number, seed};
use crate::support::now;

/// Kills of a short run.
const KILLS: u64 = 3;
/// So soon after a fault somebody leads, and every agent is back.
const BACK: Duration = Duration::from_secs(30);
/// So soon after the last fault everything is as it was asked for.
const AT_REST: Duration = Duration::from_secs(60);
/// Agents with little: clients and framework want more than there is.
const RESOURCES: &str = "cpus:0.9;mem:1024;disk:1024;ports:[31000-31039]";

/// What may happen to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillLeader,
    KillFollower,
    FreezeLeader,
    FreezeFollower,
    StopLeader,
}

impl Fault {
    /// Most often the one that is promised.
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(20) {
            0 | 1 => Self::KillFollower,
            2 | 3 => Self::FreezeLeader,
            4 => Self::FreezeFollower,
            5 => Self::StopLeader,
            _ => Self::KillLeader,
        }
    }
}

/// Everybody who asks the cluster for something.
struct Crowd {
    stop: Arc<AtomicBool>,
    wish: Wish,
    clients: Vec<JoinHandle<()>>,
    sampler: JoinHandle<()>,
    sampler_stop: Arc<AtomicBool>,
    framework: JoinHandle<Vec<String>>,
}

impl Crowd {
    fn gather(cluster: &Cluster, history: &History, seed: u64) -> Self {
        let (stop, sampler_stop, wish) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Wish::default());
        let dice = |number: u64| Dice::new(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let (addresses, command) = (cluster.addresses.clone(), cluster.task());
        let client = |number| {
            Client::new(addresses.clone(), history.clone(), Arc::clone(&stop), command.clone(), dice(number))
        };
        let mut clients: Vec<JoinHandle<()>> =
            (0..3).map(|number| client(number).scale(format!("/scaled/{number}"))).collect();
        clients.push(client(3).create_and_delete("/small/one".to_owned()));
        clients.push(client(4).create_and_delete("/small/other".to_owned()));
        let sampler = load::sample(addresses.clone(), history.clone(), Arc::clone(&sampler_stop), dice(5));
        let framework =
            Framework::run(addresses.clone(), history.clone(), wish.clone(), command.clone(), dice(6));
        Self { stop, wish, clients, sampler, sampler_stop, framework }
    }

    /// Nobody asks for anything new.
    fn rest(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wish.rest.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client ends well");
        }
    }

    /// Everybody goes, whether the run went well or not.
    fn leave(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.wish.end.store(true, Ordering::Relaxed);
        self.sampler_stop.store(true, Ordering::Relaxed);
        self.sampler.join().expect("the sampler ends well");
        self.framework.join().expect("the framework ends well")
    }
}

/// Does one fault and undoes it. True: the leader was killed.
fn strike(cluster: &mut Cluster, leader: usize, dice: &mut Dice, history: &History) -> bool {
    let fault = Fault::draw(dice);
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let follower = others[usize::try_from(dice.below(2)).unwrap_or(0)];
    let pause =
        |dice: &mut Dice, most: u64| std::thread::park_timeout(Duration::from_millis(dice.below(most)));
    let victim = match fault {
        Fault::KillFollower | Fault::FreezeFollower => follower,
        _ => leader,
    };
    history.add(Event::Fault { what: format!("{fault:?} {victim}") });
    match fault {
        Fault::FreezeLeader | Fault::FreezeFollower => {
            cluster.freeze(victim);
            // An agent is lost after ten seconds: this must not be the reason why a task is.
            pause(dice, 5_000);
            cluster.thaw(victim);
            return false;
        }
        Fault::StopLeader => {
            let code = cluster.end(victim, "TERM");
            assert_eq!(code, Some(0), "a planned stop");
        }
        Fault::KillLeader | Fault::KillFollower => cluster.kill(victim),
    }
    pause(dice, 1_500);
    cluster.restart(victim);
    fault == Fault::KillLeader
}

#[test]
fn leaders_are_killed_under_load_and_nobody_notices() {
    let (kills, seed) = (number("MESITA_CHAOS_KILLS").unwrap_or(KILLS), seed());
    eprintln!("{kills} kills of the leader with MESITA_SEED={seed}");
    let history = History::default();
    let mut cluster = Cluster::start(&Plan::new(RESOURCES));
    cluster.wait_settled("the first leader", BACK);
    let mut crowd = Crowd::gather(&cluster, &history, seed);
    let run = AssertUnwindSafe(|| kill_leaders(&mut cluster, &mut crowd, &history, kills, seed));
    let outcome = catch_unwind(run);
    let surprises = crowd.leave();
    let lines: Vec<String> =
        history.records().iter().map(|record| format!("{} {:?}", record.at, record.event)).collect();
    cluster.note("history.txt", &lines.join("\n"));
    let mut wrong = match outcome {
        Ok(wrong) => wrong,
        Err(panic) => {
            eprintln!("MESITA_SEED={seed} {surprises:?}");
            resume_unwind(panic)
        }
    };
    wrong.extend(surprises);
    wrong.extend(cluster.faults_in_logs());
    assert!(
        wrong.is_empty(),
        "MESITA_SEED={seed}: {} things do not hold:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The whole run; what does not hold of it.
fn kill_leaders(
    cluster: &mut Cluster,
    crowd: &mut Crowd,
    history: &History,
    kills: u64,
    seed: u64,
) -> Vec<String> {
    let (mut dice, started, mut done, mut faults) = (Dice::new(seed), now(), 0, 0);
    while done < kills {
        let leader = cluster.wait_settled("a leader with all agents", BACK);
        history.add(Event::Settled);
        std::thread::park_timeout(Duration::from_millis(dice.below(2_000)));
        faults += 1;
        if strike(cluster, leader, &mut dice, history) {
            done += 1;
        }
    }
    cluster.wait_settled("the last leader", BACK);
    crowd.rest();
    let asked = cluster.addresses.all();
    let end = cluster.wait("everything to be as it was asked for", AT_REST, || {
        let is_quiet = crowd.wish.is_quiet.load(Ordering::Relaxed);
        is_quiet.then(|| load::end_at(asked.first()?)).flatten()
    });
    // Whoever was to end has ended, and wrote it down, before anything is judged.
    let evidence = cluster.wait("processes to end", AT_REST, || {
        let evidence = cluster.evidence();
        checker::counts(&evidence, &end).is_empty().then_some(evidence)
    });
    let records = history.records();
    let count = |is: fn(&Event) -> bool| records.iter().filter(|record| is(&record.event)).count();
    eprintln!(
        "{done} kills of the leader among {faults} faults in {} s: {} writes, {} launches, {} starts of tasks, {} updates, {} samples; MESITA_SEED={seed}",
        started.elapsed().as_secs(),
        count(|event| matches!(event, Event::Wrote { .. })),
        count(|event| matches!(event, Event::Launch { .. })),
        evidence.starts.len(),
        count(|event| matches!(event, Event::Update { .. })),
        count(|event| matches!(event, Event::Sample { .. })),
    );
    checker::check(&records, &evidence, &end)
}
