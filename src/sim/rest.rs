//! What must hold when nothing goes wrong any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::frameworks::rank;
use super::masters::Process;
use super::schedule::What;
use super::world::World;
use crate::base::id::TaskId;

/// How long everything may take to come to rest after the last fault.
const REST: Duration = Duration::from_secs(180);
/// The same for updates that got lost: an agent waits longer each time, ten minutes at the most.
const REST_OF_UPDATES: Duration = Duration::from_secs(800);

/// What is not as it should be.
pub(super) struct Unrest {
    pub(super) why: String,
    /// How long after the last fault it may be so.
    pub(super) patience: Duration,
}

impl From<String> for Unrest {
    fn from(why: String) -> Self {
        Self { why, patience: REST }
    }
}

impl From<&str> for Unrest {
    fn from(why: &str) -> Self {
        Self::from(why.to_owned())
    }
}

impl World {
    /// Whether everything is as it should be.
    pub(super) fn rests(&mut self) -> Result<(), Unrest> {
        if self.options.only_majority { self.goes_on() } else { self.is_whole_again() }
    }

    fn is_whole_again(&self) -> Result<(), Unrest> {
        let leaders: Vec<u64> =
            self.nodes.iter().filter(|(_, node)| node.leads().is_some()).map(|(id, _)| *id).collect();
        let [leader] = leaders[..] else { return Err(Unrest::from(format!("{leaders:?} lead"))) };
        for (id, node) in &self.nodes {
            let applied = node.process.as_ref().map_or(0, |process| process.applied);
            if applied < self.checker.last() {
                return Err(format!("node {id} has applied {applied} of {}", self.checker.last()).into());
            }
        }
        let process = self.nodes[&leader].process.as_ref().ok_or("the leader is down")?;
        let members: BTreeSet<(u64, bool)> = process.members().into_iter().collect();
        let wanted: BTreeSet<(u64, bool)> = self.nodes.keys().map(|id| (*id, true)).collect();
        if members != wanted || members.len() as u64 != self.options.masters {
            return Err(Unrest::from(format!("the members are {members:?}, the nodes {wanted:?}")));
        }
        if process.active_agents() != self.hosts.len() {
            let hosts = self.hosts.iter().map(|host| {
                let link = host.link.and_then(|id| self.links.get(&id));
                let link = link.map(|link| (link.node, link.term, link.is_up, link.is_dead));
                (host.machine.agent_id(), host.machine.is_up(), host.wake, link)
            });
            let hosts: Vec<_> = hosts.collect();
            return Err(Unrest::from(format!("{} agents are active: {hosts:?}", process.active_agents())));
        }
        let ids = self.hosts.iter().filter_map(|host| host.machine.agent_id());
        if let Some(id) = ids.into_iter().find(|id| self.gone.contains(id)) {
            return Err(Unrest::from(format!("the agent {id} was marked gone, and is here")));
        }
        if let Some((host, count)) = self.unsettled() {
            let why = format!("agent {host} has {count} tasks that ended and nobody acknowledged");
            return Err(Unrest { why, patience: REST_OF_UPDATES });
        }
        let mut running = self.running(|_| true)?;
        self.services_are_whole(process, &running)?;
        self.frameworks_are_whole(&mut running)?;
        for instance in process.state.service().instances().values() {
            running.remove(&TaskId::new(&instance.task_id));
        }
        match running.keys().next() {
            Some(task) => Err(format!("{task} runs, and nobody knows of it").into()),
            None => Ok(()),
        }
    }

    fn unsettled(&self) -> Option<(usize, usize)> {
        let counts = self.hosts.iter().map(|host| host.machine.unsettled()).enumerate();
        counts.into_iter().find(|(_, count)| *count > 0)
    }

    /// The tasks that run on some machines, each once.
    fn running(&self, counts: impl Fn(usize) -> bool) -> Result<BTreeMap<TaskId, usize>, String> {
        let mut running: BTreeMap<TaskId, usize> = BTreeMap::new();
        for (_, host) in self.hosts.iter().enumerate().filter(|(number, _)| counts(*number)) {
            for (_, container) in host.machine.running() {
                *running.entry(container.key.1.clone()).or_default() += 1;
            }
        }
        match running.iter().find(|(_, count)| **count > 1) {
            Some((task, _)) => Err(format!("{task} runs twice")),
            None => Ok(running),
        }
    }

    fn services_are_whole(&self, process: &Process, running: &BTreeMap<TaskId, usize>) -> Result<(), String> {
        let services = process.state.service();
        let reasons = |app: &str| process.reasons(app, self.now);
        if let Some(id) = services.deployments().keys().next() {
            let why: Vec<_> = self.clients.apps.keys().map(|app| (app, reasons(app))).collect();
            return Err(format!("{id} is not done: {why:?}"));
        }
        for app in self.clients.apps.keys() {
            let wanted = self.wanted(app, process);
            let instances = services.instances().values().filter(|instance| instance.app_id == *app);
            let alive = instances.filter(|one| running.contains_key(&TaskId::new(&one.task_id))).count();
            if alive != wanted as usize {
                let known = services.instances().values().filter(|instance| instance.app_id == *app);
                let known: Vec<String> =
                    known.map(|one| format!("{} on {}", one.task_id, one.agent_id)).collect();
                let agents: Vec<_> = process.state.agents().map(|(id, entry)| (id, entry.standing)).collect();
                return Err(format!(
                    "{app} has {alive} instances of {wanted}: {known:?} ({} are active of {agents:?}): {:?}",
                    process.active_agents(),
                    reasons(app)
                ));
            }
        }
        Ok(())
    }

    fn frameworks_are_whole(&self, running: &mut BTreeMap<TaskId, usize>) -> Result<(), Unrest> {
        for framework in &self.frameworks {
            for (id, task) in &framework.tasks {
                let runs = running.remove(id).is_some();
                match rank(task.state) {
                    5 if runs => return Err(format!("{id} runs and is {:?}", task.state).into()),
                    5 => {}
                    2 if runs => {}
                    _ => {
                        let why = format!("{id} is {:?}, runs: {runs}", task.state);
                        return Err(Unrest { why, patience: REST_OF_UPDATES });
                    }
                }
            }
        }
        Ok(())
    }

    /// Chooses what nobody mends: a minority of the machines, in one of several ways. Answers the cuts that
    /// stay.
    pub(super) fn break_some(&mut self) -> BTreeSet<(usize, usize)> {
        let places = self.places();
        let mut all: Vec<usize> = (0..places).collect();
        self.chance.shuffle(&mut all);
        all.truncate(places.saturating_sub(1) / 2);
        self.broken = all.into_iter().collect();
        let (broken, how) = (self.broken.clone(), self.chance.below(4));
        self.note(|| format!("machines {broken:?} stay broken, way {how}"));
        let pairs = (0..places).flat_map(|from| (0..places).map(move |to| (from, to)));
        let crosses = pairs.filter(|(from, to)| broken.contains(from) != broken.contains(to));
        match how {
            // It hears everything and is not heard, or the other way round.
            0 => crosses.filter(|(from, _)| broken.contains(from)).collect(),
            1 => crosses.filter(|(_, to)| broken.contains(to)).collect(),
            2 => crosses.collect(),
            _ => {
                self.dead = broken.clone();
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    if broken.contains(&self.place(id)) {
                        self.stop(id);
                    }
                }
                for (_, host) in self.hosts.iter_mut().enumerate().filter(|(host, _)| broken.contains(host)) {
                    host.life += 1;
                    host.machine.crash(0, true);
                }
                BTreeSet::new()
            }
        }
    }

    /// With a majority alone: somebody leads, a change that is asked for now is acknowledged, and services
    /// run on the machines that are well.
    fn goes_on(&mut self) -> Result<(), Unrest> {
        let is_well = |id: u64| !self.broken.contains(&self.place(id));
        let leaders: Vec<u64> = self
            .nodes
            .iter()
            .filter(|(id, node)| node.leads().is_some() && is_well(**id))
            .map(|(id, _)| *id)
            .collect();
        let [leader] = leaders[..] else { return Err(format!("{leaders:?} lead").into()) };
        if self.clients.writes_acknowledged <= self.acknowledged_before {
            let draw = self.chance.bits();
            self.client(What::Scale, draw);
            return Err("no change is acknowledged".into());
        }
        let process = self.nodes[&leader].process.as_ref().ok_or("the leader is down")?;
        let running = self.running(|host| !self.broken.contains(&host))?;
        Ok(self.services_are_whole(process, &running)?)
    }
}
