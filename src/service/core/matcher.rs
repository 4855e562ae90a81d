//! Whether an offer serves an app: launch, or reasons.

use std::collections::BTreeSet;

use crate::api::marathon::App;
use crate::api::v1;
use crate::base::chance::Chance;
use crate::resources::{Ranges, Resources};
use crate::service::model::{Attribute, Instance};

/// What an instance takes of an offer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Match {
    /// Host port of each port, zero where there is none.
    pub(super) ports: Vec<u32>,
    pub(super) resources: Resources,
}

/// Matches one instance against what is left of an offer.
///
/// # Errors
/// Why it does not fit, in the words of Marathon's funnel.
pub(super) fn matches(
    app: &App,
    offer: &v1::Offer,
    left: &Resources,
    others: &[Instance],
    chance: &mut Chance,
) -> Result<Match, String> {
    for constraint in &app.constraints {
        if !satisfies(constraint, offer, others) {
            return Err(format!("UnfulfilledConstraint: {}", constraint.join(" ")));
        }
    }
    let wanted = [
        ("cpus", app.cpus, "InsufficientCpus"),
        ("mem", app.mem, "InsufficientMemory"),
        ("disk", app.disk, "InsufficientDisk"),
    ];
    let mut text = Vec::new();
    for (name, amount, reason) in wanted {
        if amount == 0.0 {
            continue;
        }
        let one = Resources::parse(&format!("{name}:{amount}")).map_err(|error| error.to_string())?;
        if left.milli(name) < one.milli(name) {
            return Err(format!(
                "{reason}: {amount} wanted, {} offered",
                crate::resources::Scalar::from_milli(left.milli(name))
            ));
        }
        text.push(format!("{name}:{amount}"));
    }
    let ports = pick_ports(app, left, chance)?;
    let mut numbers: Vec<u32> = ports.iter().copied().filter(|port| *port > 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if !numbers.is_empty() {
        let list: Vec<String> = numbers.iter().map(|port| format!("{port}-{port}")).collect();
        text.push(format!("ports:[{}]", list.join(",")));
    }
    let resources = Resources::parse(&text.join(";")).map_err(|error| error.to_string())?;
    Ok(Match { ports, resources })
}

/// Host ports by position: those that are asked for, and any others from a random start.
fn pick_ports(app: &App, left: &Resources, chance: &mut Chance) -> Result<Vec<u32>, String> {
    let offered = Ranges::new(left.ranges("ports")).unwrap_or_default();
    let wanted: Vec<Option<u32>> = if app.is_host_mode() {
        let fixed = |port: u32| if app.require_ports { port } else { 0 };
        app.port_definitions.iter().flatten().map(|port| Some(fixed(port.port))).collect()
    } else {
        app.mappings().iter().map(|mapping| mapping.host_port).collect()
    };
    let mut free: Vec<u32> = Vec::new();
    let any = wanted.iter().filter(|port| **port == Some(0)).count();
    if any > 0 {
        let count = offered.count();
        let start = chance.below(count);
        let fixed: Vec<u64> =
            wanted.iter().flatten().filter(|port| **port > 0).map(|port| u64::from(*port)).collect();
        let numbers = (0..count).map(|step| nth(&offered, (start + step) % count));
        free = numbers
            .flatten()
            .filter(|port| !fixed.contains(port))
            .take(any)
            .filter_map(|port| u32::try_from(port).ok())
            .collect();
    }
    let mut free = free.into_iter();
    let mut ports = Vec::new();
    for port in wanted {
        ports.push(match port {
            None => 0,
            Some(0) => free
                .next()
                .ok_or_else(|| format!("InsufficientPorts: {any} wanted, {} offered", offered.count()))?,
            Some(port) if offered.has(u64::from(port)) => port,
            Some(port) => return Err(format!("InsufficientPorts: the port {port} is not in the offer")),
        });
    }
    Ok(ports)
}

/// The number at a position of a set.
fn nth(ranges: &Ranges, mut position: u64) -> Option<u64> {
    for (begin, end) in ranges.pairs() {
        let length = end - begin + 1;
        if position < length {
            return Some(begin + position);
        }
        position -= length;
    }
    None
}

/// Whether an offer satisfies a constraint, given the app's other instances.
fn satisfies(constraint: &[String], offer: &v1::Offer, others: &[Instance]) -> bool {
    let [field, operator, rest @ ..] = constraint else { return false };
    let value = rest.first().map_or("", String::as_str);
    let own = if is_host(field) { Some(offer.hostname.clone()) } else { attribute(offer, field) };
    let operator = operator.to_ascii_uppercase();
    let Some(own) = own else { return operator == "UNLIKE" };
    let is_same = |instance: &&Instance| {
        if is_host(field) {
            return instance.host == own;
        }
        let recorded = instance.attributes.iter().find(|attribute| &attribute.name == field);
        // One that was launched under other constraints: at least its agent is known.
        recorded.map_or(instance.agent_id == offer.agent_id.value, |recorded| recorded.value == own)
    };
    let same = || others.iter().filter(is_same).count();
    let like = || regex::Regex::new(&format!("^(?:{value})$")).is_ok_and(|pattern| pattern.is_match(&own));
    match operator.as_str() {
        "UNIQUE" => same() == 0,
        "MAX_PER" => value.parse().is_ok_and(|most: usize| same() < most),
        "CLUSTER" | "IS" => own == value,
        "LIKE" => like(),
        "UNLIKE" => !like(),
        _ => false,
    }
}

fn is_host(field: &str) -> bool {
    field == "hostname" || field == "@hostname"
}

/// The attributes of an offer that an app's constraints look at: they are recorded with an instance,
/// because later nobody says what they were.
pub(super) fn constrained(app: &App, offer: &v1::Offer) -> Vec<Attribute> {
    let fields: BTreeSet<&String> =
        app.constraints.iter().filter_map(|constraint| constraint.first()).collect();
    let named = fields.into_iter().filter(|field| !is_host(field));
    named
        .filter_map(|field| Some(Attribute { name: field.clone(), value: attribute(offer, field)? }))
        .collect()
}

/// An attribute as text.
fn attribute(offer: &v1::Offer, name: &str) -> Option<String> {
    let attribute = offer.attributes.iter().find(|attribute| attribute.name == name)?;
    if let Some(text) = &attribute.text {
        return Some(text.value.clone());
    }
    if let Some(scalar) = &attribute.scalar {
        return crate::resources::Scalar::from_f64(scalar.value).ok().map(|scalar| scalar.to_string());
    }
    let pairs =
        attribute.ranges.iter().flat_map(|ranges| &ranges.range).map(|range| (range.begin, range.end));
    Ranges::new(pairs).ok().map(|ranges| ranges.to_string())
}
