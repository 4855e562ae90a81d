//! `mesita reap`: what clusters left that were ended before they could clean up.

use serde_json::json;

use super::args::Reap;
use super::output::{Printer, Report};
use super::{CliError, Exit};
use crate::node;

/// Removes containers and temporary directories of nodes that are gone for good.
pub(super) async fn reap(arguments: &Reap, printer: Printer) -> Result<Exit, CliError> {
    let dry_run = arguments.dry_run;
    let of = match &arguments.data_dir {
        // One that is gone has its name still.
        Some(path) => Some(path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(|error| {
            CliError::new(format!("{} is no path of a directory: {error}", path.display()))
        })?),
        None => None,
    };
    let of = of.as_deref();
    let did = if dry_run { "would remove" } else { "removed" };
    let (mut items, mut lines, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut problems = Vec::new();
    #[cfg(feature = "docker")]
    match crate::containerizer::reap(of, dry_run).await {
        Ok(reaped) => {
            lines.extend(
                reaped.without_engine.map(|problem| format!("no containers were looked for: {problem}")),
            );
            for crate::containerizer::Orphan { container, task } in reaped.orphans {
                lines.push(format!("{did} the container {container} (task {task})"));
                items.push(json!({ "kind": "container", "name": container, "task": task }));
                ids.push(container);
            }
            problems.extend(reaped.problems);
        }
        Err(problem) => problems.push(format!("containers: {problem}")),
    }
    for (path, problem) in node::reap(of, dry_run) {
        let path = path.display().to_string();
        if let Some(problem) = problem {
            problems.push(format!("the directory {path} stays: {problem}"));
            continue;
        }
        lines.push(format!("{did} the directory {path}"));
        items.push(json!({ "kind": "directory", "name": path }));
        ids.push(path);
    }
    if items.is_empty() && problems.is_empty() {
        lines.push("nothing is left over".to_owned());
    }
    let json = json!({ "schema": 1, "dry_run": dry_run, "orphans": items });
    printer.report(&Report { json, items: Some("orphans"), lines, ids })?;
    if problems.is_empty() { Ok(Exit::Ok) } else { Err(CliError::new(problems.join("; "))) }
}
