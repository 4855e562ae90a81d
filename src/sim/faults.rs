//! What goes wrong, and how it is mended.

use std::collections::BTreeSet;
use std::time::Duration;

use super::agents::Happens;
use super::schedule::{Planned, What};
use super::world::{Event, World};
use crate::agent::core::Input as AgentInput;
use crate::agent::core::container::Exit;
use crate::base::chance::Chance;
use crate::base::id::ContainerId;
use crate::consensus::core as consensus;

/// How late a message may be.
const LATE: u64 = 120_000_000;

/// How the network and the disks are.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// From which host nothing arrives at which.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) slow_disks: bool,
    pub(super) slow_network: bool,
    pub(super) late_messages: bool,
}

impl Weather {
    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How long a packet is on its way.
    pub(super) fn latency(&self, chance: &mut Chance) -> Duration {
        let most = if self.slow_network { 400_000 } else { 2_000 };
        Duration::from_micros(100 + chance.below(most))
    }

    /// The same of a message that nothing keeps in order.
    pub(super) fn latency_of_datagram(&self, chance: &mut Chance) -> Duration {
        if self.late_messages && chance.below(10) == 0 {
            return Duration::from_micros(chance.below(LATE));
        }
        self.latency(chance)
    }

    /// How long it takes until something is durable.
    pub(super) fn sync(&self, chance: &mut Chance) -> Duration {
        let most = if self.slow_disks { 1_500_000 } else { 3_000 };
        Duration::from_micros(50 + chance.below(most))
    }
}

/// What gets better.
#[derive(Clone, Debug)]
pub(super) enum Mended {
    Network(BTreeSet<(usize, usize)>),
    SlowDisks,
    SlowNetwork,
    LateMessages,
    Room { host: usize },
}

impl World {
    /// The time has come for something of the schedule.
    pub(super) fn happen(&mut self, planned: Planned) {
        if !self.faulty {
            return;
        }
        let Planned { what, draw, lasts, .. } = planned;
        if what.is_fault() {
            self.faults += 1;
            self.note(|| format!("fault: {what:?}"));
        }
        let host = pick(draw, self.hosts.len());
        match what {
            What::CrashMaster => self.crash_drawn(draw, lasts),
            What::CrashLeader => {
                if let Some(node) = self.leader() {
                    self.crash(node, lasts);
                }
            }
            What::CrashAgent => self.crash_agent(host, false, lasts),
            What::PowerOff => self.crash_agent(host, true, lasts),
            What::Freeze => self.freeze(pick(draw, self.places()), lasts),
            What::Cut => self.cut(true, draw, lasts),
            What::OneWay => self.cut(false, draw, lasts),
            What::SlowDisks => {
                self.weather.slow_disks = true;
                self.mend_after(lasts, Mended::SlowDisks);
            }
            What::SlowNetwork => {
                self.weather.slow_network = true;
                self.mend_after(lasts, Mended::SlowNetwork);
            }
            What::LateMessages => {
                self.weather.late_messages = true;
                self.mend_after(lasts, Mended::LateMessages);
            }
            What::FailingDisk => {
                if let Some(node) = self.drawn_node(draw).and_then(|id| self.nodes.get_mut(&id)) {
                    node.fails_next = true;
                }
            }
            What::FullDisk => self.crash_drawn(draw, lasts + Duration::from_secs(5)),
            What::ShortOfRoom => {
                self.agent(host, AgentInput::Room { is_short: true });
                self.mend_after(lasts, Mended::Room { host });
            }
            What::Damage => self.damage(draw, lasts),
            What::AgentDamage => self.damage_agent(host, lasts),
            What::Replace => self.replace_drawn(draw),
            What::ClockJump => self.jump(draw),
            What::MarkGone => self.mark_gone(host),
            What::KillTask => self.kill_task(host, draw),
            What::Scale | What::Deploy | What::Read => self.client(what, draw),
        }
    }

    fn mend_after(&mut self, lasts: Duration, mended: Mended) {
        let at = self.now.after(lasts);
        self.at(at, Event::Mend(mended));
    }

    pub(super) fn mend(&mut self, mended: Mended) {
        if !self.faulty {
            return;
        }
        match mended {
            Mended::Network(cut) => self.weather.cut.retain(|pair| !cut.contains(pair)),
            Mended::SlowDisks => self.weather.slow_disks = false,
            Mended::SlowNetwork => self.weather.slow_network = false,
            Mended::LateMessages => self.weather.late_messages = false,
            Mended::Room { host } => self.agent(host, AgentInput::Room { is_short: false }),
        }
    }

    /// Machines: each may have a master and an agent.
    pub(super) fn places(&self) -> usize {
        self.hosts.len().max(usize::try_from(self.options.masters).unwrap_or(0))
    }

    pub(super) fn place(&self, node: u64) -> usize {
        usize::try_from(node - 1).unwrap_or(0) % self.places().max(1)
    }

    fn drawn_node(&self, draw: u64) -> Option<u64> {
        self.nodes.keys().nth(pick(draw, self.nodes.len())).copied()
    }

    fn crash_drawn(&mut self, draw: u64, down: Duration) {
        if let Some(node) = self.drawn_node(draw) {
            self.crash(node, down);
        }
    }

    pub(super) fn crash(&mut self, id: u64, down: Duration) {
        if self.stop(id) {
            let at = self.now.after(Duration::from_millis(1) + down / 3);
            self.at(at, Event::Boot { node: id });
        }
    }

    /// The process ends; of what was not synced a part reached the disk all the same.
    pub(super) fn stop(&mut self, id: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.process.is_some()) else { return false };
        node.process = None;
        (node.wake, node.fails_next) = (None, false);
        let unsynced = node.disk.unsynced() as u64 + 1;
        let kept = usize::try_from(self.chance.below(unsynced)).unwrap_or(0);
        node.disk.crash(kept);
        self.note(|| format!("node {id} ends"));
        self.deposed(id);
        // Whoever had a connection to it learns that it broke.
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let round_trip = Duration::from_millis(1);
            self.with(other, |process, _| {
                process.consensus(consensus::Input::Broken { peer: id, round_trip });
            });
        }
        true
    }

    pub(super) fn crash_agent(&mut self, host: usize, power: bool, down: Duration) {
        if !self.hosts[host].machine.is_up() {
            return;
        }
        let unsynced = self.hosts[host].machine.disk.unsynced() as u64 + 1;
        let kept = usize::try_from(self.chance.below(unsynced)).unwrap_or(0);
        self.hosts[host].life += 1;
        let ended: Vec<_> = self.hosts[host].machine.running().map(|(_, one)| one.key.clone()).collect();
        for key in ended.iter().filter(|_| power) {
            self.checker.ended(&key.1, self.now);
        }
        self.hosts[host].machine.crash(kept, power);
        self.note(|| format!("agent {host} ends, with its machine: {power}"));
        if let Some(link) = self.hosts[host].link.take()
            && !power
        {
            self.soon(20, Event::DownAtMaster { link });
        }
        let at = self.now.after(Duration::from_millis(1) + down);
        self.at(at, Event::AgentBoot { host });
    }

    fn freeze(&mut self, place: usize, lasts: Duration) {
        let until = self.now.after(lasts);
        let (known, _) = self.frozen.entry(place).or_insert_with(|| (until, Vec::new()));
        *known = until.max(*known);
        self.at(until, Event::Thaw { place });
    }

    /// A machine goes on with what waits there, unless it was told to stand still for longer.
    pub(super) fn thaw(&mut self, place: usize) {
        let now = self.now;
        if self.frozen.get(&place).is_some_and(|(until, _)| *until <= now)
            && let Some((_, waiting)) = self.frozen.remove(&place)
        {
            waiting.into_iter().for_each(|event| self.handle(event));
        }
    }

    fn cut(&mut self, both: bool, draw: u64, lasts: Duration) {
        let places = self.places();
        let is_apart = |place: usize| draw >> (place % 64) & 1 == 1;
        let pairs = (0..places).flat_map(|from| (0..places).map(move |to| (from, to)));
        let cut: BTreeSet<(usize, usize)> = pairs
            .filter(|(from, to)| is_apart(*from) != is_apart(*to) && (both || is_apart(*from)))
            .collect();
        self.weather.cut.extend(cut.iter().copied());
        self.mend_after(lasts, Mended::Network(cut));
    }

    /// The node refuses to start: an operator removes it and lets another one join. As long as one does,
    /// no other disk is damaged: with two of three nothing could be saved.
    fn damage(&mut self, draw: u64, lasts: Duration) {
        let Some(id) = self.drawn_node(draw) else { return };
        if self.is_replacing || self.options.masters < 3 {
            return;
        }
        self.is_replacing = true;
        self.stop(id);
        self.nodes.get_mut(&id).expect("drawn").is_damaged = true;
        self.note(|| format!("the disk of node {id} is damaged"));
        let at = self.now.after(lasts / 4);
        self.at(at, Event::Replace { old: id, new: None });
    }

    fn replace_drawn(&mut self, draw: u64) {
        if let Some(id) = self.drawn_node(draw).filter(|_| !self.is_replacing) {
            self.is_replacing = true;
            self.replace(id, None);
        }
    }

    /// An agent refuses what its disk has. It is set up anew, and its old self is gone for good.
    fn damage_agent(&mut self, host: usize, lasts: Duration) {
        self.mark_gone(host);
        self.crash_agent(host, true, lasts);
        self.hosts[host].machine.wipe();
    }

    /// An operator says it; it is said again until it is done.
    fn mark_gone(&mut self, host: usize) {
        self.gone.extend(self.hosts[host].machine.agent_id());
    }

    /// Up to an hour, mostly much less.
    fn jump(&mut self, draw: u64) {
        let most = [2_000, 60_000, 3_600_000][pick(draw, 3)];
        let by = i64::try_from((draw >> 8) % most).unwrap_or(0);
        let place = pick(draw >> 2, self.places());
        let offset = self.clocks.entry(place).or_default();
        *offset = if draw & 1 == 0 { by } else { -by };
        let now = *offset;
        self.note(|| format!("the clock of machine {place} is off by {now} ms"));
    }

    fn kill_task(&mut self, host: usize, draw: u64) {
        let running: Vec<ContainerId> =
            self.hosts[host].machine.running().map(|(id, _)| id.clone()).collect();
        if let Some(container_id) = running.get(pick(draw, running.len())).cloned() {
            let what = Happens::Exits(Exit::Signal(9));
            self.at(self.now, Event::Container { host, container_id, what });
        }
    }
}

/// One of so many.
pub(super) fn pick(draw: u64, count: usize) -> usize {
    usize::try_from(draw % (count as u64).max(1)).unwrap_or(0)
}
