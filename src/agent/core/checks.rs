//! Health checks and checks (Mesos HealthCheck and CheckInfo): timers here, probes outside.

use std::time::Duration;

use super::container::{Probe, ProbeResult};
use super::io::Effect;
use super::state::{Agent, KillCause, Phase};
use crate::api::v1::task_status::{Reason, Source};
use crate::api::v1::{self, TaskState as State};
use crate::base::id::{ContainerId, FrameworkId, TaskId};
use crate::base::time::{Mono, Now, seconds_capped};

/// Longest delay, interval, timeout or grace: absurd values count as this.
const MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

fn seconds(value: Option<f64>, default: f64) -> Duration {
    seconds_capped(value.unwrap_or(default), MAX)
}

/// When a check runs.
#[derive(Clone, Debug, PartialEq)]
struct Schedule {
    probe: Probe,
    delay: Duration,
    interval: Duration,
    timeout: Duration,
    /// When it runs next; none while it runs or before the task does.
    next: Option<Mono>,
}

#[derive(Clone, Debug, PartialEq)]
struct Health {
    schedule: Schedule,
    threshold: u32,
    grace: Duration,
    started: Mono,
    failures: u32,
    /// What was last reported.
    healthy: Option<bool>,
}

/// The checks of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Checks {
    health: Option<Health>,
    check: Option<Schedule>,
    status: Option<v1::CheckStatusInfo>,
}

impl Checks {
    pub(super) fn new(info: &v1::TaskInfo) -> Self {
        Self {
            health: info.health_check.as_ref().and_then(health),
            check: info.check.as_ref().and_then(check),
            status: info.check.as_ref().map(empty_status),
        }
    }

    pub(super) fn start(&mut self, now: Mono) {
        if let Some(health) = &mut self.health {
            health.started = now;
            health.schedule.next = Some(now.after(health.schedule.delay));
        }
        if let Some(check) = &mut self.check {
            check.next = Some(now.after(check.delay));
        }
    }

    /// Health checking stops at a kill.
    pub(super) fn stop(&mut self) {
        if let Some(health) = &mut self.health {
            health.schedule.next = None;
        }
        if let Some(check) = &mut self.check {
            check.next = None;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let health = self.health.as_ref().and_then(|health| health.schedule.next);
        let check = self.check.as_ref().and_then(|check| check.next);
        health.into_iter().chain(check).min()
    }

    /// What a status of this state says of health: TASK_KILLING says nothing.
    pub(super) fn healthy_for(&self, state: State) -> Option<bool> {
        let healthy = self.health.as_ref()?.healthy;
        if state == State::TaskKilling { None } else { healthy }
    }

    /// Every status of a task with a check carries what the check last found.
    pub(super) fn status(&self) -> Option<v1::CheckStatusInfo> {
        self.status
    }
}

impl Agent {
    pub(super) fn check_if_due(&mut self, key: &(FrameworkId, TaskId), now: Now, effects: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| matches!(task.phase, Phase::Running(_)))
        else {
            return;
        };
        let container_id = &task.spec.container_id;
        let health = task.checks.health.as_mut().map(|health| (true, &mut health.schedule));
        let check = task.checks.check.as_mut().map(|check| (false, check));
        for (is_health, schedule) in health.into_iter().chain(check) {
            if schedule.next.is_some_and(|at| at <= now.mono) {
                schedule.next = None;
                effects.push(Effect::Probe {
                    container_id: container_id.clone(),
                    health: is_health,
                    probe: Box::new(schedule.probe.clone()),
                    timeout: schedule.timeout,
                });
            }
        }
    }

    pub(super) fn on_probed(
        &mut self,
        container_id: &ContainerId,
        is_health: bool,
        result: &ProbeResult,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let running = |task: &&mut super::state::Task| {
            matches!(task.phase, Phase::Running(_)) && task.killing.is_none()
        };
        let Some(task) = self.tasks.get_mut(&key).filter(running) else { return };
        if is_health {
            let Some(health) = &mut task.checks.health else { return };
            health.schedule.next = Some(now.mono.after(health.schedule.interval));
            let verdict = judge(health, result, now.mono);
            self.report_health(&key, verdict, result, now, effects);
            return;
        }
        let Some(check) = &mut task.checks.check else { return };
        check.next = Some(now.mono.after(check.interval));
        let found = status_of(result, task.checks.status.as_ref());
        if found != task.checks.status {
            task.checks.status = found;
            let reason = Some(Reason::TaskCheckStatusUpdated);
            self.status(&key, State::TaskRunning, reason, Source::Executor, None, None, now, effects);
        }
    }

    fn report_health(
        &mut self,
        key: &(FrameworkId, TaskId),
        verdict: Verdict,
        result: &ProbeResult,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let reason = Some(Reason::TaskHealthCheckStatusUpdated);
        match verdict {
            Verdict::Silent => {}
            Verdict::Healthy => {
                self.status(key, State::TaskRunning, reason, Source::Executor, None, None, now, effects)
            }
            Verdict::Unhealthy | Verdict::Kill => {
                let message = Some(format!("Health check failed: {}", describe(result)));
                self.status(key, State::TaskRunning, reason, Source::Executor, message, None, now, effects);
                if verdict == Verdict::Kill {
                    self.kill(key, KillCause::Unhealthy, None, now, effects);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing new.
    Silent,
    Healthy,
    Unhealthy,
    /// Unhealthy too often.
    Kill,
}

/// First success and each change is news; failures count outside the grace period, which ends with
/// the first success.
fn judge(health: &mut Health, result: &ProbeResult, now: Mono) -> Verdict {
    if is_success(result) {
        health.failures = 0;
        let news = health.healthy != Some(true);
        health.healthy = Some(true);
        return if news { Verdict::Healthy } else { Verdict::Silent };
    }
    if health.healthy.is_none() && now < health.started.after(health.grace) {
        return Verdict::Silent;
    }
    health.failures = health.failures.saturating_add(1);
    health.healthy = Some(false);
    if health.failures >= health.threshold.max(1) { Verdict::Kill } else { Verdict::Unhealthy }
}

fn is_success(result: &ProbeResult) -> bool {
    match result {
        ProbeResult::Http(code) => (200..400).contains(code),
        ProbeResult::Tcp(connected) => *connected,
        ProbeResult::Command(code) => *code == 0,
        ProbeResult::Failed(_) => false,
    }
}

fn describe(result: &ProbeResult) -> String {
    match result {
        ProbeResult::Http(code) => format!("HTTP status {code}"),
        ProbeResult::Tcp(true) => "connected".to_owned(),
        ProbeResult::Tcp(false) => "no TCP connection".to_owned(),
        ProbeResult::Command(code) => format!("the command exited with status {code}"),
        ProbeResult::Failed(problem) => problem.clone(),
    }
}

fn health(check: &v1::HealthCheck) -> Option<Health> {
    use v1::health_check::Type;

    let probe = match check.r#type.map(Type::try_from)?.ok()? {
        Type::Command => Probe::Command(check.command.clone()?),
        Type::Http => {
            let http = check.http.as_ref()?;
            let path = http.path.clone().unwrap_or_else(|| "/".to_owned());
            http_probe(http.scheme.as_deref(), http.port, &path, http.protocol)?
        }
        Type::Tcp => {
            let tcp = check.tcp.as_ref()?;
            Probe::Tcp { port: u16::try_from(tcp.port).ok()?, ipv6: is_ipv6(tcp.protocol) }
        }
        Type::Unknown => return None,
    };
    Some(Health {
        schedule: Schedule {
            probe,
            delay: seconds(check.delay_seconds, 15.0),
            interval: seconds(check.interval_seconds, 10.0),
            timeout: seconds(check.timeout_seconds, 20.0),
            next: None,
        },
        threshold: check.consecutive_failures.unwrap_or(3),
        grace: seconds(check.grace_period_seconds, 10.0),
        started: Mono::default(),
        failures: 0,
        healthy: None,
    })
}

fn check(check: &v1::CheckInfo) -> Option<Schedule> {
    use v1::check_info::Type;

    let probe = match check.r#type.map(Type::try_from)?.ok()? {
        Type::Command => Probe::Command(check.command.as_ref()?.command.clone()),
        Type::Http => {
            let http = check.http.as_ref()?;
            http_probe(None, http.port, http.path.as_deref().unwrap_or("/"), None)?
        }
        Type::Tcp => Probe::Tcp { port: u16::try_from(check.tcp.as_ref()?.port).ok()?, ipv6: false },
        Type::Unknown => return None,
    };
    Some(Schedule {
        probe,
        delay: seconds(check.delay_seconds, 15.0),
        interval: seconds(check.interval_seconds, 10.0),
        timeout: seconds(check.timeout_seconds, 20.0),
        next: None,
    })
}

fn http_probe(scheme: Option<&str>, port: u32, path: &str, protocol: Option<i32>) -> Option<Probe> {
    Some(Probe::Http {
        scheme: scheme.unwrap_or("http").to_owned(),
        port: u16::try_from(port).ok()?,
        path: path.to_owned(),
        ipv6: is_ipv6(protocol),
    })
}

fn is_ipv6(protocol: Option<i32>) -> bool {
    protocol == Some(v1::network_info::Protocol::IPv6.into())
}

/// Before the first result: the member is there, but empty.
fn empty_status(check: &v1::CheckInfo) -> v1::CheckStatusInfo {
    use v1::check_info::Type;
    use v1::check_status_info as status;

    let kind = check.r#type.and_then(|kind| Type::try_from(kind).ok()).unwrap_or(Type::Unknown);
    v1::CheckStatusInfo {
        r#type: check.r#type,
        command: (kind == Type::Command).then(status::Command::default),
        http: (kind == Type::Http).then(status::Http::default),
        tcp: (kind == Type::Tcp).then(status::Tcp::default),
    }
}

fn status_of(result: &ProbeResult, before: Option<&v1::CheckStatusInfo>) -> Option<v1::CheckStatusInfo> {
    use v1::check_status_info as status;

    let mut found = *before?;
    found.command = found.command.map(|_| status::Command {
        exit_code: if let ProbeResult::Command(code) = result { Some(*code) } else { None },
    });
    found.http = found.http.map(|_| status::Http {
        status_code: if let ProbeResult::Http(code) = result { Some(*code) } else { None },
    });
    found.tcp = found.tcp.map(|_| status::Tcp {
        succeeded: if let ProbeResult::Tcp(connected) = result { Some(*connected) } else { None },
    });
    Some(found)
}
