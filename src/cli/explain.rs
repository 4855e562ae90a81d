//! `mesita explain`: why a service is not as it should be.

use super::CliError;
use super::args::Explain;
use super::output::Report;
use super::services::Services;
use super::target::Target;

/// Says what a service waits for.
pub(super) async fn explain(arguments: &Explain, target: &Target) -> Result<Report, CliError> {
    let services = Services::new(target)?;
    let service = services.named(&arguments.service).await?;
    let mut json = services.explain(&service.id).await?;
    let mut lines = vec![format!(
        "{} is {}: {} of {} instances run{}",
        service.id,
        service.status(),
        service.running,
        service.instances,
        if service.has_checks {
            format!(", {} healthy, {} unhealthy", service.healthy, service.unhealthy)
        } else {
            String::new()
        }
    )];
    let reasons = json["reasons"].as_array().cloned().unwrap_or_default();
    lines.extend(reasons.iter().filter_map(|reason| reason.as_str()).map(|reason| format!("- {reason}")));
    if reasons.is_empty() && !service.is_settled() {
        lines.push("- it is on its way; nothing stands against it".to_owned());
    }
    if let Some(object) = json.as_object_mut() {
        object.insert("schema".to_owned(), 1.into());
    }
    Ok(Report { json, items: Some("reasons"), lines, ids: vec![service.id] })
}
