//! What happens in the world, one event after another, and the streams of frameworks.

use std::time::Duration;

use super::world::{Event, TICK, World};
use crate::agent::core::Input as AgentInput;
use crate::api::v1::scheduler::{Call, Event as SchedulerEvent};
use crate::consensus::core as consensus;
use crate::master::core::{self as master, ConnId, LinkId};

impl World {
    pub(super) fn handle(&mut self, event: Event) {
        if let Some(place) = self.stands_still(&event) {
            // It waits there, behind what waits already.
            return self.frozen.entry(place).or_default().1.push(event);
        }
        match event {
            Event::Boot { node } => self.boot(node),
            Event::Tick { node, life } => {
                if self.is_alive(node, life) {
                    let at = self.now.after(TICK);
                    self.at(at, Event::Tick { node, life });
                    self.with(node, |process, _| process.consensus(consensus::Input::Tick));
                }
            }
            Event::Raft { from, to, message, snapshot } => {
                if self.weather.passes(self.place(from), self.place(to)) {
                    let input = consensus::Input::Message { from, message, snapshot };
                    self.with(to, |process, _| process.consensus(input));
                }
            }
            Event::Synced { node, life } => {
                if self.is_alive(node, life) {
                    self.synced(node);
                }
            }
            Event::Alarm { node, life, alarm } => {
                if self.is_alive(node, life) {
                    self.with(node, |process, _| process.consensus(consensus::Input::Alarm { alarm }));
                }
            }
            Event::Wake { node, life } => {
                if self.is_alive(node, life) {
                    if let Some(node) = self.nodes.get_mut(&node) {
                        node.wake = None;
                    }
                    self.with(node, |process, now| process.wake(now));
                }
            }
            Event::Planned(planned) => self.happen(planned),
            Event::Mend(mended) => self.mend(mended),
            Event::Thaw { place } => self.thaw(place),
            Event::Replace { old, new } => self.replace(old, new),
            Event::Operate => self.operate(),
            event => self.handle_agents(event),
        }
    }

    /// The machine that something happens on, if it stands still.
    fn stands_still(&self, event: &Event) -> Option<usize> {
        if self.frozen.is_empty() {
            return None;
        }
        let master_of = |link: &u64| Some(self.place(self.links.get(link)?.node));
        let place = match event {
            Event::Tick { node, .. }
            | Event::Synced { node, .. }
            | Event::Alarm { node, .. }
            | Event::Wake { node, .. } => Some(self.place(*node)),
            Event::Raft { to, .. } => Some(self.place(*to)),
            Event::AgentSynced { host, .. }
            | Event::AgentWake { host, .. }
            | Event::AgentDial { host, .. }
            | Event::Container { host, .. } => Some(*host),
            Event::ToAgent { link, .. } | Event::LinkUp { link } | Event::DownAtAgent { link } => {
                Some(self.links.get(link)?.host)
            }
            Event::ToMaster { link, .. } | Event::DownAtMaster { link } => master_of(link),
            Event::Calls { framework, .. } => {
                self.frameworks[*framework].stream.as_ref().map(|(_, node, _)| self.place(*node))
            }
            _ => None,
        };
        place.filter(|place| self.frozen.contains_key(place))
    }

    /// A disk is done with the oldest of what was written; or it fails, and the process ends.
    fn synced(&mut self, id: u64) {
        let count = 1 + usize::try_from(self.chance.below(3)).unwrap_or(0);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.fails_next {
            self.note(|| format!("the disk of node {id} confirms nothing"));
            return self.crash(id, Duration::from_secs(2));
        }
        if let Some(seq) = node.disk.sync(count) {
            self.with(id, |process, _| process.consensus(consensus::Input::Persisted { seq }));
        }
    }

    pub(super) fn handle_agents(&mut self, event: Event) {
        match event {
            Event::AgentBoot { host } => self.agent_boot(host),
            Event::AgentSynced { host, life } => {
                if self.hosts[host].life == life {
                    let count = 1 + usize::try_from(self.chance.below(3)).unwrap_or(0);
                    if let Some(seq) = self.hosts[host].machine.disk.sync(count) {
                        self.agent(host, AgentInput::Persisted { seq });
                    }
                }
            }
            Event::AgentWake { host, life } => {
                if self.hosts[host].life == life {
                    self.hosts[host].wake = None;
                    self.agent(host, AgentInput::Tick);
                }
            }
            Event::AgentDial { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].link.is_none() {
                    self.dial(host);
                }
            }
            Event::LinkUp { link } => self.link_up(link),
            Event::ToAgent { link, term, message } => self.agent_hears(link, term, message),
            Event::ToMaster { link, message } => self.master_hears(link, message),
            Event::DownAtAgent { link } => {
                let Some(known) = self.links.get(&link) else { return };
                let host = known.host;
                if self.hosts[host].link == Some(link) && self.hosts[host].life == known.life {
                    self.hosts[host].link = None;
                    self.agent(host, AgentInput::Disconnected);
                    self.redial(host);
                }
            }
            Event::DownAtMaster { link } => {
                let Some(known) = self.links.get_mut(&link) else { return };
                known.is_dead = true;
                let (node, term, is_up) = (known.node, known.term, known.is_up);
                if is_up {
                    self.with(node, |process, _| {
                        if process.leads() == Some(term) {
                            process.master(master::Input::AgentDisconnected { link: LinkId(link) });
                        }
                    });
                }
            }
            Event::Container { host, container_id, what } => {
                let (now, mut out) = (self.now_at(host), Vec::new());
                let machine = &mut self.hosts[host].machine;
                machine.happens(&container_id, what, now, &mut self.chance, &mut out);
                self.agent_out(host, out);
            }
            event => self.handle_frameworks(event),
        }
    }

    pub(super) fn handle_frameworks(&mut self, event: Event) {
        match event {
            Event::Dial { framework } if self.frameworks[framework].wants_to_dial() => {
                self.subscribe(framework);
            }
            Event::ToFramework { framework, conn, event } if self.framework_of(conn) == Some(framework) => {
                match self.frameworks[framework].hear(*event, &mut self.chance) {
                    Ok(calls) => calls.into_iter().for_each(|call| self.call(framework, conn, call)),
                    Err(problem) => self.checker.problems.push(problem),
                }
            }
            Event::Hangup { framework, conn } if self.framework_of(conn) == Some(framework) => {
                self.frameworks[framework].stream = None;
                self.soon(500, Event::Dial { framework });
            }
            Event::Calls { framework, conn, call } => {
                let Some((known, node, stream_id)) = self.frameworks[framework].stream.clone() else {
                    return;
                };
                if known == conn {
                    let leads = self.nodes.get(&node).is_some_and(|node| node.leads().is_some());
                    if leads {
                        self.checker.called(conn, &call, self.now);
                    }
                    self.with(node, |process, _| process.scheduler_says(conn, &stream_id, *call));
                }
            }
            Event::Reconcile { framework } => {
                let at = self.now.after(Duration::from_secs(10));
                self.at(at, Event::Reconcile { framework });
                let call = self.frameworks[framework].reconcile();
                let stream = self.frameworks[framework].stream.clone();
                if let (Some(call), Some((conn, ..))) = (call, stream) {
                    self.call(framework, conn, call);
                }
            }
            _ => {}
        }
    }

    pub(super) fn framework_of(&self, conn: ConnId) -> Option<usize> {
        self.frameworks
            .iter()
            .position(|framework| framework.stream.as_ref().is_some_and(|(known, ..)| *known == conn))
    }

    pub(super) fn tell(&mut self, conn: ConnId, event: Box<SchedulerEvent>) {
        let Some(framework) = self.framework_of(conn) else { return };
        let last = self.streams.get(&conn).copied().unwrap_or(self.now);
        let at = self.now.after(self.weather.latency(&mut self.chance)).max(last);
        self.streams.insert(conn, at);
        self.at(at, Event::ToFramework { framework, conn, event });
    }

    /// A scheduler makes its calls one after another.
    pub(super) fn call(&mut self, framework: usize, conn: ConnId, call: Call) {
        let last = self.calls[framework];
        let at = self.now.after(self.weather.latency(&mut self.chance)).max(last);
        self.calls[framework] = at;
        self.at(at, Event::Calls { framework, conn, call: Box::new(call) });
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(framework) = self.framework_of(conn) else { return };
        let at = self.streams.get(&conn).copied().unwrap_or(self.now);
        self.at(at, Event::Hangup { framework, conn });
    }

    pub(super) fn subscribe(&mut self, framework: usize) {
        let Some(node) = self.leader() else {
            return self.soon(500, Event::Dial { framework });
        };
        self.number += 1;
        let (conn, stream_id) = (ConnId(self.number), format!("stream-{}", self.number));
        self.frameworks[framework].stream = Some((conn, node, stream_id.clone()));
        let call = self.frameworks[framework].subscribe();
        self.with(node, |process, _| process.scheduler_says(conn, &stream_id, call));
    }
}
