//! Resources as protobuf messages: every validity rule of Mesos on the way in, three formats on the
//! way out (Mesos "reservation refinement": pre-, post- and endpoint format).

use std::collections::BTreeSet;

use super::identity::{Disk, Identity, Reservation};
use super::set::Amount;
use super::{Ranges, ResourceError, Resources, Scalar, Value, roles};
use crate::api::v1;
use crate::api::v1::resource::reservation_info::Type as ReservationType;
use crate::base::id::Role;

/// How reservations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `reservations[]` only: frameworks with RESERVATION_REFINEMENT, and our own use.
    PostRefinement,
    /// `role` and `reservation`: frameworks without it. Refined reservations cannot be written.
    PreRefinement,
    /// `reservations[]`, and `role`/`reservation` when the stack has at most one entry: the operator API.
    Endpoint,
}

impl Resources {
    /// Reads and checks messages; whichever reservation format each is in.
    ///
    /// # Errors
    /// A message breaks a rule; the error names the resource and the rule.
    pub fn from_wire(messages: &[v1::Resource]) -> Result<Self, ResourceError> {
        Ok(Self::sum_of(read_all(messages)?).0)
    }

    /// As [`Resources::from_wire`], but two messages must not name the same port or item.
    ///
    /// # Errors
    /// As there, or a port or item is named twice.
    pub fn from_wire_apart(messages: &[v1::Resource]) -> Result<Self, ResourceError> {
        match Self::sum_of(read_all(messages)?) {
            (resources, None) => Ok(resources),
            (_, Some(name)) => {
                Err(ResourceError::Value { name, problem: "a part of it is named twice".to_owned() })
            }
        }
    }

    /// Writes messages, one for each entry; copies of shared resources one by one.
    #[must_use]
    pub fn to_wire(&self, format: Format) -> Vec<v1::Resource> {
        let mut messages = Vec::new();
        for (identity, amounts) in &self.entries {
            for amount in amounts {
                let message = write(identity, &amount.value, format);
                messages.extend((0..amount.copies).map(|_| message.clone()));
            }
        }
        messages
    }
}

enum Problem {
    Text(String),
    Role(ResourceError),
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<ResourceError> for Problem {
    fn from(error: ResourceError) -> Self {
        Self::Role(error)
    }
}

fn read_all(messages: &[v1::Resource]) -> Result<Vec<(Identity, Amount)>, ResourceError> {
    let named = |message: &v1::Resource, problem| match problem {
        Problem::Role(error) => error,
        Problem::Text(problem) => ResourceError::Value { name: message.name.clone(), problem },
    };
    messages.iter().map(|message| read(message).map_err(|problem| named(message, problem))).collect()
}

fn read(message: &v1::Resource) -> Result<(Identity, Amount), Problem> {
    if message.name.is_empty() {
        return Err("it has no name".into());
    }
    let value = value(message)?;
    let reservations = reservations(message)?;
    let disk = message.disk.as_ref().map(|disk| read_disk(disk, message, &reservations)).transpose()?;
    if message.shared.is_some() && !disk.as_ref().is_some_and(|disk| disk.persistent) {
        return Err("only persistent volumes can be shared".into());
    }
    if message.revocable.is_some() && !reservations.is_empty() {
        return Err("revocable resources cannot be reserved".into());
    }
    let allocation = message.allocation_info.as_ref().and_then(|info| info.role.as_deref());
    if let Some(role) = allocation {
        roles::check(role)?;
    }
    let identity = Identity {
        name: message.name.clone(),
        allocation: allocation.map(Role::new),
        reservations,
        disk,
        revocable: message.revocable.is_some(),
        shared: message.shared.is_some(),
        provider: message.provider_id.as_ref().map(|id| id.value.clone()),
    };
    Ok((identity, Amount { value, copies: 1 }))
}

fn value(message: &v1::Resource) -> Result<Value, Problem> {
    let given = [message.scalar.is_some(), message.ranges.is_some(), message.set.is_some()];
    let only = |own: usize, kind: &str| {
        if given.iter().enumerate().all(|(index, is_set)| *is_set == (index == own)) {
            Ok(())
        } else {
            Err(format!("exactly the {kind} member must be set, as its type says"))
        }
    };
    match v1::value::Type::try_from(message.r#type) {
        Ok(v1::value::Type::Scalar) => {
            only(0, "scalar")?;
            let number = message.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
            Ok(Value::Scalar(Scalar::from_f64(number)?))
        }
        Ok(v1::value::Type::Ranges) => {
            only(1, "ranges")?;
            let pairs =
                message.ranges.iter().flat_map(|ranges| &ranges.range).map(|range| (range.begin, range.end));
            Ok(Value::Ranges(Ranges::new(pairs)?))
        }
        Ok(v1::value::Type::Set) => {
            only(2, "set")?;
            let mut items = BTreeSet::new();
            for item in message.set.iter().flat_map(|set| &set.item) {
                if !items.insert(item.clone()) {
                    return Err(format!("the item {item:?} is given twice").into());
                }
            }
            Ok(Value::Set(items))
        }
        Ok(v1::value::Type::Text) => {
            Err("TEXT is for attributes; a resource is SCALAR, RANGES or SET".into())
        }
        Err(_) => Err(format!("its type {} is none of SCALAR, RANGES, SET", message.r#type).into()),
    }
}

/// The reservation stack, from either format.
fn reservations(message: &v1::Resource) -> Result<Vec<Reservation>, Problem> {
    let role = message.role.as_deref().unwrap_or(roles::DEFAULT);
    roles::check(role)?;
    let old = match &message.reservation {
        Some(_) if role == roles::DEFAULT && message.reservations.is_empty() => {
            return Err("resources of the role * cannot be reserved".into());
        }
        Some(info) => Some(Reservation {
            dynamic: true,
            role: Role::new(role),
            principal: info.principal.clone(),
            labels: labels(info.labels.as_ref()),
        }),
        None if role != roles::DEFAULT => {
            Some(Reservation { dynamic: false, role: Role::new(role), principal: None, labels: None })
        }
        None => None,
    };
    let mut stack: Vec<Reservation> = Vec::new();
    for info in &message.reservations {
        stack.push(entry_of_stack(info, stack.last())?);
    }
    match old {
        None => Ok(stack),
        Some(old) if stack.is_empty() => Ok(vec![old]),
        Some(old) if stack.len() == 1 && stack[0] == old => Ok(stack),
        Some(_) => Err("`role` and `reservation` disagree with `reservations`".into()),
    }
}

fn entry_of_stack(
    info: &v1::resource::ReservationInfo,
    below: Option<&Reservation>,
) -> Result<Reservation, Problem> {
    let role = info.role.as_deref().unwrap_or_default();
    roles::check(role)?;
    if role == roles::DEFAULT {
        return Err("a reservation for the role * has no meaning".into());
    }
    let dynamic = match info.r#type.map(ReservationType::try_from) {
        Some(Ok(ReservationType::Static)) if below.is_none() => false,
        Some(Ok(ReservationType::Static)) => {
            return Err("only the first reservation of a stack can be STATIC".into());
        }
        Some(Ok(ReservationType::Dynamic)) => true,
        Some(Ok(ReservationType::Unknown) | Err(_)) | None => {
            return Err("a reservation has no type STATIC or DYNAMIC".into());
        }
    };
    if below.is_some_and(|below| !roles::is_ancestor(below.role.as_str(), role)) {
        return Err(format!("the reservation for {role:?} does not refine the one below it").into());
    }
    Ok(Reservation {
        dynamic,
        role: Role::new(role),
        principal: info.principal.clone(),
        labels: labels(info.labels.as_ref()),
    })
}

fn labels(labels: Option<&v1::Labels>) -> Option<Vec<(String, Option<String>)>> {
    labels.map(|labels| labels.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect())
}

fn read_disk(
    disk: &v1::resource::DiskInfo,
    message: &v1::Resource,
    reservations: &[Reservation],
) -> Result<Disk, Problem> {
    use v1::resource::disk_info::source::Type as SourceType;

    if disk.persistence.is_none() && disk.volume.is_none() && disk.source.is_none() {
        return Err("its disk information is empty".into());
    }
    let exclusive = match &disk.source {
        None => false,
        Some(source) => match SourceType::try_from(source.r#type) {
            Ok(SourceType::Path) => false,
            Ok(SourceType::Mount | SourceType::Block) => true,
            Ok(SourceType::Raw) => source.id.is_some(),
            Ok(SourceType::Unknown) | Err(_) => return Err("its disk source has no known type".into()),
        },
    };
    if let Some(persistence) = &disk.persistence {
        check_volume(persistence, disk.volume.as_ref(), message, reservations)?;
    } else if disk.volume.is_some() {
        return Err("a volume without persistence is not supported".into());
    }
    Ok(Disk { bytes: prost::Message::encode_to_vec(disk), persistent: disk.persistence.is_some(), exclusive })
}

fn check_volume(
    persistence: &v1::resource::disk_info::Persistence,
    volume: Option<&v1::Volume>,
    message: &v1::Resource,
    reservations: &[Reservation],
) -> Result<(), Problem> {
    let Some(volume) = volume else { return Err("a persistent volume lacks `volume`".into()) };
    if message.revocable.is_some() {
        return Err("a persistent volume cannot be revocable".into());
    }
    if reservations.is_empty() {
        return Err("a persistent volume must lie on reserved disk".into());
    }
    if volume.host_path.is_some() {
        return Err("a persistent volume has no host path".into());
    }
    if volume.mode == i32::from(v1::volume::Mode::Ro) {
        return Err("a persistent volume must be RW".into());
    }
    let id = &persistence.id;
    if id.is_empty()
        || id.len() > 255
        || matches!(id.as_str(), "." | "..")
        || id.contains(['/', '\\'])
        || id.chars().any(char::is_control)
    {
        return Err(format!("the persistence id {id:?} is not a valid name").into());
    }
    Ok(())
}

fn write(identity: &Identity, value: &Value, format: Format) -> v1::Resource {
    let mut message = v1::Resource {
        name: identity.name.clone(),
        allocation_info: identity
            .allocation
            .as_ref()
            .map(|role| v1::resource::AllocationInfo { role: Some(role.to_string()) }),
        disk: identity.disk_message(),
        revocable: identity.revocable.then(v1::resource::RevocableInfo::default),
        shared: identity.shared.then(v1::resource::SharedInfo::default),
        provider_id: identity.provider.clone().map(|value| v1::ResourceProviderId { value }),
        ..Default::default()
    };
    match value {
        Value::Scalar(scalar) => {
            message.r#type = v1::value::Type::Scalar.into();
            message.scalar = Some(v1::value::Scalar { value: scalar.to_f64() });
        }
        Value::Ranges(ranges) => {
            let range = ranges.pairs().iter().map(|&(begin, end)| v1::value::Range { begin, end }).collect();
            message.r#type = v1::value::Type::Ranges.into();
            message.ranges = Some(v1::value::Ranges { range });
        }
        Value::Set(items) => {
            message.r#type = v1::value::Type::Set.into();
            message.set = Some(v1::value::Set { item: items.iter().cloned().collect() });
        }
    }
    if format != Format::PreRefinement {
        message.reservations = identity.reservations.iter().map(reservation_info).collect();
    }
    if format != Format::PostRefinement && identity.reservations.len() <= 1 {
        write_old_reservation(&mut message, identity.reservations.first());
    }
    message
}

fn write_old_reservation(message: &mut v1::Resource, reservation: Option<&Reservation>) {
    message.role =
        Some(reservation.map_or(roles::DEFAULT, |reservation| reservation.role.as_str()).to_owned());
    message.reservation = reservation.filter(|reservation| reservation.dynamic).map(|reservation| {
        v1::resource::ReservationInfo { r#type: None, role: None, ..reservation_info(reservation) }
    });
}

fn reservation_info(reservation: &Reservation) -> v1::resource::ReservationInfo {
    let kind = if reservation.dynamic { ReservationType::Dynamic } else { ReservationType::Static };
    let labels = reservation.labels.as_ref().map(|labels| v1::Labels {
        labels: labels
            .iter()
            .map(|(key, value)| v1::Label { key: key.clone(), value: value.clone() })
            .collect(),
    });
    v1::resource::ReservationInfo {
        r#type: Some(kind.into()),
        role: Some(reservation.role.to_string()),
        principal: reservation.principal.clone(),
        labels,
    }
}
