//! The house as a test: which room may import which, no cycles, nothing impure in pure rooms, and
//! sizes that may only shrink.
//!
//! The table is the one of the design; when the house changes, it changes here in the same commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One room: a file or folder below `src/`.
struct Room {
    /// Path prefix below `src/`, without `.rs`.
    path: &'static str,
    /// No clock, sockets, disk, randomness, async or randomly ordered collections.
    pure: bool,
    /// Rooms that it may import (prefixes of their paths).
    may: &'static [&'static str],
}

const fn pure(path: &'static str, may: &'static [&'static str]) -> Room {
    Room { path, pure: true, may }
}

const fn doing(path: &'static str, may: &'static [&'static str]) -> Room {
    Room { path, pure: false, may }
}

/// The pure files of `base`, which pure rooms may use.
const BASE: &[&str] = &[
    "base/address",
    "base/id",
    "base/nearest",
    "base/time",
    "base/chance",
    "base/backoff",
    "base/future",
    "base/planted",
];

/// Lower rooms first. What a room may import beside its list: itself, and [`BASE`]; a doing room
/// also the rest of `base`, `api`, `resources` and `config`.
const ROOMS: &[Room] = &[
    pure("base/address", &[]),
    pure("base/id", &[]),
    pure("base/nearest", &[]),
    pure("base/time", &[]),
    pure("base/chance", &[]),
    pure("base/backoff", &[]),
    pure("base/future", &[]),
    // Only in builds that look for planted bugs.
    pure("base/planted", &[]),
    doing("base", &[]),
    doing("os", &[]),
    pure("api", &[]),
    pure("resources", &["api"]),
    pure("config", &["api", "resources"]),
    pure("service/model", &["api", "resources"]),
    pure("registry/core", &["api", "resources", "service/model"]),
    pure("allocator", &["api", "resources"]),
    pure("master/core", &["api", "resources", "config", "registry/core", "allocator"]),
    pure("agent/core", &["api", "resources"]),
    pure("service/core", &["api", "resources", "service/model"]),
    pure("consensus/core", &[]),
    pure(
        "sim",
        &[
            "api",
            "resources",
            "service/model",
            "registry/core",
            "allocator",
            "master/core",
            "agent/core",
            "service/core",
            "consensus/core",
        ],
    ),
    // How much room disks have.
    doing("storage", &["os"]),
    // Of `os` only the files that nobody else may read.
    doing("peer", &["storage", "os"]),
    doing("consensus/run", &["consensus/core", "storage", "peer"]),
    doing("registry/run", &["registry/core", "consensus", "storage", "peer"]),
    doing("client", &["peer"]),
    doing("containerizer", &["os", "agent/core"]),
    doing(
        "master/run",
        &["master/core", "client", "storage", "peer", "registry/run", "registry/core", "allocator"],
    ),
    doing("agent/run", &["agent/core", "client", "storage", "peer", "containerizer", "os"]),
    doing(
        "service/run",
        &[
            "service/core",
            "service/model",
            "client",
            "storage",
            "peer",
            "registry/run",
            "registry/core",
            "service/probe",
        ],
    ),
    doing("service/probe", &["service/core", "service/model"]),
    doing("server", &["client", "peer", "service/model", "os"]),
    doing(
        "node",
        &[
            "client",
            "storage",
            "peer",
            "consensus",
            "registry",
            "master",
            "agent",
            "service",
            "containerizer",
            "os",
            "server",
            "allocator",
        ],
    ),
    doing("cluster", &["client", "storage", "peer", "containerizer", "node", "agent/core"]),
    doing("cli", &["service/model", "client", "os", "containerizer", "node", "cluster"]),
];

/// What a pure room must not name, and why.
const BANNED: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("base::clock", "time is an argument"),
    ("base::spawn", "tasks belong to run loops"),
    ("tokio", "I/O belongs to run loops"),
    ("std::net::Tcp", "I/O belongs to run loops"),
    ("std::net::Udp", "I/O belongs to run loops"),
    ("std::fs", "I/O belongs to run loops"),
    ("std::process", "I/O belongs to run loops"),
    ("std::thread", "I/O belongs to run loops"),
    ("std::env", "configuration is an argument"),
    ("std::io::", "I/O belongs to run loops"),
    ("rand::", "chance is an argument"),
    ("HashMap", "iteration order would be random"),
    ("HashSet", "iteration order would be random"),
    ("async fn", "a core is synchronous"),
    (".await", "a core is synchronous"),
    ("tracing::", "a core has effects, not logs"),
];

/// Lines of a file without its tests.
const FILE_LINES: usize = 600;
/// Lines of a function.
const FUNCTION_LINES: usize = 70;

/// Files above [`FILE_LINES`] that are still to be divided, with their length: it may only shrink.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions above [`FUNCTION_LINES`] that are still to be divided: file, function, length.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

struct Source {
    /// Below `src/`, without `.rs` and without a closing `/mod`.
    module: String,
    /// Below the crate's root.
    path: String,
    /// Without test modules and comments.
    lines: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| !is_test_file(path))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable source file");
            let below =
                path.strip_prefix(root.join("src")).expect("below src").to_string_lossy().replace('\\', "/");
            let module = below.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
            Source { module, path: format!("src/{below}"), lines: code_lines(&text) }
        })
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files that hold only tests: `tests.rs`, `…_tests.rs`, anything in a folder `tests`.
fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

/// Numbered lines without comments, up to the first inline test module.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let opens_tests = line.trim_start().starts_with("#[cfg(test)]")
            && lines
                .get(index + 1)
                .is_some_and(|next| next.contains("mod ") && next.trim_end().ends_with('{'));
        if opens_tests {
            break;
        }
        if !line.trim_start().starts_with("//") {
            kept.push((index + 1, (*line).to_owned()));
        }
    }
    kept
}

fn room_of(module: &str) -> Option<&'static Room> {
    ROOMS
        .iter()
        .filter(|room| module == room.path || module.starts_with(&format!("{}/", room.path)))
        .max_by_key(|room| room.path.len())
}

/// `crate::…` paths in a file, as `a/b/c`. Grouped imports are opened up.
fn imports(source: &Source) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    let text: Vec<&str> = source.lines.iter().map(|(_, line)| line.as_str()).collect();
    for (position, (number, line)) in source.lines.iter().enumerate() {
        let mut rest = line.as_str();
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            let statement =
                if line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ") {
                    let mut whole = rest.to_owned();
                    let mut next = position + 1;
                    while !whole.contains(';') && next < text.len() {
                        whole.push_str(text[next]);
                        next += 1;
                    }
                    whole
                } else {
                    rest.to_owned()
                };
            open_up("", &statement, &mut |path| {
                found.insert((*number, path.to_owned()));
            });
        }
    }
    found
}

/// Calls `each` with every path of an import tree such as `a::{b, c::{d, e}}`.
fn open_up(prefix: &str, tree: &str, each: &mut impl FnMut(&str)) {
    let mut segment = String::new();
    let mut path = prefix.to_owned();
    let mut chars = tree.char_indices();
    while let Some((at, letter)) = chars.next() {
        if letter.is_alphanumeric() || letter == '_' {
            segment.push(letter);
        } else if letter == ':' && tree[at..].starts_with("::") {
            chars.next();
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&segment);
            segment.clear();
        } else if letter == '{' {
            for part in split_group(&tree[at + 1..]) {
                open_up(&path, part, each);
            }
            return;
        } else if letter.is_whitespace() && segment.is_empty() {
            continue;
        } else {
            break;
        }
    }
    let whole = if path.is_empty() { segment } else { format!("{path}/{segment}") };
    each(&whole);
}

/// The parts of a brace group, split at its own commas.
fn split_group(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(text[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Whether `from` may import `path`.
fn may_import(from: &Room, path: &str) -> bool {
    let below = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    let own = from.path.split('/').next().unwrap_or(from.path);
    // A bare room name (`crate::agent`) is a facade of documentation and re-exports.
    below(from.path)
        || (own == path && from.path != path && !from.pure)
        || BASE.iter().any(|file| below(file))
        || from.may.iter().any(|room| below(room))
        || (!from.pure
            && ["base", "api", "resources", "config"].iter().any(|room| below(room))
            && from.path != "base")
}

#[test]
fn every_file_is_in_a_room() {
    let facades: BTreeSet<&str> = ROOMS.iter().filter_map(|room| room.path.split('/').next()).collect();
    let lost: Vec<String> = sources()
        .iter()
        .filter(|source| !["lib", "main"].contains(&source.module.as_str()))
        .filter(|source| room_of(&source.module).is_none() && !facades.contains(source.module.as_str()))
        .map(|source| source.path.clone())
        .collect();
    assert!(lost.is_empty(), "files outside every room (add a room to the table): {lost:#?}");
}

#[test]
fn imports_follow_the_table() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = room_of(&source.module) else { continue };
        for (line, path) in imports(&source) {
            if !may_import(room, &path) {
                wrong.push(format!("{}:{line}: {} must not import {path}", source.path, room.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports against the table:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rooms_have_no_cycles() {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources() {
        let Some(room) = room_of(&source.module) else { continue };
        for (_, path) in imports(&source) {
            if let Some(target) = room_of(&path).filter(|target| target.path != room.path) {
                edges.entry(room.path).or_default().insert(target.path);
            }
        }
    }
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        let mut trail = Vec::new();
        visit(start, &edges, &mut trail, &mut done);
    }
}

fn visit<'a>(
    room: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    trail: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) {
    assert!(!trail.contains(&room), "rooms import each other in a circle: {trail:?} and back to {room}");
    if done.contains(room) {
        return;
    }
    trail.push(room);
    for next in edges.get(room).into_iter().flatten() {
        visit(next, edges, trail, done);
    }
    trail.pop();
    done.insert(room);
}

#[test]
fn pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !room_of(&source.module).is_some_and(|room| room.pure) {
            continue;
        }
        for (line, text) in &source.lines {
            for (name, reason) in BANNED {
                if text.contains(name) {
                    wrong.push(format!("{}:{line}: {name} ({reason})", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "impure names in pure rooms:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let known: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.lines.last().map_or(0, |(number, _)| *number);
        let limit = known.get(source.path.as_str()).copied().unwrap_or(FILE_LINES);
        if lines > limit {
            wrong.push(format!("{}: {lines} lines, at most {limit}: divide it", source.path));
        }
        if known.contains_key(source.path.as_str()) && lines < limit {
            wrong.push(format!("{}: shrank to {lines} lines: lower its entry in LONG_FILES", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_stay_small() {
    let known: BTreeMap<(&str, &str), usize> =
        LONG_FUNCTIONS.iter().map(|(path, name, lines)| ((*path, *name), *lines)).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, lines) in functions(&source) {
            let limit = known.get(&(source.path.as_str(), name.as_str())).copied();
            if lines > limit.unwrap_or(FUNCTION_LINES) {
                wrong.push(format!(
                    "{}: fn {name} has {lines} lines, at most {}",
                    source.path,
                    limit.unwrap_or(FUNCTION_LINES)
                ));
            }
            if limit.is_some_and(|limit| lines < limit) {
                wrong.push(format!(
                    "{}: fn {name} shrank to {lines} lines: lower its entry in LONG_FUNCTIONS",
                    source.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Functions of a formatted file with their lengths: a body ends at a brace in the column of `fn`.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (position, (start, line)) in source.lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let is_function = code.starts_with("fn ")
            || (code.contains(" fn ")
                && (code.starts_with("pub") || code.starts_with("async") || code.starts_with("const")));
        if !is_function {
            continue;
        }
        let name: String = code
            .split("fn ")
            .nth(1)
            .unwrap_or_default()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = source.lines[position + 1..]
            .iter()
            .take_while(|(_, next)| next.len() - next.trim_start().len() >= indent || next.trim().is_empty())
            .find(|(_, next)| *next == closing)
            .map_or(*start, |(number, _)| *number);
        found.push((name, end - start + 1));
    }
    found
}

#[test]
fn the_rules_bite() {
    let lines = |text: &str| Source {
        module: "master/core/x".into(),
        path: "src/master/core/x.rs".into(),
        lines: code_lines(text),
    };
    let found: Vec<String> =
        imports(&lines("use crate::api::{v1, peer::{FromAgent, ToAgent}};\nuse crate::client::ApiError;\n"))
            .into_iter()
            .map(|(_, path)| path)
            .collect();
    assert_eq!(found, ["api/peer/FromAgent", "api/peer/ToAgent", "api/v1", "client/ApiError"]);
    let room = room_of("master/core/x").expect("the master's core is a room");
    assert!(may_import(room, "api/v1"));
    assert!(!may_import(room, "client/ApiError"));
    assert!(!may_import(room, "base/clock/SystemClock"));
    let long = format!("fn long() {{\n{}}}\n", "    work();\n".repeat(80));
    assert_eq!(functions(&lines(&long)), [("long".to_owned(), 82)]);
    assert_eq!(code_lines("a();\n#[cfg(test)]\nmod tests {\n    use tokio;\n}\n").len(), 1);
}
