//! The complete environment of a task (Mesos command executor: executor variables, then the task's
//! own, which win). Nothing of the agent's own environment is inherited.

use std::path::Path;

use super::container::Kind;
use super::state::Config;
use crate::api::v1;
use crate::base::address::host_port;
use crate::base::id::{AgentId, ContainerId, FrameworkId};

/// Where a docker task sees its sandbox.
pub(super) const DOCKER_SANDBOX: &str = "/mnt/mesos/sandbox";
/// The search path when nobody sets one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that decides about the environment.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) agent_id: &'a AgentId,
    pub(super) framework: &'a v1::FrameworkInfo,
    pub(super) framework_id: &'a FrameworkId,
    pub(super) task: &'a v1::TaskInfo,
    pub(super) container_id: &'a ContainerId,
    pub(super) kind: Kind,
    pub(super) sandbox: &'a Path,
}

/// The variables in order, each once.
pub(super) fn variables(subject: &Subject<'_>) -> Vec<(String, String)> {
    let config = subject.config;
    let sandbox = subject.sandbox.display().to_string();
    let endpoint = host_port(&config.hostname, config.port);
    let role =
        subject.task.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    let docker = subject.kind == Kind::Docker;
    let mut variables: Vec<(String, String)> = config.extra_environment.clone();
    let mut set = |name: &str, value: String| {
        variables.retain(|(other, _)| other != name);
        variables.push((name.to_owned(), value));
    };
    set("MESOS_FRAMEWORK_ID", subject.framework_id.to_string());
    set("MESOS_EXECUTOR_ID", subject.task.task_id.value.clone());
    set("MESOS_SLAVE_ID", subject.agent_id.to_string());
    set("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}"));
    set("MESOS_AGENT_ENDPOINT", endpoint);
    set("MESOS_DIRECTORY", sandbox.clone());
    set("MESOS_SANDBOX", if docker { DOCKER_SANDBOX.to_owned() } else { sandbox });
    set("MESOS_CHECKPOINT", if subject.framework.checkpoint.unwrap_or(false) { "1" } else { "0" }.to_owned());
    set("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs".to_owned());
    if let Some(role) = role {
        set("MESOS_ALLOCATION_ROLE", role);
    }
    if docker {
        set("MESOS_CONTAINER_NAME", format!("mesos-{}", subject.container_id));
    } else {
        set("PATH", DEFAULT_PATH.to_owned());
    }
    let own = subject.task.command.iter().filter_map(|command| command.environment.as_ref());
    for variable in own.flat_map(|environment| &environment.variables) {
        set(&variable.name, variable.value.clone().unwrap_or_default());
    }
    variables
}
