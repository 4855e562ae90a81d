//! `mesita ps`: services, or instances.

use serde_json::json;

use super::args::{Format, Ps};
use super::output::{Paint, Printer, Report, Table, Tint, ago};
use super::services::{Health, Instance, Service, Services};
use super::settings::Global;
use super::signals::Interrupt;
use super::target::Target;
use super::{CliError, Exit};
use crate::base::clock::SystemClock;
use crate::base::time::Clock;

/// Pause between two looks of `--watch`.
const WATCH: std::time::Duration = std::time::Duration::from_secs(2);

/// Lists services, the instances of one, or all instances.
pub(super) async fn ps(arguments: &Ps, global: &Global, target: &Target) -> Result<Report, CliError> {
    let services = Services::new(target)?;
    let paint = Paint::stdout(global.color);
    if let Some(name) = &arguments.service {
        let service = services.named(name).await?;
        return Ok(instances(&services.instances(&service.id).await?, paint));
    }
    let list = services.list().await?;
    if list.is_empty() && global.output == Format::Table && !global.quiet {
        Printer::new(global).note("no service is deployed; `mesita deploy FILE` adds one");
    }
    if !arguments.all {
        return Ok(overview(&list, paint));
    }
    let mut all = Vec::new();
    for service in &list {
        all.extend(services.instances(&service.id).await?);
    }
    Ok(instances(&all, paint))
}

/// Lists again and again until it is interrupted.
pub(super) async fn watch(
    arguments: &Ps,
    global: &Global,
    target: &Target,
    printer: Printer,
) -> Result<Exit, CliError> {
    let mut interrupt = Interrupt::install()?;
    loop {
        printer.again(&ps(arguments, global, target).await?)?;
        tokio::select! {
            () = interrupt.wait() => return Ok(Exit::Ok),
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

fn overview(list: &[Service], paint: Paint) -> Report {
    let mut table = Table::new(&["SERVICE", "INSTANCES", "HEALTHY", "STATUS", "PORTS"]);
    let mut rows = Vec::new();
    for service in list {
        let tint = if service.is_settled() { Tint::Green } else { Tint::Yellow };
        let healthy = if service.has_checks { service.healthy.to_string() } else { "-".to_owned() };
        let ports = service.ports.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        table.row(vec![
            service.id.clone(),
            format!("{}/{}", service.running, service.instances),
            healthy,
            paint.text(tint, service.status()),
            if ports.is_empty() { "-".to_owned() } else { ports },
        ]);
        rows.push(json!({
            "id": service.id,
            "instances": service.instances,
            "running": service.running,
            "staged": service.staged,
            "healthy": service.has_checks.then_some(service.healthy),
            "unhealthy": service.has_checks.then_some(service.unhealthy),
            "status": service.status(),
            "service_ports": service.ports,
        }));
    }
    let ids = list.iter().map(|service| service.id.clone()).collect();
    Report::table("services", rows, &table, ids)
}

fn instances(list: &[Instance], paint: Paint) -> Report {
    let now = SystemClock::new().now().wall;
    let mut table = Table::new(&["INSTANCE", "SERVICE", "STATE", "HEALTH", "ADDRESS", "SINCE"]);
    let mut rows = Vec::new();
    for instance in list {
        let tint = if instance.is_running() { Tint::Green } else { Tint::Yellow };
        let health_tint = match instance.health {
            Health::Healthy => Tint::Green,
            Health::Unhealthy => Tint::Red,
            Health::Unknown | Health::Unchecked => Tint::Dim,
        };
        let addresses = instance.addresses().join(",");
        table.row(vec![
            instance.task_id.clone(),
            instance.service.clone(),
            paint.text(tint, instance.state_name()),
            paint.text(health_tint, instance.health.name()),
            if addresses.is_empty() { "-".to_owned() } else { addresses },
            ago(instance.since(), now),
        ]);
        rows.push(json!({
            "id": instance.task_id,
            "service": instance.service,
            "state": instance.state,
            "health": instance.health.name(),
            "host": instance.host,
            "ports": instance.ports,
            "staged_at": instance.staged_at,
            "started_at": instance.started_at,
        }));
    }
    let ids = list.iter().map(|instance| instance.task_id.clone()).collect();
    Report::table("instances", rows, &table, ids)
}
