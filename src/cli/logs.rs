//! `mesita logs`: the output of every instance of a service, merged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::args::Logs;
use super::follow::{Follower, Source, Stream};
use super::output::{Paint, Printer, Tint, harmless};
use super::services::Services;
use super::settings::Global;
use super::target::Target;
use super::{CliError, Exit, dev, signals};

/// Pause between two looks while following.
const POLL: Duration = Duration::from_millis(200);

/// Rounds between two looks at which instances have ended meanwhile.
const ENDED_EVERY: u32 = 5;

/// Prints the logs of a service or of one instance.
pub(super) async fn logs(
    arguments: Logs,
    global: &Global,
    target: &Target,
    printer: Printer,
) -> Result<Exit, CliError> {
    let services = Services::new(target)?;
    let framework_id = services.framework_id().await?;
    let follower = framework_id.map(|id| Follower::new(target, id));
    let (service, only) = resolve(&services, follower.as_ref(), &arguments.service).await?;
    let Some(follower) = follower else {
        return Err(CliError::with(Exit::NotFound, format!("{service} has not run yet")));
    };
    let mut printing = Printing::new(follower, Paint::stdout(global.color), printer);
    printing.prefix = !arguments.no_prefix;
    printing.tail = arguments.tail;
    printing.only.clone_from(&arguments.stream);
    let ids = [service];
    if !arguments.follow {
        printing.round(&services, &ids, only.as_deref(), true).await?;
        return Ok(Exit::Ok);
    }
    let mut interrupt = signals::Interrupt::install()?;
    let following = async {
        loop {
            printing.round(&services, &ids, only.as_deref(), false).await?;
            // Only the first look is cut to the tail.
            printing.tail = None;
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = interrupt.wait() => Ok(Exit::Ok),
        failed = following => failed,
    }
}

/// The service, and the instance if one was named: one that runs, else one that has ended.
async fn resolve(
    services: &Services,
    follower: Option<&Follower>,
    name: &str,
) -> Result<(String, Option<String>), CliError> {
    let not_found = match services.named(name).await {
        Ok(service) => return Ok((service.id, None)),
        Err(error) if error.exit == Exit::NotFound => error,
        Err(error) => return Err(error),
    };
    let mut live = Vec::new();
    for service in services.list().await? {
        live.extend(services.instances(&service.id).await?.iter().map(Source::from));
    }
    if let Some(found) = only_one(live, name)? {
        return Ok(found);
    }
    let ended = match follower {
        Some(follower) => follower.ended().await?,
        None => Vec::new(),
    };
    only_one(ended, name)?.ok_or(not_found)
}

/// The only task whose id begins so, with its service.
fn only_one(tasks: Vec<Source>, name: &str) -> Result<Option<(String, Option<String>)>, CliError> {
    let mut found = tasks.into_iter().filter(|task| task.task_id.starts_with(name));
    let first = found.next();
    match (first, found.next()) {
        (Some(one), Some(other)) => {
            let both = format!("{name} may mean {} or {}", one.task_id, other.task_id);
            Err(CliError::with(Exit::Usage, both).hint("type more of the name"))
        }
        (first, _) => Ok(first.map(|task| (task.service, Some(task.task_id)))),
    }
}

/// Why a round ended early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The cluster did not answer as it should; the next round may do better.
    Cluster(CliError),
    /// What was read cannot be printed.
    Output(CliError),
}

impl From<Trouble> for CliError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Cluster(error) | Trouble::Output(error) => error,
        }
    }
}

/// Prints what instances write, each with a prefix of its own colour.
pub(super) struct Printing {
    follower: Follower,
    paint: Paint,
    printer: Printer,
    colours: BTreeMap<String, usize>,
    /// Instances that ran in the last round, by task id.
    live: BTreeMap<String, Source>,
    /// Instances that have ended, of which everything was printed.
    done: BTreeSet<String>,
    rounds: u32,
    pub(super) prefix: bool,
    pub(super) tail: Option<usize>,
    pub(super) only: Option<String>,
    /// One JSON object for each line instead of text.
    as_json: bool,
}

impl Printing {
    pub(super) fn new(follower: Follower, paint: Paint, printer: Printer) -> Self {
        Self {
            follower,
            paint,
            printer,
            colours: BTreeMap::new(),
            live: BTreeMap::new(),
            done: BTreeSet::new(),
            rounds: 0,
            prefix: true,
            tail: None,
            only: None,
            as_json: printer.is_json(),
        }
    }

    /// Leaves out tasks that are known to have ended.
    pub(super) fn leave_out(&mut self, task_ids: BTreeSet<String>) {
        self.done.extend(task_ids);
    }

    /// Prints what the instances of services wrote since the last round, also those that have ended
    /// meanwhile; `last` also prints unfinished lines.
    pub(super) async fn round(
        &mut self,
        services: &Services,
        ids: &[String],
        only: Option<&str>,
        last: bool,
    ) -> Result<(), Trouble> {
        if self.rounds.is_multiple_of(ENDED_EVERY) {
            for source in self.follower.ended().await.map_err(Trouble::Cluster)? {
                if ids.contains(&source.service) && only.is_none_or(|only| only == source.task_id) {
                    self.ended(&source).await?;
                }
            }
        }
        self.rounds = self.rounds.wrapping_add(1);
        let mut live = BTreeMap::new();
        for id in ids {
            for instance in services.instances(id).await.map_err(Trouble::Cluster)? {
                let is_wanted = only.is_none_or(|only| only == instance.task_id);
                if is_wanted && !self.done.contains(&instance.task_id) {
                    let source = Source::from(&instance);
                    self.instance(&source, last).await?;
                    live.insert(instance.task_id, source);
                }
            }
        }
        // What an instance wrote just before it vanished.
        for (task_id, source) in std::mem::replace(&mut self.live, live) {
            if !self.live.contains_key(&task_id) {
                self.ended(&source).await?;
            }
        }
        Ok(())
    }

    /// Prints the rest of an instance that has ended, once.
    async fn ended(&mut self, source: &Source) -> Result<(), Trouble> {
        if !self.done.contains(&source.task_id) {
            self.instance(source, true).await?;
            self.done.insert(source.task_id.clone());
        }
        Ok(())
    }

    async fn instance(&mut self, source: &Source, last: bool) -> Result<(), Trouble> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.only.as_deref().is_some_and(|only| only != stream.name()) {
                continue;
            }
            if let Some(tail) = self.tail {
                self.follower.skip_to_tail(source, stream, tail).await.map_err(Trouble::Cluster)?;
            }
            loop {
                let look = self.follower.lines(source, stream, last).await.map_err(Trouble::Cluster)?;
                let text: String = look.lines.iter().map(|line| self.shown(source, stream, line)).collect();
                self.printer.write(text.into_bytes()).await.map_err(Trouble::Output)?;
                // Others have their turn before the rest, unless this is all that there will be.
                if !(last && look.more) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A line with its end.
    fn shown(&mut self, source: &Source, stream: Stream, line: &str) -> String {
        if self.as_json {
            return dev::log_event(&source.service, &source.task_id, stream.name(), line) + "\n";
        }
        format!("{}{}\n", self.prefix_of(source), harmless(line))
    }

    fn prefix_of(&mut self, source: &Source) -> String {
        if !self.prefix {
            return String::new();
        }
        let next = self.colours.len();
        let colour = *self.colours.entry(source.task_id.clone()).or_insert(next);
        self.paint.text(Tint::Instance(colour), &format!("{} | ", short_name(source)))
    }
}

/// The service and the first characters of the instance's own part: `hello 1f2e3d4c`.
fn short_name(source: &Source) -> String {
    let own = source.task_id.split_once("instance-").map_or("", |(_, rest)| rest);
    let short: String = own.chars().take(8).collect();
    format!("{} {short}", source.service.trim_start_matches('/'))
}
