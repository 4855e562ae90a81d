//! Why there is no offer.

use super::cycle::Refusal;
use super::state::Allocator;
use crate::base::id::{AgentId, FrameworkId, Role};

/// Why a framework has no offer of an agent in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The agent.
    pub agent_id: AgentId,
    /// The role.
    pub role: Role,
    /// For people.
    pub reason: String,
}

impl Allocator {
    /// For each agent and role of a framework: why it is offered nothing right now. What will be
    /// offered with the next allocation is not listed.
    #[must_use]
    pub fn explain(&self, framework_id: &FrameworkId) -> Vec<Explanation> {
        let Some(framework) = self.frameworks.get(framework_id) else { return Vec::new() };
        let mut all = Vec::new();
        for agent_id in self.agents.keys() {
            for role in &framework.spec.roles {
                if let Err(refusal) = self.offerable(agent_id, framework_id, role) {
                    let reason = self.reason(refusal, agent_id, role);
                    all.push(Explanation { agent_id: agent_id.clone(), role: role.clone(), reason });
                }
            }
        }
        all
    }

    fn reason(&self, refusal: Refusal, agent_id: &AgentId, role: &Role) -> String {
        let free = self.agents.get(agent_id).map(|agent| agent.free.to_string()).unwrap_or_default();
        match refusal {
            Refusal::AgentInactive => "the agent is not active".to_owned(),
            Refusal::FrameworkInactive => "the framework is not connected".to_owned(),
            Refusal::NotSubscribed => format!("the framework is not in the role {role}"),
            Refusal::Suppressed => format!("the framework suppressed offers for the role {role}"),
            Refusal::GpuAgent => {
                "the agent has gpus and the framework lacks the capability GPU_RESOURCES".to_owned()
            }
            Refusal::NothingFree => "nothing is free that the framework can take".to_owned(),
            Refusal::BelowMinimum => format!("only {free} is free, less than the smallest offer"),
            Refusal::Filtered => format!("the framework declined {free} a while ago"),
        }
    }
}
