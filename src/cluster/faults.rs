//! What can be broken on request, and mended.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, ClusterError, Part};
use crate::agent::core::container::{Exit, LaunchSpec};
use crate::containerizer::Fake;
use crate::node::What;
use crate::storage::{Fault, FaultKind};

/// How far a wall clock is from the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// It is ahead.
    Ahead(Duration),
    /// It is behind.
    Behind(Duration),
}

impl Skew {
    fn nanos(self) -> i64 {
        let nanos = |by: Duration| i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        match self {
            Self::Ahead(by) => nanos(by),
            Self::Behind(by) => -nanos(by),
        }
    }
}

/// A task that the fake executor pretends to run.
#[derive(Clone, Debug)]
pub struct Task {
    spec: LaunchSpec,
    agent: usize,
    fake: Arc<Fake>,
}

impl Task {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.spec.task_id.as_str()
    }

    /// The id of its framework.
    #[must_use]
    pub fn framework_id(&self) -> &str {
        self.spec.framework_id.as_str()
    }

    /// The number of its agent.
    #[must_use]
    pub fn agent(&self) -> usize {
        self.agent
    }

    /// Lets it end with this exit code: 0 is TASK_FINISHED, any other TASK_FAILED.
    ///
    /// # Errors
    /// It has ended.
    pub fn exit(&self, code: i32) -> Result<(), ClusterError> {
        let has_ended = || ClusterError::Invalid(format!("the task {} has ended", self.id()));
        self.fake.exit(&self.spec.container_id, Exit::Code(code)).then_some(()).ok_or_else(has_ended)
    }
}

impl Cluster {
    /// Ends a part as a crash would: what is not on disk is lost, nobody is told. Of an agent with the fake
    /// executor the tasks run on.
    ///
    /// # Errors
    /// It was ended before, there is no such part, or it did not end in time.
    pub async fn kill(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = part.into();
        self.note(format!("the {part} is ended"));
        self.ask(move |node| Box::pin(node.kill(part))).await?.then_some(()).ok_or_else(|| runs_not(part))
    }

    /// Starts a part again that was ended, on the state that it had and with a disk that is whole.
    ///
    /// # Errors
    /// It was not ended, or does not start.
    pub async fn restart(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = part.into();
        let started = self.ask(move |node| Box::pin(node.restart(part))).await?;
        started.map_err(|error| ClusterError::Invalid(error.to_string()))?;
        self.note(format!("the {part} was started again"));
        Ok(())
    }

    /// As [`Cluster::kill`], of a master.
    ///
    /// # Errors
    /// As there.
    pub async fn kill_master(&self, number: usize) -> Result<(), ClusterError> {
        self.kill(Part::Master(number)).await
    }

    /// As [`Cluster::restart`], of a master.
    ///
    /// # Errors
    /// As there.
    pub async fn restart_master(&self, number: usize) -> Result<(), ClusterError> {
        self.restart(Part::Master(number)).await
    }

    /// As [`Cluster::kill`], of the master that leads: its number.
    ///
    /// # Errors
    /// No master leads, or it did not end in time.
    pub async fn kill_leader(&self) -> Result<usize, ClusterError> {
        let none = || ClusterError::Invalid("no master leads".to_owned());
        let leader = self.leader().await.ok_or_else(none)?;
        self.kill_master(leader).await?;
        Ok(leader)
    }

    /// Lets a part stand still, as SIGSTOP does to a process: it does nothing, and its connections stand. (What
    /// is asked over HTTP on a connection that stands already may be answered for it by another master.)
    ///
    /// # Errors
    /// It does not run.
    pub async fn pause(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = part.into();
        self.note(format!("the {part} stands still"));
        let paused = self.ask(move |node| Box::pin(std::future::ready(node.pause(part)))).await?;
        paused.then_some(()).ok_or_else(|| runs_not(part))
    }

    /// Lets a part go on after [`Cluster::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub async fn resume(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = part.into();
        self.note(format!("the {part} goes on"));
        let resumed = self.ask(move |node| Box::pin(std::future::ready(node.resume(part)))).await?;
        resumed.then_some(()).ok_or_else(|| runs_not(part))
    }

    /// Lets nothing through between the parts of two sides, in either direction; nobody is told. Numbers are
    /// masters: `partition(&[0], &[1, 2])`. Agents talk to the leading master only.
    ///
    /// # Errors
    /// There is no such part.
    pub fn partition<A, B>(&self, one: &[A], other: &[B]) -> Result<(), ClusterError>
    where
        A: Copy + Into<Part>,
        B: Copy + Into<Part>,
    {
        self.partition_one_way(one, other)?;
        self.partition_one_way(other, one)
    }

    /// The same in one direction: nothing of the first side arrives at the second.
    ///
    /// # Errors
    /// There is no such part.
    pub fn partition_one_way<A, B>(&self, from: &[A], to: &[B]) -> Result<(), ClusterError>
    where
        A: Copy + Into<Part>,
        B: Copy + Into<Part>,
    {
        let (from, to) = (self.all_known(from)?, self.all_known(to)?);
        for from in from {
            for to in to.iter().filter(|to| **to != from) {
                self.note(format!("nothing arrives from the {from} at the {to}"));
                self.levers.cut(from, *to);
            }
        }
        Ok(())
    }

    /// Cuts an agent off from every master, as when its machine loses its network. Its tasks run on;
    /// [`Cluster::heal`] brings it back.
    ///
    /// # Errors
    /// There is no such agent.
    pub fn drop_agent(&self, number: usize) -> Result<(), ClusterError> {
        let masters: Vec<Part> = self.levers.parts().filter(|part| matches!(part, Part::Master(_))).collect();
        self.partition(&[Part::Agent(number)], &masters)
    }

    /// Lets every message between masters, and between them and agents, be on its way for this long.
    pub fn delay(&self, delay: Duration) {
        self.note(format!("every message takes {} ms", delay.as_millis()));
        self.levers.delay(delay);
    }

    /// Undoes every partition and delay, brings every agent back that was cut off, and makes every disk
    /// whole. What stands still or was ended stays so, clocks stay as they are.
    pub fn heal(&self) {
        self.note("network and disks are whole".to_owned());
        self.levers.heal();
    }

    /// Lets every later write to the disk of a part fail: with the next one the part ends, as a process does
    /// that must not go on. [`Cluster::restart`] gives it a disk that is whole.
    ///
    /// # Errors
    /// There is no such part.
    pub fn fail_disk_write(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = self.known(part.into())?;
        self.note(format!("the disk of the {part} fails"));
        self.levers.fail_disk(part, Fault::from(FaultKind::SyncFails, 0));
        Ok(())
    }

    /// Lets the disk of a part count as nearly full: it takes on nothing new and goes on with what it has,
    /// until [`Cluster::heal`].
    ///
    /// # Errors
    /// There is no such part.
    pub fn fill_disk(&self, part: impl Into<Part>) -> Result<(), ClusterError> {
        let part = self.known(part.into())?;
        self.note(format!("the disk of the {part} is full"));
        self.levers.fill_disk(part);
        Ok(())
    }

    /// Sets the wall clock of a part off, at once and for good; what it measures durations with goes on.
    ///
    /// # Errors
    /// There is no such part.
    pub fn skew_clock(&self, part: impl Into<Part>, skew: Skew) -> Result<(), ClusterError> {
        let part = self.known(part.into())?;
        self.note(format!("the clock of the {part} is off: {skew:?}"));
        self.levers.skew_clock(part, skew.nanos());
        Ok(())
    }

    /// The tasks that the fake executor runs now, of services and of frameworks.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        let fakes = self.levers.fakes().iter();
        let of = |(agent, fake): &(usize, Arc<Fake>)| {
            let (agent, fake) = (*agent, Arc::clone(fake));
            fake.running().into_iter().map(move |spec| Task { spec, agent, fake: Arc::clone(&fake) })
        };
        fakes.flat_map(of).collect()
    }

    /// One of [`Cluster::tasks`], by its id.
    ///
    /// # Errors
    /// The fake executor runs no such task now.
    pub fn task(&self, id: &str) -> Result<Task, ClusterError> {
        let found = self.tasks().into_iter().find(|task| task.id() == id);
        found.ok_or_else(|| ClusterError::Invalid(format!("no task {id} runs with the fake executor")))
    }

    fn all_known<P: Copy + Into<Part>>(&self, side: &[P]) -> Result<Vec<Part>, ClusterError> {
        side.iter().map(|part| self.known((*part).into())).collect()
    }

    fn known(&self, part: Part) -> Result<Part, ClusterError> {
        let none = || ClusterError::Invalid(format!("there is no {part}"));
        self.levers.has(part).then_some(part).ok_or_else(none)
    }

    fn note(&self, what: String) {
        self.levers.journal().record(What::Fault(what));
    }
}

fn runs_not(part: Part) -> ClusterError {
    ClusterError::Invalid(format!("there is no {part} that runs"))
}
