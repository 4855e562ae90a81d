//! Random sequences: nothing is told or launched before it is written down, nothing is told out of
//! order, and at rest nothing of a task is left.

use std::time::Duration;

use proptest::prelude::*;

use super::model::Model;
use super::support::{
    Capability, FRAMEWORK, acknowledge, framework_info, policy, run_task, shutdown_framework, task_info,
};
use crate::agent::core::Input;
use crate::api::peer::{self, to_agent};
use crate::api::v1;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Checked,
    Timed,
    NoCommand,
    Elsewhere,
}

#[derive(Clone, Debug)]
enum Step {
    Run(u8, Kind),
    Kill(u8, Option<u8>),
    Started(usize),
    LaunchFailed(usize, bool),
    Exited(usize, bool),
    Probed(bool),
    Acknowledge(u8),
    AcknowledgeWrong(u8),
    Reconcile(u8),
    ShutdownFramework,
    UpdateFramework,
    Connect,
    Register,
    Disconnect,
    Sync(usize),
    Wait(u16),
    Drain,
    RecordLeave,
    Restart(usize, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let task = || 0..4_u8;
    let number = || 0..4_usize;
    let kind = prop_oneof![
        6 => Just(Kind::Plain),
        2 => Just(Kind::Checked),
        2 => Just(Kind::Timed),
        1 => Just(Kind::NoCommand),
        1 => Just(Kind::Elsewhere),
    ];
    prop_oneof![
        8 => (task(), kind).prop_map(|(task, kind)| Step::Run(task, kind)),
        3 => (task(), prop::option::of(0..4_u8)).prop_map(|(task, grace)| Step::Kill(task, grace)),
        8 => number().prop_map(Step::Started),
        1 => (number(), any::<bool>()).prop_map(|(number, early)| Step::LaunchFailed(number, early)),
        4 => (number(), prop::bool::weighted(0.2)).prop_map(|(number, early)| Step::Exited(number, early)),
        3 => any::<bool>().prop_map(Step::Probed),
        12 => task().prop_map(Step::Acknowledge),
        1 => task().prop_map(Step::AcknowledgeWrong),
        1 => task().prop_map(Step::Reconcile),
        1 => Just(Step::ShutdownFramework),
        1 => Just(Step::UpdateFramework),
        2 => Just(Step::Connect),
        4 => Just(Step::Register),
        1 => Just(Step::Disconnect),
        14 => (1..4_usize).prop_map(Step::Sync),
        3 => (0..40_u16).prop_map(Step::Wait),
        1 => Just(Step::Drain),
        3 => Just(Step::RecordLeave),
        2 => (0..6_usize, any::<u8>()).prop_map(|(kept, ending)| Step::Restart(kept, ending)),
    ]
}

fn name(task: u8) -> String {
    format!("task{task}")
}

fn info(model: &Model, task: u8, kind: Kind) -> v1::TaskInfo {
    let mut info = task_info(&name(task));
    info.agent_id.value = model.env.agent.id().map(ToString::to_string).unwrap_or_default();
    match kind {
        Kind::Plain => {}
        Kind::Checked => {
            info.health_check = Some(v1::HealthCheck {
                r#type: Some(v1::health_check::Type::Tcp.into()),
                tcp: Some(v1::health_check::TcpCheckInfo { port: 80, ..Default::default() }),
                delay_seconds: Some(1.0),
                interval_seconds: Some(1.0),
                grace_period_seconds: Some(3.0),
                consecutive_failures: Some(2),
                ..Default::default()
            });
        }
        Kind::Timed => {
            info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 20_000_000_000 });
        }
        Kind::NoCommand => info.command = None,
        Kind::Elsewhere => info.agent_id.value = "another".to_owned(),
    }
    info
}

impl Model {
    fn master(&mut self, message: to_agent::Message) {
        if self.registered {
            self.handle(Input::Master(Box::new(message)));
        }
    }

    fn step(&mut self, step: Step) {
        let framework_id = v1::FrameworkId { value: FRAMEWORK.to_owned() };
        let framework = framework_info(&[Capability::TaskKillingState]);
        match step {
            Step::Run(task, kind) => {
                // A master runs a task again only after its end was acknowledged.
                self.master(run_task(info(self, task, kind), &[Capability::TaskKillingState]));
            }
            Step::Kill(task, grace) => {
                let task_id = v1::TaskId { value: name(task) };
                let kill_policy = grace.map(|grace| policy(Duration::from_secs(grace.into())));
                self.master(to_agent::Message::KillTask(peer::KillTask {
                    framework: Some(framework),
                    framework_id,
                    task_id,
                    kill_policy,
                }));
            }
            Step::Started(number) => self.started(number),
            Step::LaunchFailed(number, early) => self.launch_failed(number, early),
            Step::Exited(number, early) => self.exited(number, early),
            Step::Probed(well) => self.probed(well),
            Step::Acknowledge(task) => self.acknowledge(&name(task)),
            Step::AcknowledgeWrong(task) => self.master(acknowledge(&name(task), &[3; 16])),
            Step::Reconcile(task) => {
                let task_ids = vec![v1::TaskId { value: name(task) }];
                self.master(to_agent::Message::ReconcileTasks(peer::ReconcileTasks {
                    framework: Some(framework),
                    framework_id,
                    task_ids,
                }));
            }
            Step::ShutdownFramework => self.master(shutdown_framework()),
            Step::UpdateFramework => {
                self.master(to_agent::Message::UpdateFramework(peer::UpdateFramework { framework }));
            }
            Step::Connect => self.connect(),
            Step::Register => self.register(),
            Step::Disconnect => self.disconnect(),
            Step::Sync(count) => self.sync(count),
            Step::Wait(seconds) => self.wait(Duration::from_secs(seconds.into())),
            Step::Drain => self.drain(),
            Step::RecordLeave => self.record_leave(),
            Step::Restart(kept, ending) => self.restart(kept, ending),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_told_early_twice_or_out_of_order(steps in prop::collection::vec(any_step(), 0..150)) {
        let mut model = Model::new();
        model.connect();
        model.register();
        for step in steps {
            model.step(step);
        }
        model.come_to_rest();
        // A shutdown of the framework leaves nothing either.
        model.step(Step::Run(0, Kind::Plain));
        model.come_to_rest();
        model.check_rest();
    }

    /// The end of a task is told again and again until it is acknowledged.
    #[test]
    fn the_end_is_repeated(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut model = Model::new();
        model.connect();
        model.register();
        for step in steps {
            model.step(step);
        }
        if model.is_draining {
            model.restart(usize::MAX, 0);
        }
        model.env.late = false;
        model.sync(usize::MAX);
        model.connect();
        model.register();
        for _ in 0..3 {
            let heads = model.env.agent.tasks.iter().filter_map(|((_, task), state)| {
                Some((task.to_string(), state.stream.updates.front()?.status.uuid.clone()))
            });
            let heads: Vec<_> = heads.collect();
            model.unacknowledged.clear();
            model.wait(Duration::from_secs(601));
            for (task, uuid) in heads {
                let told = model.unacknowledged.get(&task).and_then(|status| status.uuid.clone());
                prop_assert_eq!(told, uuid, "{} was told again", task);
            }
        }
    }
}
