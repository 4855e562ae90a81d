//! `mesita cluster snapshot`, `restore` and `recover`: the registry in files, and work on the data directory
//! of a node that does not run.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{RecoverArgs, RestoreArgs};
use super::output::{Report, ago};
use super::target::Target;
use super::{CliError, Exit};
use crate::base::clock::SystemClock;
use crate::base::time::Clock as _;
use crate::client::cluster::PATH;
use crate::node::{Contents, Recovery, Snapshot, expect_empty, restore as restore_into};
use crate::os::files;

/// Saves a snapshot of the running cluster in a file that only its owner may read.
pub(super) async fn save(path: &Path, target: &Target) -> Result<Report, CliError> {
    let reply = super::cluster::checked(target.client()?.get(&format!("{PATH}/snapshot")).await?)?;
    let broken =
        |problem: String| CliError::new(format!("the snapshot arrived damaged: {problem}; try again"));
    let snapshot = Snapshot::decode(reply.body()).map_err(broken)?;
    let unwritable = |error: &dyn std::fmt::Display| {
        CliError::new(format!("{} cannot be written: {error}", path.display()))
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| unwritable(&"it is no name of a file"))?;
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    files::write_owned(directory, name, reply.body()).map_err(|error| unwritable(&error))?;
    let said = format!("saved {} ({} bytes); keep it secret", path.display(), reply.body().len());
    Ok(report(&snapshot.contents(), described(&snapshot), vec![said]))
}

/// Shows what a file holds.
pub(super) fn inspect(path: &Path) -> Result<Report, CliError> {
    let snapshot = read(path)?;
    Ok(report(&snapshot.contents(), described(&snapshot), vec![taken(&snapshot)]))
}

/// Makes the data directory of a cluster's first node from a snapshot.
pub(super) fn restore(arguments: &RestoreArgs) -> Result<Report, CliError> {
    let snapshot = read(&arguments.file)?;
    let root = &arguments.data_dir;
    expect_empty(root).map_err(|error| CliError::new(error.to_string()))?;
    let contents = snapshot.contents();
    let mut lines = vec![taken(&snapshot)];
    let mut json = described(&snapshot);
    json["restored"] = json!(!arguments.confirmation.dry_run);
    if arguments.confirmation.dry_run {
        lines.push(format!("nothing was written; {} would hold:", root.display()));
        return Ok(report(&contents, json, lines));
    }
    confirm(
        arguments.confirmation.yes,
        "the old cluster must be gone for good: two of one name would both run its apps",
        &format!("mesita cluster restore {} --data-dir {} --yes", arguments.file.display(), root.display()),
    )?;
    restore_into(&snapshot, root).map_err(|error| CliError::new(error.to_string()))?;
    let command = if contents.masters.is_empty() { "dev" } else { "node" };
    lines.push(format!("restored; start it with: mesita {command} --data-dir {}", root.display()));
    Ok(report(&contents, json, lines))
}

/// Lets a stopped master go on alone.
pub(super) fn recover(arguments: &RecoverArgs) -> Result<Report, CliError> {
    if !arguments.from_this_node {
        return Err(CliError::with(
            Exit::Usage,
            "recovering takes what one node holds for the whole truth, and the other masters leave for good",
        )
        .hint("stop every master, then mesita cluster recover --from-this-node --dry-run on the one with the highest last entry"));
    }
    let recovery = Recovery::open(&arguments.data_dir).map_err(|error| CliError::new(error.to_string()))?;
    let (contents, node) = (recovery.contents(), recovery.node_id());
    let (last, committed) = recovery.indexes();
    let leaving: Vec<&(String, String)> = contents.masters.iter().filter(|(id, _)| *id != node).collect();
    let mut lines = vec![
        format!("node {node} goes on alone; its log ends at {last}"),
        match last.saturating_sub(committed) {
            0 => "every entry of it is known to be committed".to_owned(),
            more => format!("of which {more} may not have been committed; they are kept"),
        },
        "lost: what other masters acknowledged and this node never got".to_owned(),
    ];
    lines.extend(recovery.changed().map(|at| format!("last change: {}", at.rfc3339_millis())));
    lines.extend(leaving.iter().map(|(id, address)| format!("leaves for good: {id} ({address})")));
    let mut json = json!({
        "node": node,
        "last": last,
        "committed": committed,
        "leaving": leaving.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        "recovered": !arguments.confirmation.dry_run,
    });
    if arguments.confirmation.dry_run {
        lines.push("nothing was changed; kept would be:".to_owned());
        return Ok(report(&contents, json, lines));
    }
    let command =
        format!("mesita cluster recover --from-this-node --data-dir {} --yes", arguments.data_dir.display());
    confirm(arguments.confirmation.yes, "the other masters could never come back", &command)?;
    let old = recovery.perform().map_err(|error| CliError::new(error.to_string()))?;
    json["before"] = json!(old.display().to_string());
    lines.push(format!("recovered; the registry as it was is kept in {}", old.display()));
    lines.push("start this node, then let others join with empty data directories".to_owned());
    Ok(report(&contents, json, lines))
}

fn confirm(is_confirmed: bool, what: &str, command: &str) -> Result<(), CliError> {
    if is_confirmed {
        return Ok(());
    }
    Err(CliError::with(Exit::Usage, what).hint(format!("look with --dry-run, then {command}")))
}

fn read(path: &Path) -> Result<Snapshot, CliError> {
    Snapshot::read(path).map_err(|error| CliError::new(error.to_string()))
}

fn taken(snapshot: &Snapshot) -> String {
    let at = snapshot.taken().rfc3339_millis();
    let since = ago(&at, SystemClock::new().now().wall);
    format!("snapshot of {at} ({since}) at entry {}, by mesita {}", snapshot.index(), snapshot.program())
}

fn described(snapshot: &Snapshot) -> Value {
    json!({
        "taken": snapshot.taken().rfc3339_millis(),
        "index": snapshot.index(),
        "program": snapshot.program(),
    })
}

/// What is in it, after what was said.
fn report(contents: &Contents, mut json: Value, mut lines: Vec<String>) -> Report {
    lines.push(format!("cluster {}, commands of version {}", contents.cluster_id, contents.command_version));
    lines.push(format!(
        "{} apps with {} instances, {} deployments, {} frameworks, {} agents, {} masters",
        contents.apps.len(),
        contents.instances,
        contents.deployments,
        contents.frameworks,
        contents.agents,
        contents.masters.len()
    ));
    lines.extend(contents.apps.iter().map(|app| format!("  {app}")));
    json["schema"] = json!(1);
    json["cluster_id"] = json!(contents.cluster_id);
    json["command_version"] = json!(contents.command_version);
    json["apps"] = json!(contents.apps);
    json["instances"] = json!(contents.instances);
    json["deployments"] = json!(contents.deployments);
    json["frameworks"] = json!(contents.frameworks);
    json["agents"] = json!(contents.agents);
    json["masters"] =
        contents.masters.iter().map(|(id, address)| json!({ "id": id, "peer_address": address })).collect();
    Report { json, items: None, lines, ids: contents.apps.clone() }
}
