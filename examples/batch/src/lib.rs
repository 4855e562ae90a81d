//! A small framework: it runs a batch of commands to their ends, whatever is lost on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesita::api::v1::scheduler::{Call, Event, call};
use mesita::api::v1::{self, TaskState, offer::Operation};
use mesita::client::SchedulerApi;
use tokio::sync::watch;

/// Pause before it looks for a master again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the cluster keeps the tasks while the framework is away, in seconds.
const FAILOVER_TIMEOUT: f64 = 60.0;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Waiting,
    /// Launched, in its n-th attempt.
    Launched(u32),
    Done,
}

/// How far the batch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs that ended well.
    pub done: usize,
    /// Attempts that did not.
    pub failed: usize,
    /// Times that a master admitted the framework.
    pub subscribed: usize,
}

/// A batch of commands.
pub struct Batch {
    api: Arc<dyn SchedulerApi>,
    id: Option<v1::FrameworkId>,
    stream_id: String,
    commands: Vec<String>,
    jobs: Vec<Job>,
    attempts: u32,
    progress: watch::Sender<Progress>,
}

impl Batch {
    /// A batch that waits for [`Batch::run`], and its progress.
    pub fn new(api: Arc<dyn SchedulerApi>, commands: &[&str]) -> (Self, watch::Receiver<Progress>) {
        let (progress, told) = watch::channel(Progress::default());
        let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
        let jobs = vec![Job::Waiting; commands.len()];
        let batch = Self { api, id: None, stream_id: String::new(), commands, jobs, attempts: 0, progress };
        (batch, told)
    }

    /// Runs every command until all ended well. A master that is lost is looked for again.
    pub async fn run(mut self) {
        while !self.is_done() {
            match self.api.subscribe(self.subscribe(), None).await {
                Ok(mut stream) => {
                    self.stream_id.clone_from(&stream.stream_id);
                    while !self.is_done()
                        && let Some(event) = stream.events.recv().await
                    {
                        self.handle(event).await;
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.call(call::Type::Teardown, |_| {}).await;
    }

    fn is_done(&self) -> bool {
        self.jobs.iter().all(|job| *job == Job::Done)
    }

    fn subscribe(&self) -> Call {
        let framework_info = v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: "batch".to_owned(),
            id: self.id.clone(),
            failover_timeout: Some(FAILOVER_TIMEOUT),
            ..Default::default()
        };
        Call {
            framework_id: self.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info, ..Default::default() }),
            ..Default::default()
        }
    }

    /// What does not get through comes again: offers are made anew, updates are told until acknowledged.
    async fn call(&self, kind: call::Type, fill: impl FnOnce(&mut Call)) {
        let mut call =
            Call { framework_id: self.id.clone(), r#type: Some(kind.into()), ..Default::default() };
        fill(&mut call);
        let _ = self.api.call(call, Some(self.stream_id.clone()), None).await;
    }

    async fn handle(&mut self, event: Event) {
        if let Some(subscribed) = event.subscribed {
            self.id = Some(subscribed.framework_id);
            self.progress.send_modify(|progress| progress.subscribed += 1);
            // What a launch came to that was on its way: a master tells of every task, or that it knows none.
            let launched = self.jobs.iter().enumerate().filter_map(|(number, job)| match job {
                Job::Launched(attempt) => Some(task_id(number, *attempt)),
                _ => None,
            });
            let tasks = launched.map(|task_id| call::reconcile::Task { task_id, agent_id: None }).collect();
            self.call(call::Type::Reconcile, |call| call.reconcile = Some(call::Reconcile { tasks })).await;
        }
        for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
            self.take(offer).await;
        }
        if let Some(update) = event.update {
            self.hear(update.status).await;
        }
    }

    /// Launches what waits, as far as the offer reaches.
    async fn take(&mut self, offer: v1::Offer) {
        let scalar = |name: &str, value: f64| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        };
        let cpus = offer.resources.iter().filter(|resource| resource.name == "cpus");
        let mut cpus: f64 = cpus.filter_map(|resource| resource.scalar.map(|scalar| scalar.value)).sum();
        let mut task_infos = Vec::new();
        for (number, job) in self.jobs.iter_mut().enumerate().filter(|(_, job)| **job == Job::Waiting) {
            cpus -= 1.0;
            if cpus < 0.0 {
                break;
            }
            self.attempts += 1;
            *job = Job::Launched(self.attempts);
            task_infos.push(v1::TaskInfo {
                name: format!("job {number}"),
                task_id: task_id(number, self.attempts),
                agent_id: offer.agent_id.clone(),
                command: Some(v1::CommandInfo {
                    value: Some(self.commands[number].clone()),
                    ..Default::default()
                }),
                resources: vec![scalar("cpus", 1.0), scalar("mem", 32.0)],
                ..Default::default()
            });
        }
        let launch = Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos }),
            ..Default::default()
        };
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![launch], filters: None };
        self.call(call::Type::Accept, |call| call.accept = Some(accept)).await;
    }

    async fn hear(&mut self, status: v1::TaskStatus) {
        let launched: BTreeMap<String, usize> = self
            .jobs
            .iter()
            .enumerate()
            .filter_map(|(number, job)| match job {
                Job::Launched(attempt) => Some((task_id(number, *attempt).value, number)),
                _ => None,
            })
            .collect();
        if let Some(number) = launched.get(&status.task_id.value) {
            match status.state() {
                TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning => {}
                TaskState::TaskKilling => {}
                TaskState::TaskFinished => {
                    self.jobs[*number] = Job::Done;
                    self.progress.send_modify(|progress| progress.done += 1);
                }
                _ => {
                    self.jobs[*number] = Job::Waiting;
                    self.progress.send_modify(|progress| progress.failed += 1);
                    // Offers that it had no use for would come again only after some seconds.
                    self.call(call::Type::Revive, |_| {}).await;
                }
            }
        }
        if let Some(uuid) = status.uuid {
            let agent_id = status.agent_id.unwrap_or_default();
            let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id, uuid };
            self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge)).await;
        }
    }
}

fn task_id(number: usize, attempt: u32) -> v1::TaskId {
    v1::TaskId { value: format!("job-{number}.{attempt}") }
}
