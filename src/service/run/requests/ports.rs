//! Service ports: cluster-wide numbers of an app's ports.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::marathon::{App, Detail, Refusal};

/// Service ports that are given out.
const SERVICE_PORTS: std::ops::RangeInclusive<u32> = 10_000..=20_000;

/// Gives a number to every service port that is zero: the one it had, or the smallest free one.
pub(super) fn assigned(
    mut app: App,
    stored: Option<&App>,
    all: &BTreeMap<String, App>,
) -> Result<App, Refusal> {
    let taken: BTreeSet<u32> = all
        .values()
        .filter(|other| other.id != app.id)
        .flat_map(App::service_ports)
        .chain(app.service_ports())
        .collect();
    let mut had = stored
        .map(App::service_ports)
        .unwrap_or_default()
        .into_iter()
        .filter(|port| SERVICE_PORTS.contains(port) && !taken.contains(port));
    let mut free = SERVICE_PORTS.filter(|port| !taken.contains(port));
    let mut given = BTreeSet::new();
    let host = app.is_host_mode();
    let definitions = app.port_definitions.iter_mut().flatten().map(|port| &mut port.port).filter(|_| host);
    let mappings =
        app.container.iter_mut().filter_map(|container| container.port_mappings.as_mut()).flatten();
    for port in
        definitions.chain(mappings.map(|mapping| &mut mapping.service_port)).filter(|port| **port == 0)
    {
        let next = had.next().or_else(|| free.find(|port| !given.contains(port)));
        *port = next.ok_or_else(|| {
            let (first, last) = (SERVICE_PORTS.start(), SERVICE_PORTS.end());
            let error = format!("no service port is free between {first} and {last}; name a number outside");
            let path = if host { "/portDefinitions" } else { "/container/portMappings" };
            Refusal::Invalid(vec![Detail { path: path.to_owned(), errors: vec![error] }])
        })?;
        given.insert(*port);
    }
    Ok(app)
}
