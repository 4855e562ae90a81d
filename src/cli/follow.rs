//! Reading the logs of tasks: both streams of each sandbox, whole lines, from where the last look
//! ended.

use std::collections::BTreeMap;

use super::CliError;
use super::services::Instance;
use super::target::Target;
use crate::api::v1::master;
use crate::client::http::HttpAgent;
use crate::client::{AgentApi, ApiError, OperatorApi};

/// The longest piece of a line that is held back for its end, in bytes.
const MAX_LINE: usize = 64 * 1024;

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

/// Where reading one file stands.
#[derive(Debug, Default)]
struct Cursor {
    offset: u64,
    /// A line without its end yet.
    partial: Vec<u8>,
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

    /// What was written since the last look, as it is. A file or agent that is not there (yet, or any
    /// more) gives nothing.
    pub(super) async fn read(
        &mut self,
        task_id: &str,
        agent_id: &str,
        stream: Stream,
    ) -> Result<Vec<u8>, CliError> {
        let path =
            format!("/frameworks/{}/executors/{task_id}/runs/latest/{}", self.framework_id, stream.name());
        let Some(agent) = self.agent(agent_id).await? else { return Ok(Vec::new()) };
        let cursor = self.cursors.entry((task_id.to_owned(), stream)).or_default();
        let mut read = Vec::new();
        loop {
            match agent.read_file(path.clone(), cursor.offset, None).await {
                Ok(chunk) if chunk.data.is_empty() => return Ok(read),
                Ok(chunk) => {
                    cursor.offset += chunk.data.len() as u64;
                    read.extend(chunk.data);
                }
                Err(ApiError::NotFound(_) | ApiError::Unreachable(_) | ApiError::Unavailable(_)) => {
                    return Ok(read);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whole lines that were written since the last look; `all` also gives an unfinished last line.
    pub(super) async fn lines(
        &mut self,
        instance: &Instance,
        stream: Stream,
        all: bool,
    ) -> Result<Vec<String>, CliError> {
        let bytes = self.read(&instance.task_id, &instance.agent_id, stream).await?;
        let cursor = self.cursors.entry((instance.task_id.clone(), stream)).or_default();
        cursor.partial.extend(bytes);
        let mut lines: Vec<String> = Vec::new();
        while let Some(end) = cursor.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = cursor.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned());
        }
        if cursor.partial.len() > MAX_LINE || (all && !cursor.partial.is_empty()) {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut cursor.partial)).into_owned());
        }
        Ok(lines)
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
                self.agents.insert(id.value, Target::agent(&format!("http://{}:{port}", info.hostname))?);
            }
        }
        Ok(self.agents.get(agent_id).cloned())
    }
}
