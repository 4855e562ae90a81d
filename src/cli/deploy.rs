//! `mesita deploy`: files in, healthy services out.

use serde_json::json;

use super::args::Deploy;
use super::output::{Printer, Report};
use super::services::Services;
use super::target::Target;
use super::{CliError, Exit, files, signals, wait};

/// Deploys the apps of the files as one deployment and waits for it.
pub(super) async fn deploy(arguments: Deploy, target: &Target, printer: Printer) -> Result<Exit, CliError> {
    let apps = files::read(&arguments.files)?;
    let services = Services::new(target)?;
    let ids = files::ids(&apps);
    let change = services.deploy(&apps, arguments.force).await?;
    if !arguments.no_wait {
        let mut interrupt = signals::Interrupt::install()?;
        tokio::select! {
            waited = wait::settled(&services, &change, arguments.timeout, printer.is_json()) => waited?,
            () = interrupt.wait() => {
                printer.note(&format!("the deployment {} goes on; `mesita ps` shows it", change.deployment));
                return Ok(Exit::Command(130));
            }
        }
    }
    let lines = ids.iter().map(|id| format!("deployed {id}")).collect();
    printer.report(&Report {
        json: json!({ "schema": 1, "deployment": change.deployment, "services": ids }),
        items: None,
        lines,
        ids,
    })?;
    Ok(Exit::Ok)
}
