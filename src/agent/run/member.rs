//! The loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::handle::{Drained, Shared};
use crate::agent::core::container::{ContainerEvent, Kind, LaunchFailure, LaunchSpec, Probe, Survivor};
use crate::agent::core::{Agent, Config, Effect, Input};
use crate::api::peer;
use crate::base::backoff::Backoff;
use crate::base::clock::{SystemClock, sleep_until};
use crate::base::id::ContainerId;
use crate::base::spawn::{Fatal, Shutdown};
use crate::base::time::Clock;
use crate::client::{AgentLink, AgentPeer, ApiError};
use crate::containerizer::Containerizer;
use crate::storage::{Batch, Persisted, Shortage, Store, Writer};

/// Launches that run at the same time; a containerizer may allow fewer.
const LAUNCHES: usize = 64;
/// Pauses between attempts to reach a master.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// Pause between two looks at the room on the disk.
const LOOK: Duration = Duration::from_secs(2);
/// How long ending every task may take when the agent stops.
const DESTROY_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Member {
    config: Config,
    master: Arc<dyn AgentPeer>,
    containerizers: BTreeMap<Kind, Arc<dyn Containerizer>>,
    store: Arc<dyn Store>,
    clock: Arc<SystemClock>,
    shared: Arc<Shared>,
}

/// Everything that reaches the loop beside container events and writes.
enum Event {
    Link(Result<AgentLink, ApiError>),
    Input(Input),
}

/// Where inputs come from.
struct Inbox {
    events: mpsc::UnboundedReceiver<Event>,
    writes: mpsc::UnboundedReceiver<Persisted>,
    reports: mpsc::UnboundedReceiver<ContainerEvent>,
    from_master: Option<mpsc::Receiver<peer::ToAgent>>,
    shutdown: Shutdown,
    haste: Shutdown,
    /// None: the agent knows that it is to be drained.
    drain: Option<watch::Receiver<bool>>,
    /// Looks at the room that there is.
    looks: tokio::time::Interval,
    /// When tasks that still run are ended, once the agent stops.
    stop_by: Option<tokio::time::Instant>,
}

/// What the loop does next.
enum Next {
    Input(Input),
    /// Waits again.
    Nothing,
    /// Ends what still runs, and itself.
    Stop,
}

/// The loop's own state.
struct Running {
    agent: Agent,
    writer: Writer,
    events: mpsc::UnboundedSender<Event>,
    launches: Arc<Semaphore>,
    kinds: BTreeMap<ContainerId, Kind>,
    to_master: Option<mpsc::Sender<peer::FromAgent>>,
    /// What the master has no room for yet. Bounded by the tasks: an update and an answer each; gone with
    /// the connection, because updates are sent again over the next one.
    outbox: VecDeque<peer::FromAgent>,
    /// Launches on their way, each with the means to give it up.
    giving_up: BTreeMap<ContainerId, oneshot::Sender<()>>,
    backoff: Backoff,
    refused: Option<String>,
    drained: Option<Drained>,
    /// The master was not heard for too long.
    silent: bool,
}

impl Running {
    /// Sends the next message when the master has room for it; pending while there is none. False: the
    /// connection is gone.
    async fn send_one(&mut self) -> bool {
        let Some(master) = self.to_master.as_ref().filter(|_| !self.outbox.is_empty()) else {
            return std::future::pending().await;
        };
        let Ok(permit) = master.reserve().await else { return false };
        if let Some(message) = self.outbox.pop_front() {
            permit.send(message);
        }
        true
    }
}

impl Member {
    pub(super) fn new(
        config: Config,
        master: Arc<dyn AgentPeer>,
        containerizers: BTreeMap<Kind, Arc<dyn Containerizer>>,
        store: Arc<dyn Store>,
        clock: Arc<SystemClock>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { config, master, containerizers, store, clock, shared }
    }

    pub(super) async fn run(
        self,
        reports: mpsc::UnboundedReceiver<ContainerEvent>,
        shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        let outcome = self.run_to_end(reports, shutdown).await;
        self.shared.drained.send_modify(|drained| *drained = drained.or(Some(Drained::Ended)));
        outcome
    }

    async fn run_to_end(
        &self,
        reports: mpsc::UnboundedReceiver<ContainerEvent>,
        shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        let (mut running, events, writes) = self.begin()?;
        self.recover(&mut running).await?;
        self.connect(&running, Duration::ZERO);
        let haste = shutdown.clone();
        let drain = Some(self.shared.drain.subscribe());
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let from_master = None;
        let mut inbox =
            Inbox { events, writes, reports, from_master, shutdown, haste, drain, looks, stop_by: None };
        loop {
            let input = match self.next(&mut running, &mut inbox).await? {
                Next::Input(input) => input,
                Next::Nothing => continue,
                Next::Stop => return self.stop().await,
            };
            if let Input::Started { container_id, .. } | Input::LaunchFailed { container_id, .. } = &input {
                running.giving_up.remove(container_id);
            }
            let mut effects = Vec::new();
            running.agent.handle(input, self.clock.now(), &mut effects);
            if running.agent.is_registered() {
                running.backoff.reset();
            }
            self.perform(&mut running, effects);
            if std::mem::take(&mut running.silent) {
                tracing::warn!("the master is silent; looking for it again");
                inbox.from_master = None;
                self.reconnect(&mut running);
            }
            if let Some(reason) = running.refused.take() {
                return self.leave(&reason).await;
            }
            if let Some(outcome) = running.drained.take() {
                self.shared.drained.send_replace(Some(outcome));
                return self.stop().await;
            }
            if inbox.stop_by.is_some() && running.agent.is_idle() {
                return self.stop().await;
            }
        }
    }

    /// Waits for whatever comes first.
    async fn next(&self, running: &mut Running, inbox: &mut Inbox) -> Result<Next, Fatal> {
        let deadline = running.agent.next_deadline().map(|deadline| self.clock.instant(deadline));
        Ok(Next::Input(tokio::select! {
            write = inbox.writes.recv() => match write {
                Some(Ok(seq)) => Input::Persisted { seq },
                Some(Err(error)) => return Err(disk(&error.to_string())),
                None => return Err(disk("the storage thread ended")),
            },
            Some(event) = inbox.events.recv() => match event {
                Event::Input(input) => input,
                Event::Link(link) => {
                    inbox.from_master = self.on_link(running, link);
                    if inbox.from_master.is_none() {
                        return Ok(Next::Nothing);
                    }
                    Input::Connected
                }
            },
            Some(ContainerEvent::Exited { container_id, exit, out_of_memory, .. }) = inbox.reports.recv() => {
                Input::Exited { container_id, exit, out_of_memory }
            }
            message = next_message(&mut inbox.from_master) => match message {
                Some(message) if !running.agent.counts(message.term, self.clock.now()) => {
                    tracing::warn!(term = message.term, "a master that was deposed speaks to this agent; another is looked for");
                    inbox.from_master = None;
                    self.reconnect(running);
                    Input::Disconnected
                }
                Some(message) => match message.message {
                    Some(message) => Input::Master(Box::new(message)),
                    // A message of a later version.
                    None => return Ok(Next::Nothing),
                },
                None => {
                    inbox.from_master = None;
                    self.reconnect(running);
                    Input::Disconnected
                }
            },
            sent = running.send_one() => {
                if !sent {
                    // The receiving side says that the connection is gone.
                    running.to_master = None;
                }
                return Ok(Next::Nothing);
            }
            () = sleep_until(deadline) => Input::Tick,
            _ = inbox.looks.tick() => Input::Room { is_short: self.shortage().is_some() },
            () = asked(&mut inbox.drain) => {
                inbox.drain = None;
                Input::Drain
            }
            () = inbox.shutdown.requested(), if inbox.stop_by.is_none() => match self.stop_by() {
                Some(at) => {
                    inbox.stop_by = Some(at);
                    Input::Stop
                }
                None => return Ok(Next::Stop),
            },
            () = time_is_up(inbox.stop_by, &mut inbox.haste) => return Ok(Next::Stop),
        }))
    }

    /// The loop's state, and what reaches it.
    fn begin(
        &self,
    ) -> Result<(Running, mpsc::UnboundedReceiver<Event>, mpsc::UnboundedReceiver<Persisted>), Fatal> {
        // Unbounded because every sender says one thing: a finished launch, a probe, a connection.
        let (events, inbox) = mpsc::unbounded_channel();
        let (persisted, writes) = mpsc::unbounded_channel::<Persisted>();
        let writer =
            Writer::start(Arc::clone(&self.store), persisted).map_err(|error| disk(&error.to_string()))?;
        let running = Running {
            agent: Agent::new(self.config.clone(), rand::random()),
            writer,
            events,
            launches: Arc::new(Semaphore::new(LAUNCHES)),
            kinds: BTreeMap::new(),
            to_master: None,
            outbox: VecDeque::new(),
            giving_up: BTreeMap::new(),
            backoff: Backoff::new(RECONNECT.0, 2.0, RECONNECT.1),
            refused: None,
            drained: None,
            silent: false,
        };
        Ok((running, inbox, writes))
    }

    /// Brings back what was there before.
    async fn recover(&self, running: &mut Running) -> Result<(), Fatal> {
        let pairs = self.store.scan(b"").map_err(|error| disk(&error.to_string()))?;
        let known = running.agent.recover(&pairs).map_err(|problem| disk(&problem))?;
        let mut survivors: Vec<Survivor> = Vec::new();
        for (kind, containerizer) in &self.containerizers {
            let own: Vec<LaunchSpec> = known.iter().filter(|spec| spec.kind == *kind).cloned().collect();
            running.kinds.extend(own.iter().map(|spec| (spec.container_id.clone(), *kind)));
            survivors.extend(containerizer.recover(running.agent.id().cloned(), own).await.map_err(
                |problem| {
                    Fatal::new(
                        format!("tasks of an earlier run cannot be found again: {problem}"),
                        "Start what runs them (the Docker engine?), or remove the data directory",
                    )
                },
            )?);
        }
        let mut effects = Vec::new();
        running.agent.survivors(survivors, self.clock.now(), &mut effects);
        self.perform(running, effects);
        Ok(())
    }

    /// Takes a connection over, or asks for another.
    fn on_link(
        &self,
        running: &mut Running,
        link: Result<AgentLink, ApiError>,
    ) -> Option<mpsc::Receiver<peer::ToAgent>> {
        match link {
            Ok(link) => {
                running.to_master = Some(link.to_master);
                Some(link.from_master)
            }
            Err(error) => {
                tracing::debug!(%error, "no master to register with");
                let pause = running.backoff.next_delay();
                self.connect(running, pause);
                None
            }
        }
    }

    /// Lets the connection go and asks for another.
    fn reconnect(&self, running: &mut Running) {
        running.to_master = None;
        running.outbox.clear();
        let pause = running.backoff.next_delay();
        self.connect(running, pause);
    }

    /// Asks for a connection after a pause; the loop hears of it.
    fn connect(&self, running: &Running, pause: Duration) {
        let (master, events) = (Arc::clone(&self.master), running.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // The loop may have ended.
            let _ = events.send(Event::Link(master.connect(None).await));
        });
    }

    fn perform(&self, running: &mut Running, effects: Vec<Effect>) {
        {
            let mut shared = self.shared.id.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.as_ref() != running.agent.id() {
                *shared = running.agent.id().cloned();
            }
        }
        for effect in effects {
            match effect {
                Effect::Tell(message) => {
                    let message = peer::FromAgent { message: Some(*message) };
                    if running.to_master.is_some() {
                        running.outbox.push_back(message);
                    }
                }
                Effect::Persist { seq, changes } => {
                    let mut batch = Batch::default();
                    for (key, value) in changes {
                        match value {
                            Some(value) => batch.put(key, value),
                            None => batch.delete(key),
                        }
                    }
                    running.writer.submit(seq, batch);
                }
                Effect::Launch(spec) => self.launch(running, *spec),
                Effect::Abandon { container_id } => {
                    if let Some(give_up) = running.giving_up.remove(&container_id) {
                        // A launch that has answered has nothing to give up.
                        let _ = give_up.send(());
                    }
                }
                Effect::Reconnect => running.silent = true,
                Effect::Signal { container_id, signal } => {
                    self.spawn(running, container_id, move |containerizer, id| async move {
                        let sent = containerizer.signal(id.clone(), signal).await;
                        sent.err().map(|problem| {
                            tracing::warn!(%problem, "a signal was not delivered");
                            Input::SignalFailed { container_id: id, signal }
                        })
                    });
                }
                Effect::Probe { container_id, health, probe, timeout } => {
                    self.probe(running, container_id, health, *probe, timeout);
                }
                Effect::Forget { container_id } => {
                    self.spawn(running, container_id.clone(), move |containerizer, id| async move {
                        if let Err(problem) = containerizer.forget(id).await {
                            tracing::warn!(%problem, "the remains of a container could not be removed");
                        }
                        None
                    });
                    running.kinds.remove(&container_id);
                }
                Effect::Drained { unregistered, unacknowledged, unended } => {
                    running.drained = Some(Drained::Left { unregistered, unacknowledged, unended });
                }
                Effect::Shutdown { reason } => running.refused = Some(reason),
            }
        }
    }

    fn launch(&self, running: &mut Running, spec: LaunchSpec) {
        let container_id = spec.container_id.clone();
        let containerizer = match self.containerizer_for(&spec) {
            Ok(containerizer) => containerizer,
            Err(reason) => {
                let failure = LaunchFailure::Prepare(reason);
                // The loop itself holds the receiver.
                let _ = running.events.send(Event::Input(Input::LaunchFailed { container_id, failure }));
                return;
            }
        };
        running.kinds.insert(container_id.clone(), spec.kind);
        let (events, launches) = (running.events.clone(), Arc::clone(&running.launches));
        let (give_up, given_up) = oneshot::channel();
        running.giving_up.insert(container_id.clone(), give_up);
        tokio::spawn(async move {
            let launch = async {
                let _permit = launches.acquire().await;
                containerizer.launch(spec).await
            };
            let outcome = tokio::select! {
                outcome = launch => outcome,
                Ok(()) = given_up => {
                    if let Err(problem) = containerizer.abandon(container_id.clone()).await {
                        tracing::warn!(%problem, "the remains of a launch could not be removed");
                    }
                    Err(LaunchFailure::Prepare("the launch was given up".to_owned()))
                }
            };
            let input = match outcome {
                Ok(started) => Input::Started { container_id, started },
                Err(failure) => Input::LaunchFailed { container_id, failure },
            };
            // The loop may have ended.
            let _ = events.send(Event::Input(input));
        });
    }

    fn shortage(&self) -> Option<Shortage> {
        self.store.room().and_then(|room| room.shortage())
    }

    /// Who launches it; or why nobody does.
    fn containerizer_for(&self, spec: &LaunchSpec) -> Result<Arc<dyn Containerizer>, String> {
        // The master may not know it yet.
        if let Some(shortage) = self.shortage() {
            return Err(shortage.to_string());
        }
        let without = match spec.kind {
            Kind::Docker => "this agent cannot run docker tasks: it was built without them (feature docker)",
            Kind::Process => "this agent runs only docker tasks: give the task an image",
        };
        self.containerizers.get(&spec.kind).cloned().ok_or_else(|| without.to_owned())
    }

    fn probe(
        &self,
        running: &Running,
        container_id: ContainerId,
        health: bool,
        probe: Probe,
        timeout: Duration,
    ) {
        self.spawn(running, container_id, move |containerizer, container_id| async move {
            let result = containerizer.probe(container_id.clone(), probe, timeout).await;
            Some(Input::Probed { container_id, health, result })
        });
    }

    /// Does something with the containerizer of a container; what comes out is an input.
    fn spawn<F, W>(&self, running: &Running, container_id: ContainerId, work: W)
    where
        F: Future<Output = Option<Input>> + Send + 'static,
        W: FnOnce(Arc<dyn Containerizer>, ContainerId) -> F,
    {
        let kind = running.kinds.get(&container_id);
        let Some(containerizer) = kind.and_then(|kind| self.containerizers.get(kind)) else {
            // A container that was never launched.
            return;
        };
        let (work, events) = (work(Arc::clone(containerizer), container_id), running.events.clone());
        tokio::spawn(async move {
            if let Some(input) = work.await {
                // The loop may have ended.
                let _ = events.send(Event::Input(input));
            }
        });
    }

    /// When tasks that do not end by themselves are ended; none: at once, or not at all.
    fn stop_by(&self) -> Option<tokio::time::Instant> {
        let grace = self.config.stop_grace.filter(|grace| !grace.is_zero())?;
        Some(tokio::time::Instant::now() + grace)
    }

    /// The master does not want this agent: its tasks end, and with it a node that is nothing else.
    async fn leave(&self, reason: &str) -> Result<(), Fatal> {
        self.end_tasks().await?;
        let refusal = refused(reason);
        if self.config.is_whole_node {
            return Err(refusal);
        }
        tracing::error!("{refusal}; this node goes on without it");
        Ok(())
    }

    async fn stop(&self) -> Result<(), Fatal> {
        if self.config.stop_grace.is_none() {
            self.containerizers.values().for_each(|containerizer| containerizer.leave());
            return Ok(());
        }
        self.end_tasks().await
    }

    async fn end_tasks(&self) -> Result<(), Fatal> {
        for containerizer in self.containerizers.values() {
            containerizer.destroy_all(DESTROY_DEADLINE).await.map_err(|problem| {
                Fatal::new(format!("tasks could not be ended: {problem}"), "End what is left by hand")
            })?;
        }
        Ok(())
    }
}

async fn next_message(from_master: &mut Option<mpsc::Receiver<peer::ToAgent>>) -> Option<peer::ToAgent> {
    match from_master {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}

/// Ends when somebody asks for a drain.
async fn asked(drain: &mut Option<watch::Receiver<bool>>) {
    // Who could ask lives as long as the loop.
    let asked = match drain {
        Some(drain) => drain.wait_for(|drain| *drain).await.is_ok(),
        None => false,
    };
    if !asked {
        std::future::pending::<()>().await;
    }
}

/// Ends when an agent that stops must not wait any longer.
async fn time_is_up(stop_by: Option<tokio::time::Instant>, haste: &mut Shutdown) {
    if stop_by.is_none() {
        return std::future::pending().await;
    }
    tokio::select! {
        () = sleep_until(stop_by) => {}
        () = haste.hurried() => {}
    }
}

fn disk(problem: &str) -> Fatal {
    Fatal::new(
        format!("the agent's checkpoints failed: {problem}"),
        "The agent ends so that it reports nothing that may be forgotten",
    )
}

fn refused(reason: &str) -> Fatal {
    Fatal::new(
        format!("the master does not want this agent: {reason}"),
        "Remove the agent's data directory to join as a new agent",
    )
}
