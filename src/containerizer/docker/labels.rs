//! How a container is known to be ours.

use std::collections::HashMap;

use crate::agent::core::container::LaunchSpec;

/// The agent that owns the container.
pub(super) const AGENT: &str = "mesita.agent";
/// The framework of its task.
const FRAMEWORK: &str = "mesita.framework";
/// Its task.
const TASK: &str = "mesita.task";
/// Marks what one test run makes.
const RUN_ID: &str = "MESITA_RUN_ID";

/// The labels of a new container.
pub(super) fn of(spec: &LaunchSpec, run_id: Option<&str>) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (AGENT.to_owned(), spec.agent_id.to_string()),
        (FRAMEWORK.to_owned(), spec.framework_id.to_string()),
        (TASK.to_owned(), spec.task_id.to_string()),
    ]);
    if let Some(run_id) = run_id {
        labels.insert(RUN_ID.to_owned(), run_id.to_owned());
    }
    labels
}
