//! Random sequences: nothing is given out twice, nothing is told after its end, and at rest the
//! master charges exactly what runs.

use std::time::Duration;

use proptest::prelude::*;

use super::model::{Key, Model, registered};
use super::support::{CallType, Capability, Reason, State, framework_info, task_info, update};
use crate::api::peer::{self, from_agent};
use crate::api::v1;
use crate::api::v1::scheduler::{Call, call};
use crate::base::id::{AgentId, OfferId, TaskId};
use crate::master::core::wire::is_terminal;
use crate::master::core::{ConnId, Input, ReplyId};
use crate::resources::Resources;

#[derive(Clone, Copy, Debug)]
enum Launch {
    Good,
    Big,
    WrongAgent,
    Duplicate,
    Idle,
}

#[derive(Clone, Copy, Debug)]
enum Offered {
    /// One of its own.
    One(usize),
    /// Two of its own, of one agent or not.
    Two(usize, usize),
    /// Somebody else's.
    Foreign(usize),
    /// One that is over.
    Stale(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize),
    Disconnect(usize),
    Accept(usize, Offered, Vec<Launch>),
    Decline(usize, usize, u8),
    Revive(usize),
    Suppress(usize),
    Kill(usize, usize),
    Reconcile(usize, bool),
    Teardown(usize),
    Acknowledge(usize, usize),
    AcknowledgeWrong(usize),
    Connect(usize),
    Unlink(usize),
    Unregister(usize),
    Drain(usize),
    Silence(usize),
    Forget(usize, usize),
    Advance(usize, usize, State),
    Resend(usize, usize),
    Stray(usize, usize, State),
    Commit(usize),
    Wait(u8),
    FailOver(bool),
}

fn any_launch() -> impl Strategy<Value = Launch> {
    prop_oneof![
        6 => Just(Launch::Good),
        1 => Just(Launch::Big),
        1 => Just(Launch::WrongAgent),
        1 => Just(Launch::Duplicate),
        1 => Just(Launch::Idle),
    ]
}

fn any_offered() -> impl Strategy<Value = Offered> {
    let number = || 0..8_usize;
    prop_oneof![
        8 => number().prop_map(Offered::One),
        2 => (number(), number()).prop_map(|(one, two)| Offered::Two(one, two)),
        1 => number().prop_map(Offered::Foreign),
        1 => number().prop_map(Offered::Stale),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let framework = || 0..3_usize;
    let agent = || 0..3_usize;
    let number = || 0..8_usize;
    let state = prop_oneof![
        1 => Just(State::TaskStarting),
        4 => Just(State::TaskRunning),
        2 => Just(State::TaskFinished),
        1 => Just(State::TaskFailed),
    ];
    let launches = prop::collection::vec(any_launch(), 0..3);
    prop_oneof![
        4 => framework().prop_map(Step::Subscribe),
        1 => framework().prop_map(Step::Disconnect),
        10 => (framework(), any_offered(), launches).prop_map(|(id, offer, tasks)| Step::Accept(id, offer, tasks)),
        4 => (framework(), number(), 0..8_u8).prop_map(|(id, offer, time)| Step::Decline(id, offer, time)),
        2 => framework().prop_map(Step::Revive),
        1 => framework().prop_map(Step::Suppress),
        3 => (framework(), number()).prop_map(|(id, task)| Step::Kill(id, task)),
        2 => (framework(), any::<bool>()).prop_map(|(id, explicit)| Step::Reconcile(id, explicit)),
        1 => framework().prop_map(Step::Teardown),
        8 => (framework(), number()).prop_map(|(id, task)| Step::Acknowledge(id, task)),
        1 => framework().prop_map(Step::AcknowledgeWrong),
        5 => agent().prop_map(Step::Connect),
        2 => agent().prop_map(Step::Unlink),
        1 => agent().prop_map(Step::Unregister),
        1 => agent().prop_map(Step::Drain),
        1 => agent().prop_map(Step::Silence),
        1 => (agent(), number()).prop_map(|(agent, task)| Step::Forget(agent, task)),
        10 => (agent(), number(), state.clone()).prop_map(|(agent, task, state)| Step::Advance(agent, task, state)),
        2 => (agent(), number()).prop_map(|(agent, task)| Step::Resend(agent, task)),
        2 => (agent(), number(), state).prop_map(|(agent, task, state)| Step::Stray(agent, task, state)),
        10 => (1..4_usize).prop_map(Step::Commit),
        4 => (0..12_u8).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::FailOver),
    ]
}

fn model() -> Model {
    let info = |timeout: f64, roles: &[&str], more: &[Capability]| v1::FrameworkInfo {
        failover_timeout: Some(timeout),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..framework_info(more)
    };
    let aware = [Capability::MultiRole, Capability::PartitionAware];
    let frameworks = vec![
        info(0.0, &[], &[]),
        info(20.0, &["a", "b"], &aware),
        info(1e9, &[], &[Capability::PartitionAware]),
    ];
    Model::new(frameworks, &["cpus:4;mem:256", "cpus:2;mem:128;ports:[1-9]", "cpus:3;mem:64"])
}

fn pick<T: Clone>(items: impl Iterator<Item = T>, number: usize) -> Option<T> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then(|| items[number % items.len()].clone())
}

impl Model {
    fn call(&mut self, at: usize, kind: CallType, fill: impl FnOnce(&mut Call)) {
        let reply = ReplyId(self.env.number());
        let scheduler = &self.schedulers[at];
        let mut call =
            Call { framework_id: scheduler.info.id.clone(), r#type: Some(kind.into()), ..Default::default() };
        fill(&mut call);
        let stream_id = Some(scheduler.stream_id.clone());
        self.handle(Input::Call { reply, call: Box::new(call), stream_id, principal: None });
    }

    /// Whether the master listens to a scheduler.
    fn listens(&self, at: usize) -> bool {
        let framework = self.env.master.frameworks.get(&self.schedulers[at].id());
        self.schedulers[at].subscribed && framework.is_some_and(|framework| !framework.leaving)
    }

    fn task_of(&self, agent: usize, number: usize) -> Option<Key> {
        pick(self.agents[agent].tasks.keys().cloned(), number)
    }

    fn step(&mut self, step: Step) {
        self.run.clear();
        self.told.clear();
        self.asked.clear();
        match step {
            Step::Subscribe(at) => self.subscribe(at),
            Step::Disconnect(at) => {
                if let Some(conn) = self.schedulers[at].conn {
                    self.closed_stream(conn);
                    self.handle(Input::Disconnected { conn });
                }
            }
            Step::Accept(at, offered, tasks) => self.accept(at, offered, &tasks),
            Step::Decline(at, offer, seconds) => self.decline(at, offer, f64::from(seconds)),
            Step::Revive(at) => self.call(at, CallType::Revive, |_| ()),
            Step::Suppress(at) => self.call(at, CallType::Suppress, |_| ()),
            Step::Kill(at, task) => self.kill(at, task),
            Step::Reconcile(at, explicit) => self.reconcile(at, explicit),
            Step::Teardown(at) => self.call(at, CallType::Teardown, |_| ()),
            Step::Acknowledge(at, number) => self.acknowledge(at, number, None),
            Step::AcknowledgeWrong(at) => self.acknowledge(at, 0, Some(vec![1; 16])),
            Step::Connect(at) => self.connect(at),
            Step::Unlink(at) => {
                if let Some(link) = self.agents[at].link.take() {
                    self.handle(Input::AgentDisconnected { link });
                }
            }
            Step::Unregister(at) => self.unregister(at),
            Step::Drain(at) => self.drain(at),
            Step::Silence(at) => self.env.silent.extend(self.agents[at].link),
            Step::Forget(at, number) => {
                // It comes back without this task.
                if let (Some(key), None) = (self.task_of(at, number), self.agents[at].link) {
                    self.agents[at].tasks.remove(&key);
                }
            }
            Step::Advance(at, number, state) => {
                if let Some(key) = self.task_of(at, number) {
                    self.advance(at, &key, state);
                    self.deliver();
                }
            }
            Step::Resend(at, number) => {
                if let Some(key) = self.task_of(at, number) {
                    self.send_head(at, &key);
                    self.deliver();
                }
            }
            Step::Stray(at, number, state) => self.stray(at, number, state),
            Step::Commit(count) => (0..count).for_each(|_| {
                self.env.commit();
                self.deliver();
            }),
            Step::Wait(seconds) => self.wait(seconds),
            Step::FailOver(committed) => self.fail_over(committed),
        }
        self.check();
    }

    fn subscribe(&mut self, at: usize) {
        if let Some(old) = self.schedulers[at].conn {
            // The same scheduler on a new stream: what it held is void.
            if !self.schedulers[at].subscribed {
                return;
            }
            self.env.commit();
            self.deliver();
            self.closed_stream(old);
            self.handle(Input::Disconnected { conn: old });
        }
        let conn = ConnId(self.env.number());
        let scheduler = &mut self.schedulers[at];
        scheduler.conn = Some(conn);
        scheduler.stream_id = format!("{conn:?}");
        let stream_id = scheduler.stream_id.clone();
        let subscribe = call::Subscribe { framework_info: scheduler.info.clone(), ..Default::default() };
        self.handle(Input::Subscribe { conn, stream_id, subscribe: Box::new(subscribe), principal: None });
    }

    fn chosen(&self, at: usize, offered: Offered) -> Vec<OfferId> {
        let own = |number| pick(self.schedulers[at].offers.keys().cloned(), number);
        match offered {
            Offered::One(one) => own(one).into_iter().collect(),
            Offered::Two(one, two) => own(one).into_iter().chain(own(two)).collect(),
            Offered::Foreign(one) => {
                let other = &self.schedulers[(at + 1) % self.schedulers.len()];
                pick(other.offers.keys().cloned(), one).into_iter().collect()
            }
            Offered::Stale(one) => pick(self.schedulers[at].over.iter().cloned(), one).into_iter().collect(),
        }
    }

    fn accept(&mut self, at: usize, offered: Offered, kinds: &[Launch]) {
        if !self.listens(at) {
            return;
        }
        let chosen = self.chosen(at, offered);
        let scheduler = &self.schedulers[at];
        let held: Vec<_> = chosen.iter().filter_map(|id| scheduler.offers.get(id).cloned()).collect();
        let agent_id = held.first().map_or_else(|| AgentId::new("none"), |held| held.agent_id.clone());
        let shared = held.iter().all(|one| one.agent_id == agent_id && one.role == held[0].role);
        let twice = chosen.len() == 2 && chosen[0] == chosen[1];
        let valid = !chosen.is_empty() && held.len() == chosen.len() && shared && !twice;
        let mut pool = Resources::new();
        held.iter().for_each(|held| pool.add(&held.resources));
        let mut tasks = Vec::new();
        let (mut runs, mut fails) = (Vec::new(), Vec::new());
        for kind in kinds {
            let task = self.task(at, *kind, &agent_id);
            let resources = Resources::from_wire(&task.resources).expect("valid");
            let id = TaskId::new(&task.task_id.value);
            self.asked.insert(id.clone());
            match kind {
                Launch::Good if valid && pool.subtract(&resources).is_ok() => runs.push(id),
                _ => fails.push(id),
            }
            tasks.push(task);
        }
        let scheduler = &mut self.schedulers[at];
        for id in chosen.iter().filter(|id| scheduler.offers.remove(*id).is_some()).collect::<Vec<_>>() {
            scheduler.over.push(id.clone());
        }
        scheduler.launched.extend(runs.iter().cloned());
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: tasks }),
            ..Default::default()
        };
        let offer_ids = chosen.iter().map(|id| v1::OfferId { value: id.to_string() }).collect();
        let accept = call::Accept { offer_ids, operations: vec![launch], filters: None };
        self.call(at, CallType::Accept, |call| call.accept = Some(accept));
        assert_eq!(self.run, runs, "what runs");
        let reason: i32 = if valid { Reason::TaskInvalid } else { Reason::InvalidOffers }.into();
        let told: Vec<_> = self.told.iter().filter(|(_, _, why)| *why == Some(reason)).collect();
        assert_eq!(told.iter().map(|(id, ..)| id).collect::<Vec<_>>(), fails.iter().collect::<Vec<_>>());
        assert!(valid || told.iter().all(|(_, state, _)| *state != State::TaskError), "{told:?}");
    }

    fn task(&mut self, at: usize, kind: Launch, agent_id: &AgentId) -> v1::TaskInfo {
        self.launches += 1;
        let mut name = format!("task{}", self.launches);
        let resources = if matches!(kind, Launch::Big) { "cpus:100" } else { "cpus:1;mem:32" };
        if matches!(kind, Launch::Duplicate) {
            let framework = self.env.master.frameworks.get(&self.schedulers[at].id());
            let living = framework.and_then(|framework| {
                framework.tasks.keys().chain(framework.unreachable.keys()).next().cloned()
            });
            // Without a living one, any other fault.
            name = living.map_or_else(|| "a/b".to_owned(), |id| id.to_string());
        }
        let mut task = task_info(&name, agent_id, resources);
        match kind {
            Launch::WrongAgent => task.agent_id.value = "another".to_owned(),
            Launch::Idle => task.command = None,
            Launch::Good | Launch::Big | Launch::Duplicate => {}
        }
        task
    }

    fn decline(&mut self, at: usize, offer: usize, seconds: f64) {
        if !self.listens(at) {
            return;
        }
        let Some(id) = pick(self.schedulers[at].offers.keys().cloned(), offer) else { return };
        self.schedulers[at].offers.remove(&id);
        self.schedulers[at].over.push(id.clone());
        let filters = (seconds > 0.0).then_some(v1::Filters { refuse_seconds: Some(seconds - 1.0) });
        let decline = call::Decline { offer_ids: vec![v1::OfferId { value: id.to_string() }], filters };
        self.call(at, CallType::Decline, |call| call.decline = Some(decline));
    }

    fn kill(&mut self, at: usize, number: usize) {
        let Some(task) = pick(self.schedulers[at].launched.iter().cloned(), number) else { return };
        self.asked.insert(task.clone());
        let task_id = v1::TaskId { value: task.to_string() };
        let kill = call::Kill { task_id, agent_id: None, kill_policy: None };
        self.call(at, CallType::Kill, |call| call.kill = Some(kill));
    }

    fn reconcile(&mut self, at: usize, explicit: bool) {
        let launched = &self.schedulers[at].launched;
        let tasks: Vec<_> = if explicit { launched.clone() } else { Vec::new() };
        self.asked.extend(tasks.iter().cloned());
        let tasks = tasks.iter().map(|task| call::reconcile::Task {
            task_id: v1::TaskId { value: task.to_string() },
            agent_id: None,
        });
        let reconcile = call::Reconcile { tasks: tasks.collect() };
        self.call(at, CallType::Reconcile, |call| call.reconcile = Some(reconcile));
    }

    /// Acknowledges what was heard, now and then twice; or with a uuid that nobody knows.
    fn acknowledge(&mut self, at: usize, number: usize, wrong: Option<Vec<u8>>) {
        let statuses = &mut self.schedulers[at].unacknowledged;
        let Some(status) = pick(statuses.iter().cloned(), number) else { return };
        if number != 3 && wrong.is_none() {
            statuses.retain(|other| other != &status);
        }
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.expect("an agent"),
            task_id: status.task_id,
            uuid: wrong.or(status.uuid).expect("to be acknowledged"),
        };
        self.call(at, CallType::Acknowledge, |call| call.acknowledge = Some(acknowledge));
    }

    fn unregister(&mut self, at: usize) {
        let Some((_, link)) = registered(&self.agents[at]) else { return };
        let agent_id = self.agents[at].info.id.clone().expect("an id");
        self.agents[at].tasks.clear();
        self.say(link, from_agent::Message::Unregister(peer::Unregister { agent_id }));
    }

    /// It says that it will leave; what was offered of it is not any more.
    fn drain(&mut self, at: usize) {
        let Some((id, link)) = registered(&self.agents[at]) else { return };
        self.agents[at].draining = true;
        self.say(link, from_agent::Message::Draining(peer::Draining {}));
        let offers = self.schedulers.iter().flat_map(|scheduler| scheduler.offers.values());
        let left: Vec<_> = offers.filter(|offer| offer.agent_id == id).collect();
        assert!(left.is_empty(), "{left:?} of an agent that leaves");
    }

    /// An update that no stream holds: of an unknown task, out of order, or after the end.
    fn stray(&mut self, at: usize, number: usize, state: State) {
        let uuid = self.uuid();
        let Some((id, link)) = registered(&self.agents[at]) else { return };
        let known = self.task_of(at, number);
        let key = known.unwrap_or_else(|| (self.schedulers[0].id(), TaskId::new("stranger")));
        let latest = self.agents[at].tasks.get(&key).map_or(state, |task| task.state);
        self.asked.insert(key.1.clone());
        let state = if is_terminal(state) { State::TaskRunning } else { state };
        self.say(link, update(&key.0, &id, key.1.as_str(), state, latest, &uuid));
    }

    fn wait(&mut self, seconds: u8) {
        for _ in 0..=seconds {
            self.env.wait(Duration::from_secs(1));
            self.deliver();
        }
    }

    fn fail_over(&mut self, committed: bool) {
        while committed && self.env.commit() {
            self.deliver();
        }
        self.env.fail_over();
        for agent in &mut self.agents {
            agent.link = None;
        }
        for scheduler in &mut self.schedulers {
            scheduler.conn = None;
            scheduler.subscribed = false;
            scheduler.lose_offers();
        }
    }

    /// Everybody connects, everything is committed, delivered and acknowledged.
    fn come_to_rest(&mut self) {
        self.env.silent.clear();
        self.env.late = false;
        self.step(Step::Commit(1_000));
        for at in 0..self.schedulers.len() {
            if self.schedulers[at].conn.is_none() {
                self.step(Step::Subscribe(at));
            }
            self.step(Step::Suppress(at));
        }
        // Schedulers come first: what an agent says of a task that it does not know it says once.
        for at in 0..self.agents.len() {
            self.step(Step::Connect(at));
        }
        for _ in 0..4 {
            self.step(Step::Wait(5));
            for at in 0..self.agents.len() {
                for key in self.agents[at].tasks.keys().cloned().collect::<Vec<_>>() {
                    self.send_head(at, &key);
                    self.deliver();
                }
            }
            for at in 0..self.schedulers.len() {
                for _ in 0..self.schedulers[at].unacknowledged.len() {
                    self.step(Step::Acknowledge(at, 0));
                }
                for _ in 0..self.schedulers[at].offers.len() {
                    self.step(Step::Decline(at, 0, 1));
                }
            }
        }
    }

    /// At rest: the master knows exactly the tasks that agents have, and charges those that live.
    fn check_rest(&self) {
        let master = &self.env.master;
        assert!(master.offers.is_empty(), "{:?}", master.offers);
        for agent in &self.agents {
            let (id, _) = registered(agent).expect("registered");
            let known: Vec<Key> = master.agents[&id].tasks.iter().cloned().collect();
            assert_eq!(known, agent.tasks.keys().cloned().collect::<Vec<_>>(), "tasks on {id}");
            for scheduler in &self.schedulers {
                let mut living = Resources::new();
                for ((framework, _), task) in &agent.tasks {
                    if framework == &scheduler.id() && !is_terminal(task.state) {
                        living.add(&Resources::from_wire(&task.info.resources).expect("valid"));
                    }
                }
                assert_eq!(master.allocator.charged(&scheduler.id(), &id), living, "charges on {id}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_out_twice(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut model = model();
        for at in 0..3 {
            model.step(Step::Connect(at));
            model.step(Step::Subscribe(at));
        }
        for step in steps {
            model.step(step);
        }
        model.come_to_rest();
        model.check_rest();
        for at in 0..3 {
            for number in 0..model.schedulers[at].launched.len() {
                model.step(Step::Kill(at, number));
            }
        }
        model.come_to_rest();
        model.check_rest();
        prop_assert!(model.agents.iter().all(|agent| agent.tasks.is_empty()));
    }
}
