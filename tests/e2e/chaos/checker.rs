//! What must hold of a history, as pure functions: each gives a line for everything that does not.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{AgentSample, Amounts, Event, Evidence, Nanos, Outcome, Record, Stage};

/// Every task that was taken on is settled so soon after a master leads.
const SETTLED_WITHIN: Nanos = 30_000_000_000;
/// A write whose answer was lost takes effect in this time, or never: longer than any client waits, and
/// than anybody is stopped.
const WRITE_LIFE: Nanos = 60_000_000_000;

/// A task that began so shortly before it was not wanted any more may be killed at once.
const AT_ONCE: Nanos = 1_000_000_000;
/// A task begins at most so long after it was taken on: its agent may be stopped for a while.
const LATE: Nanos = 10_000_000_000;

/// What the run ended with.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// Instances that each app should have, as it is read at the end.
    pub(crate) apps: BTreeMap<String, u32>,
    /// Tasks that `/v2` shows as running, for each app.
    pub(crate) shown: BTreeMap<String, BTreeSet<String>>,
    /// Agents when everything was at rest.
    pub(crate) agents: Vec<AgentSample>,
}

/// Everything.
pub(crate) fn check(history: &[Record], evidence: &Evidence, end: &End) -> Vec<String> {
    let mut wrong = writes(history, &end.apps);
    wrong.extend(starts(history, evidence));
    wrong.extend(lives(history, evidence));
    wrong.extend(accepted(history, evidence));
    wrong.extend(updates(history, evidence));
    wrong.extend(counts(evidence, end));
    wrong.extend(resources(history, &end.agents));
    wrong
}

/// What an app may be: absent, or so many instances.
type Value = Option<u32>;

/// One app as far as its only writer can know it.
#[derive(Debug)]
struct Register {
    possible: BTreeSet<Value>,
    /// Writes without an answer, and when they were sent.
    pending: Vec<(Nanos, Value)>,
}

impl Register {
    fn new() -> Self {
        Self { possible: BTreeSet::from([None]), pending: Vec::new() }
    }

    fn may_be(&self, at: Nanos) -> BTreeSet<Value> {
        let pending = self.pending.iter().filter(|(sent, _)| sent + WRITE_LIFE >= at);
        self.possible.iter().copied().chain(pending.map(|(_, value)| *value)).collect()
    }

    fn wrote(&mut self, sent: Nanos, value: Value, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.possible = BTreeSet::from([value]),
            Outcome::Unknown => self.pending.push((sent, value)),
            Outcome::Not => {}
        }
    }

    /// What was read was true then. Whatever is not explained is remembered, so that it is told once.
    fn read(&mut self, value: Value) {
        self.possible = BTreeSet::from([value]);
    }
}

/// No acknowledged write is lost: every read, and the end, is explained by the last write that was
/// acknowledged or by one whose answer was lost.
pub(crate) fn writes(history: &[Record], end: &BTreeMap<String, u32>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut apps: BTreeMap<&str, Register> = BTreeMap::new();
    let mut sent: BTreeMap<u64, (Nanos, &str, Value)> = BTreeMap::new();
    for record in history {
        match &record.event {
            Event::Write { op, app, value } => drop(sent.insert(*op, (record.at, app, *value))),
            Event::Wrote { op, outcome } => {
                if let Some((at, app, value)) = sent.remove(op) {
                    apps.entry(app).or_insert_with(Register::new).wrote(at, value, *outcome);
                }
            }
            Event::Read { app, value } => {
                let register = apps.entry(app).or_insert_with(Register::new);
                let may_be = register.may_be(record.at);
                if !may_be.contains(value) {
                    wrong.push(format!("{app} is read as {value:?} at {}: it can be {may_be:?}", record.at));
                }
                register.read(*value);
            }
            _ => {}
        }
    }
    // Whoever never heard an answer may have been served.
    for (at, app, value) in sent.into_values() {
        apps.entry(app).or_insert_with(Register::new).wrote(at, value, Outcome::Unknown);
    }
    let now = history.last().map_or(0, |record| record.at);
    for (app, register) in &apps {
        let (may_be, value) = (register.may_be(now), end.get(*app).copied());
        if !may_be.contains(&value) {
            wrong.push(format!("{app} is {value:?} at the end: it can be {may_be:?}"));
        }
    }
    wrong.extend(
        end.keys().filter(|app| !apps.contains_key(app.as_str())).map(|app| format!("nobody created {app}")),
    );
    wrong
}

/// No task begins twice, none without having been asked for, none after it was said to be no more, and
/// no service starts more tasks than its scalings explain (one more would be a restart).
pub(crate) fn starts(history: &[Record], evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    for start in &evidence.starts {
        *begun.entry(&start.task).or_default() += 1;
    }
    let doubled = begun.iter().filter(|(_, times)| **times > 1);
    wrong.extend(doubled.map(|(task, times)| format!("{task} was started {times} times")));
    let launched = launches(history);
    let over = final_news(history);
    for start in evidence.starts.iter().filter(|start| start.app.is_none()) {
        match launched.get(start.task.as_str()) {
            None => wrong.push(format!("{} was started and never launched", start.task)),
            Some((_, _, Outcome::Not)) => {
                wrong.push(format!("{} was started although its launch was refused", start.task));
            }
            Some(_) => {}
        }
        if let Some((at, state)) = over.get(start.task.as_str()).filter(|(at, _)| *at < start.at) {
            wrong.push(format!("{} was said to be {state} at {at}, and began at {}", start.task, start.at));
        }
    }
    let budgets = budgets(history);
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    for app in evidence.starts.iter().filter_map(|start| start.app.as_deref()) {
        *used.entry(app).or_default() += 1;
    }
    for (app, used) in used {
        let budget = budgets.get(app).copied().unwrap_or(0);
        if used > budget {
            wrong.push(format!("{app} started {used} tasks, and its scalings explain {budget}"));
        }
    }
    wrong
}

/// Tasks of the framework: when each was launched, whether it is short, and what was heard.
fn launches(history: &[Record]) -> BTreeMap<&str, (Nanos, bool, Outcome)> {
    let launches = history.iter().filter_map(|record| match &record.event {
        Event::Launch { task, short, outcome } => Some((task.as_str(), (record.at, *short, *outcome))),
        _ => None,
    });
    launches.collect()
}

/// The first news of each task after which nothing may follow.
fn final_news(history: &[Record]) -> BTreeMap<&str, (Nanos, &str)> {
    let mut over = BTreeMap::new();
    for record in history {
        if let Event::Update { task, stage, state, .. } = &record.event
            && stage.is_final()
        {
            over.entry(task.as_str()).or_insert((record.at, state.as_str()));
        }
    }
    over
}

/// How many tasks each app may have started: the sum of what its writes raised it by.
fn budgets(history: &[Record]) -> BTreeMap<&str, u32> {
    let outcomes: BTreeMap<u64, Outcome> = history
        .iter()
        .filter_map(|record| match record.event {
            Event::Wrote { op, outcome } => Some((op, outcome)),
            _ => None,
        })
        .collect();
    let mut lowest: BTreeMap<&str, u32> = BTreeMap::new();
    let mut budgets: BTreeMap<&str, u32> = BTreeMap::new();
    for record in history {
        match &record.event {
            Event::Write { op, app, value } => {
                let (low, value) = (lowest.entry(app).or_default(), value.unwrap_or(0));
                let budget = budgets.entry(app).or_default();
                match outcomes.get(op).copied().unwrap_or(Outcome::Unknown) {
                    Outcome::Not => {}
                    Outcome::Done => {
                        *budget += value.saturating_sub(*low);
                        *low = value;
                    }
                    // It may take effect now or after later ones.
                    Outcome::Unknown => {
                        *budget += value;
                        *low = value.min(*low);
                    }
                }
            }
            // What was read is what there is; only writes without an answer can still lower it.
            Event::Read { app, value } => {
                let low = lowest.entry(app).or_default();
                *low = value.unwrap_or(0).min(*low);
            }
            _ => {}
        }
    }
    budgets
}

/// Tasks that somebody was told are running.
fn seen_running(history: &[Record]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    for record in history {
        match &record.event {
            Event::Update { task, stage: Stage::Running, .. } => drop(seen.insert(task.as_str())),
            Event::Sample { agents } => {
                seen.extend(agents.iter().flat_map(|agent| agent.running.iter().map(String::as_str)));
            }
            _ => {}
        }
    }
    seen
}

/// A task that reached RUNNING (one that is killed while it is launched may end without a word) goes on until it ends by itself or is asked to end, and is asked only when somebody
/// wanted that.
pub(crate) fn lives(history: &[Record], evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let (launched, seen) = (launches(history), seen_running(history));
    let killed: BTreeSet<&str> = history
        .iter()
        .filter_map(|record| match &record.event {
            Event::Kill { task } => Some(task.as_str()),
            _ => None,
        })
        .collect();
    for start in &evidence.starts {
        let task = start.task.as_str();
        let asked = evidence.terms.contains_key(task);
        let runs = evidence.alive.contains(task) || evidence.ends.contains(task);
        // What is not wanted any more when it begins is killed before it can be asked.
        let is_late = match start.app.as_deref() {
            Some(app) => was_lowered(history, app, start.at),
            None => killed.contains(task),
        };
        // Nobody was told that it runs: it went with its agent, or before it was wanted.
        let is_excused = !seen.contains(task) && (is_late || was_struck(history, start.at));
        if !runs && !asked && !is_excused {
            wrong.push(format!("{task} runs no more, and nobody asked it to end"));
        }
        let is_short = launched.get(task).is_some_and(|(_, short, _)| *short);
        if asked && start.app.is_none() && !killed.contains(task) {
            wrong.push(format!("{task} was asked to end although its framework never said so"));
        }
        if is_short && evidence.alive.contains(task) {
            wrong.push(format!("{task} should have ended by itself and still runs"));
        }
    }
    wrong.extend(wrong_ends(history, evidence, &launched, &killed));
    wrong
}

/// Whether something was done to the cluster around a time.
fn was_struck(history: &[Record], at: Nanos) -> bool {
    let faults = history.iter().filter(|record| matches!(record.event, Event::Fault { .. }));
    faults.map(|record| record.at).any(|fault| at.saturating_sub(LATE) <= fault && fault <= at + AT_ONCE)
}

/// Whether fewer instances of an app were asked for around a time: what begins then may not be wanted any
/// more, and be killed before it is asked.
fn was_lowered(history: &[Record], app: &str, at: Nanos) -> bool {
    let mut last = 0;
    history.iter().take_while(|record| record.at <= at + AT_ONCE).any(|record| match &record.event {
        Event::Write { app: written, value, .. } if written == app => {
            let before = std::mem::replace(&mut last, value.unwrap_or(0));
            last < before && record.at + LATE >= at
        }
        _ => false,
    })
}

/// News that a task has ended otherwise than it should.
fn wrong_ends(
    history: &[Record],
    evidence: &Evidence,
    launched: &BTreeMap<&str, (Nanos, bool, Outcome)>,
    killed: &BTreeSet<&str>,
) -> Vec<String> {
    let begun: BTreeMap<&str, Nanos> =
        evidence.starts.iter().map(|start| (start.task.as_str(), start.at)).collect();
    let mut wrong = Vec::new();
    for record in history {
        let Event::Update { task, stage, state, .. } = &record.event else { continue };
        let was_killed = killed.contains(task.as_str());
        let is_short = launched.get(task.as_str()).is_some_and(|(_, short, _)| *short);
        let has_begun = begun.get(task.as_str()).is_some_and(|at| *at < record.at);
        let is_wrong = match stage {
            // Its agent was killed before it could launch it: that is an answer, too.
            Stage::Ended if !begun.contains_key(task.as_str()) => {
                let launched = launched.get(task.as_str()).map_or(0, |(at, ..)| *at);
                !was_killed && !was_struck(history, launched) && !was_struck(history, record.at)
            }
            Stage::Ended => !(is_short && state == "TASK_FINISHED" || was_killed && state == "TASK_KILLED"),
            Stage::Absent | Stage::Unreachable => has_begun && !evidence.ends.contains(task) && !was_killed,
            _ => false,
        };
        if is_wrong {
            wrong.push(format!("{task} is said to be {state} at {} without a reason", record.at));
        }
    }
    wrong
}

/// Every task that was accepted with 202 runs, or is known not to, within 30 s of the last change of leader.
pub(crate) fn accepted(history: &[Record], evidence: &Evidence) -> Vec<String> {
    let begun: BTreeMap<&str, Nanos> =
        evidence.starts.iter().map(|start| (start.task.as_str(), start.at)).collect();
    let mut told: BTreeMap<&str, Nanos> = BTreeMap::new();
    for record in history {
        if let Event::Update { task, stage, .. } = &record.event
            && (stage.is_final() || *stage >= Stage::Running)
        {
            told.entry(task).or_insert(record.at);
        }
    }
    let leads: Vec<Nanos> = history
        .iter()
        .filter(|record| matches!(record.event, Event::Subscribed { .. }))
        .map(|record| record.at)
        .collect();
    let end = history.last().map_or(0, |record| record.at);
    let mut wrong = Vec::new();
    for (task, (at, _, outcome)) in launches(history) {
        if outcome != Outcome::Done {
            continue;
        }
        let known = [begun.get(task), told.get(task)].into_iter().flatten().min().copied();
        let until = known.unwrap_or(end);
        // The longest time in which one master led and the task was not settled.
        let inside = leads.iter().copied().filter(|lead| *lead > at && *lead < until);
        let edges: Vec<Nanos> = std::iter::once(at).chain(inside).chain([until]).collect();
        let longest = edges.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
        if longest > SETTLED_WITHIN {
            wrong.push(format!(
                "{task} was accepted at {at} and is not settled {} s later",
                longest / 1_000_000_000
            ));
        } else if known.is_none() {
            wrong.push(format!("{task} was accepted at {at} and never heard of again"));
        }
    }
    wrong
}

/// What was told of one task.
#[derive(Debug)]
struct Told<'a> {
    last: Stage,
    uuids: BTreeSet<&'a str>,
    /// The update that told its end.
    end: Option<&'a str>,
    /// That one is acknowledged.
    is_closed: bool,
}

impl<'a> Told<'a> {
    const NOTHING: Self = Self { last: Stage::Staging, uuids: BTreeSet::new(), end: None, is_closed: false };

    fn news(&mut self, stage: Stage, uuid: Option<&'a str>) -> Option<String> {
        let is_alive = !stage.is_final() && stage != Stage::Unreachable;
        let is_new = uuid.is_none_or(|uuid| self.uuids.insert(uuid));
        let mut wrong = None;
        // The same update may come again: its acknowledgement may have been lost on the way.
        if self.is_closed && is_new && (uuid.is_some() || is_alive) {
            wrong = Some("after its end was acknowledged".to_owned());
        } else if is_new && stage < self.last && self.last != Stage::Unreachable {
            wrong = Some(format!("after {:?}", self.last));
        }
        if uuid.is_some() || !is_alive || self.last == Stage::Unreachable {
            self.last = if self.last == Stage::Unreachable { stage } else { self.last.max(stage) };
        }
        if stage == Stage::Ended && uuid.is_some() {
            self.end = self.end.or(uuid);
        }
        wrong
    }
}

/// Updates of each task come in order, each as often as is needed, and none after its end was
/// acknowledged; whatever ran told so.
pub(crate) fn updates(history: &[Record], evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told: BTreeMap<&str, Told<'_>> = BTreeMap::new();
    for record in history {
        match &record.event {
            Event::Update { task, stage, state, uuid } => {
                let of_task = told.entry(task).or_insert(Told::NOTHING);
                if let Some(problem) = of_task.news(*stage, uuid.as_deref()) {
                    wrong.push(format!("{task} is {state} at {} {problem}", record.at));
                }
            }
            Event::Acknowledged { task, uuid, outcome: Outcome::Done } => {
                if let Some(of_task) = told.get_mut(task.as_str()) {
                    of_task.is_closed |= of_task.end == Some(uuid.as_str());
                }
            }
            _ => {}
        }
    }
    for start in evidence.starts.iter().filter(|start| start.app.is_none()) {
        let last = told.get(start.task.as_str()).map_or(Stage::Staging, |of_task| of_task.last);
        let has_ended = !evidence.alive.contains(&start.task);
        if has_ended && last != Stage::Ended {
            wrong.push(format!("{} has ended, and the last that was told is {last:?}", start.task));
        } else if last < Stage::Running {
            wrong.push(format!("{} runs, and the last that was told is {last:?}", start.task));
        }
    }
    wrong
}

/// Each service has exactly its instances: in what is shown, and in what runs.
pub(crate) fn counts(evidence: &Evidence, end: &End) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut running: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in evidence.starts.iter().filter(|start| evidence.alive.contains(&start.task)) {
        if let Some(app) = start.app.as_deref() {
            running.entry(app).or_default().insert(&start.task);
        }
    }
    for (app, wanted) in &end.apps {
        let runs = running.remove(app.as_str()).unwrap_or_default();
        let shown: BTreeSet<&str> =
            end.shown.get(app).map(|tasks| tasks.iter().map(String::as_str).collect()).unwrap_or_default();
        if runs.len() != usize::try_from(*wanted).unwrap_or(usize::MAX) || runs != shown {
            wrong.push(format!("{app} should have {wanted} instances: {shown:?} are shown, {runs:?} run"));
        }
    }
    wrong.extend(running.into_iter().map(|(app, tasks)| format!("{app} is deleted, and {tasks:?} run")));
    wrong
}

/// No agent is over-committed, ever; at rest what is allocated is what tasks have.
pub(crate) fn resources(history: &[Record], at_rest: &[AgentSample]) -> Vec<String> {
    let mut wrong = Vec::new();
    for record in history {
        let Event::Sample { agents } = &record.event else { continue };
        wrong.extend(agents.iter().filter_map(|sample| {
            overcommitted(sample).map(|problem| format!("{} at {}: {problem}", sample.agent, record.at))
        }));
    }
    for sample in at_rest {
        if let Some(problem) = overcommitted(sample) {
            wrong.push(format!("{} at the end: {problem}", sample.agent));
        }
        let used = sum(&sample.tasks);
        if used.scalars != sample.allocated.scalars {
            wrong.push(format!(
                "{} at the end: {:?} is allocated, tasks have {:?}",
                sample.agent, sample.allocated.scalars, used.scalars
            ));
        }
    }
    wrong
}

fn overcommitted(sample: &AgentSample) -> Option<String> {
    let in_use = sum(&[sample.allocated.clone(), sample.offered.clone()]);
    for (what, used) in [("allocated and offered", in_use), ("tasks have", sum(&sample.tasks))] {
        for (name, amount) in &used.scalars {
            let total = sample.total.scalars.get(name).copied().unwrap_or(0);
            if *amount > total {
                return Some(format!("{what}: {amount} of {total} {name} (thousandths)"));
            }
        }
        let mut ports = used.ports.clone();
        ports.sort_unstable();
        if let Some(pair) = ports.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            return Some(format!("{what}: ports {pair:?} overlap"));
        }
        let fits = |range: &(u64, u64)| {
            sample.total.ports.iter().any(|total| total.0 <= range.0 && range.1 <= total.1)
        };
        if let Some(range) = ports.iter().find(|range| !fits(range)) {
            return Some(format!("{what}: the agent has no ports {range:?}"));
        }
    }
    None
}

fn sum(amounts: &[Amounts]) -> Amounts {
    let mut whole = Amounts::default();
    for one in amounts {
        for (name, amount) in &one.scalars {
            *whole.scalars.entry(name.clone()).or_default() += amount;
        }
        whole.ports.extend(&one.ports);
    }
    whole
}
