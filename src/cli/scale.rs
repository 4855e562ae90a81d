//! `mesita scale`.

use serde_json::json;

use super::args::Scale;
use super::output::{Printer, Report};
use super::services::Services;
use super::target::Target;
use super::{CliError, Exit, wait};

/// Sets the number of instances and waits until it is reached.
pub(super) async fn scale(arguments: Scale, target: &Target, printer: Printer) -> Result<Exit, CliError> {
    let services = Services::new(target)?;
    let service = services.exactly(&arguments.service).await?;
    let change = services.scale(&service, arguments.instances, arguments.force).await?;
    let ids = vec![service.id.clone()];
    if !arguments.no_wait {
        wait::settled(&services, &change, arguments.timeout, printer.is_json()).await?;
    }
    let lines = vec![format!("scaled {} from {} to {}", service.id, service.instances, arguments.instances)];
    let json = json!({ "schema": 1, "deployment": change.deployment, "service": service.id, "instances": arguments.instances });
    printer.report(&Report { json, items: None, lines, ids })?;
    Ok(Exit::Ok)
}
