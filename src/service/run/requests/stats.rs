//! Statistics of an app's tasks (`embed=apps.taskStats`).

use serde_json::{Map, Value, json};

use super::show;
use crate::base::time::Timestamp;
use crate::service::model::AppVersion;

/// A group of tasks: its name, and which belong to it.
type Group<'a> = (&'static str, &'a dyn Fn(&Value) -> bool);

/// Statistics of all tasks, and of those that belong to a change; a group without tasks is left out.
pub(super) fn stats(tasks: &[Value], version: &AppVersion, now: Timestamp) -> Value {
    // Times of one form and one zone have the order of their texts.
    let of = |task: &Value| task["version"].as_str().unwrap_or_default().to_owned();
    let (scaled, configured) =
        (show::stamp(version.last_scaling_ns), show::stamp(version.last_config_change_ns));
    let groups: [Group<'_>; 4] = [
        ("startedAfterLastScaling", &|task| of(task) >= scaled),
        ("withLatestConfig", &|task| of(task) >= configured),
        ("withOutdatedConfig", &|task| of(task) < configured),
        ("totalSummary", &|_| true),
    ];
    let mut shown = Map::new();
    for (name, belongs) in groups {
        let tasks: Vec<&Value> = tasks.iter().filter(|task| belongs(task)).collect();
        if !tasks.is_empty() {
            shown.insert(name.to_owned(), json!({ "stats": summary(&tasks, now) }));
        }
    }
    Value::Object(shown)
}

fn summary(tasks: &[&Value], now: Timestamp) -> Value {
    let count = |is_counted: &dyn Fn(&Value) -> bool| tasks.iter().filter(|task| is_counted(task)).count();
    let alive = |task: &Value, wanted: bool| {
        let results = task["healthCheckResults"].as_array().map(Vec::as_slice).unwrap_or_default();
        let healthy = results.iter().all(|result| result["alive"] == true);
        !results.is_empty() && healthy == wanted
    };
    let mut shown = json!({ "counts": {
        "staged": count(&|task| task["state"] == "TASK_STAGING" || task["state"] == "TASK_STARTING"),
        "running": count(&|task| task["state"] == "TASK_RUNNING"),
        "healthy": count(&|task| alive(task, true)),
        "unhealthy": count(&|task| alive(task, false)),
    } });
    let started = tasks.iter().filter_map(|task| Timestamp::parse_rfc3339(task["startedAt"].as_str()?).ok());
    let mut lives: Vec<f64> = started.map(|started| now.since(started).as_secs_f64()).collect();
    lives.sort_by(f64::total_cmp);
    if let (Some(low), Some(high)) = (lives.get((lives.len().max(1) - 1) / 2), lives.get(lives.len() / 2)) {
        let number = u32::try_from(lives.len()).unwrap_or(u32::MAX);
        let average = lives.iter().sum::<f64>() / f64::from(number);
        shown["lifeTime"] = json!({ "averageSeconds": average, "medianSeconds": f64::midpoint(*low, *high) });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn tasks_are_counted_by_what_they_belong_to() {
        let task = |version: i64, state: &str, started: Option<i64>, alive: Option<bool>| {
            let results: Vec<Value> = alive.into_iter().map(|alive| json!({ "alive": alive })).collect();
            let mut task = json!({ "version": show::stamp(at(version).nanos()), "state": state, "healthCheckResults": results });
            if let Some(started) = started {
                task["startedAt"] = json!(at(started).rfc3339_millis());
            }
            task
        };
        let tasks = [
            task(10, "TASK_RUNNING", Some(11), Some(true)),
            task(20, "TASK_RUNNING", Some(21), Some(false)),
            task(20, "TASK_RUNNING", Some(31), None),
            task(30, "TASK_STAGING", None, None),
        ];
        let version = AppVersion {
            last_scaling_ns: at(30).nanos(),
            last_config_change_ns: at(20).nanos(),
            ..AppVersion::default()
        };
        let shown = stats(&tasks, &version, at(41));
        let total = &shown["totalSummary"]["stats"];
        assert_eq!(total["counts"], json!({ "staged": 1, "running": 3, "healthy": 1, "unhealthy": 1 }));
        assert_eq!(total["lifeTime"], json!({ "averageSeconds": 20.0, "medianSeconds": 20.0 }));
        assert_eq!(shown["withOutdatedConfig"]["stats"]["counts"]["running"], 1);
        assert_eq!(shown["withLatestConfig"]["stats"]["lifeTime"]["medianSeconds"], 15.0);
        let scaled = &shown["startedAfterLastScaling"]["stats"];
        assert_eq!((&scaled["counts"]["staged"], scaled.get("lifeTime")), (&json!(1), None));
        assert_eq!(stats(&[], &version, at(41)), json!({}), "groups without tasks are left out");
    }
}
