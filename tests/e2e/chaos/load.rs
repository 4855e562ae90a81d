//! Clients of `/v2` at any master: each writes apps of its own, one write after another, so that a history
//! of one app has one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::checker::End;
use super::cluster::Addresses;
use super::history::{AgentSample, Amounts, Event, History, Outcome, Stage};
use super::http::{self, ANSWER, Answer};
use crate::kills::Dice;
use crate::support::{POLL, now};

/// Most instances of an app.
const INSTANCES: u64 = 4;
/// How long a client waits for a deployment before it changes its mind.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pause between two samples.
const SAMPLE: Duration = Duration::from_millis(150);

static NEXT_OP: AtomicU64 = AtomicU64::new(1);

/// A client.
pub(crate) struct Client {
    addresses: Addresses,
    history: History,
    dice: Dice,
    stop: Arc<AtomicBool>,
    /// The command of a task, without its arguments.
    command: String,
}

impl Client {
    pub(crate) fn new(
        addresses: Addresses,
        history: History,
        stop: Arc<AtomicBool>,
        command: String,
        dice: Dice,
    ) -> Self {
        Self { addresses, history, dice, stop, command }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Scales one app up and down.
    pub(crate) fn scale(mut self, app: String) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut value = self.settle(&app, Some(1));
            while !self.is_over() {
                let wanted = u32::try_from(self.dice.below(INSTANCES + 1)).unwrap_or(1);
                if value == Some(wanted) {
                    continue;
                }
                value = self.settle(&app, Some(wanted));
                self.watch(&app, value);
            }
        })
    }

    /// Creates small apps and deletes them.
    pub(crate) fn create_and_delete(mut self, name: String) -> JoinHandle<()> {
        std::thread::spawn(move || {
            for number in 0.. {
                let app = format!("{name}-{number}");
                let value = self.settle(&app, Some(1));
                if self.is_over() {
                    return;
                }
                self.watch(&app, value);
                self.settle(&app, None);
            }
        })
    }

    /// Writes until it is done, reading in between what came of writes without an answer.
    fn settle(&mut self, app: &str, wanted: Option<u32>) -> Option<u32> {
        let mut known = self.read(app);
        loop {
            if self.write(app, known.is_some(), wanted) == Outcome::Done {
                let read = self.read(app);
                return read;
            }
            known = self.read(app);
            if self.is_over() || known == wanted {
                return known;
            }
        }
    }

    fn write(&mut self, app: &str, exists: bool, value: Option<u32>) -> Outcome {
        let op = NEXT_OP.fetch_add(1, Ordering::Relaxed);
        self.history.add(Event::Write { op, app: app.to_owned(), value });
        let asked = self.addresses.any(&mut self.dice);
        let change =
            |method: &str, path: &str, body: &str| http::send(&asked, method, path, "", body, ANSWER);
        let answer = match (exists, value) {
            (_, None) => change("DELETE", &format!("/v2/apps{app}?force=true"), ""),
            (true, Some(instances)) => {
                let body = json!({ "instances": instances }).to_string();
                change("PUT", &format!("/v2/apps{app}?force=true"), &body)
            }
            (false, Some(instances)) => {
                let cmd = format!("{} $MESOS_TASK_ID $MARATHON_APP_ID long", self.command);
                let body = json!({ "id": app, "cmd": cmd, "cpus": 0.1, "mem": 8, "instances": instances });
                change("POST", "/v2/apps", &body.to_string())
            }
        };
        let outcome = answer.outcome();
        self.history.add(Event::Wrote { op, outcome });
        outcome
    }

    /// Reads an app until somebody answers.
    fn read(&mut self, app: &str) -> Option<u32> {
        loop {
            let asked = self.addresses.any(&mut self.dice);
            if let Some(value) = value_of(&http::get(&asked, &format!("/v2/apps{app}"))) {
                self.history.add(Event::Read { app: app.to_owned(), value });
                return value;
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// Most often waits until the app runs as it should; sometimes the next change comes in the middle.
    fn watch(&mut self, app: &str, value: Option<u32>) {
        if self.dice.below(4) == 0 {
            return;
        }
        let start = now();
        while start.elapsed() < PATIENCE && !self.is_over() {
            let asked = self.addresses.any(&mut self.dice);
            let read = http::get(&asked, &format!("/v2/apps{app}"));
            let running = read.json()["app"]["tasksRunning"].as_u64();
            if value_of(&read) == Some(value) && running == value.map(u64::from) {
                return;
            }
            std::thread::park_timeout(POLL * 5);
        }
    }
}

/// What an answer says of an app: absent, or its instances. None: it says nothing.
fn value_of(answer: &Answer) -> Option<Option<u32>> {
    match answer.status() {
        404 => Some(None),
        200 => answer.json()["app"]["instances"].as_u64().and_then(|it| u32::try_from(it).ok()).map(Some),
        _ => None,
    }
}

/// Looks again and again at what agents have and what is used.
pub(crate) fn sample(
    addresses: Addresses,
    history: History,
    stop: Arc<AtomicBool>,
    mut dice: Dice,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            if let Some(agents) = agents_at(&addresses.any(&mut dice)) {
                history.add(Event::Sample { agents });
            }
            std::thread::park_timeout(SAMPLE);
        }
    })
}

/// What a master says of agents and tasks, in one answer.
pub(crate) fn agents_at(address: &str) -> Option<Vec<AgentSample>> {
    let answer = http::post(address, "/api/v1", &json!({ "type": "GET_STATE" }));
    (answer.status() == 200).then(|| agents_of(&answer.json()["get_state"]))
}

fn agents_of(state: &Value) -> Vec<AgentSample> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut tasks: BTreeMap<String, Vec<Amounts>> = BTreeMap::new();
    let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for task in list(&state["get_tasks"]["tasks"]) {
        if !Stage::of(task["state"].as_str().unwrap_or_default()).is_final() {
            let agent = task["agent_id"]["value"].as_str().unwrap_or_default().to_owned();
            if task["state"] == "TASK_RUNNING" {
                let id = task["task_id"]["value"].as_str().unwrap_or_default().to_owned();
                running.entry(agent.clone()).or_default().insert(id);
            }
            tasks.entry(agent).or_default().push(amounts(&task["resources"]));
        }
    }
    let agents = list(&state["get_agents"]["agents"]).into_iter().map(|agent| {
        let id = agent["agent_info"]["id"]["value"].as_str().unwrap_or_default().to_owned();
        AgentSample {
            total: amounts(&agent["total_resources"]),
            allocated: amounts(&agent["allocated_resources"]),
            offered: amounts(&agent["offered_resources"]),
            tasks: tasks.remove(&id).unwrap_or_default(),
            running: running.remove(&id).unwrap_or_default(),
            agent: id,
        }
    });
    agents.collect()
}

#[expect(clippy::cast_possible_truncation, reason = "thousandths of what an agent of a test has")]
fn amounts(resources: &Value) -> Amounts {
    let mut amounts = Amounts::default();
    for resource in resources.as_array().into_iter().flatten() {
        let name = resource["name"].as_str().unwrap_or_default();
        if let Some(value) = resource["scalar"]["value"].as_f64() {
            *amounts.scalars.entry(name.to_owned()).or_default() += (value * 1000.0).round() as i64;
        }
        for range in resource["ranges"]["range"].as_array().into_iter().flatten() {
            amounts.ports.extend(range["begin"].as_u64().zip(range["end"].as_u64()));
        }
    }
    amounts
}

/// What is left when everybody has gone: each app with its instances and the tasks that run.
pub(crate) fn end_at(address: &str) -> Option<End> {
    let apps = http::get(address, "/v2/apps").json();
    let tasks = http::get(address, "/v2/tasks").json();
    let deployments = http::get(address, "/v2/deployments").json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if deployments.as_array().is_none_or(|deployments| !deployments.is_empty()) {
        return None;
    }
    let mut end = End { agents: agents_at(address)?, ..End::default() };
    for app in apps["apps"].as_array()? {
        let instances = app["instances"].as_u64().and_then(|it| u32::try_from(it).ok())?;
        end.apps.insert(text(&app["id"]), instances);
        end.shown.insert(text(&app["id"]), BTreeSet::new());
    }
    for task in tasks["tasks"].as_array()? {
        if task["state"] != "TASK_RUNNING" {
            return None;
        }
        end.shown.entry(text(&task["appId"])).or_default().insert(text(&task["id"]));
    }
    let is_settled = |(app, instances): (&String, &u32)| {
        end.shown.get(app).is_some_and(|tasks| tasks.len() as u64 == u64::from(*instances))
    };
    end.apps.iter().all(is_settled).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_master_says_is_understood() {
        let text = std::fs::read_to_string(crate::support::file("testdata/mesos/master.get_state.json"));
        let state: Value = serde_json::from_str(&text.expect("readable")).expect("JSON");
        let agents = agents_of(&state["get_state"]);
        assert!(!agents.is_empty());
        let agent = agents.iter().find(|agent| !agent.tasks.is_empty()).expect("tasks run there");
        assert!(agent.total.scalars["cpus"] >= agent.allocated.scalars["cpus"]);
        assert!(
            agent.tasks.iter().any(|task| task.scalars["cpus"] == 500 && task.ports == [(31_000, 31_001)])
        );
    }
}
