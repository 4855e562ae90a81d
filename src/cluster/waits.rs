//! Waiting for something to become true, with what stands against it when it does not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Cluster, ClusterError, events};
use crate::api::marathon::{Embed, Request};
use crate::api::v1::master;
use crate::client::AgentApi;

/// How often it is looked.
const POLL: Duration = Duration::from_millis(5);
/// Lines of the cluster's log, and of a task's file, that a wait that failed names.
const LOG_LINES: usize = 20;
const TASK_LINES: usize = 10;
/// What an agent answers at once of a file, in bytes.
const CHUNK: u64 = 64 * 1024;

/// What did not become true in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited {} ms for {what}{}", .within.as_millis(), self.details())]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub within: Duration,
    /// How it stands, what it waits for, and how its last task ended.
    pub reasons: Vec<String>,
    /// What happened last in the cluster.
    pub events: Vec<String>,
    /// What the cluster logged last, and what the last task that ended wrote.
    pub logs: Vec<String>,
}

impl WaitError {
    fn details(&self) -> String {
        let mut text: String = self.reasons.iter().map(|reason| format!("\n- {reason}")).collect();
        for (title, lines) in [("what happened last", &self.events), ("what was logged last", &self.logs)] {
            if !lines.is_empty() {
                text.push_str(&format!("\n{title}:"));
                text.extend(lines.iter().map(|line| format!("\n  {line}")));
            }
        }
        text
    }
}

impl Cluster {
    /// Waits until a master leads: its number, counted from 0.
    ///
    /// # Errors
    /// None did within this time.
    pub async fn wait_leader(&self, within: Duration) -> Result<usize, WaitError> {
        let look = || async { self.leader().await.ok_or_else(|| vec!["an election goes on".to_owned()]) };
        self.wait("a master to lead", within, look).await
    }

    /// Waits until a service is as it should be: its deployment is done, all its instances run, and where it
    /// has checks all are healthy.
    ///
    /// # Errors
    /// It was not within this time: with what it waits for.
    pub async fn wait_healthy(&self, app: &str, within: Duration) -> Result<(), WaitError> {
        let id = format!("/{}", app.trim_start_matches('/'));
        let what = format!("{id} to be healthy");
        let mut waited = self.wait(&what, within, || self.is_healthy(&id)).await;
        if let Err(error) = &mut waited {
            error.logs.extend(self.last_words(&id).await);
        }
        waited
    }

    /// Waits until something holds: `look` is asked again and again, and says why it does not.
    ///
    /// # Errors
    /// It did not within this time: with what `look` said last.
    pub async fn wait_for<F>(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn() -> F,
    ) -> Result<(), WaitError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let look = || {
            let looking = look();
            async { looking.await.map_err(|why| vec![why]) }
        };
        self.wait(what, within, look).await
    }

    /// What a task wrote: `stdout` or `stderr` of its sandbox, at most its last 64 KiB.
    ///
    /// # Errors
    /// No master knows the task, or its agent does not run or has no such file (the fake executor's tasks
    /// write nothing).
    pub async fn task_log(&self, task_id: &str, file: &str) -> Result<String, ClusterError> {
        let failed = |text: String| ClusterError::Invalid(format!("{file} of the task {task_id}: {text}"));
        let kind = Some(master::call::Type::GetTasks.into());
        let call = master::Call { r#type: kind, ..Default::default() };
        let answer = self.operator().call(call, None).await.map_err(|error| failed(error.to_string()))?;
        let tasks = answer.and_then(|answer| answer.get_tasks).unwrap_or_default();
        let mut all = tasks.tasks.into_iter().chain(tasks.completed_tasks).chain(tasks.unreachable_tasks);
        let task = all.find(|task| task.task_id.value == task_id);
        let task = task.ok_or_else(|| failed("no master knows the task".to_owned()))?;
        let agent = self.agent_of(&task.agent_id.value).await?;
        let agent = agent.ok_or_else(|| failed("its agent does not run".to_owned()))?;
        let executor = task.executor_id.map_or_else(|| task_id.to_owned(), |id| id.value);
        let framework = &task.framework_id.value;
        let path = format!("/frameworks/{framework}/executors/{executor}/runs/latest/{file}");
        let whole = agent.read_file(path.clone(), u64::MAX, None).await;
        let size = whole.map_err(|error| failed(error.to_string()))?.size;
        let chunk = agent.read_file(path, size.saturating_sub(CHUNK), None).await;
        let data = chunk.map_err(|error| failed(error.to_string()))?.data;
        Ok(String::from_utf8_lossy(&data).into_owned())
    }

    /// The agent with this id, if it runs.
    async fn agent_of(&self, id: &str) -> Result<Option<Arc<dyn AgentApi>>, ClusterError> {
        let id = id.to_owned();
        self.ask(move |node| {
            let found = node.agents().find(|agent| agent.agent_id().is_some_and(|own| own.as_str() == id));
            Box::pin(std::future::ready(found))
        })
        .await
    }

    /// The last lines that the last task of a service wrote that ended.
    async fn last_words(&self, id: &str) -> Vec<String> {
        let embed = Embed { last_failure: true, ..Embed::default() };
        let found = self.marathon().call(Request::GetApp { id: id.to_owned(), embed }, None).await;
        let Ok(found) = found else { return Vec::new() };
        let Some(task) = found.body["app"]["lastTaskFailure"]["taskId"].as_str() else { return Vec::new() };
        let mut words = Vec::new();
        for file in ["stdout", "stderr"] {
            // A task that wrote nothing has no file.
            let text = self.task_log(task, file).await.unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(TASK_LINES)..];
            words.extend(last.iter().map(|line| format!("{task} {file}: {line}")));
        }
        words
    }

    async fn is_healthy(&self, id: &str) -> Result<(), Vec<String>> {
        let embed = Embed { last_failure: true, ..Embed::default() };
        let marathon = self.marathon();
        let found = marathon.call(Request::GetApp { id: id.to_owned(), embed }, None).await;
        let answer = found.map_err(|refusal| vec![refusal.to_string()])?.body;
        let app = &answer["app"];
        let count = |name: &str| app[name].as_u64().unwrap_or(0);
        let (wanted, running) = (count("instances"), count("tasksRunning"));
        let has_checks = app["healthChecks"].as_array().is_some_and(|checks| !checks.is_empty());
        let well = if has_checks { count("tasksHealthy") } else { running };
        let deployments = app["deployments"].as_array().map_or(0, Vec::len);
        if deployments == 0 && running == wanted && well == wanted {
            return Ok(());
        }
        let mut reasons = vec![format!("{running} of {wanted} instances run, {well} are well")];
        let explained = marathon.call(Request::Explain { id: id.to_owned() }, None).await;
        if let Ok(explained) = explained {
            let told = explained.body["reasons"].as_array().cloned().unwrap_or_default();
            reasons.extend(told.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let failure = &app["lastTaskFailure"];
        if let Some(state) = failure["state"].as_str() {
            let message = failure["message"].as_str().unwrap_or_default();
            reasons.push(format!("its last task ended as {state}: {message}"));
        }
        Err(reasons)
    }

    /// Looks again and again.
    async fn wait<T, F>(&self, what: &str, within: Duration, look: impl Fn() -> F) -> Result<T, WaitError>
    where
        F: Future<Output = Result<T, Vec<String>>>,
    {
        let mut reasons = vec!["nothing answered".to_owned()];
        let looking = async {
            loop {
                match look().await {
                    Ok(found) => return found,
                    Err(why) => reasons = why,
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(within, looking).await;
        waited.map_err(|_| WaitError {
            what: what.to_owned(),
            within,
            reasons,
            events: events::last(self.levers.journal()),
            logs: self.logs.last(LOG_LINES),
        })
    }
}
