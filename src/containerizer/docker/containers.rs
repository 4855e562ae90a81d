//! The containerizer.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::engine::{Engine, explain, is_absent, is_conflict};
use super::labels::{self, DataOwner};
use super::logs;
use super::options::{self, name_of};
use super::probe::{self, Place};
use crate::agent::core::container::{
    ContainerEvent, Exit, LaunchFailure, LaunchSpec, Probe, ProbeResult, Signal, Started, Survivor,
    SurvivorState,
};
use crate::base::backoff::Backoff;
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::{AgentId, ContainerId};
use crate::base::time::{Clock, Timestamp};
use crate::containerizer::{Containerizer, Events, sandbox};
use crate::os::users::{self, Account};

/// Starts at the same time for each core: more gain nothing.
const STARTS_PER_CORE: usize = 2;
/// How long the rest of a container's output may take after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(10);
/// Pauses between attempts when the engine does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long pulling an image may take.
const PULL: Duration = Duration::from_secs(30 * 60);

/// Settings.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// Address at which published ports are bound: the agent's own, so that nothing is published to the
    /// world that the agent is not.
    pub publish: IpAddr,
    /// By which its containers are known to be left over.
    pub owner: DataOwner,
    /// Directory of this agent's notes about its containers.
    pub notes: PathBuf,
    /// Becomes the label `MESITA_RUN_ID` of every container.
    pub run_id: Option<String>,
}

/// Docker tasks of one agent.
pub struct Docker {
    shared: Arc<Shared>,
}

struct Shared {
    config: DockerConfig,
    engine: Engine,
    events: Events,
    clock: SystemClock,
    starts: Semaphore,
    permits: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    agent_id: Option<AgentId>,
    running: BTreeMap<ContainerId, Running>,
    /// Something of this agent is or was in the engine.
    used: bool,
    /// Being created and started; true: nobody wants it any more.
    starting: BTreeMap<ContainerId, bool>,
    /// What follows running containers.
    followers: JoinSet<()>,
    /// Nothing more is started or followed.
    has_left: bool,
}

#[derive(Clone, Debug)]
struct Running {
    place: Place,
    /// What asks it to end, if not SIGTERM.
    stop_signal: Option<String>,
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Docker {
    /// A containerizer that looks for the engine when it is first needed.
    #[must_use]
    pub fn new(config: DockerConfig, events: Events) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let permits = u32::try_from(cores * STARTS_PER_CORE).unwrap_or(u32::MAX);
        let shared = Shared {
            config,
            engine: Engine::default(),
            events,
            clock: SystemClock::new(),
            starts: Semaphore::new(cores * STARTS_PER_CORE),
            permits,
            state: Mutex::new(State::default()),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn launch(self: Arc<Self>, spec: LaunchSpec) -> Result<Started, LaunchFailure> {
        self.state().agent_id = Some(spec.agent_id.clone());
        let body =
            options::body(&spec, self.config.publish, &self.config.owner, self.config.run_id.as_deref());
        let body = body.map_err(|problem| {
            LaunchFailure::Start(format!("Failed to create docker run options: {problem}"))
        })?;
        let account = spec.user.as_deref().map(users::find).transpose().map_err(LaunchFailure::Prepare)?;
        let client = self.engine.client().await.map_err(LaunchFailure::Prepare)?;
        let (path, uris) = (spec.sandbox.clone(), spec.command.uris.clone());
        let prepared = tokio::task::spawn_blocking(move || sandbox::prepare(&path, account, &uris));
        prepared.await.map_err(|error| LaunchFailure::Prepare(error.to_string()))??;
        image(client, &spec).await?;
        // The engine finishes what it was asked to start, so whoever waits for it must not just go away.
        {
            let mut state = self.state();
            state.used = true;
            state.starting.insert(spec.container_id.clone(), false);
        }
        let shared = Arc::clone(&self);
        let starting = tokio::spawn(async move {
            let container_id = spec.container_id.clone();
            let outcome = Arc::clone(&shared).start(spec, account, body).await;
            let unwanted = shared.state().starting.remove(&container_id) == Some(true);
            if unwanted {
                shared.state().running.remove(&container_id);
                if let Err(problem) = shared.remove(&name_of(container_id.as_str())).await {
                    tracing::warn!(%problem, container = %container_id, "a container that nobody wants is left");
                }
            }
            outcome
        });
        starting.await.unwrap_or_else(|error| Err(LaunchFailure::Prepare(error.to_string())))
    }

    async fn start(
        self: Arc<Self>,
        spec: LaunchSpec,
        account: Option<Account>,
        body: ContainerCreateBody,
    ) -> Result<Started, LaunchFailure> {
        // Closed when the agent stops: whatever began before is waited for, nothing begins after.
        let stopping = |_| LaunchFailure::Prepare("the agent is stopping".to_owned());
        let _permit = self.starts.acquire().await.map_err(stopping)?;
        let client = self.engine.client().await.map_err(LaunchFailure::Prepare)?;
        let name = name_of(spec.container_id.as_str());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let refused =
            |error: &Error| LaunchFailure::Start(format!("Failed to run the container: {}", explain(error)));
        client.create_container(Some(options), body).await.map_err(|error| refused(&error))?;
        let started = async {
            client.start_container(&name, None).await?;
            client.inspect_container(&name, None).await
        };
        match started.await {
            Ok(found) => Ok(Arc::clone(&self).follow(spec, account, &found)),
            Err(error) => {
                let failure = refused(&error);
                if let Err(problem) = self.remove(&name).await {
                    tracing::warn!(%problem, container = %name, "a container that did not start is left");
                }
                Err(failure)
            }
        }
    }

    /// Notes a running container and begins the loops that follow it.
    fn follow(
        self: Arc<Self>,
        spec: LaunchSpec,
        account: Option<Account>,
        found: &ContainerInspectResponse,
    ) -> Started {
        let started = started(&spec, found);
        let stop_signal = found.config.as_ref().and_then(|config| config.stop_signal.clone());
        let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        let place = Place {
            engine_id: found.id.clone().unwrap_or_default(),
            pid: started.pid,
            host_network: mode == Some("host"),
            address: started.addresses.iter().find_map(|address| address.parse().ok()),
        };
        let running = Running { place, stop_signal: stop_signal.filter(|text| !text.is_empty()) };
        let follower = Arc::clone(&self);
        let mut state = self.state();
        if !state.has_left {
            state.running.insert(spec.container_id.clone(), running);
            // Those that are done.
            while state.followers.try_join_next().is_some() {}
            state.followers.spawn(async move { follower.watch(spec, account).await });
        }
        drop(state);
        started
    }

    /// Copies the output and reports the end.
    async fn watch(self: Arc<Self>, spec: LaunchSpec, account: Option<Account>) {
        let mut output = AbortOnDrop(tokio::spawn({
            let (shared, spec) = (Arc::clone(&self), spec.clone());
            async move { shared.copy_output(&spec, account).await }
        }));
        let (exit, out_of_memory, at) = self.wait(&name_of(spec.container_id.as_str())).await;
        if self.state().running.remove(&spec.container_id).is_none() {
            // It was destroyed with the agent; nobody is told.
            return;
        }
        // Whoever hears of the end may read everything that was written before it.
        if tokio::time::timeout(LAST_OUTPUT, &mut output.0).await.is_err() {
            tracing::warn!(container = %spec.container_id, "the engine does not give the last output of a container");
        }
        // The agent may have ended.
        let _ = self.events.send(ContainerEvent::Exited {
            container_id: spec.container_id,
            exit,
            at,
            out_of_memory,
        });
    }

    /// Where a container's output goes.
    fn target(&self, spec: &LaunchSpec, account: Option<Account>) -> logs::Target {
        logs::Target { sandbox: spec.sandbox.clone(), account, mark: self.mark(&spec.container_id) }
    }

    fn mark(&self, container_id: &ContainerId) -> PathBuf {
        self.config.notes.join(container_id.as_str())
    }

    async fn copy_output(&self, spec: &LaunchSpec, account: Option<Account>) {
        let name = name_of(spec.container_id.as_str());
        let target = self.target(spec, account);
        let mut backoff = Backoff::new(RETRY.0, 2.0, RETRY.1);
        loop {
            let copied = match self.engine.client().await {
                Ok(client) => logs::copy(client, &name, &target).await,
                Err(problem) => Err(problem),
            };
            let Err(problem) = copied else { return };
            if !self.state().running.contains_key(&spec.container_id) {
                return;
            }
            tracing::warn!(%problem, container = %name, "copying the output of a container is tried again");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Waits until a container has ended; the engine may come and go meanwhile.
    async fn wait(&self, name: &str) -> (Exit, bool, Timestamp) {
        let mut backoff = Backoff::new(RETRY.0, 2.0, RETRY.1);
        loop {
            let problem = match self.engine.client().await {
                Ok(client) => match wait_once(client, name).await {
                    Ok(()) => match client.inspect_container(name, None).await {
                        Ok(found) => {
                            if let Some((exit, out_of_memory)) = end_of(&found) {
                                return (exit, out_of_memory, self.clock.now().wall);
                            }
                            "it runs again".to_owned()
                        }
                        Err(error) if is_absent(&error) => return (Exit::Lost, false, self.clock.now().wall),
                        Err(error) => explain(&error),
                    },
                    Err(error) if is_absent(&error) => return (Exit::Lost, false, self.clock.now().wall),
                    Err(error) => explain(&error),
                },
                Err(problem) => problem,
            };
            tracing::warn!(%problem, container = %name, "waiting for a container is tried again");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn signal(&self, container_id: &ContainerId, signal: Signal) -> Result<(), String> {
        let Some(running) = self.state().running.get(container_id).cloned() else { return Ok(()) };
        let term = running.stop_signal.as_deref().unwrap_or("SIGTERM");
        let name = if signal == Signal::Term { term } else { "SIGKILL" };
        let options = KillContainerOptionsBuilder::new().signal(name).build();
        let client = self.engine.client().await?;
        match client.kill_container(&name_of(container_id.as_str()), Some(options)).await {
            // It ended meanwhile.
            Err(error) if is_absent(&error) || is_conflict(&error) => Ok(()),
            other => other.map_err(|error| explain(&error)),
        }
    }

    /// Removes a container, running or not, with its anonymous volumes.
    async fn remove(&self, name: &str) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine.client().await?.remove_container(name, Some(options)).await {
            // Somebody else has removed it, or is about to.
            Err(error) if is_absent(&error) || is_conflict(&error) => Ok(()),
            other => other.map_err(|error| explain(&error)),
        }
    }

    /// Names of every container of an agent, running or not.
    async fn list(&self, agent_id: &AgentId) -> Result<Vec<String>, String> {
        let label = format!("{}={agent_id}", labels::AGENT);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let client = self.engine.client().await?;
        let found = client.list_containers(Some(options)).await.map_err(|error| explain(&error))?;
        let names = found.into_iter().filter_map(|container| container.names?.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    async fn recover(
        self: Arc<Self>,
        agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> Result<Vec<Survivor>, String> {
        let Some(agent_id) = agent_id else { return Ok(Vec::new()) };
        self.state().agent_id = Some(agent_id.clone());
        let listed = match self.list(&agent_id).await {
            Ok(listed) => listed,
            // Without docker tasks an agent does without the engine.
            Err(problem) if known.is_empty() => {
                tracing::debug!(%problem, "no containers of earlier runs were looked for");
                return Ok(Vec::new());
            }
            Err(problem) => return Err(problem),
        };
        self.state().used = !listed.is_empty();
        for orphan in &listed {
            if !known.iter().any(|spec| &name_of(spec.container_id.as_str()) == orphan) {
                tracing::warn!(container = %orphan, "a container that no task owns is removed");
                self.remove(orphan).await?;
            }
        }
        let mut survivors = Vec::new();
        for spec in known {
            let container_id = spec.container_id.clone();
            survivors.push(Survivor { container_id, state: Arc::clone(&self).survivor(spec).await? });
        }
        Ok(survivors)
    }

    /// What became of a container.
    async fn survivor(self: Arc<Self>, spec: LaunchSpec) -> Result<SurvivorState, String> {
        let at = self.clock.now().wall;
        let lost = SurvivorState::Ended { exit: Exit::Lost, at, out_of_memory: false };
        let name = name_of(spec.container_id.as_str());
        let client = self.engine.client().await?;
        let found = match client.inspect_container(&name, None).await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(lost),
            Err(error) => return Err(explain(&error)),
        };
        // The user may be gone by now; the container is not.
        let account = spec.user.as_deref().and_then(|user| users::find(user).ok());
        let Some(state) = &found.state else { return Ok(lost) };
        if state.running == Some(true) {
            return Ok(SurvivorState::Running(self.follow(spec, account, &found)));
        }
        match end_of(&found) {
            Some((exit, out_of_memory)) => {
                // What it wrote while nobody looked. How it ended is known whatever becomes of that.
                let target = self.target(&spec, account);
                let copy = logs::copy(client, &name, &target);
                match tokio::time::timeout(LAST_OUTPUT, copy).await {
                    Ok(Ok(())) => {}
                    Ok(Err(problem)) => {
                        tracing::warn!(%problem, container = %name, "the last output of a container is lost");
                    }
                    Err(_) => {
                        tracing::warn!(container = %name, "the engine does not give the last output of a container")
                    }
                }
                Ok(SurvivorState::Ended { exit, at: self.clock.now().wall, out_of_memory })
            }
            // Created, never started.
            None => Ok(lost),
        }
    }

    async fn destroy_all(&self) -> Result<(), String> {
        // Launches on their way finish first; none follows.
        if !self.starts.is_closed() {
            if let Ok(all) = self.starts.acquire_many(self.permits).await {
                all.forget();
            }
            self.starts.close();
        }
        self.state().running.clear();
        // An agent that had nothing to do with the engine does not need it to stop.
        let used = self.state().used;
        let Some(agent_id) = self.state().agent_id.clone().filter(|_| used) else { return Ok(()) };
        let mut backoff = Backoff::new(RETRY.0 / 10, 2.0, RETRY.1);
        // One that is already being removed stays listed until it is gone.
        loop {
            let left = self.list(&agent_id).await?;
            if left.is_empty() {
                return Ok(());
            }
            for name in left {
                self.remove(&name).await?;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

/// Has the image pulled unless it is there.
async fn image(client: &bollard::Docker, spec: &LaunchSpec) -> Result<(), LaunchFailure> {
    let docker = options::docker_info(spec).map_err(LaunchFailure::Prepare)?;
    let name = docker.image.as_str();
    if !docker.force_pull_image.unwrap_or(false) {
        match client.inspect_image(name).await {
            Ok(_) => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(LaunchFailure::Prepare(explain(&error))),
        }
    }
    let failed = |problem: &str| {
        LaunchFailure::Prepare(format!(
            "Failed to pull the image {name:?}: {problem}. Check its name, or bring it to this agent with docker pull, docker load or docker import"
        ))
    };
    // A name without a tag would mean every tag.
    let tagged = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let reference = if tagged { name.to_owned() } else { format!("{name}:latest") };
    let options = CreateImageOptionsBuilder::new().from_image(&reference).build();
    let pull = async {
        let mut progress = Box::pin(client.create_image(Some(options), None, None));
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| failed(&explain(&error)))?;
            if let Some(problem) = step.error_detail.and_then(|detail| detail.message) {
                return Err(failed(&problem));
            }
        }
        Ok(())
    };
    match tokio::time::timeout(PULL, pull).await {
        Ok(done) => done,
        Err(_) => Err(failed(&format!("it took longer than {} minutes", PULL.as_secs() / 60))),
    }
}

/// Returns when a container is not running (any more).
async fn wait_once(client: &bollard::Docker, name: &str) -> Result<(), Error> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut ended = Box::pin(client.wait_container(name, Some(options)));
    match ended.next().await {
        // A status other than zero comes as an error.
        Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
        Some(Err(error)) => Err(error),
        None => Err(Error::RequestTimeoutError),
    }
}

/// How a container ended, and whether for want of memory; none while it runs or was never started.
fn end_of(found: &ContainerInspectResponse) -> Option<(Exit, bool)> {
    let state = found.state.as_ref().filter(|state| state.running != Some(true))?;
    let finished = state.finished_at.as_deref().unwrap_or_default();
    // The engine's word for never.
    if finished.is_empty() || finished.starts_with("0001-") {
        return None;
    }
    let code = i32::try_from(state.exit_code?).ok()?;
    Some((Exit::Code(code), state.oom_killed == Some(true)))
}

/// What is told of a running container.
fn started(spec: &LaunchSpec, found: &ContainerInspectResponse) -> Started {
    let pid = found.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let ends = networks.into_iter().flat_map(HashMap::values);
    let addresses = ends.flat_map(|end| [&end.ip_address, &end.global_ipv6_address]);
    let addresses: Vec<String> = addresses.flatten().filter(|address| !address.is_empty()).cloned().collect();
    let names = spec.container.iter().flat_map(|container| &container.network_infos);
    Started {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()),
        addresses,
        network: names.filter_map(|network| network.name.clone()).next(),
        inspect: serde_json::to_string(&[found]).ok(),
    }
}

impl Containerizer for Docker {
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'_, Result<Started, LaunchFailure>> {
        Box::pin(Arc::clone(&self.shared).launch(spec))
    }

    fn abandon(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            {
                let mut state = self.shared.state();
                if let Some(unwanted) = state.starting.get_mut(&container_id) {
                    *unwanted = true;
                    return Ok(());
                }
                // The loops that follow a container that did start find nothing to tell.
                state.running.remove(&container_id);
            }
            self.shared.remove(&name_of(container_id.as_str())).await
        })
    }

    fn signal(&self, container_id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.shared.signal(&container_id, signal).await })
    }

    fn probe(&self, container_id: ContainerId, what: Probe, timeout: Duration) -> BoxFuture<'_, ProbeResult> {
        Box::pin(async move {
            let Some(running) = self.shared.state().running.get(&container_id).cloned() else {
                return ProbeResult::Failed("the container does not run".to_owned());
            };
            let name = name_of(container_id.as_str());
            match self.shared.engine.client().await {
                Ok(client) => probe::run(client, &name, &running.place, &what, timeout).await,
                Err(problem) => ProbeResult::Failed(problem),
            }
        })
    }

    fn recover(
        &self,
        agent_id: Option<AgentId>,
        known: Vec<LaunchSpec>,
    ) -> BoxFuture<'_, Result<Vec<Survivor>, String>> {
        Box::pin(Arc::clone(&self.shared).recover(agent_id, known))
    }

    fn forget(&self, container_id: ContainerId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            logs::forget(&self.shared.mark(&container_id)).map_err(|error| error.to_string())?;
            self.shared.remove(&name_of(container_id.as_str())).await
        })
    }

    fn leave(&self) {
        let mut state = self.shared.state();
        state.has_left = true;
        state.running.clear();
        state.followers.abort_all();
    }

    fn destroy_all(&self, deadline: Duration) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            match tokio::time::timeout(deadline, self.shared.destroy_all()).await {
                Ok(done) => done.map_err(|problem| format!("containers of this agent are left: {problem}")),
                Err(_) => Err(format!("containers of this agent are left after {} s", deadline.as_secs())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerState;

    use super::*;

    #[test]
    fn the_end_of_a_container() {
        let found = |state| ContainerInspectResponse { state: Some(state), ..Default::default() };
        let ended = ContainerState {
            running: Some(false),
            exit_code: Some(137),
            oom_killed: Some(true),
            finished_at: Some("2024-05-01T10:00:00.5Z".to_owned()),
            ..Default::default()
        };
        assert_eq!(end_of(&found(ended.clone())), Some((Exit::Code(137), true)));
        let running = ContainerState { running: Some(true), ..ended.clone() };
        assert_eq!(end_of(&found(running)), None);
        let created = ContainerState { finished_at: Some("0001-01-01T00:00:00Z".to_owned()), ..ended };
        assert_eq!(end_of(&found(created)), None, "never started");
    }
}
