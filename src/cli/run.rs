//! `mesita run`: one task now. The command is a framework of its own: it subscribes, takes the first
//! offer that fits, launches, streams the output and tears itself down.

use std::time::Duration;

use super::args::{Format, Run};
use super::follow::{Follower, Stream};
use super::output::Printer;
use super::settings::Global;
use super::signals::Interrupt;
use super::target::Target;
use super::{CliError, Exit, dev};
use crate::api::v1::scheduler::{self, call, event};
use crate::api::v1::{self, TaskState};
use crate::client::{ApiError, SchedulerApi, SubscriptionStream};
use crate::config::{For, Settings};
use crate::node::Node;
use crate::resources::Resources;

/// Pause between two looks at the output.
const OUTPUT_POLL: Duration = Duration::from_millis(100);
/// Id of the only task; its framework is new each time.
const TASK_ID: &str = "run";

/// Runs the task and exits with its code; everything of ours that fails is 125.
pub(super) async fn run(arguments: Run, global: &Global, printer: Printer) -> Result<Exit, CliError> {
    let ours = |error: CliError| CliError { exit: passed_on(error.exit), ..error };
    let task = task(&arguments).map_err(ours)?;
    let mut interrupt = Interrupt::install().map_err(ours)?;
    let (target, node) = cluster(global, printer).await.map_err(ours)?;
    let outcome = match Session::open(&target).await {
        Ok(session) => Box::pin(session.run(task, arguments.timeout, printer, &mut interrupt)).await,
        Err(error) => Err(error),
    };
    if let Some(node) = node {
        Box::pin(node.stop(interrupt.wait_again()))
            .await
            .map_err(|left| ours(CliError::new(format!("something is left: {}", left.join("; ")))))?;
    }
    outcome.map_err(ours)
}

/// Failures of ours are 125 here, whatever they are elsewhere.
fn passed_on(exit: Exit) -> Exit {
    // A closed pipe is no failure.
    if exit == Exit::Ok { exit } else { Exit::RunFailed }
}

/// The cluster that answers, or one of our own for this task.
async fn cluster(global: &Global, printer: Printer) -> Result<(Target, Option<Node>), CliError> {
    let target = Target::find(global.addr.as_deref())?;
    let answers = target.client()?.get("/health").await;
    match answers {
        Ok(_) => Ok((target, None)),
        Err(error) if global.addr.is_some() => Err(error.into()),
        Err(_) => {
            if global.output == Format::Table {
                printer.note("no cluster answers; running in one of its own");
            }
            let config = dev::resolve(&Settings::none(For::Dev))?.on_free_ports();
            let node =
                Box::pin(Node::start(config)).await.map_err(|error| CliError::new(error.to_string()))?;
            let first = node.addresses().master_urls().into_iter().next().unwrap_or_default();
            Ok((Target::at(first), Some(node)))
        }
    }
}

/// The task without its agent.
fn task(arguments: &Run) -> Result<v1::TaskInfo, CliError> {
    let usage = |message: String| CliError::with(Exit::Usage, message);
    let scalar = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    };
    let resources = vec![scalar("cpus", arguments.cpus), scalar("mem", arguments.mem)];
    Resources::from_wire(&resources)
        .map_err(|error| usage(error.to_string()).hint("see --cpus and --mem"))?;
    let mut variables = Vec::new();
    for text in &arguments.env {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format!("--env {text:?} is not NAME=VALUE")))?;
        variables.push(v1::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        });
    }
    let container = arguments.image.as_ref().map(|image| v1::ContainerInfo {
        r#type: v1::container_info::Type::Docker.into(),
        docker: Some(v1::container_info::DockerInfo { image: image.clone(), ..Default::default() }),
        ..Default::default()
    });
    let command = v1::CommandInfo {
        shell: Some(false),
        value: arguments.command.first().cloned(),
        // In a container the whole list follows the entry point; a process takes it as argv.
        arguments: if arguments.image.is_some() {
            arguments.command[1..].to_vec()
        } else {
            arguments.command.clone()
        },
        environment: Some(v1::Environment { variables }),
        ..Default::default()
    };
    Ok(v1::TaskInfo {
        name: arguments.command.join(" "),
        task_id: v1::TaskId { value: TASK_ID.to_owned() },
        command: Some(command),
        container,
        resources,
        ..Default::default()
    })
}

/// One subscription.
struct Session {
    api: crate::client::http::HttpScheduler,
    stream: SubscriptionStream<scheduler::Event>,
    target: Target,
    framework_id: Option<v1::FrameworkId>,
}

/// How the task ended.
struct Ended {
    state: TaskState,
    message: String,
}

impl Session {
    async fn open(target: &Target) -> Result<Self, CliError> {
        let api = target.scheduler()?;
        let info = v1::FrameworkInfo { name: "mesita run".to_owned(), ..Default::default() };
        let call = scheduler::Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
            ..Default::default()
        };
        let stream = api.subscribe(call, None).await?;
        Ok(Self { api, stream, target: target.clone(), framework_id: None })
    }

    async fn run(
        mut self,
        mut task: v1::TaskInfo,
        timeout: Duration,
        printer: Printer,
        interrupt: &mut Interrupt,
    ) -> Result<Exit, CliError> {
        let placed = tokio::select! {
            placed = tokio::time::timeout(timeout, self.launch(&mut task)) => placed,
            () = interrupt.wait() => return Ok(Exit::Command(130)),
        };
        match placed {
            Ok(launched) => launched?,
            Err(_) => {
                let wanted = Resources::from_wire(&task.resources)
                    .map(|resources| resources.to_string())
                    .unwrap_or_default();
                return Err(CliError::with(
                    Exit::CannotBePlaced,
                    format!("no agent offered {wanted} within {} s", timeout.as_secs()),
                )
                .hint("`mesita ps` shows what runs; smaller --cpus and --mem may fit"));
            }
        }
        self.watch(&task, printer, interrupt).await
    }

    /// Prints what the launched task writes until it ends. The first interrupt kills it, the second
    /// waits no longer.
    async fn watch(
        mut self,
        task: &v1::TaskInfo,
        printer: Printer,
        interrupt: &mut Interrupt,
    ) -> Result<Exit, CliError> {
        let framework = self.framework_id.clone().map(|id| id.value).unwrap_or_default();
        let mut output = Follower::new(&self.target, framework);
        let mut haste = interrupt.clone();
        let mut killing = false;
        let ended = loop {
            tokio::select! {
                event = self.stream.events.recv() => {
                    let event = event.ok_or_else(|| CliError::new("the master closed the stream"))?;
                    if let Some(ended) = self.on_event(event).await? {
                        break ended;
                    }
                }
                () = interrupt.wait(), if !killing => {
                    killing = true;
                    let kill = call::Kill { task_id: task.task_id.clone(), agent_id: Some(task.agent_id.clone()), ..Default::default() };
                    self.call(call::Type::Kill, |call| call.kill = Some(kill)).await?;
                }
                () = haste.wait_again() => return Ok(Exit::Command(130)),
                () = tokio::time::sleep(OUTPUT_POLL) => {
                    let printing = print(&mut output, &task.agent_id.value, printer);
                    // A reader that does not read must not keep an interrupt from being heard.
                    tokio::select! {
                        printed = printing => printed.map(|_more| ())?,
                        () = interrupt.wait(), if !killing => {}
                        () = haste.wait_again() => return Ok(Exit::Command(130)),
                    }
                }
            }
        };
        let rest = async {
            while print(&mut output, &task.agent_id.value, printer).await? {}
            Ok::<(), CliError>(())
        };
        tokio::select! {
            printed = rest => printed?,
            () = interrupt.wait(), if !killing => {}
            () = haste.wait_again() => {}
        }
        self.call(call::Type::Teardown, |_| {}).await?;
        exit_of(&ended, printer)
    }

    /// Waits for an offer that fits and accepts it.
    async fn launch(&mut self, task: &mut v1::TaskInfo) -> Result<(), CliError> {
        let wanted =
            Resources::from_wire(&task.resources).map_err(|error| CliError::new(error.to_string()))?;
        loop {
            let event = self
                .stream
                .events
                .recv()
                .await
                .ok_or_else(|| CliError::new("the master closed the stream"))?;
            if let Some(subscribed) = event.subscribed {
                self.framework_id = Some(subscribed.framework_id);
            }
            if let Some(error) = event.error {
                return Err(CliError::new(error.message));
            }
            let offers = event.offers.map(|offers| offers.offers).unwrap_or_default();
            let mut chosen = None;
            let mut others = Vec::new();
            for offer in offers {
                let offered = Resources::from_wire(&offer.resources)
                    .map_err(|error| CliError::new(error.to_string()))?;
                if chosen.is_none() && offered.unallocated().contains(&wanted) {
                    chosen = Some(offer);
                } else {
                    others.push(offer.id);
                }
            }
            // Nobody else can use what is not given back.
            if !others.is_empty() {
                let decline = call::Decline { offer_ids: others, filters: None };
                self.call(call::Type::Decline, |call| call.decline = Some(decline)).await?;
            }
            let Some(offer) = chosen else { continue };
            task.agent_id = offer.agent_id;
            let operation = v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch.into()),
                launch: Some(v1::offer::operation::Launch { task_infos: vec![task.clone()] }),
                ..Default::default()
            };
            let accept =
                call::Accept { offer_ids: vec![offer.id], operations: vec![operation], filters: None };
            self.call(call::Type::Accept, |call| call.accept = Some(accept)).await?;
            // No more offers: there is only one task.
            return self
                .call(call::Type::Suppress, |call| call.suppress = Some(call::Suppress::default()))
                .await;
        }
    }

    async fn on_event(&mut self, event: scheduler::Event) -> Result<Option<Ended>, CliError> {
        if let Some(error) = event.error {
            return Err(CliError::new(error.message));
        }
        // Later offers are not needed; their resources go back at once.
        let spare: Vec<v1::OfferId> = event
            .offers
            .map(|offers| offers.offers.into_iter().map(|offer| offer.id).collect())
            .unwrap_or_default();
        if !spare.is_empty() {
            let filters = Some(v1::Filters { refuse_seconds: Some(3_600.0) });
            self.call(call::Type::Decline, |call| {
                call.decline = Some(call::Decline { offer_ids: spare, filters })
            })
            .await?;
        }
        let Some(event::Update { status }) = event.update else { return Ok(None) };
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
            self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge)).await?;
        }
        let is_live =
            [TaskState::TaskStaging, TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskKilling];
        let state = TaskState::try_from(status.state)
            .map_err(|_| CliError::new("the task has a state of a later version"))?;
        let message = status.message.unwrap_or_default();
        Ok((!is_live.contains(&state)).then_some(Ended { state, message }))
    }

    async fn call(&self, kind: call::Type, fill: impl FnOnce(&mut scheduler::Call)) -> Result<(), CliError> {
        let mut call = scheduler::Call {
            framework_id: self.framework_id.clone(),
            r#type: Some(kind.into()),
            ..Default::default()
        };
        fill(&mut call);
        match self.api.call(call, Some(self.stream.stream_id.clone()), None).await {
            Err(ApiError::Unreachable(problem)) => {
                Err(CliError::new(format!("the master is gone: {problem}")))
            }
            other => Ok(other?),
        }
    }
}

/// Prints what the task wrote since the last look; whether there was anything.
async fn print(output: &mut Follower, agent_id: &str, printer: Printer) -> Result<bool, CliError> {
    let mut any = false;
    for stream in [Stream::Stdout, Stream::Stderr] {
        let bytes = output.read(TASK_ID, agent_id, stream).await?;
        any |= !bytes.is_empty();
        match stream {
            Stream::Stdout => printer.write(bytes).await?,
            Stream::Stderr => printer.write_error(bytes).await?,
        }
    }
    Ok(any)
}

/// The task's own code: its status, or 128 and the signal.
fn exit_of(ended: &Ended, printer: Printer) -> Result<Exit, CliError> {
    if ended.state == TaskState::TaskFinished {
        return Ok(Exit::Ok);
    }
    let (exit, is_all) = match own_code(&ended.message) {
        Some((code, is_all)) => (Exit::Command(code), is_all),
        None => (not_started(&ended.message), false),
    };
    if !is_all {
        printer.note(&format!("the task ended as {}: {}", ended.state.as_str_name(), ended.message));
    }
    Ok(exit)
}

/// The code of a command that did not start, as docker's own: 127 when there is none, 126 when it cannot be
/// executed. Only the words of the launcher and of docker's runtime count: an image may be missing, too.
fn not_started(message: &str) -> Exit {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    // The runtime speaks of the program only after this word; the engine may deny things, too.
    let runtime = message.split_once("exec: ").map_or("", |(_, rest)| rest);
    if says(&["was not found; give its path", "executable file not found"]) {
        Exit::Command(127)
    } else if says(&["cannot be executed"]) || runtime.contains("permission denied") {
        Exit::Command(126)
    } else {
        Exit::RunFailed
    }
}

/// The code that a message of an executor tells, and whether it tells nothing more.
fn own_code(message: &str) -> Option<(u8, bool)> {
    let word_after = |text: &str| {
        let (_, rest) = message.split_once(text)?;
        let word = rest.split([' ', ';']).next()?;
        Some((word, message.starts_with("Co") && rest == word))
    };
    if let Some((word, is_all)) = word_after("exited with status ") {
        return Some((word.parse().ok()?, is_all));
    }
    let (word, is_all) = word_after("terminated with signal ")?;
    let signal: nix::sys::signal::Signal = word.parse().ok()?;
    Some((128 + u8::try_from(signal as i32).ok()?, is_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(state: TaskState, message: &str) -> Exit {
        let printer = Printer::for_tests();
        exit_of(&Ended { state, message: message.to_owned() }, printer).expect("an exit")
    }

    #[test]
    fn the_command_s_own_code_is_passed_on() {
        assert_eq!(exit(TaskState::TaskFinished, "Command exited with status 0"), Exit::Ok);
        assert_eq!(exit(TaskState::TaskFailed, "Command exited with status 3"), Exit::Command(3));
        assert_eq!(exit(TaskState::TaskFailed, "Container exited with status 17"), Exit::Command(17));
        assert_eq!(exit(TaskState::TaskKilled, "Command terminated with signal SIGTERM"), Exit::Command(143));
        let no_memory = "Memory limit exceeded: Container exited with status 137; give the task more mem";
        assert_eq!(exit(TaskState::TaskFailed, no_memory), Exit::Command(137));
        assert_eq!(exit(TaskState::TaskLost, "the agent is gone"), Exit::RunFailed);
    }

    #[test]
    fn a_command_that_did_not_start_has_docker_s_codes() {
        for (message, wanted) in [
            ("the command \"x\" was not found; give its path, or set PATH in the task's environment", 127),
            ("the command \"x\" cannot be executed by the task's user; check its mode and owner", 126),
            ("runc: unable to start: exec: \"x\": executable file not found in $PATH: unknown", 127),
            ("runc: unable to start: exec: \"/etc/passwd\": permission denied: unknown", 126),
            ("the image \"x\" was not found", 125),
            ("permission denied while connecting to the engine", 125),
        ] {
            assert_eq!(exit(TaskState::TaskFailed, message).code(), wanted, "{message}");
        }
    }
}
