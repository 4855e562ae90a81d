//! Waiting for deployments, with live progress.

use std::collections::BTreeMap;
use std::time::Duration;

use super::output::Live;
use super::services::{Change, Service, Services, Wanted};
use super::{CliError, Exit};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(100);
/// Looks after which a service that is still on its way is asked why.
const EXPLAIN_EVERY: u32 = 15;

/// Waits until a deployment is done and the services it changed run as they should.
///
/// # Errors
/// The deployment ended, but the services are not what it was to make of them; or the time is over:
/// the error says what each service waits for.
pub(super) async fn settled(
    services: &Services,
    change: &Change,
    timeout: Duration,
    machines_read: bool,
) -> Result<(), CliError> {
    let mut live = Live::new(machines_read);
    let waited = tokio::time::timeout(timeout, poll(services, change, Some(&mut live))).await;
    live.finish();
    match waited {
        Ok(outcome) => outcome,
        Err(_) => Err(late(services, change, timeout).await),
    }
}

/// The same without progress.
///
/// # Errors
/// As above.
pub(super) async fn quietly(services: &Services, change: &Change, timeout: Duration) -> Result<(), CliError> {
    match tokio::time::timeout(timeout, poll(services, change, None)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(late(services, change, timeout).await),
    }
}

async fn poll(services: &Services, change: &Change, mut live: Option<&mut Live>) -> Result<(), CliError> {
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for round in 1_u32.. {
        let running = services.deployments().await?.contains(&change.deployment);
        let mut all_settled = !running;
        let mut failures = Vec::new();
        for (id, wanted) in &change.wanted {
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
            if !running {
                failures.extend(failure(found.as_ref(), wanted).map(|what| format!("\n  {id}: {what}")));
            }
            all_settled &= found.is_none_or(|service| service.is_settled());
        }
        if !failures.is_empty() {
            let message =
                format!("the deployment {} ended without success{}", change.deployment, failures.concat());
            return Err(CliError::with(Exit::DeploymentFailed, message)
                .hint("another change took its place or cancelled it; `mesita ps` shows what runs now"));
        }
        if all_settled {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// What is wrong with a service whose deployment has ended.
fn failure(found: Option<&Service>, wanted: &Wanted) -> Option<String> {
    match (found, wanted) {
        (None, Wanted::Absent) => None,
        (None, Wanted::Versions(_)) => Some("it was removed meanwhile".to_owned()),
        (Some(_), Wanted::Absent) => Some("it is still there, or there again".to_owned()),
        (Some(service), Wanted::Versions(versions)) => (!versions.contains(&service.version))
            .then(|| format!("its version is {}, not the one that was deployed", service.version)),
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
    }
    text
}

async fn late(services: &Services, change: &Change, timeout: Duration) -> CliError {
    let mut message = format!("not done after {} s; the deployment goes on", timeout.as_secs());
    for (id, _) in &change.wanted {
        // A service that cannot be asked about now is one line less to read, not another failure.
        if let Ok(Some(service)) = services.find(id).await {
            message.push_str(&format!("\n  {id}: {}", progress(&service)));
        }
    }
    let first = change.wanted.first().map_or("SERVICE", |(id, _)| id.as_str());
    CliError::with(Exit::TimedOut, message).hint(format!("`mesita explain {first}` says what it waits for"))
}
