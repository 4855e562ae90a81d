//! Random sequences: nothing is launched that is not recorded, nothing twice, never too many; at
//! rest each app has exactly what it asks for.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::model::{Model, Wish, app};
use crate::api::v1::TaskState;
use crate::service::core::Input;

#[derive(Clone, Debug)]
enum Step {
    /// Which app, how many instances, which configuration, whether other deployments give way.
    Put(u8, u32, u8, bool),
    Remove(u8),
    Commit(usize),
    Subscribe,
    Disconnect,
    Offer(usize),
    Rescind,
    Deliver(usize),
    Advance(usize, TaskState),
    Probed(bool),
    Kill(usize),
    ResetDelay(u8),
    Wait(u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    let number = || 0..8_usize;
    let state = prop_oneof![
        6 => Just(TaskState::TaskRunning),
        2 => Just(TaskState::TaskStarting),
        1 => Just(TaskState::TaskFinished),
        2 => Just(TaskState::TaskFailed),
        1 => Just(TaskState::TaskLost),
    ];
    prop_oneof![
        5 => (0..3_u8, 0..4_u32, 0..3_u8, any::<bool>()).prop_map(|(id, count, config, force)| Step::Put(id, count, config, force)),
        1 => (0..3_u8).prop_map(Step::Remove),
        14 => (1..4_usize).prop_map(Step::Commit),
        4 => Just(Step::Subscribe),
        1 => Just(Step::Disconnect),
        8 => (0..3_usize).prop_map(Step::Offer),
        1 => Just(Step::Rescind),
        12 => (1..4_usize).prop_map(Step::Deliver),
        10 => (number(), state).prop_map(|(task, state)| Step::Advance(task, state)),
        3 => prop::bool::weighted(0.7).prop_map(Step::Probed),
        1 => number().prop_map(Step::Kill),
        1 => (0..3_u8).prop_map(Step::ResetDelay),
        4 => (0..60_u16).prop_map(Step::Wait),
    ]
}

fn name(id: u8) -> String {
    ["/a", "/b", "/c"][usize::from(id)].to_owned()
}

/// An app in one of its configurations: plain, with a check, and one that waits for another app.
fn configured(id: u8, instances: u32, config: u8) -> Wish {
    let check = json!([{ "protocol": "TCP", "gracePeriodSeconds": 5, "intervalSeconds": 2 }]);
    let more = match config {
        0 => json!({}),
        1 => json!({ "healthChecks": check }),
        _ => json!({ "dependencies": if id == 0 { json!([]) } else { json!(["/a"]) }, "mem": 16 }),
    };
    Wish::Put(app(&name(id), instances, &more))
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Put(id, count, config, force) => self.wish(configured(id, count, config), force),
            Step::Remove(id) => self.wish(Wish::Remove(name(id)), true),
            Step::Commit(count) => {
                let _ = (0..count).all(|_| self.commit());
            }
            Step::Subscribe => self.subscribe(),
            Step::Disconnect => self.disconnect(),
            Step::Offer(agent) => self.offer(agent),
            Step::Rescind => self.rescind(),
            Step::Deliver(count) => self.deliver(count),
            Step::Advance(number, state) => {
                let task = self.tasks.keys().nth(number % self.tasks.len().max(1)).cloned();
                if let Some(task) = task {
                    let killed = self.tasks[&task].killed;
                    self.advance(&task, if killed { TaskState::TaskKilled } else { state });
                }
            }
            Step::Probed(well) => self.probed(well),
            Step::Kill(number) => {
                let tasks = self.tasks.keys().nth(number).cloned().into_iter().collect();
                self.handle(Input::Kill { tasks });
            }
            Step::ResetDelay(id) => self.handle(Input::ResetDelay { app_id: name(id) }),
            Step::Wait(seconds) => self.wait(Duration::from_secs(seconds.into())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_app_gets_exactly_what_it_asks_for(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut model = Model::new(3);
        model.step(Step::Put(0, 2, 0, false));
        model.step(Step::Commit(1));
        model.step(Step::Subscribe);
        for step in steps {
            model.step(step);
        }
        model.come_to_rest();
        model.check_rest();
    }
}

/// Found by a random sequence: the last old instance had ended but was not forgotten yet, and counted as
/// an upgrade that still goes on.
#[test]
fn an_upgrade_ends_with_its_last_old_instance() {
    use Step::{Advance, Commit, Deliver, Disconnect, Kill, Offer, Put, Subscribe, Wait};
    let finished = TaskState::TaskFinished;
    let steps = [
        Put(0, 2, 0, false),
        Commit(1),
        Subscribe,
        Offer(0),
        Deliver(2),
        Commit(3),
        Disconnect,
        Wait(5),
        Subscribe,
        Offer(0),
        Advance(1, finished),
        Advance(2, finished),
        Put(0, 2, 1, true),
        Commit(1),
        Deliver(3),
        Commit(3),
        Kill(2),
        Deliver(1),
        Deliver(3),
        Offer(0),
        Deliver(2),
    ];
    let mut model = Model::new(3);
    for step in steps {
        model.step(step);
    }
    model.come_to_rest();
    model.check_rest();
}
