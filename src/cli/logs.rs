//! `mesita logs`: the output of every instance of a service, merged.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::{Global, Logs};
use super::follow::{Follower, Stream};
use super::output::{Paint, Printer, Tint, harmless};
use super::services::{Instance, Services};
use super::target::Target;
use super::{CliError, Exit, dev, signals};

/// Pause between two looks while following.
const POLL: Duration = Duration::from_millis(200);

/// Prints the logs of a service or of one instance.
pub(super) async fn logs(
    arguments: Logs,
    global: &Global,
    target: &Target,
    printer: Printer,
) -> Result<Exit, CliError> {
    let services = Services::new(target)?;
    let (service, only) = resolve(&services, &arguments.service).await?;
    let Some(framework_id) = services.framework_id().await? else {
        return Err(CliError::with(Exit::NotFound, format!("{service} has not run yet")));
    };
    let mut printing =
        Printing::new(Follower::new(target, framework_id), Paint::stdout(global.color), printer);
    printing.prefix = !arguments.no_prefix;
    printing.tail = arguments.tail;
    printing.only.clone_from(&arguments.stream);
    if !arguments.follow {
        printing.round(&services, &[service], only.as_deref(), true).await?;
        return Ok(Exit::Ok);
    }
    let mut interrupt = signals::Interrupt::install()?;
    loop {
        printing.round(&services, std::slice::from_ref(&service), only.as_deref(), false).await?;
        // Only the first look is cut to the tail.
        printing.tail = None;
        tokio::select! {
            () = interrupt.wait() => return Ok(Exit::Ok),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// The service, and the instance if one was named.
async fn resolve(services: &Services, name: &str) -> Result<(String, Option<String>), CliError> {
    let not_found = match services.named(name).await {
        Ok(service) => return Ok((service.id, None)),
        Err(error) if error.exit == Exit::NotFound => error,
        Err(error) => return Err(error),
    };
    let mut found: Option<Instance> = None;
    for service in services.list().await? {
        for instance in services.instances(&service.id).await? {
            if instance.task_id.starts_with(name) {
                if let Some(other) = &found {
                    let both = format!("{name} may mean {} or {}", other.task_id, instance.task_id);
                    return Err(CliError::with(Exit::Usage, both).hint("type more of the name"));
                }
                found = Some(instance);
            }
        }
    }
    found.map(|instance| (instance.service, Some(instance.task_id))).ok_or(not_found)
}

/// Prints what instances write, each with a prefix of its own colour.
pub(super) struct Printing {
    follower: Follower,
    paint: Paint,
    printer: Printer,
    colours: BTreeMap<String, usize>,
    pub(super) prefix: bool,
    pub(super) tail: Option<usize>,
    pub(super) only: Option<String>,
    /// One JSON object for each line instead of text.
    pub(super) as_json: bool,
}

impl Printing {
    pub(super) fn new(follower: Follower, paint: Paint, printer: Printer) -> Self {
        Self {
            follower,
            paint,
            printer,
            colours: BTreeMap::new(),
            prefix: true,
            tail: None,
            only: None,
            as_json: false,
        }
    }

    /// Prints what the instances of services wrote since the last round; `last` also prints
    /// unfinished lines.
    pub(super) async fn round(
        &mut self,
        services: &Services,
        ids: &[String],
        only: Option<&str>,
        last: bool,
    ) -> Result<(), CliError> {
        for id in ids {
            for instance in services.instances(id).await? {
                if only.is_none_or(|only| only == instance.task_id) {
                    self.instance(&instance, last).await?;
                }
            }
        }
        Ok(())
    }

    async fn instance(&mut self, instance: &Instance, last: bool) -> Result<(), CliError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.only.as_deref().is_some_and(|only| only != stream.name()) {
                continue;
            }
            let mut lines = self.follower.lines(instance, stream, last).await?;
            if let Some(tail) = self.tail {
                lines.drain(..lines.len().saturating_sub(tail));
            }
            let prefix = self.prefix_of(instance);
            let shown = |line: &String| {
                if self.as_json {
                    dev::log_event(&instance.service, &instance.task_id, stream.name(), line)
                } else {
                    format!("{prefix}{}", harmless(line))
                }
            };
            let lines: Vec<String> = lines.iter().map(shown).collect();
            self.printer.data(&lines)?;
        }
        Ok(())
    }

    fn prefix_of(&mut self, instance: &Instance) -> String {
        if !self.prefix {
            return String::new();
        }
        let next = self.colours.len();
        let colour = *self.colours.entry(instance.task_id.clone()).or_insert(next);
        self.paint.text(Tint::Instance(colour), &format!("{} | ", short_name(instance)))
    }
}

/// The service and the first characters of the instance's own part: `hello 1f2e3d4c`.
fn short_name(instance: &Instance) -> String {
    let own = instance.task_id.split_once("instance-").map_or("", |(_, rest)| rest);
    let short: String = own.chars().take(8).collect();
    format!("{} {short}", instance.service.trim_start_matches('/'))
}
