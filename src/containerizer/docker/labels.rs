//! How a container is known to be ours.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::agent::core::container::LaunchSpec;
use crate::os::owner;

/// Whose containers are.
#[derive(Clone, Debug)]
pub struct DataOwner {
    /// The data directory of their node.
    pub directory: PathBuf,
    /// It ends with its node.
    pub is_temporary: bool,
}

/// The agent that owns the container.
pub(super) const AGENT: &str = "mesita.agent";
/// The framework of its task.
const FRAMEWORK: &str = "mesita.framework";
/// Its task.
pub(super) const TASK: &str = "mesita.task";
/// The data directory of its node, which tells who that is now.
pub(super) const OWNER: &str = "mesita.owner";
/// Where that directory and the process ids in it mean something.
pub(super) const PLACE: &str = "mesita.place";
/// There when that directory is temporary: nobody comes back to it.
pub(super) const TEMPORARY: &str = "mesita.temporary";
/// Marks what one test run makes.
const RUN_ID: &str = "MESITA_RUN_ID";

/// The labels of a new container.
pub(super) fn of(spec: &LaunchSpec, owner: &DataOwner, run_id: Option<&str>) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (OWNER.to_owned(), owner.directory.display().to_string()),
        (PLACE.to_owned(), owner::place()),
        (AGENT.to_owned(), spec.agent_id.to_string()),
        (FRAMEWORK.to_owned(), spec.framework_id.to_string()),
        (TASK.to_owned(), spec.task_id.to_string()),
    ]);
    if owner.is_temporary {
        labels.insert(TEMPORARY.to_owned(), String::new());
    }
    if let Some(run_id) = run_id {
        labels.insert(RUN_ID.to_owned(), run_id.to_owned());
    }
    labels
}
