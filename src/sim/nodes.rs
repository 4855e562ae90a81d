//! The nodes of the world: what leaves a master's process and where it goes.

use super::masters::{self, Process};
use super::world::{Event, Node, World};
use crate::base::time::Now;

/// Members compare their states after so many commands.
const COMPARED: u64 = 64;

impl World {
    pub(super) fn is_alive(&self, node: u64, life: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.life == life && node.process.is_some())
    }

    /// Gives a process something to do, and performs what follows.
    pub(super) fn with(&mut self, id: u64, work: impl FnOnce(&mut Process, Now)) {
        let (now, mut out) = (self.now_at(self.place(id)), Vec::new());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(process) = &mut node.process else { return };
        work(process, now);
        process.settle(&mut node.disk, now, &mut out);
        self.node_out(id, out);
    }

    pub(super) fn boot(&mut self, id: u64) {
        let (now, seed, mut out) = (self.now_at(self.place(id)), self.chance.bits(), Vec::new());
        let (voters, is_dead) = (self.options.masters, self.dead.contains(&self.place(id)));
        let is_startable = |node: &&mut Node| node.process.is_none() && !node.is_damaged && !is_dead;
        let Some(node) = self.nodes.get_mut(&id).filter(is_startable) else { return };
        node.life += 1;
        let life = node.life;
        let first: Vec<u64> = if node.is_first { (1..=voters).collect() } else { Vec::new() };
        let process = Process::boot(id, first, &mut node.disk, seed, now, &mut out);
        let applied = process.booted_at;
        node.process = Some(process);
        self.note(|| format!("node {id} boots"));
        self.checker.booted(id, applied);
        self.soon(100, Event::Tick { node: id, life });
        self.node_out(id, out);
    }

    pub(super) fn node_out(&mut self, id: u64, out: Vec<masters::Out>) {
        use masters::Out;
        for one in out {
            let life = self.nodes[&id].life;
            match one {
                Out::Written => {
                    let at = self.now.after(self.weather.sync(&mut self.chance));
                    self.at(at, Event::Synced { node: id, life });
                }
                Out::Raft { to, message, snapshot } => {
                    if self.faulty && self.chance.below(200) == 0 {
                        continue;
                    }
                    let at = self.now.after(self.weather.latency_of_datagram(&mut self.chance));
                    if self.faulty && self.chance.below(200) == 0 {
                        let (message, snapshot) = (message.clone(), snapshot.clone());
                        let later = at.after(self.weather.latency_of_datagram(&mut self.chance));
                        self.at(later, Event::Raft { from: id, to, message, snapshot });
                    }
                    self.at(at, Event::Raft { from: id, to, message, snapshot });
                }
                Out::Alarm { alarm, at } => self.at(at, Event::Alarm { node: id, life, alarm }),
                Out::Agent { link, term, message } => {
                    let latency = self.weather.latency(&mut self.chance);
                    if let Some(known) = self.links.get_mut(&link.0) {
                        let at = self.now.after(latency).max(known.last[0]);
                        known.last[0] = at;
                        self.at(at, Event::ToAgent { link: link.0, term, message });
                    }
                }
                Out::Unlink { link } => {
                    let last = self.links.get(&link.0).map_or(self.now, |known| known.last[0]);
                    let at = self.now.after(self.weather.latency(&mut self.chance)).max(last);
                    self.at(at, Event::DownAtAgent { link: link.0 });
                }
                Out::Scheduler { conn, event } => {
                    self.checker.told(id, conn, &event, self.now);
                    self.tell(conn, event);
                }
                Out::Close { conn } => {
                    self.checker.closed(conn);
                    self.close(conn);
                }
                Out::Applied { index, data } => self.applied(id, index, data),
                Out::Restored { index } => self.restored(id, index),
                Out::Recorded { client, index } => self.recorded(client, index),
                Out::Readable { client } => self.read_answered(client, id),
                Out::Leads { term } => {
                    self.note(|| format!("node {id} leads in term {term}"));
                    self.checker.leads(id, term);
                }
                Out::Deposed => self.deposed(id),
            }
        }
        self.plan_wake(id);
    }

    fn applied(&mut self, id: u64, index: u64, data: Vec<u8>) {
        if let Some(line) = self.checker.applied(id, index, data, self.now) {
            self.note(|| format!("{index}: {line}"));
        }
        if self.nodes[&id].process.as_ref().is_some_and(|it| it.applied % COMPARED == 0) {
            self.compare_state(id);
        }
    }

    fn restored(&mut self, id: u64, index: u64) {
        self.note(|| format!("node {id} takes a snapshot"));
        self.restores += 1;
        self.checker.restored(id, index);
        self.compare_state(id);
    }

    fn compare_state(&mut self, id: u64) {
        if let Some(process) = self.nodes[&id].process.as_ref() {
            self.checker.state(id, process.applied, process.state.snapshot());
        }
    }

    pub(super) fn plan_wake(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let next = node.process.as_ref().and_then(Process::next_deadline);
        let Some(at) = next.filter(|at| node.wake.is_none_or(|planned| *at < planned)) else { return };
        node.wake = Some(at);
        let life = node.life;
        self.at(at, Event::Wake { node: id, life });
    }

    /// Whoever was connected with a node hears that it is not any more.
    pub(super) fn deposed(&mut self, id: u64) {
        self.checker.deposed(id);
        let links: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.node == id).map(|(id, _)| *id).collect();
        for link in links {
            self.soon(50, Event::DownAtAgent { link });
        }
        for framework in 0..self.frameworks.len() {
            if let Some((conn, _, _)) =
                self.frameworks[framework].stream.clone().filter(|(_, node, _)| *node == id)
            {
                self.soon(50, Event::Hangup { framework, conn });
            }
        }
    }
}
