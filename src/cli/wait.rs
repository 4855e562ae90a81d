//! Waiting for deployments, with live progress.

use std::collections::BTreeMap;
use std::time::Duration;

use super::output::Live;
use super::services::{Service, Services};
use super::{CliError, Exit};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(100);
/// Looks after which a service that is still on its way is asked why.
const EXPLAIN_EVERY: u32 = 15;

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
    let waited = tokio::time::timeout(timeout, poll(services, deployment, ids, Some(&mut live))).await;
    live.finish();
    match waited {
        Ok(outcome) => outcome,
        Err(_) => Err(late(services, ids, timeout).await),
    }
}

/// The same without progress.
///
/// # Errors
/// As above.
pub(super) async fn quietly(
    services: &Services,
    deployment: &str,
    ids: &[String],
    timeout: Duration,
) -> Result<(), CliError> {
    match tokio::time::timeout(timeout, poll(services, deployment, ids, None)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(late(services, ids, timeout).await),
    }
}

async fn poll(
    services: &Services,
    deployment: &str,
    ids: &[String],
    mut live: Option<&mut Live>,
) -> Result<(), CliError> {
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for round in 1_u32.. {
        let running = services.deployments().await?.iter().any(|id| id == deployment);
        let mut all_settled = !running;
        for id in ids {
            let found = services.find(id).await?;
            let is_late = found.as_ref().is_some_and(|service| !service.is_settled());
            if is_late && round.is_multiple_of(EXPLAIN_EVERY) {
                let json = services.explain(id).await?;
                let last = json["reasons"].as_array().and_then(|list| list.last()?.as_str());
                reasons.insert(id.clone(), last.unwrap_or_default().to_owned());
            }
            if let Some(live) = &mut live {
                let mut text = found.as_ref().map_or_else(|| "removed".to_owned(), progress);
                if let Some(reason) = reasons.get(id).filter(|reason| is_late && !reason.is_empty()) {
                    text.push_str(&format!("; {reason}"));
                }
                live.set(id, &text);
            }
            all_settled &= found.is_none_or(|service| service.is_settled());
        }
        if all_settled {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// What a progress line says.
fn progress(service: &Service) -> String {
    let mut text = format!("{}/{} running", service.running, service.instances);
    if service.has_checks {
        text.push_str(&format!(", {} healthy", service.healthy));
    }
    if service.is_settled() {
        text.push_str(", done");
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
