//! From settings to a node that can be started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, For, Key};
use super::kind::Refusal;
use super::node::{Advertise, DataDir, Listen, NodeConfig, Snapshots};
use super::problem::Problem;
use super::settings::Settings;
use crate::resources::{Resources, attributes};

/// What a stop may take beyond the grace of tasks before what still runs is abandoned.
const BEYOND_GRACE: Duration = Duration::from_secs(20);

/// The node that settings describe, but for what only the program knows: its own path, its mark, and how a
/// node meets others.
///
/// # Errors
/// Values do not fit together.
pub fn node_config(settings: &Settings) -> Result<NodeConfig, Problem> {
    let mut config = NodeConfig::local();
    config.master = listen(settings, &keys::MASTER_ADDR, config.master)?;
    config.agent = listen(settings, &keys::AGENT_ADDR, config.agent)?;
    config.marathon = listen(settings, &keys::MARATHON_ADDR, config.marathon)?;
    config.hostnames = settings.list(&keys::HOSTNAMES);
    let data_dir = settings.text(&keys::DATA_DIR);
    config.data_dir = data_dir.map_or(DataDir::Ephemeral, |path| DataDir::At(PathBuf::from(path)));
    (config.masters, config.agents) = match settings.command() {
        For::Node => {
            let roles = settings.list(&keys::ROLES);
            let number = |role: &str| usize::from(roles.iter().any(|one| one == role));
            (number("master"), number("agent"))
        }
        For::Dev => {
            let number = |key: &Key| settings.count(key).unwrap_or(1);
            (number(&keys::DEV_MASTERS), number(&keys::DEV_AGENTS))
        }
    };
    config.advertise = parsed(settings, &keys::ADVERTISE, |text| advertise(text, config.masters))?;
    config.agent_resources = parsed(settings, &keys::AGENT_RESOURCES, Resources::parse)?;
    config.agent_attributes =
        parsed(settings, &keys::AGENT_ATTRIBUTES, attributes::parse)?.unwrap_or_default();
    for (key, time) in [
        (&keys::MASTER_ELECTION_TIMEOUT, &mut config.election_timeout),
        (&keys::MASTER_AGENT_UNREACHABLE_AFTER, &mut config.agent_unreachable_after),
        (&keys::MASTER_AGENT_REREGISTER_TIMEOUT, &mut config.agent_reregister_timeout),
        (&keys::STOP_GRACE, &mut config.stop_grace),
    ] {
        *time = settings.time(key).unwrap_or(*time);
    }
    config.snapshots = snapshots(settings);
    config.stop_deadline = config.stop_deadline.max(config.stop_grace + BEYOND_GRACE);
    Ok(config)
}

/// What a master writes by itself.
fn snapshots(settings: &Settings) -> Option<Snapshots> {
    let every = settings.time(&keys::SNAPSHOTS_EVERY).filter(|_| settings.command() == For::Node)?;
    let keep = settings.count(&keys::SNAPSHOTS_KEEP).filter(|keep| *keep > 0)?;
    Some(Snapshots { every, keep })
}

/// A default port of `dev` gives way to the next free one; a node is found where it was.
fn listen(settings: &Settings, key: &Key, default: Listen) -> Result<Listen, Problem> {
    let required = settings.command() == For::Node || settings.set(key).is_some();
    let address: SocketAddr = settings.address(key).unwrap_or(default.address);
    match settings.source(key) {
        Some(from) if !address.ip().is_loopback() && !settings.switch(&keys::INSECURE) => {
            Err(Problem::Exposed { from: from.clone(), address })
        }
        _ => Ok(Listen { address, required }),
    }
}

/// What others are told of a host with so many masters.
fn advertise(text: &str, masters: usize) -> Result<Advertise, &'static str> {
    let advertise = Advertise::parse(text).ok_or("it is neither")?;
    if masters > 1 && advertise.port.is_some() {
        return Err("a port is of one master, and here are several");
    }
    Ok(advertise)
}

/// A text that was checked when it was read.
fn parsed<T, E: std::fmt::Display>(
    settings: &Settings,
    key: &'static Key,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    let Some(setting) = settings.set(key) else { return Ok(None) };
    let text = setting.value.to_string();
    parse(&text).map(Some).map_err(|error| {
        let refusal = Box::new(Refusal { allowed: key.kind.allowed(), detail: Some(error.to_string()) });
        Problem::Value { from: setting.source.clone(), key: key.name, found: format!("{text:?}"), refusal }
    })
}
