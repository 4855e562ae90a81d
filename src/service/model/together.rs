//! Rules among apps: who depends on whom, and which paths exclude each other.

use std::collections::{BTreeMap, VecDeque};

use crate::api::marathon::{App, Detail};

/// Dependencies between apps at the most, groups counted as the apps below them: far more than the
/// apps of a cluster have, and few enough to be walked at each change.
const MAX_DEPENDENCIES: usize = 1_000_000;

/// Apps by id.
type Apps = BTreeMap<String, App>;

/// Checks apps that are each valid alone.
///
/// # Errors
/// The rules that they break together.
pub fn check_together(apps: &Apps) -> Result<(), Vec<Detail>> {
    let mut details = Vec::new();
    let mut wrong = |path: &str, error| details.push(Detail { path: path.to_owned(), errors: vec![error] });
    for id in apps.keys() {
        if let Some(inner) = below(id, apps).next() {
            wrong("/id", format!("{id} cannot be an app beside {inner}: a path is an app or a group"));
        }
    }
    if let Err(problem) = depths(apps) {
        wrong("/dependencies", problem);
    }
    if details.is_empty() { Ok(()) } else { Err(details) }
}

/// The apps below a path.
fn below<'a>(path: &str, apps: &'a Apps) -> impl Iterator<Item = &'a str> {
    let group = format!("{}/", path.trim_end_matches('/'));
    let from = group.clone();
    apps.range(from..).map(|(id, _)| id.as_str()).take_while(move |id| id.starts_with(&group))
}

/// The apps that an app depends on: a dependency on a group is one on every app below it.
fn needs<'a>(app: &App, apps: &'a Apps) -> Vec<&'a str> {
    let mut needs: Vec<&str> = app
        .dependencies
        .iter()
        .flat_map(|path| {
            apps.get_key_value(path).map(|(id, _)| id.as_str()).into_iter().chain(below(path, apps))
        })
        // An app that depends on its own group waits for the others of it.
        .filter(|id| *id != app.id || app.dependencies.contains(&app.id))
        .collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// Length of the longest chain of dependencies below each app.
///
/// # Errors
/// Apps depend on each other in a circle, or there are too many dependencies; the text says so.
pub fn depths(apps: &Apps) -> Result<BTreeMap<&str, usize>, String> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut count = 0;
    for (id, app) in apps {
        let list = needs(app, apps);
        count += list.len();
        if count > MAX_DEPENDENCIES {
            return Err(format!("more than {MAX_DEPENDENCIES} dependencies; depend on fewer apps or groups"));
        }
        all.insert(id, list);
    }
    let needs = all;
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, list) in &needs {
        for need in list {
            needed_by.entry(need).or_default().push(id);
        }
    }
    // Apps whose dependencies all have their depth are next (Kahn); a circle is never reached.
    let mut open: BTreeMap<&str, usize> = needs.iter().map(|(id, list)| (*id, list.len())).collect();
    let mut ready: VecDeque<&str> =
        open.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    while let Some(id) = ready.pop_front() {
        open.remove(id);
        let depth = needs[id].iter().filter_map(|need| depths.get(need)).max().map_or(0, |depth| depth + 1);
        depths.insert(id, depth);
        for dependant in needed_by.get(id).into_iter().flatten() {
            if let Some(count) = open.get_mut(dependant) {
                *count -= 1;
                if *count == 0 {
                    ready.push_back(dependant);
                }
            }
        }
    }
    match open.keys().next() {
        None => Ok(depths),
        Some(start) => {
            let circle = circle(start, &open, &needs).join(" -> ");
            Err(format!("these apps wait for each other: {circle}; remove one dependency"))
        }
    }
}

/// A circle among the apps that are left: each of them needs another one.
fn circle(start: &str, left: &BTreeMap<&str, usize>, needs: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let mut trail: Vec<String> = Vec::new();
    let mut next = Some(start);
    while let Some(id) = next {
        let met = trail.iter().position(|other| other == id);
        trail.push(id.to_owned());
        if let Some(first) = met {
            return trail.split_off(first);
        }
        next = needs.get(id).into_iter().flatten().find(|need| left.contains_key(**need)).copied();
    }
    trail
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apps(list: &[(&str, &[&str])]) -> Apps {
        list.iter()
            .map(|(id, dependencies)| {
                let app = serde_json::from_value(json!({ "id": id, "dependencies": dependencies }));
                ((*id).to_owned(), app.expect("an app"))
            })
            .collect()
    }

    #[test]
    fn chains_have_depths() {
        let apps = apps(&[
            ("/shop/db", &[]),
            ("/shop/store", &["/shop/db"]),
            ("/shop/front", &["/shop"]),
            ("/web", &["/shop/front", "/nobody"]),
            ("/alone", &[]),
        ]);
        let found = depths(&apps).expect("no circle");
        let wanted = [("/alone", 0), ("/shop/db", 0), ("/shop/front", 2), ("/shop/store", 1), ("/web", 3)];
        assert_eq!(found, wanted.into());
        assert_eq!(check_together(&apps), Ok(()));
    }

    #[test]
    fn circles_are_named() {
        let apps = apps(&[("/a", &["/b"]), ("/b", &["/c"]), ("/c", &["/b"]), ("/d", &["/a"])]);
        let details = check_together(&apps).expect_err("a circle");
        assert!(details[0].errors[0].contains("/b -> /c -> /b"), "{details:?}");
        let alone = self::apps(&[("/a", &["/a"])]);
        assert!(check_together(&alone).is_err(), "an app that waits for itself");
        let group = self::apps(&[("/shop/a", &["/shop"]), ("/shop/b", &["/shop"])]);
        assert!(check_together(&group).is_err(), "two that wait for the group of both");
    }

    #[test]
    fn many_paths_to_one_app_cost_no_more_than_few() {
        // Each layer depends on both apps of the one below: 2^200 chains, and a long one beside.
        let mut list: Vec<(String, Vec<String>)> = Vec::new();
        for layer in 0..200 {
            for side in ["a", "b"] {
                let below = |side: &str| format!("/x{}/{side}", layer - 1);
                let needs = if layer == 0 { Vec::new() } else { vec![below("a"), below("b")] };
                list.push((format!("/x{layer}/{side}"), needs));
            }
        }
        for step in 0..20_000 {
            let needs = if step == 0 { Vec::new() } else { vec![format!("/y{}", step - 1)] };
            list.push((format!("/y{step}"), needs));
        }
        let apps: Apps = list
            .into_iter()
            .map(|(id, dependencies)| {
                let app = json!({ "id": id, "dependencies": dependencies });
                (id, serde_json::from_value(app).expect("an app"))
            })
            .collect();
        let found = depths(&apps).expect("no circle");
        assert_eq!((found["/x199/a"], found["/y19999"]), (199, 19_999));
    }

    #[test]
    fn a_path_is_an_app_or_a_group() {
        let details = check_together(&apps(&[("/a", &[]), ("/a-b", &[]), ("/a/b", &[])])).expect_err("both");
        assert_eq!((details.len(), details[0].path.as_str()), (1, "/id"));
        assert_eq!(check_together(&apps(&[("/a", &[]), ("/a-b", &[]), ("/ab/c", &[])])), Ok(()));
    }
}
