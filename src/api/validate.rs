//! Request-level checks: what makes a call malformed before anybody looks at what it means (Mesos
//! scheduler and operator APIs: answered with 400).

use super::ApiError;
use super::v1::{master, scheduler};

fn invalid<T>(text: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::Invalid(text.into()))
}

fn expect(present: bool, member: &str) -> Result<(), ApiError> {
    if present { Ok(()) } else { invalid(format!("Expecting '{member}' to be present")) }
}

/// Checks a scheduler call and tells its type.
///
/// # Errors
/// `Invalid` for a malformed call, `NotImplemented` for the type UNKNOWN.
pub fn scheduler_call(call: &scheduler::Call) -> Result<scheduler::call::Type, ApiError> {
    use scheduler::call::Type;

    let kind = match call.r#type.map(Type::try_from) {
        Some(Ok(kind)) => kind,
        Some(Err(_)) | None => return invalid("Expecting 'type' to be present and known"),
    };
    if kind == Type::Unknown {
        return Err(ApiError::NotImplemented("The call type UNKNOWN has no meaning".to_owned()));
    }
    let id = call.framework_id.as_ref().map(|id| id.value.as_str());
    if kind == Type::Subscribe {
        let Some(subscribe) = &call.subscribe else { return invalid("Expecting 'subscribe' to be present") };
        let own = subscribe.framework_info.id.as_ref().map(|id| id.value.as_str());
        if id != own {
            return invalid("'framework_id' differs from 'subscribe.framework_info.id'");
        }
        return Ok(kind);
    }
    expect(id.is_some(), "framework_id")?;
    scheduler_member(call, kind)?;
    Ok(kind)
}

/// Checks that the member that belongs to the type is there, and what it must hold.
fn scheduler_member(call: &scheduler::Call, kind: scheduler::call::Type) -> Result<(), ApiError> {
    use scheduler::call::Type;

    match kind {
        Type::Unknown | Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress => Ok(()),
        Type::Accept => expect(call.accept.is_some(), "accept"),
        Type::Decline => expect(call.decline.is_some(), "decline"),
        Type::AcceptInverseOffers => expect(call.accept_inverse_offers.is_some(), "accept_inverse_offers"),
        Type::DeclineInverseOffers => expect(call.decline_inverse_offers.is_some(), "decline_inverse_offers"),
        Type::Kill => expect(call.kill.is_some(), "kill"),
        Type::Shutdown => expect(call.shutdown.is_some(), "shutdown"),
        Type::Reconcile => expect(call.reconcile.is_some(), "reconcile"),
        Type::ReconcileOperations => expect(call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Message => expect(call.message.is_some(), "message"),
        Type::Request => expect(call.request.is_some(), "request"),
        Type::Acknowledge => {
            let Some(acknowledge) = &call.acknowledge else { return expect(false, "acknowledge") };
            uuid(&acknowledge.uuid)
        }
        Type::AcknowledgeOperationStatus => {
            let Some(acknowledge) = &call.acknowledge_operation_status else {
                return expect(false, "acknowledge_operation_status");
            };
            uuid(&acknowledge.uuid)?;
            expect(acknowledge.agent_id.is_some(), "acknowledge_operation_status.agent_id")
        }
        Type::UpdateFramework => {
            let Some(update) = &call.update_framework else { return expect(false, "update_framework") };
            if update.framework_info.id != call.framework_id {
                return invalid("'framework_id' differs from 'update_framework.framework_info.id'");
            }
            Ok(())
        }
    }
}

fn uuid(bytes: &[u8]) -> Result<(), ApiError> {
    if bytes.len() == 16 {
        Ok(())
    } else {
        invalid(format!("'uuid' must have 16 bytes, not {}", bytes.len()))
    }
}

/// Checks an operator call of a master and tells its type.
///
/// # Errors
/// `Invalid` for a malformed call, `NotImplemented` for the type UNKNOWN.
pub fn master_call(call: &master::Call) -> Result<master::call::Type, ApiError> {
    use master::call::Type;

    let kind = match call.r#type.map(Type::try_from) {
        Some(Ok(kind)) => kind,
        Some(Err(_)) | None => return invalid("Expecting 'type' to be present and known"),
    };
    match kind {
        Type::Unknown => Err(ApiError::NotImplemented("The call type UNKNOWN has no meaning".to_owned())),
        Type::GetMetrics => expect(call.get_metrics.is_some(), "get_metrics"),
        Type::SetLoggingLevel => expect(call.set_logging_level.is_some(), "set_logging_level"),
        Type::ListFiles => expect(call.list_files.is_some(), "list_files"),
        Type::ReadFile => expect(call.read_file.is_some(), "read_file"),
        Type::UpdateWeights => expect(call.update_weights.is_some(), "update_weights"),
        Type::ReserveResources => expect(call.reserve_resources.is_some(), "reserve_resources"),
        Type::UnreserveResources => expect(call.unreserve_resources.is_some(), "unreserve_resources"),
        Type::CreateVolumes => expect(call.create_volumes.is_some(), "create_volumes"),
        Type::DestroyVolumes => expect(call.destroy_volumes.is_some(), "destroy_volumes"),
        Type::GrowVolume => expect(call.grow_volume.is_some(), "grow_volume"),
        Type::ShrinkVolume => expect(call.shrink_volume.is_some(), "shrink_volume"),
        Type::UpdateMaintenanceSchedule => {
            expect(call.update_maintenance_schedule.is_some(), "update_maintenance_schedule")
        }
        Type::StartMaintenance => expect(call.start_maintenance.is_some(), "start_maintenance"),
        Type::StopMaintenance => expect(call.stop_maintenance.is_some(), "stop_maintenance"),
        Type::DrainAgent => expect(call.drain_agent.is_some(), "drain_agent"),
        Type::DeactivateAgent => expect(call.deactivate_agent.is_some(), "deactivate_agent"),
        Type::ReactivateAgent => expect(call.reactivate_agent.is_some(), "reactivate_agent"),
        Type::UpdateQuota => expect(call.update_quota.is_some(), "update_quota"),
        Type::SetQuota => expect(call.set_quota.is_some(), "set_quota"),
        Type::RemoveQuota => expect(call.remove_quota.is_some(), "remove_quota"),
        Type::Teardown => expect(call.teardown.is_some(), "teardown"),
        Type::MarkAgentGone => expect(call.mark_agent_gone.is_some(), "mark_agent_gone"),
        _ => Ok(()),
    }?;
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::FrameworkId;
    use scheduler::call::Type;

    fn call(kind: Type) -> scheduler::Call {
        scheduler::Call {
            r#type: Some(kind.into()),
            framework_id: Some(FrameworkId { value: "f".into() }),
            ..Default::default()
        }
    }

    #[test]
    fn every_type_needs_its_member() {
        let bare = [Type::Teardown, Type::Revive, Type::Suppress];
        for number in 1..=17 {
            let kind = Type::try_from(number).expect("a type");
            assert_eq!(scheduler_call(&call(kind)).is_ok(), bare.contains(&kind), "{kind:?}");
        }
    }

    #[test]
    fn unknown_types() {
        assert!(matches!(scheduler_call(&call(Type::Unknown)), Err(ApiError::NotImplemented(_))));
        for odd in [None, Some(4_711), Some(-1), Some(i32::MIN)] {
            let call = scheduler::Call { r#type: odd, ..call(Type::Teardown) };
            assert!(matches!(scheduler_call(&call), Err(ApiError::Invalid(_))), "{odd:?}");
            let call = master::Call { r#type: odd, ..Default::default() };
            assert!(matches!(master_call(&call), Err(ApiError::Invalid(_))), "{odd:?}");
        }
    }

    #[test]
    fn a_call_needs_its_framework() {
        let nameless = scheduler::Call { framework_id: None, ..call(Type::Teardown) };
        assert_eq!(
            scheduler_call(&nameless),
            Err(ApiError::Invalid("Expecting 'framework_id' to be present".into()))
        );
    }

    #[test]
    fn uuids_have_sixteen_bytes() {
        let mut acknowledge = call(Type::Acknowledge);
        acknowledge.acknowledge =
            Some(scheduler::call::Acknowledge { uuid: vec![0; 15], ..Default::default() });
        assert!(scheduler_call(&acknowledge).is_err());
    }
}
