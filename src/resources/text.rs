//! The text form: `name(role):value;…`, or a JSON array of resources (Mesos agent flag
//! `--resources`).

use std::collections::BTreeSet;

use super::identity::{Identity, Reservation};
use super::set::Amount;
use super::{Ranges, ResourceError, Resources, Scalar, Value, roles};
use crate::api::v1;
use crate::base::id::Role;

impl Resources {
    /// Reads the text or JSON form. A role in parentheses is a static reservation. Entries of one
    /// name must be of one kind.
    ///
    /// # Errors
    /// The text cannot be read, or describes resources that are not valid.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        if text.trim_start().starts_with('[') && text.contains('{') {
            return from_json(text);
        }
        let mut resources = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (identity, value) = entry(text, part)?;
            let twin = resources.entries.iter().find(|(other, _)| other.name == identity.name);
            if twin.is_some_and(|(_, own)| own.iter().any(|own| !own.value.same_kind(&value))) {
                let problem = "it is given as two kinds of amount".to_owned();
                return Err(ResourceError::Value { name: identity.name, problem });
            }
            let amount = Amount { value, copies: 1 };
            let single = Self { entries: [(identity.clone(), vec![amount.clone()])].into() };
            if resources.overlaps(&single) {
                let problem = "the same number or item is given twice".to_owned();
                return Err(ResourceError::Value { name: identity.name, problem });
            }
            resources.add_amount(&identity, &amount);
        }
        Ok(resources)
    }
}

fn entry(text: &str, part: &str) -> Result<(Identity, Value), ResourceError> {
    let wrong = |problem: &str| ResourceError::Text { text: text.to_owned(), problem: problem.to_owned() };
    let (head, amount) = part.split_once(':').ok_or_else(|| wrong(&format!("{part:?} has no colon")))?;
    let (name, role) = match head.trim().split_once('(') {
        Some((name, rest)) => {
            let role = rest
                .strip_suffix(')')
                .ok_or_else(|| wrong(&format!("{head:?} lacks a closing parenthesis")))?;
            (name.trim(), role.trim())
        }
        None => (head.trim(), roles::DEFAULT),
    };
    if name.is_empty() {
        return Err(wrong(&format!("{part:?} has no name")));
    }
    roles::check(role)?;
    let reservation = (role != roles::DEFAULT).then(|| Reservation {
        dynamic: false,
        role: Role::new(role),
        principal: None,
        labels: None,
    });
    let value =
        value(amount.trim()).map_err(|problem| ResourceError::Value { name: name.to_owned(), problem })?;
    let identity = Identity {
        name: name.to_owned(),
        allocation: None,
        reservations: reservation.into_iter().collect(),
        disk: None,
        revocable: false,
        shared: false,
        provider: None,
    };
    Ok((identity, value))
}

fn value(text: &str) -> Result<Value, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return ranges(inner).map(Value::Ranges);
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let mut items = BTreeSet::new();
        for item in inner.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if !items.insert(item.to_owned()) {
                return Err(format!("the item {item:?} is given twice"));
            }
        }
        return Ok(Value::Set(items));
    }
    let number: f64 =
        text.parse().map_err(|_| format!("{text:?} is neither a number, nor [a-b], nor {{x,y}}"))?;
    Scalar::from_f64(number).map(Value::Scalar)
}

/// `a-b,c-d` as ranges.
pub(super) fn ranges(inner: &str) -> Result<Ranges, String> {
    let mut pairs = Vec::new();
    for part in inner.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |text: &str| {
            text.trim().parse::<u64>().map_err(|_| format!("{part:?} is not a range of whole numbers"))
        };
        let (begin, end) =
            part.split_once('-').ok_or_else(|| format!("{part:?} is not a range such as 31000-32000"))?;
        pairs.push((number(begin)?, number(end)?));
    }
    Ranges::new(pairs)
}

/// The JSON form: what `--resources` accepts, without dynamic reservations, volumes or revocables.
fn from_json(text: &str) -> Result<Resources, ResourceError> {
    let wrong = |problem: String| ResourceError::Text { text: text.chars().take(200).collect(), problem };
    let list: Vec<serde_json::Value> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let mut messages = Vec::new();
    for item in &list {
        messages.push(json_resource(item).map_err(wrong)?);
    }
    Resources::from_wire(&messages)
}

fn json_resource(item: &serde_json::Value) -> Result<v1::Resource, String> {
    let known = ["name", "type", "scalar", "ranges", "set", "role", "reservations"];
    let object = item.as_object().ok_or("an element is not an object")?;
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("the key {key:?} is not allowed here; allowed are {}", known.join(", ")));
    }
    let name = item["name"].as_str().ok_or("an element has no \"name\"")?.to_owned();
    let role = item["role"].as_str().map(str::to_owned);
    let scalar = item["scalar"]["value"].as_f64().map(|value| v1::value::Scalar { value });
    let ranges = item["ranges"]["range"].as_array().map(|list| {
        let bound = |range: &serde_json::Value, key: &str| {
            range[key].as_u64().ok_or_else(|| format!("{name}: a range lacks {key:?}"))
        };
        let range = list
            .iter()
            .map(|range| Ok(v1::value::Range { begin: bound(range, "begin")?, end: bound(range, "end")? }));
        range.collect::<Result<Vec<_>, String>>().map(|range| v1::value::Ranges { range })
    });
    let set = item["set"]["item"].as_array().map(|list| v1::value::Set {
        item: list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
    });
    let kind = match item["type"].as_str() {
        Some("SCALAR") => v1::value::Type::Scalar,
        Some("RANGES") => v1::value::Type::Ranges,
        Some("SET") => v1::value::Type::Set,
        other => {
            return Err(format!(
                "{name}: the type {} is none of SCALAR, RANGES, SET",
                other.unwrap_or("(absent)")
            ));
        }
    };
    let mut reservations = Vec::new();
    for entry in item["reservations"].as_array().into_iter().flatten() {
        if entry["type"].as_str() != Some("STATIC") {
            return Err(format!("{name}: only STATIC reservations can be configured"));
        }
        reservations.push(v1::resource::ReservationInfo {
            r#type: Some(v1::resource::reservation_info::Type::Static.into()),
            role: entry["role"].as_str().map(str::to_owned),
            ..Default::default()
        });
    }
    let ranges = ranges.transpose()?;
    Ok(v1::Resource {
        name,
        r#type: kind.into(),
        scalar,
        ranges,
        set,
        role,
        reservations,
        ..Default::default()
    })
}
