//! A framework of the test's own over the Mesos v1 scheduler API: it follows the leader, subscribes again
//! with its id, acknowledges, reconciles after each fail-over, and keeps launching.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::Addresses;
use super::history::{Event, History, Outcome, Stage};
use super::http::{self, ANSWER, Answer, Events, Leads};
use crate::kills::Dice;
use crate::support::{POLL, now};

/// Pause between two looks at who leads.
const WATCH: Duration = Duration::from_millis(300);
/// Pause before tasks without an answer are reconciled again.
const RECONCILE: Duration = Duration::from_secs(2);
/// Tasks that run until they are killed.
pub(crate) const LONG: usize = 6;
/// Tasks in one ACCEPT.
const TOGETHER: usize = 3;
/// One long task in so many offers is killed.
const KILL_ONE_IN: u64 = 12;
/// What a task needs.
const CPUS: f64 = 0.1;
const MEM: f64 = 8.0;

/// What the test wants of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Nothing new is launched or killed.
    pub(crate) rest: Arc<AtomicBool>,
    /// It tears itself down.
    pub(crate) end: Arc<AtomicBool>,
    /// Everything that was launched is settled and every end acknowledged.
    pub(crate) is_quiet: Arc<AtomicBool>,
}

/// A task as the framework knows it.
#[derive(Clone, Debug)]
struct Task {
    agent: String,
    is_short: bool,
    stage: Stage,
    /// Heard of since the last subscription, or never launched for sure.
    is_known: bool,
}

pub(crate) struct Framework {
    addresses: Addresses,
    history: History,
    wish: Wish,
    dice: Dice,
    /// The command of a task, without its arguments.
    command: String,
    id: Option<String>,
    tasks: BTreeMap<String, Task>,
    next: u32,
    master: String,
    stream_id: String,
    reconciled: Instant,
}

impl Framework {
    /// Runs it on a thread of its own until it is wished to end. A word for everything unexpected.
    pub(crate) fn run(
        addresses: Addresses,
        history: History,
        wish: Wish,
        command: String,
        dice: Dice,
    ) -> JoinHandle<Vec<String>> {
        let framework = Self {
            addresses,
            history,
            wish,
            dice,
            command,
            id: None,
            tasks: BTreeMap::new(),
            next: 0,
            master: String::new(),
            stream_id: String::new(),
            reconciled: now(),
        };
        std::thread::spawn(move || framework.work())
    }

    fn work(mut self) -> Vec<String> {
        let mut surprises = Vec::new();
        while !self.wish.end.load(Ordering::Relaxed) {
            match self.find_leader() {
                Some(master) => {
                    if let Err(surprise) = self.serve(master) {
                        surprises.push(surprise);
                    }
                }
                None => std::thread::park_timeout(POLL),
            }
        }
        surprises
    }

    /// Asks any master, and follows where it points to.
    fn find_leader(&mut self) -> Option<String> {
        let asked = self.addresses.any(&mut self.dice);
        match http::who_leads(&asked) {
            Leads::Here => Some(asked),
            Leads::At(address) => (http::who_leads(&address) == Leads::Here).then_some(address),
            Leads::Nobody | Leads::Silent => None,
        }
    }

    /// One subscription, from its beginning to its end.
    fn serve(&mut self, master: String) -> Result<(), String> {
        let mut info = json!({
            "user": "", "name": "chaos", "checkpoint": true, "failover_timeout": 3600.0,
            "capabilities": [{ "type": "PARTITION_AWARE" }],
        });
        let mut call = json!({ "type": "SUBSCRIBE" });
        if let Some(id) = &self.id {
            info["id"] = json!({ "value": id });
            call["framework_id"] = json!({ "value": id });
        }
        call["subscribe"] = json!({ "framework_info": info });
        let mut events = match Events::open(&master, &call) {
            Ok(events) => events,
            // It was deposed or has ended meanwhile.
            Err(Answer::NotSent | Answer::Lost | Answer::Reply(307 | 503, ..)) => return Ok(()),
            Err(answer) => {
                return Err(format!("SUBSCRIBE is refused: {} {}", answer.status(), answer.text()));
            }
        };
        (self.master, self.stream_id) = (master, events.stream_id.clone());
        for task in self.tasks.values_mut() {
            task.is_known = task.stage.is_final();
        }
        let mut watched = now();
        loop {
            if self.wish.end.load(Ordering::Relaxed) {
                self.call("TEARDOWN", &json!({}));
                return Ok(());
            }
            match events.next(POLL * 5) {
                Ok(Some(event)) => self.event(&event)?,
                Ok(None) => {}
                Err(_) => return Ok(()),
            }
            if watched.elapsed() >= WATCH {
                watched = now();
                if self.is_deposed() {
                    return Ok(());
                }
            }
            if self.reconciled.elapsed() >= RECONCILE {
                self.reconcile();
            }
            self.tell_whether_quiet();
        }
    }

    /// Whether another master says that yet another leads: a stopped one does not say so itself.
    fn is_deposed(&mut self) -> bool {
        let asked = self.addresses.any(&mut self.dice);
        match http::who_leads(&asked) {
            Leads::Here => asked != self.master,
            Leads::At(address) => address != self.master,
            Leads::Nobody | Leads::Silent => false,
        }
    }

    fn tell_whether_quiet(&self) {
        let open = self.tasks.values().filter(|task| {
            let is_over = task.stage.is_final() || (!task.is_short && task.stage == Stage::Running);
            !is_over || !task.is_known
        });
        let is_quiet = self.wish.rest.load(Ordering::Relaxed) && open.count() == 0;
        self.wish.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    fn event(&mut self, event: &Value) -> Result<(), String> {
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => {
                let id = event["subscribed"]["framework_id"]["value"].as_str().unwrap_or_default().to_owned();
                if let Some(known) = self.id.as_ref().filter(|known| **known != id) {
                    return Err(format!("subscribed as {known}, and became {id}"));
                }
                self.id = Some(id);
                self.history.add(Event::Subscribed { master: self.master.clone() });
                self.reconcile();
            }
            "OFFERS" => self.offers(&event["offers"]["offers"]),
            "UPDATE" => self.update(&event["update"]["status"]),
            "ERROR" => return Err(format!("the master says: {}", event["error"]["message"])),
            _ => {}
        }
        Ok(())
    }

    fn call(&self, kind: &str, members: &Value) -> Answer {
        let mut call = json!({ "type": kind, "framework_id": { "value": self.id } });
        for (name, value) in members.as_object().into_iter().flatten() {
            call[name.as_str()] = value.clone();
        }
        let header = format!("Mesos-Stream-Id: {}\r\n", self.stream_id);
        http::send(&self.master, "POST", "/api/v1/scheduler", &header, &call.to_string(), ANSWER)
    }

    fn offers(&mut self, offers: &Value) {
        for offer in offers.as_array().into_iter().flatten() {
            if !self.take(offer) {
                let decline = json!({ "offer_ids": [offer["id"]], "filters": { "refuse_seconds": 1.0 } });
                self.call("DECLINE", &json!({ "decline": decline }));
            }
        }
        if !self.wish.rest.load(Ordering::Relaxed) && self.dice.below(KILL_ONE_IN) == 0 {
            self.kill_one();
        }
    }

    /// Launches on an offer what fits. False: nothing does, or nothing is wanted.
    fn take(&mut self, offer: &Value) -> bool {
        if self.wish.rest.load(Ordering::Relaxed) {
            return false;
        }
        let has = |name: &str| {
            let resources = offer["resources"].as_array().into_iter().flatten();
            let amounts =
                resources.filter(|one| one["name"] == name).filter_map(|one| one["scalar"]["value"].as_f64());
            amounts.sum::<f64>()
        };
        let fits = ((has("cpus") + 1e-6) / CPUS).min(has("mem") / MEM).clamp(0.0, 100.0);
        let agent = offer["agent_id"]["value"].as_str().unwrap_or_default().to_owned();
        let mut infos = Vec::new();
        for _ in 0..TOGETHER {
            if (infos.len() + 1) as f64 <= fits {
                infos.push(self.new_task(&agent));
            }
        }
        if infos.is_empty() {
            return false;
        }
        let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": infos } });
        let accept = json!({ "offer_ids": [offer["id"]], "operations": [launch], "filters": { "refuse_seconds": 0.5 } });
        let answer = self.call("ACCEPT", &json!({ "accept": accept }));
        let outcome = answer.outcome();
        for info in &infos {
            let id = info["task_id"]["value"].as_str().unwrap_or_default().to_owned();
            let is_short = self.tasks.get(&id).is_some_and(|task| task.is_short);
            self.history.add(Event::Launch { task: id.clone(), short: is_short, outcome });
            if outcome == Outcome::Not {
                // Nobody took it on: it is no task.
                self.tasks.remove(&id);
            }
        }
        true
    }

    fn new_task(&mut self, agent: &str) -> Value {
        let id = format!("chaos-{}", self.next);
        self.next += 1;
        let long = self.tasks.values().filter(|task| !task.is_short && !task.stage.is_final()).count();
        let is_short = long >= LONG;
        let seconds = self.dice.below(15) as f64 / 10.0;
        let kind = if is_short { format!("short {seconds}") } else { "long".to_owned() };
        let (stage, agent) = (Stage::Staging, agent.to_owned());
        let scalar =
            |name: &str, value: f64| json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } });
        let info = json!({
            "name": id, "task_id": { "value": id }, "agent_id": { "value": agent },
            "command": { "value": format!("{} {id} - {kind}", self.command) },
            "resources": [scalar("cpus", CPUS), scalar("mem", MEM)],
        });
        self.tasks.insert(id, Task { agent, is_short, stage, is_known: true });
        info
    }

    fn kill_one(&mut self) {
        let mut running: BTreeSet<&String> = BTreeSet::new();
        running.extend(
            self.tasks
                .iter()
                .filter(|(_, task)| !task.is_short && task.stage == Stage::Running)
                .map(|(id, _)| id),
        );
        let drawn = usize::try_from(self.dice.below(running.len().max(1) as u64)).unwrap_or(0);
        let Some(id) = running.into_iter().nth(drawn).cloned() else { return };
        self.history.add(Event::Kill { task: id.clone() });
        let agent = &self.tasks[&id].agent;
        let kill = json!({ "task_id": { "value": id }, "agent_id": { "value": agent } });
        self.call("KILL", &json!({ "kill": kill }));
    }

    /// Asks for every task that was not heard of since the subscription.
    fn reconcile(&mut self) {
        self.reconciled = now();
        let open = self.tasks.iter().filter(|(_, task)| {
            !task.stage.is_final()
                && (!task.is_known || task.stage < Stage::Running || self.wish.rest.load(Ordering::Relaxed))
        });
        let asked: Vec<Value> = open
            .map(|(id, task)| json!({ "task_id": { "value": id }, "agent_id": { "value": task.agent } }))
            .collect();
        if !asked.is_empty() {
            self.call("RECONCILE", &json!({ "reconcile": { "tasks": asked } }));
        }
    }

    fn update(&mut self, status: &Value) {
        let id = status["task_id"]["value"].as_str().unwrap_or_default().to_owned();
        let state = status["state"].as_str().unwrap_or_default().to_owned();
        let (stage, uuid) = (Stage::of(&state), status["uuid"].as_str().map(str::to_owned));
        self.history.add(Event::Update { task: id.clone(), stage, state, uuid: uuid.clone() });
        if let Some(task) = self.tasks.get_mut(&id) {
            task.is_known = true;
            // News with a uuid are in order; the answer to a reconciliation may only add what is later.
            task.stage = if task.stage == Stage::Unreachable { stage } else { task.stage.max(stage) };
        }
        let Some(uuid) = uuid else { return };
        let acknowledge = json!({ "agent_id": status["agent_id"], "task_id": { "value": id }, "uuid": uuid });
        let outcome = self.call("ACKNOWLEDGE", &json!({ "acknowledge": acknowledge })).outcome();
        self.history.add(Event::Acknowledged { task: id, uuid, outcome });
    }
}
