//! Waiting for deployments, with live progress.

use std::time::Duration;

use super::output::Live;
use super::services::{Service, Services};
use super::{CliError, Exit};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(100);

/// Waits until a deployment is done and the services it changed run as they should.
///
/// # Errors
/// The time is over; the error says what each service waits for.
pub(super) async fn settled(
    services: &Services,
    deployment: &str,
    ids: &[String],
    timeout: Duration,
    machines_read: bool,
) -> Result<(), CliError> {
    let mut live = Live::new(machines_read);
    let waited = tokio::time::timeout(timeout, poll(services, deployment, ids, &mut live)).await;
    live.finish();
    match waited {
        Ok(outcome) => outcome,
        Err(_) => Err(late(services, ids, timeout).await),
    }
}

async fn poll(
    services: &Services,
    deployment: &str,
    ids: &[String],
    live: &mut Live,
) -> Result<(), CliError> {
    loop {
        let running = services.deployments().await?.iter().any(|id| id == deployment);
        let mut all_settled = !running;
        for id in ids {
            match services.find(id).await? {
                Some(service) => {
                    live.set(id, &progress(&service));
                    all_settled &= service.is_settled();
                }
                None => live.set(id, "removed"),
            }
        }
        if all_settled {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a progress line says.
fn progress(service: &Service) -> String {
    let mut text = format!("{}/{} running", service.running, service.instances);
    if service.has_checks {
        text.push_str(&format!(", {} healthy", service.healthy));
    }
    if service.is_settled() {
        text.push_str(", done");
    } else if let Some(failure) = &service.last_failure {
        text.push_str(&format!(" (last failure: {failure})"));
    }
    text
}

async fn late(services: &Services, ids: &[String], timeout: Duration) -> CliError {
    let mut message = format!("not done after {} s; the deployment goes on", timeout.as_secs());
    for id in ids {
        // A service that cannot be asked about now is one line less to read, not another failure.
        if let Ok(Some(service)) = services.find(id).await {
            message.push_str(&format!("\n  {id}: {}", progress(&service)));
        }
    }
    let first = ids.first().map_or("SERVICE", String::as_str);
    CliError::with(Exit::TimedOut, message).hint(format!("`mesita explain {first}` says what it waits for"))
}
