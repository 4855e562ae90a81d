//! Machines with agents in the world, and their connections with masters.

use super::agents;
use super::world::{Event, Link, World};
use crate::agent::core::Input as AgentInput;
use crate::api::peer::{from_agent, to_agent};
use crate::base::id::FrameworkId;
use crate::master::core::{self as master, LinkId};

impl World {
    pub(super) fn agent(&mut self, host: usize, input: AgentInput) {
        let (now, mut out) = (self.now_at(host), Vec::new());
        self.hosts[host].machine.handle(input, now, &mut self.chance, &mut out);
        self.agent_out(host, out);
    }

    pub(super) fn agent_boot(&mut self, host: usize) {
        if self.hosts[host].machine.is_up() || self.dead.contains(&host) {
            return;
        }
        let (now, seed, mut out) = (self.now_at(host), self.chance.bits(), Vec::new());
        self.hosts[host].life += 1;
        (self.hosts[host].link, self.hosts[host].wake) = (None, None);
        self.note(|| format!("agent {host} boots"));
        self.hosts[host].machine.boot(seed, now, &mut self.chance, &mut out);
        self.agent_out(host, out);
    }

    pub(super) fn agent_out(&mut self, host: usize, out: Vec<agents::Out>) {
        use agents::Out;
        for one in out {
            let life = self.hosts[host].life;
            match one {
                Out::Written => {
                    let at = self.now.after(self.weather.sync(&mut self.chance));
                    self.at(at, Event::AgentSynced { host, life });
                }
                Out::Tell(message) => {
                    let latency = self.weather.latency(&mut self.chance);
                    if let Some(id) = self.hosts[host].link
                        && let Some(link) = self.links.get_mut(&id)
                    {
                        let at = self.now.after(latency).max(link.last[1]);
                        link.last[1] = at;
                        self.at(at, Event::ToMaster { link: id, message });
                    }
                }
                Out::Reconnect => match self.hosts[host].link {
                    Some(link) => self.hang_up(link, true),
                    None => self.redial(host),
                },
                Out::Shutdown => {
                    self.note(|| format!("agent {host} is shut down, and set up anew"));
                    self.hosts[host].life += 1;
                    if let Some(link) = self.hosts[host].link.take() {
                        self.soon(20, Event::DownAtMaster { link });
                    }
                    self.hosts[host].machine.wipe();
                    self.soon(2_000, Event::AgentBoot { host });
                    return;
                }
                Out::Later { container_id, at, what } => {
                    self.at(at, Event::Container { host, container_id, what });
                }
                Out::Launched { key } => {
                    self.checker.launched(host, key);
                    // What a framework had that is over is free at once, as in Mesos.
                    let is_over = |id: &FrameworkId| {
                        let mut rogues = self.frameworks.iter().filter(|one| one.is_rogue && one.rests);
                        rogues.any(|rogue| rogue.id.as_ref() == Some(id))
                    };
                    let used = self.hosts[host].machine.milli_cpus(|id| !is_over(id));
                    if used > agents::MILLI_CPUS {
                        let containers = self.hosts[host].machine.containers_in_words();
                        self.checker.over_committed(host, used, &containers);
                    }
                }
                Out::Started { key } => self.checker.started(&key.1),
                Out::Ended { key } => self.checker.ended(&key.1, self.now),
                Out::Signalled { key } => self.signalled(host, &key),
            }
        }
        let host_state = &mut self.hosts[host];
        let next = host_state.machine.next_deadline();
        if let Some(at) = next.filter(|at| host_state.wake.is_none_or(|planned| *at < planned)) {
            host_state.wake = Some(at);
            let life = host_state.life;
            self.at(at, Event::AgentWake { host, life });
        }
    }

    /// An agent leaves a connection.
    pub(super) fn hang_up(&mut self, link: u64, again: bool) {
        let Some(host) = self.links.get(&link).map(|link| link.host) else { return };
        self.soon(20, Event::DownAtMaster { link });
        if self.hosts[host].link == Some(link) {
            self.hosts[host].link = None;
            self.agent(host, AgentInput::Disconnected);
        }
        if again {
            self.redial(host);
        }
    }

    pub(super) fn redial(&mut self, host: usize) {
        let life = self.hosts[host].life;
        self.soon(800, Event::AgentDial { host, life });
    }

    pub(super) fn dial(&mut self, host: usize) {
        let Some(node) = self.leader().filter(|node| {
            let at = self.place(*node);
            self.weather.passes(host, at) && self.weather.passes(at, host)
        }) else {
            return self.redial(host);
        };
        self.number += 1;
        let link = Link {
            host,
            life: self.hosts[host].life,
            node,
            node_life: self.nodes[&node].life,
            term: self.nodes[&node].leads().unwrap_or(0),
            is_up: false,
            is_dead: false,
            last: [self.now; 2],
        };
        let id = self.number;
        self.links.insert(id, link);
        self.hosts[host].link = Some(id);
        let at = self.now.after(self.weather.latency(&mut self.chance));
        self.at(at, Event::LinkUp { link: id });
    }

    pub(super) fn link_up(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (host, node, term) = (link.host, link.node, link.term);
        if self.hosts[host].link != Some(id) || self.hosts[host].life != link.life {
            return;
        }
        let known = self.nodes.get(&node);
        let leads = known.is_some_and(|node| node.life == link.node_life && node.leads() == Some(term));
        if !leads {
            self.hosts[host].link = None;
            return self.redial(host);
        }
        link.is_up = true;
        self.checker.agent_came();
        self.with(node, |process, _| {
            process.master(master::Input::AgentConnected { link: LinkId(id), node: None });
        });
        self.agent(host, AgentInput::Connected);
    }

    pub(super) fn agent_hears(&mut self, link: u64, term: u64, message: Box<to_agent::Message>) {
        let Some(known) = self.links.get(&link) else { return };
        let (host, node) = (known.host, known.node);
        let now = self.now_at(host);
        if known.is_dead || !self.weather.passes(self.place(node), host) {
            return self.break_link(link);
        }
        if self.hosts[host].link == Some(link) {
            if self.hosts[host].machine.counts(term, now) {
                self.agent(host, AgentInput::Master(message));
            } else {
                self.hang_up(link, true);
            }
        }
    }

    /// Something on it was lost: nothing follows.
    fn break_link(&mut self, link: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.is_dead = true;
        }
    }

    pub(super) fn master_hears(&mut self, link: u64, message: Box<from_agent::Message>) {
        let Some(known) = self.links.get(&link) else { return };
        if known.is_dead || !self.weather.passes(known.host, self.place(known.node)) {
            return self.break_link(link);
        }
        let (node, term) = (known.node, known.term);
        self.with(node, |process, _| {
            if process.leads() == Some(term) {
                process.agent_says(LinkId(link), *message);
            }
        });
    }
}
