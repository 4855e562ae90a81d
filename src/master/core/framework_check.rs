//! What makes a FrameworkInfo invalid (Mesos scheduler API, SUBSCRIBE and UPDATE_FRAMEWORK).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;

use crate::allocator::Capabilities;
use crate::api::v1;
use crate::base::id::Role;
use crate::resources::{Resources, roles};

/// Most bytes of a FrameworkInfo: the registry keeps it, and it goes to agents with every task.
const MAX_INFO_BYTES: usize = 64 * 1024;

/// Checks the info and the roles that go with it.
pub(super) fn check(info: &v1::FrameworkInfo, suppressed: &[String]) -> Result<(), String> {
    let bytes = info.encoded_len();
    if bytes > MAX_INFO_BYTES {
        return Err(format!(
            "the FrameworkInfo has {bytes} bytes, more than {MAX_INFO_BYTES}; keep labels and names short"
        ));
    }
    let capabilities = Capabilities::from(info.capabilities.as_slice());
    if capabilities.multi_role {
        if info.role.is_some() {
            return Err("a framework with MULTI_ROLE sets 'roles', not 'role'".to_owned());
        }
        let distinct: BTreeSet<&String> = info.roles.iter().collect();
        if distinct.len() < info.roles.len() {
            return Err("'roles' has duplicates".to_owned());
        }
    } else if !info.roles.is_empty() {
        return Err("only a framework with MULTI_ROLE sets 'roles'".to_owned());
    }
    for role in roles_of(info) {
        roles::check(role.as_str()).map_err(|error| error.to_string())?;
    }
    if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
        check_id(&id.value).map_err(|problem| format!("the framework id {problem}"))?;
    }
    let timeout = info.failover_timeout.unwrap_or(0.0);
    if timeout.is_nan()
        || Duration::try_from_secs_f64(timeout.abs()).is_err()
        || timeout.abs() > MAX_TIMEOUT_SECONDS
    {
        return Err(format!(
            "failover_timeout {timeout} is not a duration; give seconds, at most {MAX_TIMEOUT_SECONDS}"
        ));
    }
    minimums(info).map(drop)?;
    let own = roles_of(info);
    if let Some(other) = suppressed.iter().find(|role| !own.contains(role.as_str())) {
        return Err(format!("the suppressed role {other:?} is not among the framework's roles"));
    }
    Ok(())
}

/// Offer constraints would be a promise: none may be set before they are kept.
pub(super) fn constraints(constraints: Option<&v1::scheduler::OfferConstraints>) -> Result<(), String> {
    match constraints {
        Some(constraints) if !constraints.role_constraints.is_empty() => Err(
            "'offer_constraints' are not built yet: leave them out and decline the offers that do not fit"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// About 292 years: what fits in 64 bits of nanoseconds.
const MAX_TIMEOUT_SECONDS: f64 = 9_223_372_036.0;

/// An id that may become part of a path: at most 255 bytes, no control characters, no slashes, not
/// `.` or `..`.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if id.len() > 255 {
        return Err(format!("has {} bytes, more than 255", id.len()));
    }
    if matches!(id, "." | "..") || id.contains(['/', '\\']) || id.chars().any(char::is_control) {
        return Err(format!("{id:?} contains a slash or a control character, or is `.` or `..`"));
    }
    Ok(())
}

/// The roles of a framework.
pub(super) fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<Role> {
    if Capabilities::from(info.capabilities.as_slice()).multi_role {
        return info.roles.iter().map(Role::new).collect();
    }
    [Role::new(info.role.as_deref().unwrap_or(roles::DEFAULT))].into()
}

/// By role, what the framework wants an offer to contain at least one of.
pub(super) fn minimums(info: &v1::FrameworkInfo) -> Result<BTreeMap<Role, Vec<Resources>>, String> {
    let mut minimums = BTreeMap::new();
    for (role, filters) in &info.offer_filters {
        let Some(min) = &filters.min_allocatable_resources else { continue };
        let mut alternatives = Vec::new();
        for quantities in &min.quantities {
            if quantities.quantities.is_empty() {
                return Err(format!("offer_filters of the role {role:?} have an empty set of quantities"));
            }
            let text: Vec<String> = quantities
                .quantities
                .iter()
                .map(|(name, scalar)| format!("{name}:{}", scalar.value))
                .collect();
            alternatives.push(Resources::parse(&text.join(";")).map_err(|error| error.to_string())?);
        }
        minimums.insert(Role::new(role), alternatives);
    }
    Ok(minimums)
}
