//! The present program on data directories that earlier versions wrote (`testdata/formats`).

use std::path::Path;
use std::process::Command;

use mesita::registry::core::VERSION;
use mesita::registry::run::salvage;
use mesita::storage::SledStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Dev, file, program, wait_for};

/// A data directory as it was packed.
fn unpacked(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    let archive = file(&format!("testdata/formats/{name}.tar.gz"));
    let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder.path()).status();
    assert!(status.expect("tar runs").success(), "{name}");
    folder
}

/// Everything that the directory held is shown, and kept in the newest format.
fn goes_on(name: &str, masters: &str, framework: &str) {
    let folder = unpacked(name);
    let data = folder.path().to_str().expect("a path").to_owned();
    for start in ["from the old format", "from the new one"] {
        let dev = Dev::start(&["--data-dir", &data, "--masters", masters]);
        let apps = wait_for(&format!("the services of {name}, {start}"), || {
            let (status, body) = dev.get("/v2/apps");
            let apps = body["apps"].as_array().cloned().unwrap_or_default();
            let running =
                |id: &str| apps.iter().find(|app| app["id"] == id).map(|app| app["tasksRunning"].clone());
            let is_up = running("/web") == Some(json!(2)) && running("/shop/cart") == Some(json!(1));
            (status == 200 && is_up).then_some(apps)
        });
        let mut seen: Vec<(&str, u64)> = apps
            .iter()
            .map(|app| {
                (app["id"].as_str().unwrap_or_default(), app["instances"].as_u64().unwrap_or_default())
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/big", 1), ("/idle", 0), ("/shop/cart", 1), ("/web", 2)]);
        assert_eq!(dev.get("/v2/info").1["frameworkId"], json!(framework), "it is another framework");
        let (_, deployments) = dev.get("/v2/deployments");
        assert_eq!(deployments.as_array().map(Vec::len), Some(1), "what waited still waits: {deployments}");
        let status = wait_for("commands of the newest version", || {
            let (_, status) = dev.get("/mesita/v1/cluster");
            (status["command_version"] == json!(VERSION)).then_some(status)
        });
        assert_eq!(status["masters"].as_array().map(|all| all.len().to_string()).as_deref(), Some(masters));
        dev.stop("TERM");
    }
}

#[test]
fn a_directory_of_the_first_version_goes_on() {
    goes_on("1-first", "1", "5df4a460-594a-4f67-9a87-6b67f5bf125b-0000");
}

#[test]
fn a_directory_of_the_second_version_goes_on() {
    goes_on("2-forgets-agents", "1", "4b3d62b4-499d-40fb-af7c-89f012f82f01-0000");
}

#[test]
fn a_directory_of_the_third_version_goes_on() {
    goes_on("3-masters", "1", "f561663b-4d6e-4144-8877-8e8e8c047061-0000");
}

#[test]
fn a_directory_of_three_masters_goes_on() {
    goes_on("3-three-masters", "3", "634297a0-04fc-4f4e-9aad-22f314ee6de5-0000");
}

#[test]
fn registries_of_nodes_are_read() {
    let folder = unpacked("3-nodes");
    let nodes = std::fs::read_dir(folder.path()).expect("readable").flatten();
    let registries: Vec<_> = nodes.map(|node| node.path().join("registry")).collect();
    assert!(registries.len() >= 2);
    for directory in registries {
        for _ in ["the old format", "the new one"] {
            let store = SledStore::open(&directory).expect("whole");
            let held = salvage(&store).expect("trusted").expect("a registry");
            let apps: Vec<&String> = held.state.service().apps().keys().collect();
            assert!(apps.iter().any(|app| *app == "/web"), "{apps:?}");
            // The last to be stopped had not heard of everything.
            assert!(held.state.masters().count() >= 2);
            assert_eq!(held.state.version(), 3);
        }
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().to_str().expect("a path").to_owned();
    Dev::start(&["--data-dir", &data]).stop("TERM");
    let format = folder.path().join("registry/format");
    std::fs::write(&format, "99\n").expect("writable");
    let listed = |at: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(at).expect("readable").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    };
    let before = listed(&folder.path().join("registry"));
    let output = program().args(["dev", "--json", "--data-dir", &data]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("99") && said.contains("upgrade"), "{said}");
    assert_eq!(listed(&folder.path().join("registry")), before);
    let document: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(document["error"]["message"].is_string(), "{said}");
}
