//! `mesita cluster`: the masters, and who may join.

use serde_json::{Value, json};

use super::args::{ClusterCommand, JoinTokenArgs, RemoveArgs, SnapshotCommand};
use super::output::{Report, Table};
use super::target::Target;
use super::{CliError, Exit, snapshot};
use crate::client::cluster::{ClusterStatus, PATH, TokenAsk, TokenGiven};
use crate::client::http::Reply;

/// Does what was asked. Some of it is asked of files, not of a cluster.
pub(super) async fn cluster(
    command: ClusterCommand,
    target: impl Fn() -> Result<Target, CliError>,
) -> Result<Report, CliError> {
    match command {
        ClusterCommand::Status => status(&target()?).await,
        ClusterCommand::JoinToken(arguments) => join_token(arguments, &target()?).await,
        ClusterCommand::Remove(arguments) => remove(arguments, &target()?).await,
        ClusterCommand::Snapshot { command: SnapshotCommand::Save { file } } => {
            snapshot::save(&file, &target()?).await
        }
        ClusterCommand::Snapshot { command: SnapshotCommand::Inspect { file } } => snapshot::inspect(&file),
        ClusterCommand::Restore(arguments) => snapshot::restore(&arguments),
        ClusterCommand::Recover(arguments) => snapshot::recover(&arguments),
    }
}

async fn status(target: &Target) -> Result<Report, CliError> {
    let reply = checked(target.client()?.get(PATH).await?)?;
    let status: ClusterStatus = read(&reply)?;
    let mut table = Table::new(&["NODE", "ROLE", "ALIVE", "LAG", "PEERS", "MESOS API", "VERSION"]);
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for master in &status.masters {
        table.row(vec![
            master.id.clone(),
            master.role.clone(),
            if master.is_alive { "yes" } else { "no" }.to_owned(),
            master.lag.to_string(),
            dash(&master.peer_address),
            dash(&master.master_address),
            dash(&master.version),
        ]);
    }
    for agent in &status.agent_nodes {
        let alive = if agent.is_alive { "yes" } else { "no" }.to_owned();
        let (id, none) = (agent.id.clone(), || "-".to_owned());
        table.row(vec![id, "agent".to_owned(), alive, none(), dash(&agent.hostname), none(), none()]);
    }
    let mut lines = vec![
        format!("cluster {}, term {}", status.cluster_id, status.term),
        format!(
            "log: committed {}, applied {}, snapshot at {}",
            status.committed, status.applied, status.snapshot
        ),
    ];
    lines.extend(table.lines());
    let ids = status.masters.iter().map(|master| &master.id);
    let ids = ids.chain(status.agent_nodes.iter().map(|agent| &agent.id)).cloned().collect();
    let mut document = reply.json();
    document["schema"] = json!(1);
    Ok(Report { json: document, items: Some("masters"), lines, ids })
}

async fn join_token(arguments: JoinTokenArgs, target: &Target) -> Result<Report, CliError> {
    let ask = TokenAsk {
        role: arguments.role,
        expires_in_seconds: arguments.expires.map(|expires| expires.as_secs()),
        once: arguments.once,
    };
    let body = serde_json::to_value(&ask).map_err(|error| CliError::new(error.to_string()))?;
    let reply = checked(target.client()?.post(&format!("{PATH}/join-tokens"), &body).await?)?;
    let given: TokenGiven = read(&reply)?;
    let json = json!({ "schema": 1, "token": given.token });
    Ok(Report { json, items: None, lines: vec![given.token.clone()], ids: vec![given.token] })
}

async fn remove(arguments: RemoveArgs, target: &Target) -> Result<Report, CliError> {
    let id = arguments.node;
    if !arguments.yes {
        return Err(CliError::with(
            Exit::Usage,
            format!("the node {id} would never come back, nor its agent"),
        )
        .hint(format!("mesita cluster remove {id} --yes")));
    }
    if id.is_empty() || !id.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(CliError::with(Exit::Usage, format!("{id:?} is no id of a node"))
            .hint("mesita cluster status lists them"));
    }
    checked(target.client()?.delete(&format!("{PATH}/nodes/{id}")).await?)?;
    let json = json!({ "schema": 1, "removed": id });
    Ok(Report { json, items: None, lines: vec![format!("removed {id}")], ids: vec![id] })
}

/// A reply that is no failure.
pub(super) fn checked(reply: Reply) -> Result<Reply, CliError> {
    if reply.is_success() {
        return Ok(reply);
    }
    let exit = match reply.status() {
        404 => Exit::NotFound,
        503 => Exit::NoLeader,
        _ => Exit::Error,
    };
    Err(CliError::with(exit, reply.text()))
}

fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, CliError> {
    let value: Value = reply.json();
    serde_json::from_value(value)
        .map_err(|error| CliError::new(format!("the answer cannot be read: {error}")))
}
