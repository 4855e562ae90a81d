//! The legacy document `/state`: flat resources, plain ids, float seconds, SLAVE spellings.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::state::{Agent, Framework, Master};
use super::wire;
use crate::api::json::to_string;
use crate::api::v1;
use crate::base::address::host_port;
use crate::base::id::{AgentId, FrameworkId};
use crate::base::time::Timestamp;
use crate::config::MESOS_VERSION;
use crate::resources::{Format, Resources, Scalar};

impl Master {
    /// The whole state for tools that read `/state`.
    #[must_use]
    pub fn legacy_state(&self) -> String {
        let info = self.info();
        let pid = info.pid.unwrap_or_default();
        let active = self.agents.values().filter(|agent| agent.is_active()).count();
        let recovered: Vec<Json> = self.recovered.values().map(|info| recovered_slave(info)).collect();
        let frameworks: Vec<Json> =
            self.frameworks.iter().map(|(id, framework)| self.framework(id, framework)).collect();
        let completed: Vec<Json> =
            self.completed.iter().map(|(id, framework)| self.framework(id, framework)).collect();
        let state = json!({
            "version": MESOS_VERSION,
            "start_time": self.elected.seconds(),
            "elected_time": self.elected.seconds(),
            "id": self.id,
            "pid": pid,
            "hostname": self.config.hostname,
            "capabilities": ["AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"],
            "activated_slaves": active,
            "deactivated_slaves": self.agents.len() - active,
            "unreachable_slaves": self.unreachable.len(),
            "leader": pid,
            "leader_info": {
                "id": self.id, "pid": pid, "port": self.config.port, "hostname": self.config.hostname
            },
            "flags": { "version": env!("CARGO_PKG_VERSION") },
            "slaves": self.agents.iter().map(|(id, agent)| self.slave(id, agent)).collect::<Vec<_>>(),
            "recovered_slaves": recovered,
            "frameworks": frameworks,
            "completed_frameworks": completed,
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        });
        state.to_string()
    }

    fn slave(&self, id: &AgentId, agent: &Agent) -> Json {
        let (used, offered) = self.in_use(agent);
        let port = agent.info.port.unwrap_or(crate::config::DEFAULT_AGENT_PORT);
        let reserved: Map<String, Json> = agent
            .total
            .reserved()
            .into_iter()
            .map(|(role, part)| (role.to_string(), summary(&part)))
            .collect();
        let mut slave = json!({
            "id": id.as_str(),
            "hostname": agent.info.hostname,
            "port": port,
            "attributes": attributes(&agent.info.attributes),
            "pid": format!("slave(1)@{}", host_port(&agent.info.hostname, port)),
            "registered_time": agent.registered.seconds(),
            "resources": summary(&agent.total),
            "used_resources": summary(&used.unallocated()),
            "offered_resources": summary(&offered.unallocated()),
            "reserved_resources": reserved,
            "unreserved_resources": summary(&agent.total.unreserved()),
            "active": agent.is_active(),
            "deactivated": agent.is_deactivated(),
            "version": agent.version,
            "capabilities": agent.capabilities.iter().map(|one| one.r#type().as_str_name()).collect::<Vec<_>>(),
        });
        if let (Some(time), Some(object)) = (agent.reregistered, slave.as_object_mut()) {
            object.insert("reregistered_time".to_owned(), json!(time.seconds()));
        }
        slave
    }

    fn framework(&self, id: &FrameworkId, framework: &Framework) -> Json {
        let (used, offered) = self.used_by(framework);
        let mut all = used.clone();
        all.add(&offered);
        let info = &framework.info;
        let offers = framework.offers.iter().filter_map(|offer_id| {
            let offer = self.offers.get(offer_id)?;
            Some(json!({
                "id": offer_id.as_str(),
                "framework_id": id.as_str(),
                "allocation_info": { "role": offer.role.as_str() },
                "slave_id": offer.agent_id.as_str(),
                "resources": summary(&offer.resources.unallocated()),
            }))
        });
        let seconds = |time: Timestamp| time.seconds();
        let mut object = json!({
            "id": id.as_str(),
            "name": info.name,
            "used_resources": summary(&used.unallocated()),
            "offered_resources": summary(&offered.unallocated()),
            "capabilities": info.capabilities.iter().map(|one| one.r#type().as_str_name()).collect::<Vec<_>>(),
            "hostname": info.hostname.clone().unwrap_or_default(),
            "webui_url": info.webui_url.clone().unwrap_or_default(),
            "active": framework.conn.is_some(),
            "connected": framework.conn.is_some(),
            "recovered": framework.recovered,
            "user": info.user,
            "failover_timeout": info.failover_timeout.unwrap_or(0.0),
            "checkpoint": info.checkpoint.unwrap_or(false),
            "registered_time": seconds(framework.registered),
            "unregistered_time": framework.unregistered.map_or(0.0, seconds),
            "resources": summary(&all.unallocated()),
            "tasks": framework.tasks.values().map(|known| task(&known.wire)).collect::<Vec<_>>(),
            "unreachable_tasks": framework.unreachable.values().map(|known| task(&known.wire)).collect::<Vec<_>>(),
            "completed_tasks": framework.completed.iter().map(task).collect::<Vec<_>>(),
            "offers": offers.collect::<Vec<_>>(),
            "executors": [],
            "offer_constraints": framework.constraints.as_ref().map_or_else(|| json!({}), message),
        });
        let roles: Vec<&str> = framework.roles.iter().map(crate::base::id::Role::as_str).collect();
        if let Some(object) = object.as_object_mut() {
            if framework.capabilities.multi_role {
                object.insert("roles".to_owned(), json!(roles));
            } else {
                object.insert("role".to_owned(), json!(roles.first()));
            }
            if framework.reregistered != framework.registered {
                object.insert("reregistered_time".to_owned(), json!(seconds(framework.reregistered)));
            }
            if let Some(labels) = &info.labels {
                object.insert("labels".to_owned(), label_list(labels));
            }
            if let Some(principal) = &info.principal {
                object.insert("principal".to_owned(), json!(principal));
            }
        }
        object
    }
}

fn recovered_slave(info: &v1::AgentInfo) -> Json {
    json!({
        "id": info.id.as_ref().map_or("", |id| id.value.as_str()),
        "hostname": info.hostname,
        "port": info.port.unwrap_or(crate::config::DEFAULT_AGENT_PORT),
        "attributes": attributes(&info.attributes),
    })
}

/// A message in its v1 JSON form.
fn message<M: crate::api::json::Json>(message: &M) -> Json {
    serde_json::from_str(&to_string(message)).unwrap_or(Json::Null)
}

fn task(task: &v1::Task) -> Json {
    let resources = Resources::from_wire(&task.resources).unwrap_or_default();
    let role = resources.allocation_roles().into_iter().next();
    let statuses = task.statuses.iter().map(|status| {
        let mut object = json!({
            "state": status.state().as_str_name(),
            "timestamp": status.timestamp.unwrap_or(0.0),
        });
        if let Some(object) = object.as_object_mut() {
            if let Some(container) = &status.container_status {
                object.insert("container_status".to_owned(), message(container));
            }
            if let Some(labels) = &status.labels {
                object.insert("labels".to_owned(), label_list(labels));
            }
            if let Some(healthy) = status.healthy {
                object.insert("healthy".to_owned(), json!(healthy));
            }
        }
        object
    });
    let mut object = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.as_ref().map_or("", |id| id.value.as_str()),
        "slave_id": task.agent_id.value,
        "state": wire::state_of(task).as_str_name(),
        "resources": summary(&resources.unallocated()),
        "role": role.as_ref().map_or("*", |role| role.as_str()),
        "statuses": statuses.collect::<Vec<_>>(),
    });
    if let Some(object) = object.as_object_mut() {
        if let Some(user) = &task.user {
            object.insert("user".to_owned(), json!(user));
        }
        if let Some(labels) = &task.labels {
            object.insert("labels".to_owned(), label_list(labels));
        }
        if !task.limits.is_empty() {
            let limits: Map<String, Json> =
                task.limits.iter().map(|(name, limit)| (name.clone(), amount(limit.value))).collect();
            object.insert("limits".to_owned(), Json::Object(limits));
        }
        if let Some(discovery) = &task.discovery {
            object.insert("discovery".to_owned(), message(discovery));
        }
        if let Some(container) = &task.container {
            object.insert("container".to_owned(), message(container));
        }
        if let Some(check) = &task.health_check {
            object.insert("health_check".to_owned(), message(check));
        }
    }
    object
}

fn label_list(labels: &v1::Labels) -> Json {
    labels.labels.iter().map(message).collect()
}

/// A number, which in JSON cannot be infinite.
fn amount(value: f64) -> Json {
    if value.is_infinite() { json!("infinity") } else { json!(value) }
}

/// `{"cpus": 1.0, …}`: four scalars always, ranges and sets as text; reservations do not show.
fn summary(resources: &Resources) -> Json {
    let mut object = Map::new();
    for name in ["disk", "mem", "gpus", "cpus"] {
        object.insert(name.to_owned(), json!(0.0));
    }
    for (part, suffix) in [(resources.nonrevocable(), ""), (resources.revocable(), "_revocable")] {
        for (name, milli) in part.scalar_sums() {
            object.insert(format!("{name}{suffix}"), json!(Scalar::from_milli(milli).to_f64()));
        }
        let messages = part.to_wire(Format::PostRefinement);
        for name in messages.iter().filter(|one| one.ranges.is_some()).map(|one| &one.name) {
            let ranges = part.ranges(name).into_iter().map(|(begin, end)| format!("{begin}-{end}"));
            object.insert(format!("{name}{suffix}"), json!(listed("[", ranges, "]")));
        }
        for name in messages.iter().filter(|one| one.set.is_some()).map(|one| &one.name) {
            let same = messages.iter().filter(|one| &one.name == name).filter_map(|one| one.set.as_ref());
            let items: BTreeSet<String> = same.flat_map(|set| set.item.iter().cloned()).collect();
            object.insert(format!("{name}{suffix}"), json!(listed("{", items, "}")));
        }
    }
    Json::Object(object)
}

fn listed(open: &str, items: impl IntoIterator<Item = String>, close: &str) -> String {
    format!("{open}{}{close}", items.into_iter().collect::<Vec<_>>().join(", "))
}

fn attributes(list: &[v1::Attribute]) -> Json {
    let mut object = Map::new();
    for attribute in list {
        let value = if let Some(text) = &attribute.text {
            json!(text.value)
        } else if let Some(scalar) = &attribute.scalar {
            json!(scalar.value)
        } else {
            let ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
            json!(listed("[", ranges.map(|range| format!("{}-{}", range.begin, range.end)), "]"))
        };
        object.insert(attribute.name.clone(), value);
    }
    Json::Object(object)
}
