//! Read models: the answers of the operator API.

use super::offers::offer_message;
use super::state::{Agent, Framework, Master};
use super::wire;
use crate::api::v1::master::call::Type as CallType;
use crate::api::v1::master::response::{self, Type};
use crate::api::v1::master::{Call, Response};
use crate::api::{ApiError, v1};
use crate::base::address::host_port;
use crate::base::id::FrameworkId;
use crate::config::MESOS_VERSION;
use crate::resources::{Format, Resources};

fn response(kind: Type) -> Response {
    Response { r#type: Some(kind.into()), ..Response::default() }
}

impl Master {
    /// Answers a reading call of the operator API.
    ///
    /// # Errors
    /// `NotImplemented` for calls that are not built yet.
    pub fn query(&self, call: &Call) -> Result<Response, ApiError> {
        let kind = call.r#type.and_then(|kind| CallType::try_from(kind).ok()).unwrap_or(CallType::Unknown);
        Ok(match kind {
            CallType::GetHealth => Response {
                get_health: Some(response::GetHealth { healthy: true }),
                ..response(Type::GetHealth)
            },
            CallType::GetVersion => Response {
                get_version: Some(response::GetVersion { version_info: version_info() }),
                ..response(Type::GetVersion)
            },
            CallType::GetMaster => Response {
                get_master: Some(response::GetMaster {
                    master_info: Some(self.info()),
                    start_time: Some(self.elected.seconds()),
                    elected_time: Some(self.elected.seconds()),
                }),
                ..response(Type::GetMaster)
            },
            CallType::GetState => Response { get_state: Some(self.get_state()), ..response(Type::GetState) },
            CallType::GetAgents => {
                Response { get_agents: Some(self.get_agents()), ..response(Type::GetAgents) }
            }
            CallType::GetFrameworks => {
                Response { get_frameworks: Some(self.get_frameworks()), ..response(Type::GetFrameworks) }
            }
            CallType::GetTasks => Response { get_tasks: Some(self.get_tasks()), ..response(Type::GetTasks) },
            CallType::GetExecutors => Response {
                get_executors: Some(response::GetExecutors::default()),
                ..response(Type::GetExecutors)
            },
            other => {
                return Err(ApiError::NotImplemented(format!(
                    "The call {} is not built yet",
                    other.as_str_name()
                )));
            }
        })
    }

    fn get_state(&self) -> response::GetState {
        response::GetState {
            get_tasks: Some(self.get_tasks()),
            get_executors: Some(response::GetExecutors::default()),
            get_frameworks: Some(self.get_frameworks()),
            get_agents: Some(self.get_agents()),
        }
    }

    fn get_tasks(&self) -> response::GetTasks {
        let mut tasks = response::GetTasks::default();
        for framework in self.frameworks.values() {
            tasks.tasks.extend(framework.tasks.values().map(|task| task.wire.clone()));
            tasks.unreachable_tasks.extend(framework.unreachable.values().map(|task| task.wire.clone()));
            tasks.completed_tasks.extend(framework.completed.iter().cloned());
        }
        for (_, framework) in &self.completed {
            tasks.completed_tasks.extend(framework.completed.iter().cloned());
        }
        tasks
    }

    pub(super) fn get_agents(&self) -> response::GetAgents {
        response::GetAgents {
            agents: self.agents.values().map(|agent| self.agent_message_of(agent)).collect(),
            recovered_agents: self.recovered.values().map(|info| (**info).clone()).collect(),
        }
    }

    fn agent_message_of(&self, agent: &Agent) -> response::get_agents::Agent {
        let (allocated, offered) = self.in_use(agent);
        let port = agent.info.port.unwrap_or(crate::config::DEFAULT_AGENT_PORT);
        response::get_agents::Agent {
            agent_info: (*agent.info).clone(),
            active: agent.is_active(),
            deactivated: Some(agent.is_deactivated()),
            version: agent.version.clone(),
            pid: Some(format!("slave(1)@{}", host_port(&agent.info.hostname, port))),
            registered_time: Some(wire::time_info(agent.registered)),
            reregistered_time: agent.reregistered.map(wire::time_info),
            total_resources: agent.total.to_wire(Format::Endpoint),
            allocated_resources: allocated.to_wire(Format::Endpoint),
            offered_resources: offered.to_wire(Format::Endpoint),
            capabilities: agent.capabilities.clone(),
            ..Default::default()
        }
    }

    /// What tasks use on an agent, and what is offered of it.
    pub(super) fn in_use(&self, agent: &Agent) -> (Resources, Resources) {
        let mut allocated = Resources::new();
        let tasks = agent
            .tasks
            .iter()
            .filter_map(|(framework_id, task_id)| self.frameworks.get(framework_id)?.tasks.get(task_id));
        for task in tasks.filter(|task| task.charged) {
            allocated.add(&task.resources);
        }
        for held in agent.strays.values() {
            allocated.add(held);
        }
        let mut offered = Resources::new();
        for offer in agent.offers.iter().filter_map(|offer_id| self.offers.get(offer_id)) {
            offered.add(&offer.resources);
        }
        (allocated, offered)
    }

    fn get_frameworks(&self) -> response::GetFrameworks {
        let completed = self.completed.iter().map(|(id, framework)| self.framework_message(id, framework));
        response::GetFrameworks {
            frameworks: self
                .frameworks
                .iter()
                .map(|(id, framework)| self.framework_message(id, framework))
                .collect(),
            completed_frameworks: completed.collect(),
            ..Default::default()
        }
    }

    fn framework_message(
        &self,
        _id: &FrameworkId,
        framework: &Framework,
    ) -> response::get_frameworks::Framework {
        let (used, offered) = self.used_by(framework);
        let offers = framework.offers.iter().filter_map(|offer_id| {
            let offer = self.offers.get(offer_id)?;
            let agent = self.agents.get(&offer.agent_id)?;
            Some(offer_message(offer_id, offer, &agent.info, None))
        });
        response::get_frameworks::Framework {
            framework_info: (*framework.info).clone(),
            active: framework.conn.is_some(),
            connected: framework.conn.is_some(),
            recovered: framework.recovered,
            registered_time: Some(wire::time_info(framework.registered)),
            reregistered_time: Some(wire::time_info(framework.reregistered)),
            unregistered_time: framework.unregistered.map(wire::time_info),
            offers: offers.collect(),
            allocated_resources: used.to_wire(Format::Endpoint),
            offered_resources: offered.to_wire(Format::Endpoint),
            offer_constraints: framework.constraints.clone(),
            ..Default::default()
        }
    }

    /// What a framework's tasks use, and what it is offered.
    pub(super) fn used_by(&self, framework: &Framework) -> (Resources, Resources) {
        let mut used = Resources::new();
        for task in framework.tasks.values().filter(|task| task.charged) {
            used.add(&task.resources);
        }
        let mut offered = Resources::new();
        for offer in framework.offers.iter().filter_map(|offer_id| self.offers.get(offer_id)) {
            offered.add(&offer.resources);
        }
        (used, offered)
    }
}

/// What the API reports as its version.
fn version_info() -> v1::VersionInfo {
    v1::VersionInfo { version: MESOS_VERSION.to_owned(), ..Default::default() }
}
