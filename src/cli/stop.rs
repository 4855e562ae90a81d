//! `mesita stop`: services and their instances go away.

use serde_json::json;

use super::args::Stop;
use super::output::{Printer, Report};
use super::services::Services;
use super::target::Target;
use super::{CliError, Exit, wait};

/// Removes services and waits until their instances have ended.
pub(super) async fn stop(arguments: Stop, target: &Target, printer: Printer) -> Result<Exit, CliError> {
    let services = Services::new(target)?;
    let mut ids = Vec::new();
    // Every name must mean something before anything is stopped.
    for name in &arguments.services {
        ids.push(services.exactly(name).await?.id);
    }
    let mut changes = Vec::new();
    for id in &ids {
        changes.push(services.remove(id).await?);
    }
    if !arguments.no_wait {
        for change in &changes {
            wait::settled(&services, change, arguments.timeout, printer.is_json()).await?;
        }
    }
    let lines = ids.iter().map(|id| format!("stopped {id}")).collect();
    printer.report(&Report { json: json!({ "schema": 1, "services": ids }), items: None, lines, ids })?;
    Ok(Exit::Ok)
}
