//! Recovery: from what was written down and what survived, the tasks as they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint;
use super::container::{LaunchSpec, Signal, Survivor, SurvivorState};
use super::io::Effect;
use super::state::{Agent, Killing, Phase, Stream, Task, is_terminal};
use crate::api::v1::task_status::Reason;
use crate::api::v1::{self, TaskState as State};
use crate::base::id::{AgentId, ContainerId, FrameworkId, TaskId};
use crate::base::time::Now;

impl Agent {
    /// Takes in the checkpoints. What is answered was given to a containerizer, or may have been: it
    /// must be asked what became of it, then [`Agent::survivors`] follows.
    ///
    /// # Errors
    /// A checkpoint cannot be read; the text names it.
    pub fn recover(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<LaunchSpec>, String> {
        let values: BTreeMap<&[u8], &[u8]> =
            pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        let damaged =
            |key: &[u8]| format!("the checkpoint {:?} cannot be read", String::from_utf8_lossy(key));
        if let Some((key, _)) = pairs.iter().find(|(_, value)| checkpoint::is_newer(value)) {
            return Err(format!(
                "a later version wrote the checkpoint {:?}: upgrade this node",
                String::from_utf8_lossy(key)
            ));
        }
        let below = |prefix: &'static [u8]| values.iter().filter(move |(key, _)| key.starts_with(prefix));
        if let Some(value) = values.get(checkpoint::AGENT) {
            let id: v1::AgentId = checkpoint::read(value).ok_or_else(|| damaged(checkpoint::AGENT))?;
            self.id = Some(AgentId::new(id.value));
        }
        for (key, value) in below(checkpoint::FRAMEWORK) {
            let info: v1::FrameworkInfo = checkpoint::read(value).ok_or_else(|| damaged(key))?;
            let id = FrameworkId::new(info.id.as_ref().map_or("", |id| id.value.as_str()));
            self.frameworks.insert(id, Arc::new(info));
        }
        let mut known = Vec::new();
        for (key, value) in below(checkpoint::TASK) {
            let (framework_id, record) = checkpoint::read_task(value).ok_or_else(|| damaged(key))?;
            let id = (framework_id, TaskId::new(&record.info.task_id.value));
            let (acknowledged, updates) = match values.get(checkpoint::updates_key(&id).as_slice()) {
                Some(value) => checkpoint::read_updates(value).ok_or_else(|| damaged(key))?,
                None => (None, Vec::new()),
            };
            let run = match values.get(checkpoint::run_key(&id).as_slice()) {
                Some(value) => checkpoint::read_run(value).ok_or_else(|| damaged(key))?,
                None => checkpoint::RunRecord::default(),
            };
            let stream = Stream { updates: updates.into(), acknowledged, ..Stream::default() };
            known.extend(self.recover_task(id, record, stream, run));
        }
        Ok(known)
    }

    /// One task; answered if its container may still be there.
    fn recover_task(
        &mut self,
        key: (FrameworkId, TaskId),
        record: checkpoint::TaskRecord,
        stream: Stream,
        run: checkpoint::RunRecord,
    ) -> Option<LaunchSpec> {
        let agent_id = self.id.clone()?;
        let framework = self.frameworks.get(&key.0).cloned()?;
        let info = Arc::new(record.info);
        let spec = self.spec(&agent_id, &framework, &key.0, &info, record.container_id.clone());
        let newest = stream.updates.back().map(|update| &update.status);
        let last = newest.or(stream.acknowledged.as_ref()).cloned();
        let ended = last.as_ref().is_some_and(|last| is_terminal(last.state));
        let state =
            last.as_ref().and_then(|last| State::try_from(last.state).ok()).unwrap_or(State::TaskStaging);
        let phase = if ended { Phase::Ended } else { Phase::Launching };
        // Whoever never ran here has no executor in its only status.
        let stranger = ended && last.as_ref().is_some_and(|last| last.executor_id.is_none());
        let task = Task {
            state,
            last,
            stream,
            run,
            stranger,
            ..Task::new(info, key.0.clone(), spec.clone(), phase)
        };
        self.tasks.insert(key.clone(), task);
        self.containers.insert(record.container_id, key);
        (!ended).then_some(spec)
    }

    /// What the containerizers say of the containers that [`Agent::recover`] asked about. Call before
    /// the agent connects.
    pub fn survivors(&mut self, survivors: Vec<Survivor>, now: Now, effects: &mut Vec<Effect>) {
        let mut states: BTreeMap<ContainerId, SurvivorState> =
            survivors.into_iter().map(|survivor| (survivor.container_id, survivor.state)).collect();
        let launching = self.tasks.iter().filter(|(_, task)| task.phase == Phase::Launching);
        let launching: Vec<_> =
            launching.map(|(key, task)| (key.clone(), task.spec.container_id.clone())).collect();
        for (key, container_id) in launching {
            match states.remove(&container_id) {
                Some(SurvivorState::Running(started)) => {
                    self.resume(&key, &container_id, started, now, effects)
                }
                Some(SurvivorState::Ended { exit, out_of_memory, .. }) => {
                    if let Some(task) = self.tasks.get_mut(&key) {
                        task.killing = task.run.kill.map(|(cause, _)| Killing { escalate: None, cause });
                        task.phase = Phase::Running(super::container::Started {
                            pid: None,
                            addresses: Vec::new(),
                            network: None,
                            inspect: None,
                        });
                    }
                    self.on_exited(&container_id, exit, out_of_memory, now, effects);
                }
                None => {
                    let partition_aware = v1::framework_info::capability::Type::PartitionAware;
                    let state = if self.is_capable(&key.0, partition_aware) {
                        State::TaskGone
                    } else {
                        State::TaskLost
                    };
                    let message = "the task did not survive the restart of its agent".to_owned();
                    let source = v1::task_status::Source::Agent;
                    self.end(&key, state, Some(Reason::AgentRestarted), source, message, now, effects);
                }
            }
        }
    }

    /// A container still runs: its task goes on where its updates stand.
    fn resume(
        &mut self,
        key: &(FrameworkId, TaskId),
        container_id: &ContainerId,
        started: super::container::Started,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        // Before the crash its start may not have been told.
        if task.last.is_none() {
            self.on_started(container_id, started, now, effects);
            return;
        }
        task.phase = Phase::Running(started);
        let limit = task.info.max_completion_time.map(|limit| limit.nanoseconds.max(0).unsigned_abs());
        task.complete_by = limit.map(Duration::from_nanos).zip(task.run.started).map(|(limit, started)| {
            // A wall clock that went back must not make it longer than it was.
            now.mono.after(started.after(limit).since(now.wall).min(limit))
        });
        let killed = task.run.kill;
        if let Some((cause, by)) = killed {
            let escalate = Some(now.mono.after(by.since(now.wall)));
            task.killing = Some(Killing { escalate, cause });
        } else {
            task.checks.start(now.mono);
        }
        if task.state == State::TaskStarting {
            let source = v1::task_status::Source::Executor;
            self.status(key, State::TaskRunning, None, source, None, None, now, effects);
        }
        if killed.is_some() {
            // Whether the first signal arrived is not known.
            effects.push(Effect::Signal { container_id: container_id.clone(), signal: Signal::Term });
            self.escalate_if_due(key, now, effects);
        }
    }
}
