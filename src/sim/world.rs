//! The world: what happens when, decided by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::agents::{Happens, Machine};
use super::checker::Checker;
use super::clients::Clients;
use super::disk::Disk;
use super::faults::{Mended, Weather};
use super::frameworks::Framework;
use super::masters::Process;
use super::schedule::{self, Planned, What};
use crate::agent::core::Input as AgentInput;
use crate::api::peer::{from_agent, to_agent};
use crate::api::v1::scheduler::{Call, Event as SchedulerEvent};
use crate::base::chance::Chance;
use crate::base::id::{AgentId, ContainerId};
use crate::base::time::{Mono, Now, Timestamp};
use crate::master::core::ConnId;

/// Time between two ticks of consensus.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Steps that a failure shows.
const TRACE: usize = 200;
/// Steps of a run, so that one that never ends is told.
const MOST_STEPS: u64 = 50_000_000;
/// Wall time of the start, in nanoseconds.
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Voters.
    pub masters: u64,
    /// Machines with an agent.
    pub agents: usize,
    /// Frameworks beside the services.
    pub frameworks: usize,
    /// Frameworks that keep to no rule.
    pub rogues: usize,
    /// Services.
    pub apps: u64,
    /// Virtual time with faults; time to come to rest follows.
    pub duration: Duration,
    /// When the faults end, only a majority of the machines is mended: that must be enough to go on.
    pub only_majority: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            masters: 3,
            agents: 3,
            frameworks: 2,
            rogues: 1,
            apps: 2,
            duration: Duration::from_secs(60),
            only_majority: false,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events that were handled.
    pub steps: u64,
    /// Faults.
    pub faults: u64,
    /// Commands that were committed.
    pub commits: u64,
    /// Reads of the registry that were answered.
    pub reads: u64,
    /// Snapshots that members took from others.
    pub restores: u64,
    /// Members that were replaced.
    pub replacements: u64,
    /// Tasks that were launched.
    pub launches: u64,
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed: the same run again.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Duration,
    /// What.
    pub what: String,
    /// The last steps before it.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} after {:?}: {}", self.seed, self.at, self.what)?;
        self.trace.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// What happens. `life` tells whether it is still the process that it was meant for.
pub(super) enum Event {
    Tick {
        node: u64,
        life: u64,
    },
    Raft {
        from: u64,
        to: u64,
        message: Vec<u8>,
        snapshot: Option<Vec<u8>>,
    },
    Synced {
        node: u64,
        life: u64,
    },
    Alarm {
        node: u64,
        life: u64,
        alarm: u64,
    },
    Wake {
        node: u64,
        life: u64,
    },
    Boot {
        node: u64,
    },
    AgentBoot {
        host: usize,
    },
    AgentSynced {
        host: usize,
        life: u64,
    },
    AgentWake {
        host: usize,
        life: u64,
    },
    AgentDial {
        host: usize,
        life: u64,
    },
    LinkUp {
        link: u64,
    },
    ToAgent {
        link: u64,
        term: u64,
        message: Box<to_agent::Message>,
    },
    ToMaster {
        link: u64,
        message: Box<from_agent::Message>,
    },
    /// One side of a link learns that it is gone.
    DownAtAgent {
        link: u64,
    },
    DownAtMaster {
        link: u64,
    },
    Container {
        host: usize,
        container_id: ContainerId,
        what: Happens,
    },
    Dial {
        framework: usize,
    },
    ToFramework {
        framework: usize,
        conn: ConnId,
        event: Box<SchedulerEvent>,
    },
    Hangup {
        framework: usize,
        conn: ConnId,
    },
    Calls {
        framework: usize,
        conn: ConnId,
        call: Box<Call>,
    },
    Reconcile {
        framework: usize,
    },
    /// Something of the schedule.
    Planned(Planned),
    Mend(Mended),
    /// A machine may go on.
    Thaw {
        place: usize,
    },
    /// An operator takes the next step to replace a member.
    Replace {
        old: u64,
        new: Option<u64>,
    },
    /// Operators repeat what is not done yet.
    Operate,
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) disk: Disk,
    /// It began with the cluster; others joined later.
    pub(super) is_first: bool,
    /// Its disk does not confirm what is written next.
    pub(super) fails_next: bool,
    /// Its disk holds something else than was written: it does not start any more.
    pub(super) is_damaged: bool,
    /// When it is woken next, as far as is scheduled.
    pub(super) wake: Option<Mono>,
}

pub(super) struct Host {
    pub(super) life: u64,
    pub(super) machine: Machine,
    pub(super) link: Option<u64>,
    pub(super) wake: Option<Mono>,
}

/// A connection between an agent and a master, which keeps order.
pub(super) struct Link {
    pub(super) host: usize,
    pub(super) life: u64,
    pub(super) node: u64,
    pub(super) node_life: u64,
    pub(super) term: u64,
    pub(super) is_up: bool,
    /// Something on it was lost: nothing follows.
    pub(super) is_dead: bool,
    pub(super) last: [Mono; 2],
}

pub(super) struct World {
    pub(super) options: Options,
    pub(super) chance: Chance,
    pub(super) now: Mono,
    pub(super) queue: BTreeMap<(Mono, u64), Event>,
    pub(super) number: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) hosts: Vec<Host>,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) frameworks: Vec<Framework>,
    /// When the last event of a framework's stream arrives.
    pub(super) streams: BTreeMap<ConnId, Mono>,
    /// When the last call of each framework arrives.
    pub(super) calls: Vec<Mono>,
    pub(super) weather: Weather,
    /// Machines that stand still, until when, and what waits there.
    pub(super) frozen: BTreeMap<usize, (Mono, Vec<Event>)>,
    /// By how many milliseconds wall clocks are off.
    pub(super) clocks: BTreeMap<usize, i64>,
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    /// Agents that operators have said are gone.
    pub(super) gone: BTreeSet<AgentId>,
    /// Machines that nobody mends.
    pub(super) broken: BTreeSet<usize>,
    /// Those of them that do not start any more.
    pub(super) dead: BTreeSet<usize>,
    /// An operator puts another member into a member's place.
    pub(super) is_replacing: bool,
    pub(super) faulty: bool,
    /// Changes that were acknowledged before the faults ended.
    pub(super) acknowledged_before: u64,
    pub(super) steps: u64,
    pub(super) faults: u64,
    pub(super) restores: u64,
    pub(super) replacements: u64,
    pub(super) trace: std::collections::VecDeque<String>,
}

/// Runs one world to its end.
///
/// # Errors
/// Something did not hold.
pub fn run(seed: u64, options: &Options) -> Result<Report, Failure> {
    play(seed, options, &schedule(seed, options))
}

/// What a seed has in store.
#[must_use]
pub fn schedule(seed: u64, options: &Options) -> Vec<Planned> {
    let mut all = schedule::draw(&mut Chance::new(!seed), options.duration);
    // Between two sets of members it is not a majority of machines that decides.
    all.retain(|planned| !options.only_majority || !matches!(planned.what, What::Replace | What::Damage));
    all
}

/// Runs one world with a schedule of its own.
///
/// # Errors
/// Something did not hold.
pub fn play(seed: u64, options: &Options, schedule: &[Planned]) -> Result<Report, Failure> {
    let mut world = World::new(seed, *options, schedule);
    let ran = catch_unwind(AssertUnwindSafe(|| world.live()));
    let what = match ran {
        Ok(Ok(())) => {
            return Ok(Report {
                seed,
                steps: world.steps,
                faults: world.faults,
                commits: world.checker.commits(),
                reads: world.clients.reads_answered,
                restores: world.restores,
                replacements: world.replacements,
                launches: world.checker.launches(),
            });
        }
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("a panic: {}", text.unwrap_or_default())
        }
    };
    let trace = world.trace.into_iter().collect();
    Err(Failure { seed, at: world.now.since_start(), what, trace })
}

impl World {
    pub(super) fn new(seed: u64, options: Options, schedule: &[Planned]) -> Self {
        let host = |number| Host { life: 0, machine: Machine::new(number), link: None, wake: None };
        let frameworks = options.frameworks + options.rogues;
        let mut world = Self {
            options,
            chance: Chance::new(seed),
            now: Mono::from_start(Duration::from_secs(1)),
            queue: BTreeMap::new(),
            number: 0,
            nodes: BTreeMap::new(),
            hosts: (0..options.agents).map(host).collect(),
            links: BTreeMap::new(),
            frameworks: (0..frameworks)
                .map(|number| Framework::new(number, number >= options.frameworks))
                .collect(),
            streams: BTreeMap::new(),
            calls: vec![Mono::default(); frameworks],
            weather: Weather::default(),
            frozen: BTreeMap::new(),
            clocks: BTreeMap::new(),
            checker: Checker::default(),
            clients: Clients::default(),
            gone: BTreeSet::new(),
            broken: BTreeSet::new(),
            dead: BTreeSet::new(),
            is_replacing: false,
            faulty: true,
            acknowledged_before: 0,
            steps: 0,
            faults: 0,
            restores: 0,
            replacements: 0,
            trace: std::collections::VecDeque::new(),
        };
        for id in 1..=options.masters {
            world.nodes.insert(id, Node { is_first: true, ..Node::default() });
            world.soon(10, Event::Boot { node: id });
        }
        for number in 0..options.agents {
            world.soon(100, Event::AgentBoot { host: number });
        }
        for framework in 0..frameworks {
            world.soon(3_000, Event::Dial { framework });
            world.soon(5_000, Event::Reconcile { framework });
        }
        world.soon(1_000, Event::Operate);
        let start = world.now;
        for planned in schedule {
            world.at(start.after(planned.at), Event::Planned(*planned));
        }
        world
    }

    /// What a machine's clocks say.
    pub(super) fn now_at(&self, place: usize) -> Now {
        let nanos = i64::try_from(self.now.since_start().as_nanos()).unwrap_or(i64::MAX);
        let off = self.clocks.get(&place).copied().unwrap_or(0) * 1_000_000;
        Now { mono: self.now, wall: Timestamp::from_nanos(EPOCH + nanos + off) }
    }

    pub(super) fn at(&mut self, at: Mono, event: Event) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), event);
    }

    /// Within so many milliseconds.
    pub(super) fn soon(&mut self, milliseconds: u64, event: Event) {
        let at = self.now.after(Duration::from_millis(1 + self.chance.below(milliseconds)));
        self.at(at, event);
    }

    pub(super) fn live(&mut self) -> Result<(), String> {
        let end = self.now.after(self.options.duration);
        self.live_until(end)?;
        self.mend_all();
        let since = self.now;
        loop {
            let next = self.now.after(Duration::from_secs(5));
            self.live_until(next)?;
            match self.rests() {
                Ok(()) => return Ok(()),
                Err(unrest) if self.now.since(since) >= unrest.patience => {
                    return Err(format!("it does not come to rest: {}", unrest.why));
                }
                Err(_) => {}
            }
        }
    }

    pub(super) fn live_until(&mut self, end: Mono) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(format!("{MOST_STEPS} steps, and no end"));
            }
            self.handle(event);
            if let Some(problem) = self.checker.problems.pop() {
                return Err(problem);
            }
        }
        self.now = end;
        Ok(())
    }

    pub(super) fn note(&mut self, step: impl FnOnce() -> String) {
        let at = self.now.since_start();
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{at:?} {}", step()));
    }

    /// Faults end, and what was broken is started again: all of it, or just enough.
    pub(super) fn mend_all(&mut self) {
        self.faulty = false;
        self.acknowledged_before = self.clients.writes_acknowledged;
        let kept = if self.options.only_majority { self.break_some() } else { BTreeSet::new() };
        self.weather = Weather { cut: kept, ..Weather::default() };
        self.clocks.clear();
        self.note(|| "the faults end".to_owned());
        for framework in &mut self.frameworks {
            framework.rests = true;
        }
        for (id, place) in self.nodes.keys().map(|id| (*id, self.place(*id))).collect::<Vec<_>>() {
            if let Some(node) = self.nodes.get_mut(&id).filter(|_| !self.broken.contains(&place)) {
                node.fails_next = false;
                self.soon(10, Event::Boot { node: id });
            }
        }
        for host in (0..self.hosts.len()).filter(|host| !self.broken.contains(host)).collect::<Vec<_>>() {
            self.soon(10, Event::AgentBoot { host });
            self.agent(host, AgentInput::Room { is_short: false });
        }
    }
}

impl Node {
    pub(super) fn leads(&self) -> Option<u64> {
        self.process.as_ref()?.leads()
    }
}
