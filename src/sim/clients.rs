//! What clients and operators do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::pick;
use super::masters::Process;
use super::schedule::What;
use super::world::{Event, Node, World};
use crate::api::marathon::App;
use crate::api::v1::AgentInfo;
use crate::base::id::{AgentId, FrameworkId, NodeId, TaskId};
use crate::base::time::{Now, Timestamp};
use crate::registry::core::{Change, MasterEntry, Standing};
use crate::service::model::{Action, AppVersion, Plan, State};

/// Time between two tries of operators.
const TRY_AGAIN: Duration = Duration::from_millis(700);

/// What clients have asked and know.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Instances that each app should have, by what was acknowledged last; none where that is not known.
    pub(super) apps: BTreeMap<String, Option<u32>>,
    /// Changes under way: the apps with their instances, and the floor when it was asked.
    writes: BTreeMap<u64, (Vec<(String, u32)>, u64)>,
    /// Reads under way, with the floor when each was asked.
    reads: BTreeMap<u64, u64>,
    pub(super) reads_answered: u64,
    pub(super) writes_acknowledged: u64,
}

impl World {
    /// A client asks whoever says that it leads.
    pub(super) fn client(&mut self, what: What, draw: u64) {
        let Some(node) = self.leader() else { return };
        self.number += 1;
        let (client, floor) = (self.number, self.checker.floor());
        if what == What::Read {
            self.clients.reads.insert(client, floor);
            return self.with(node, |process, _| process.read(client));
        }
        let count = self.options.apps;
        if count == 0 {
            return;
        }
        let app = |number: u64| format!("/app-{}", number % count);
        let mut changes = vec![(app(draw), u32::try_from((draw >> 8) % 5).unwrap_or(0))];
        if what == What::Deploy && count > 1 {
            changes.push((app(draw.wrapping_add(1)), u32::try_from((draw >> 16) % 5).unwrap_or(0)));
        }
        for (app, _) in &changes {
            // Until it is acknowledged it may or may not be.
            self.clients.apps.insert(app.clone(), None);
            self.clients.writes.retain(|_, (others, _)| others.iter().all(|(other, _)| other != app));
        }
        self.clients.writes.insert(client, (changes.clone(), floor));
        self.with(node, |process, _| process.change(client, changes));
    }

    pub(super) fn recorded(&mut self, client: u64, index: u64) {
        self.clients.writes_acknowledged += 1;
        // Whoever asked for something else meanwhile does not know which of the two came last.
        let Some((changes, floor)) = self.clients.writes.remove(&client) else { return };
        self.checker.acknowledged(client, index, floor);
        for (app, instances) in changes {
            self.clients.apps.insert(app, Some(instances));
        }
    }

    pub(super) fn read_answered(&mut self, client: u64, node: u64) {
        let applied = self.nodes[&node].process.as_ref().map_or(0, |process| process.applied);
        if let Some(floor) = self.clients.reads.remove(&client) {
            self.clients.reads_answered += 1;
            self.checker.answered(client, applied, floor);
        }
    }

    /// Operators repeat what is not done: agents that are gone for good.
    pub(super) fn operate(&mut self) {
        let at = self.now.after(TRY_AGAIN);
        self.at(at, Event::Operate);
        let Some(node) = self.leader() else { return };
        let Some(process) = self.nodes[&node].process.as_ref() else { return };
        // A machine that came back as another agent will not come back as the one that it was.
        let is_other = |info: &AgentInfo| {
            let own = self.hosts.iter().find(|host| host.machine.hostname() == info.hostname);
            let id = own.and_then(|host| host.machine.agent_id());
            id.is_some_and(|id| info.id.as_ref().is_some_and(|other| other.value != id.as_str()))
        };
        let replaced = process
            .state
            .agents()
            .filter(|(_, entry)| entry.standing == Standing::Unreachable && is_other(&entry.info));
        let replaced: Vec<AgentId> = replaced.map(|(id, _)| id.clone()).collect();
        self.gone.extend(replaced);
        let is_open =
            |id: &&AgentId| process.state.agent(id).is_some_and(|entry| entry.standing != Standing::Gone);
        let open: Vec<AgentId> = self.gone.iter().filter(is_open).cloned().collect();
        for agent_id in open {
            self.checker.lost_agent(self.now);
            self.with(node, |process, _| process.mark_gone(agent_id));
        }
    }

    /// The next step to put another member into a member's place: the new one joins, the old one is
    /// removed, and stopped when nobody counts on it any more.
    pub(super) fn replace(&mut self, old: u64, new: Option<u64>) {
        let Some(leader) = self.leader() else { return self.replace_later(old, new) };
        let is_damaged = self.nodes.get(&old).is_some_and(|node| node.is_damaged);
        let new = new.unwrap_or_else(|| self.join());
        let Some(process) = self.nodes[&leader].process.as_ref() else { return };
        let (Some(old_id), Some(new_id)) = (NodeId::new(old), NodeId::new(new)) else { return };
        let is_in = |id: NodeId| process.state.master(id).is_some();
        let (has_old, has_new) = (is_in(old_id), is_in(new_id));
        let members = process.members();
        let votes = |id: u64| members.contains(&(id, true));
        let change = if has_old && (is_damaged || (has_new && votes(new))) {
            Some(Change::RemoveMaster { id: old_id })
        } else if !has_new && (!is_damaged || !has_old) {
            Some(Change::PutMasters { masters: vec![(new_id, MasterEntry::default())] })
        } else {
            None
        };
        let is_done = has_new && !has_old && votes(new) && members.iter().all(|(id, _)| *id != old);
        if is_done {
            self.note(|| format!("node {new} has taken the place of node {old}"));
            self.stop(old);
            self.nodes.remove(&old);
            self.replacements += 1;
            self.is_replacing = false;
            return;
        }
        if let Some(change) = change {
            self.with(leader, |process, now| process.record(change, now));
        }
        self.replace_later(old, Some(new));
    }

    fn replace_later(&mut self, old: u64, new: Option<u64>) {
        let at = self.now.after(TRY_AGAIN);
        self.at(at, Event::Replace { old, new });
    }

    /// A new node, which waits for what a leader sends.
    fn join(&mut self) -> u64 {
        let id = 1 + self.nodes.keys().next_back().copied().unwrap_or(0);
        self.nodes.insert(id, Node::default());
        self.soon(10, Event::Boot { node: id });
        id
    }

    /// An agent asks a task to end: somebody must have wanted it.
    pub(super) fn signalled(&mut self, host: usize, key: &(FrameworkId, TaskId)) {
        let framework = self.frameworks.iter().find(|framework| framework.id.as_ref() == Some(&key.0));
        match framework {
            Some(framework) if framework.is_rogue => {}
            Some(framework) if framework.killed.contains(&key.1) => {}
            Some(_) => self.checker.killed_for_nothing(host, &key.1),
            None => self.checker.service_task_killed(&key.1, self.now),
        }
    }

    /// What an app should run, as far as clients know, or the registry.
    pub(super) fn wanted(&self, app: &str, process: &Process) -> u32 {
        match (self.clients.apps.get(app).copied().flatten(), process.state.service().apps().get(app)) {
            (Some(wanted), _) => wanted,
            (None, Some(entry)) => {
                serde_json::from_slice::<App>(&entry.current.definition).map_or(0, |app| app.instances)
            }
            (None, None) => 0,
        }
    }

    /// One of those that say that they lead.
    pub(super) fn leader(&mut self) -> Option<u64> {
        let leaders: Vec<u64> =
            self.nodes.iter().filter(|(_, node)| node.leads().is_some()).map(|(id, _)| *id).collect();
        leaders.get(pick(self.chance.bits(), leaders.len())).copied()
    }
}

/// A change of apps to so many instances, one after another.
pub(super) fn plan(services: &State, deployment_id: String, changes: &[(String, u32)], now: Now) -> Plan {
    let apps = services.apps();
    let newest = apps.values().map(|entry| entry.current.version_ns).max().unwrap_or(0);
    let version = now.wall.nanos().max(newest + 1_000_000);
    let (mut versions, mut steps) = (Vec::new(), Vec::new());
    for (app, instances) in changes {
        let before = apps.get(app);
        let definition = serde_json::json!({
            "id": app, "cmd": "long", "cpus": 0.25, "mem": 64, "instances": instances, "backoffSeconds": 1,
            "maxLaunchDelaySeconds": 5,
        });
        let definition: App = serde_json::from_value(definition).expect("an app");
        versions.push(AppVersion {
            id: app.clone(),
            version_ns: version,
            last_scaling_ns: version,
            last_config_change_ns: before.map_or(version, |entry| entry.current.last_config_change_ns),
            definition: serde_json::to_vec(&definition).expect("JSON"),
        });
        let kind = if before.is_some() { "ScaleApplication" } else { "StartApplication" };
        steps.push(vec![Action { kind: kind.to_owned(), app_id: app.clone() }]);
    }
    Plan {
        deployment_id,
        version: Timestamp::from_nanos(version),
        apps: versions,
        removed: Vec::new(),
        steps,
        force: true,
        create: false,
    }
}
