//! From RunTask to a running container, and its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{self, RunRecord};
use super::checks::Checks;
use super::container::Kind;
use super::container::{Exit, LaunchFailure, LaunchSpec, Started, UNLIMITED};
use super::environment::{self, Subject};
use super::io::Effect;
use super::state::{Agent, KillCause, Phase, Stream, Task, Then, kind_of};
use crate::api::peer;
use crate::api::v1::task_status::{Reason, Source};
use crate::api::v1::{self, TaskState as State};
use crate::base::id::{AgentId, ContainerId, FrameworkId, TaskId};
use crate::base::time::Now;
use crate::resources::{Resources, Scalar};

impl Agent {
    pub(super) fn run_task(&mut self, run: peer::RunTask, now: Now, effects: &mut Vec<Effect>) {
        let Some(agent_id) = self.id.clone() else { return };
        let framework_id = FrameworkId::new(run.framework.id.as_ref().map_or("", |id| id.value.as_str()));
        let task_id = TaskId::new(&run.task.task_id.value);
        let key = (framework_id.clone(), task_id.clone());
        // A second order for a task that is known (a resent message) changes nothing. What an agent that
        // stops does not take, it will not know when it is back; one that drains says so.
        if self.drain.is_some() && !self.tasks.contains_key(&key) {
            let message = "the agent is being drained: it takes no more tasks";
            let framework = Some(&run.framework);
            return self.report_unknown(&key, framework, Reason::AgentDraining, message, now, effects);
        }
        if self.stopping
            || run.task.agent_id.value != agent_id.as_str()
            || self.tasks.contains_key(&key)
            || self.leaving.contains(&framework_id)
        {
            return;
        }
        let framework = Arc::new(run.framework);
        let info = Arc::new(run.task);
        self.frameworks.insert(framework_id.clone(), Arc::clone(&framework));
        let container_id = ContainerId::from(self.chance.uuid().to_string());
        let spec = self.spec(&agent_id, &framework, &framework_id, &info, container_id.clone());
        let changes = vec![
            checkpoint::framework(&framework_id, &framework),
            checkpoint::task(&key, &info, &spec.container_id, now.wall),
        ];
        let task = Task::new(Arc::clone(&info), framework_id.clone(), spec, Phase::Recording);
        self.tasks.insert(key.clone(), task);
        self.containers.insert(container_id, key.clone());
        if let Some((state, reason, message)) = refusal(&info) {
            self.persist(changes, None, effects);
            self.end(&key, state, Some(reason), Source::Agent, message, now, effects);
            return;
        }
        self.persist(changes, Some(Then::Launch(framework_id, task_id)), effects);
    }

    pub(super) fn spec(
        &self,
        agent_id: &AgentId,
        framework: &v1::FrameworkInfo,
        framework_id: &FrameworkId,
        info: &v1::TaskInfo,
        container_id: ContainerId,
    ) -> LaunchSpec {
        let kind = kind_of(info);
        let executor_id = crate::base::id::ExecutorId::new(&info.task_id.value);
        let sandbox =
            sandbox_path(&self.config.work_dir, agent_id, framework_id, executor_id.as_str(), &container_id);
        let subject = Subject {
            config: &self.config,
            agent_id,
            framework,
            framework_id,
            task: info,
            container_id: &container_id,
            kind,
            sandbox: &sandbox,
        };
        let environment = environment::variables(&subject);
        let resources = Resources::from_wire(&info.resources).unwrap_or_default();
        let limit = |name: &str| {
            let value = info.limits.get(name)?.value;
            if value == f64::INFINITY {
                return Some(UNLIMITED);
            }
            Scalar::from_f64(value).ok().map(Scalar::milli)
        };
        let command = info.command.clone().unwrap_or_default();
        let user =
            command.user.clone().or_else(|| Some(framework.user.clone())).filter(|user| !user.is_empty());
        LaunchSpec {
            agent_id: agent_id.clone(),
            framework_id: framework_id.clone(),
            executor_id,
            task_id: TaskId::new(&info.task_id.value),
            kind,
            container: info.container.clone(),
            environment,
            user,
            sandbox,
            cpus_milli: resources.milli("cpus"),
            mem_milli: resources.milli("mem"),
            cpus_limit_milli: limit("cpus"),
            mem_limit_milli: limit("mem"),
            ports: resources.ranges("ports"),
            command,
            container_id,
        }
    }

    /// The launch is written down: the containerizer is asked, unless a kill came first.
    pub(super) fn launch_recorded(
        &mut self,
        key: &(FrameworkId, TaskId),
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.phase == Phase::Recording) else {
            return;
        };
        if let Some(killing) = &task.killing {
            let message = "killed before it was launched".to_owned();
            let reason = Some(before_start(killing.cause));
            self.end(key, State::TaskKilled, reason, Source::Agent, message, now, effects);
            return;
        }
        task.phase = Phase::Launching;
        effects.push(Effect::Launch(Box::new(task.spec.clone())));
    }

    pub(super) fn on_started(
        &mut self,
        container_id: &ContainerId,
        started: Started,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(task) = self.tasks.get_mut(&key).filter(|task| task.phase == Phase::Launching) else {
            return;
        };
        task.phase = Phase::Running(started.clone());
        let data = started.inspect.map(String::into_bytes);
        let limit = task.info.max_completion_time.map(|limit| limit.nanoseconds).filter(|limit| *limit >= 0);
        task.complete_by =
            limit.map(|limit| now.mono.after(std::time::Duration::from_nanos(limit.unsigned_abs())));
        task.run.started = Some(now.wall);
        let kill = task.killing.is_some();
        // A kill that came before the start goes on after a restart of the agent too.
        let record = (limit.is_some() || kill).then(|| checkpoint::run(&key, &task.run));
        if !kill {
            task.checks.start(now.mono);
        }
        let early_exit = task.early_exit.take();
        if let Some(record) = record {
            self.persist(vec![record], None, effects);
        }
        self.status(&key, State::TaskStarting, None, Source::Executor, None, None, now, effects);
        self.status(&key, State::TaskRunning, None, Source::Executor, None, data, now, effects);
        if let Some((exit, out_of_memory)) = early_exit {
            self.on_exited(container_id, exit, out_of_memory, now, effects);
        } else if kill {
            self.begin_kill(&key, now, effects);
        }
    }

    pub(super) fn on_launch_failed(
        &mut self,
        container_id: &ContainerId,
        failure: &LaunchFailure,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(task) = self.tasks.get(&key).filter(|task| task.phase == Phase::Launching) else {
            return;
        };
        if let Some(killing) = &task.killing {
            let message = "killed while it was launched".to_owned();
            let reason = Some(before_start(killing.cause));
            self.end(&key, State::TaskKilled, reason, Source::Agent, message, now, effects);
            return;
        }
        match failure {
            LaunchFailure::Prepare(message) => {
                let reason = Some(Reason::ContainerLaunchFailed);
                self.end(&key, State::TaskFailed, reason, Source::Agent, message.clone(), now, effects);
            }
            LaunchFailure::Start(message) => {
                self.status(&key, State::TaskStarting, None, Source::Executor, None, None, now, effects);
                self.end(&key, State::TaskFailed, None, Source::Executor, message.clone(), now, effects);
            }
        }
    }

    pub(super) fn on_exited(
        &mut self,
        container_id: &ContainerId,
        exit: Exit,
        out_of_memory: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(task) = self.tasks.get_mut(&key) else { return };
        match task.phase {
            // The news of its start is still on its way.
            Phase::Launching => task.early_exit = Some((exit, out_of_memory)),
            Phase::Running(_) => {
                let (state, reason, source) =
                    verdict(exit, out_of_memory, task.killing.as_ref().map(|killing| killing.cause));
                let message = exit_message(task.spec.kind, exit, out_of_memory);
                self.end(&key, state, reason, source, message, now, effects);
            }
            Phase::Recording | Phase::Ended => {}
        }
    }

    /// The terminal update.
    #[expect(clippy::too_many_arguments, reason = "the parts of a status")]
    pub(super) fn end(
        &mut self,
        key: &(FrameworkId, TaskId),
        state: State,
        reason: Option<Reason>,
        source: Source,
        message: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let wanted = task.killing.as_ref().is_none_or(|killing| killing.cause != KillCause::Framework);
        task.phase = Phase::Ended;
        task.killing = task.killing.take().map(|killing| super::state::Killing { escalate: None, ..killing });
        task.complete_by = None;
        task.checks.stop();
        let container_id = task.spec.container_id.clone();
        if wanted {
            self.status(key, state, reason, source, Some(message), None, now, effects);
        } else {
            effects.push(Effect::Forget { container_id });
            self.drop_task(key, effects);
        }
    }

    /// Nothing of a task is left but its sandbox.
    pub(super) fn drop_task(&mut self, key: &(FrameworkId, TaskId), effects: &mut Vec<Effect>) {
        let Some(task) = self.tasks.remove(key) else { return };
        self.containers.remove(&task.spec.container_id);
        let mut changes = checkpoint::forget(key);
        if !self.tasks.keys().any(|(framework_id, _)| framework_id == &key.0) {
            self.frameworks.remove(&key.0);
            self.leaving.remove(&key.0);
            changes.push((checkpoint::framework_key(&key.0), None));
        }
        self.persist(changes, None, effects);
    }
}

impl Task {
    pub(super) fn new(
        info: Arc<v1::TaskInfo>,
        framework_id: FrameworkId,
        spec: LaunchSpec,
        phase: Phase,
    ) -> Self {
        Self {
            checks: Checks::new(&info),
            info,
            framework_id,
            spec,
            phase,
            state: State::TaskStaging,
            last: None,
            stream: Stream::default(),
            killing: None,
            complete_by: None,
            early_exit: None,
            run: RunRecord::default(),
            stranger: false,
        }
    }
}

/// Why a task cannot be run here, whatever the containerizer says. What would not be isolated as it asks
/// must not run at all.
fn refusal(info: &v1::TaskInfo) -> Option<(State, Reason, String)> {
    let Some(command) = info.command.as_ref().filter(|_| info.executor.is_none()) else {
        let message = "custom executors are not built yet: give the task a command".to_owned();
        return Some((State::TaskError, Reason::TaskInvalid, message));
    };
    let docker = kind_of(info) == Kind::Docker;
    if !docker && command.shell() && command.value.is_none() {
        let message = "a shell command needs a value".to_owned();
        return Some((State::TaskFailed, Reason::ExecutorTerminated, message));
    }
    let container = info.container.as_ref().filter(|_| !docker)?;
    let asked = [
        ("mesos.image", container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some())),
        ("volumes", !container.volumes.is_empty()),
        ("network_infos", !container.network_infos.is_empty()),
        ("hostname", container.hostname.is_some()),
        ("linux_info", container.linux_info.is_some()),
        ("rlimit_info", container.rlimit_info.is_some()),
        ("tty_info", container.tty_info.is_some()),
    ];
    let (name, _) = asked.iter().find(|(_, asked)| *asked)?;
    let message =
        format!("'{name}' of a MESOS container is not built yet: use a DOCKER container, or leave it out");
    Some((State::TaskFailed, Reason::ContainerLaunchFailed, message))
}

/// Why a task that never ran was killed.
fn before_start(cause: KillCause) -> Reason {
    match cause {
        KillCause::Draining => Reason::AgentDraining,
        _ => Reason::TaskKilledDuringLaunch,
    }
}

/// What the end of a container means for its task.
fn verdict(exit: Exit, out_of_memory: bool, cause: Option<KillCause>) -> (State, Option<Reason>, Source) {
    match cause {
        Some(KillCause::MaxCompletionTime) => {
            (State::TaskFailed, Some(Reason::MaxCompletionTimeReached), Source::Executor)
        }
        Some(KillCause::Asked | KillCause::Unhealthy | KillCause::Framework) => {
            (State::TaskKilled, None, Source::Executor)
        }
        Some(KillCause::Draining) => (State::TaskKilled, Some(Reason::AgentDraining), Source::Executor),
        None if out_of_memory => (State::TaskFailed, Some(Reason::ContainerLimitationMemory), Source::Agent),
        None if exit == Exit::Lost => (State::TaskFailed, Some(Reason::ExecutorTerminated), Source::Agent),
        None if exit == Exit::Code(0) => (State::TaskFinished, None, Source::Executor),
        None => (State::TaskFailed, None, Source::Executor),
    }
}

fn exit_message(kind: Kind, exit: Exit, out_of_memory: bool) -> String {
    let what = if kind == Kind::Docker { "Container" } else { "Command" };
    let text = match exit {
        Exit::Code(code) => format!("{what} exited with status {code}"),
        Exit::Signal(number) => format!("{what} terminated with signal {}", signal_name(number)),
        Exit::Lost => format!("{what} was lost: nobody saw how it ended"),
    };
    if out_of_memory { format!("Memory limit exceeded: {text}; give the task more mem") } else { text }
}

/// Names of signals as people know them.
fn signal_name(number: i32) -> String {
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    names
        .iter()
        .find(|(own, _)| *own == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// `<work>/slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>`. The master has
/// checked that ids are no paths.
fn sandbox_path(
    work_dir: &Path,
    agent_id: &AgentId,
    framework_id: &FrameworkId,
    executor_id: &str,
    container_id: &ContainerId,
) -> PathBuf {
    let safe = |id: &str| id.replace(['/', '\\', '\0'], "_");
    let mut path = work_dir.join("slaves");
    for part in [
        safe(agent_id.as_str()),
        "frameworks".to_owned(),
        safe(framework_id.as_str()),
        "executors".to_owned(),
        safe(executor_id),
        "runs".to_owned(),
        safe(container_id.as_str()),
    ] {
        path.push(part);
    }
    path
}
