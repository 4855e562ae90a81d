//! Reading the logs of tasks: both streams of each sandbox, whole lines, from where the last look
//! ended.

use std::collections::BTreeMap;

use super::CliError;
use super::services::Instance;
use super::target::{Target, url_host};
use crate::api::v1::master;
use crate::client::http::HttpAgent;
use crate::client::{AgentApi, ApiError, OperatorApi};

/// The longest piece of a line that is held back for its end, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// What one look reads of a file at most, in bytes: more is printed piece by piece.
const MAX_LOOK: usize = 1024 * 1024;
/// What is read at once when a file is searched from its end, in bytes; an agent gives no more.
const BLOCK: u64 = 64 * 1024;

/// Which of a task's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Name of the file in the sandbox.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A task whose output is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) task_id: String,
    pub(super) agent_id: String,
    pub(super) service: String,
}

impl From<&Instance> for Source {
    fn from(instance: &Instance) -> Self {
        Self {
            task_id: instance.task_id.clone(),
            agent_id: instance.agent_id.clone(),
            service: instance.service.clone(),
        }
    }
}

/// Where reading one file stands.
#[derive(Debug, Default)]
struct Cursor {
    offset: u64,
    /// Read, but not handed out: a look may be abandoned half-way.
    unread: Vec<u8>,
    /// A line without its end yet.
    partial: Vec<u8>,
    /// Size when a reader first asked for everything: what is written later is not waited for.
    end: Option<u64>,
    /// Somebody was told that it cannot be read.
    is_odd: bool,
}

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) lines: Vec<String>,
    /// There is more to read at once.
    pub(super) more: bool,
}

/// Reads the logs of tasks of one framework.
pub(super) struct Follower {
    target: Target,
    framework_id: String,
    agents: BTreeMap<String, HttpAgent>,
    cursors: BTreeMap<(String, Stream), Cursor>,
}

impl Follower {
    /// A follower for the tasks of a framework.
    pub(super) fn new(target: &Target, framework_id: impl Into<String>) -> Self {
        Self {
            target: target.clone(),
            framework_id: framework_id.into(),
            agents: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }

    /// What was written since the last look, as it is, up to a limit. A file or agent that is not there
    /// (yet, or any more) gives nothing; one that cannot be read is warned of once. A look that is
    /// abandoned loses nothing.
    pub(super) async fn read(
        &mut self,
        task_id: &str,
        agent_id: &str,
        stream: Stream,
    ) -> Result<Vec<u8>, CliError> {
        let path = self.path(task_id, stream);
        let Some(agent) = self.agent(agent_id).await? else { return Ok(Vec::new()) };
        let cursor = self.cursors.entry((task_id.to_owned(), stream)).or_default();
        while cursor.unread.len() < MAX_LOOK {
            match agent.read_file(path.clone(), cursor.offset, None).await {
                Ok(chunk) if chunk.data.is_empty() => break,
                Ok(chunk) => {
                    cursor.offset += chunk.data.len() as u64;
                    cursor.end.get_or_insert(chunk.size);
                    cursor.unread.extend(chunk.data);
                }
                Err(error) => {
                    cursor.report(task_id, stream, &error);
                    break;
                }
            }
        }
        Ok(std::mem::take(&mut cursor.unread))
    }

    /// Whole lines that were written since the last look; `all` also gives an unfinished last line.
    pub(super) async fn lines(
        &mut self,
        source: &Source,
        stream: Stream,
        all: bool,
    ) -> Result<Look, CliError> {
        let bytes = self.read(&source.task_id, &source.agent_id, stream).await?;
        let cursor = self.cursors.entry((source.task_id.clone(), stream)).or_default();
        let more = bytes.len() >= MAX_LOOK && cursor.end.is_some_and(|end| cursor.offset < end);
        Ok(Look { lines: whole_lines(&mut cursor.partial, &bytes, all && !more), more })
    }

    /// Goes to the last `count` lines of a file that was not read yet.
    pub(super) async fn skip_to_tail(
        &mut self,
        source: &Source,
        stream: Stream,
        count: usize,
    ) -> Result<(), CliError> {
        let path = self.path(&source.task_id, stream);
        let Some(agent) = self.agent(&source.agent_id).await? else { return Ok(()) };
        let cursor = self.cursors.entry((source.task_id.clone(), stream)).or_default();
        match tail_offset(&agent, &path, count).await {
            Ok(offset) => cursor.offset = offset,
            Err(error) => cursor.report(&source.task_id, stream, &error),
        }
        Ok(())
    }

    /// Tasks of the framework that have ended and are still known, the oldest first.
    pub(super) async fn ended(&self) -> Result<Vec<Source>, CliError> {
        let call = master::Call { r#type: Some(master::call::Type::GetTasks.into()), ..Default::default() };
        let response = self.target.operator()?.call(call, None).await?;
        let tasks = response.and_then(|response| response.get_tasks).unwrap_or_default().completed_tasks;
        let own = tasks.into_iter().filter(|task| task.framework_id.value == self.framework_id);
        Ok(own
            .map(|task| Source {
                service: service_of(&task.task_id.value),
                task_id: task.task_id.value,
                agent_id: task.agent_id.value,
            })
            .collect())
    }

    fn path(&self, task_id: &str, stream: Stream) -> String {
        format!("/frameworks/{}/executors/{task_id}/runs/latest/{}", self.framework_id, stream.name())
    }

    async fn agent(&mut self, agent_id: &str) -> Result<Option<HttpAgent>, CliError> {
        if let Some(agent) = self.agents.get(agent_id) {
            return Ok(Some(agent.clone()));
        }
        let call = master::Call { r#type: Some(master::call::Type::GetAgents.into()), ..Default::default() };
        let response = self.target.operator()?.call(call, None).await?;
        for agent in
            response.and_then(|response| response.get_agents).map(|agents| agents.agents).unwrap_or_default()
        {
            let info = agent.agent_info;
            let port = info.port.unwrap_or(crate::config::DEFAULT_AGENT_PORT);
            if let Some(id) = info.id {
                let base = format!("http://{}:{port}", url_host(&info.hostname));
                match Target::agent(&base) {
                    Ok(agent) => drop(self.agents.insert(id.value, agent)),
                    // Its logs are missing; those of other agents need not be.
                    Err(error) => tracing::debug!("agent {} at {base}: {error}", id.value),
                }
            }
        }
        Ok(self.agents.get(agent_id).cloned())
    }
}

impl Cursor {
    /// What is not there is no news; anything else is said, once for each file.
    fn report(&mut self, task_id: &str, stream: Stream, error: &ApiError) {
        let is_away =
            matches!(error, ApiError::NotFound(_) | ApiError::Unreachable(_) | ApiError::Unavailable(_));
        if !is_away && !std::mem::replace(&mut self.is_odd, true) {
            tracing::warn!("the {} of {task_id} is not shown: {error}", stream.name());
        }
    }
}

/// The whole lines of what was held back and what came; `all` also takes an unfinished last one.
fn whole_lines(partial: &mut Vec<u8>, bytes: &[u8], all: bool) -> Vec<String> {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    let mut lines: Vec<String> = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        partial.extend(&rest[..end]);
        lines.push(text(partial));
        partial.clear();
        rest = &rest[end + 1..];
    }
    partial.extend(rest);
    if partial.len() > MAX_LINE || (all && !partial.is_empty()) {
        lines.push(String::from_utf8_lossy(&std::mem::take(partial)).into_owned());
    }
    lines
}

/// Where the last `count` lines of a file begin.
async fn tail_offset(agent: &HttpAgent, path: &str, count: usize) -> Result<u64, ApiError> {
    let size = agent.read_file(path.to_owned(), 0, Some(0)).await?.size;
    let (mut position, mut found) = (size, 0);
    while position > 0 && count > 0 {
        let start = position.saturating_sub(BLOCK);
        let data = agent.read_file(path.to_owned(), start, Some(position - start)).await?.data;
        // The last end of line ends the last line; each one before it begins a line.
        let begins = |(at, byte): (usize, &u8)| {
            (*byte == b'\n').then_some(start + at as u64 + 1).filter(|begin| *begin < size)
        };
        for begin in data.iter().enumerate().rev().filter_map(begins) {
            found += 1;
            if found == count {
                return Ok(begin);
            }
        }
        position = start;
    }
    Ok(position)
}

/// The service of a task: `shop_web.instance-…` is one of `/shop/web`.
fn service_of(task_id: &str) -> String {
    let end = [".instance-", ".marathon-"].iter().find_map(|mark| task_id.rfind(mark));
    format!("/{}", task_id[..end.unwrap_or(task_id.len())].replace('_', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole() {
        let mut partial = Vec::new();
        assert_eq!(whole_lines(&mut partial, b"a\r\nb\nc", false), ["a", "b"]);
        assert_eq!(whole_lines(&mut partial, b"d\n\ne", false), ["cd", ""]);
        assert_eq!(whole_lines(&mut partial, b"", true), ["e"]);
        assert_eq!(whole_lines(&mut partial, &[b'x'; MAX_LINE + 1], false).len(), 1);
        assert!(partial.is_empty());
    }

    #[test]
    fn names_of_services() {
        assert_eq!(service_of("shop_web.instance-1-2._app.3"), "/shop/web");
        assert_eq!(service_of("odd"), "/odd");
    }
}
