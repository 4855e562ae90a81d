//! The README's tour, typed by a test: every command of its `console` blocks, every line that it shows.
//!
//! What differs from run to run (ids, ports, times, the temporary directory) is blotted out on both sides; a
//! line that ends in `…` is a beginning. The cluster of the first command listens on free ports here, and
//! the other commands are pointed at it.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support::{DEADLINE, end, file, lines_of, own_run_id, program, request, signal_process, wait_for};

/// A command of the tour, and what it prints.
struct Step {
    command: String,
    shown: Vec<String>,
}

fn tour() -> Vec<Step> {
    let text = std::fs::read_to_string(file("README.md")).expect("a README");
    let (_, tour) = text.split_once("<!-- tour -->").expect("a tour");
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in tour.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").shown.push(line.to_owned()),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Words as a shell makes them of this README's commands.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

/// A line without what differs from run to run.
fn blotted(line: &str) -> String {
    let mut line = line.to_owned();
    for (pattern, blot) in [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"\b[0-9a-f]{8} \|", "ID |"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"/\S*/mesita-\S+", "DIRECTORY"),
        (r"UUID-O\d+", "OFFER"),
        (r"UUID-\d{4}", "FRAMEWORK"),
        (r"\d+s ago", "AGE"),
        (r"after \d+\.\d s", "after TIME"),
        (r"[\d.]+ offered", "SOME offered"),
        (r"\s+", " "),
    ] {
        line = regex::Regex::new(pattern).expect("a pattern").replace_all(&line, blot).into_owned();
    }
    line.trim().to_owned()
}

/// Compares without regard to order: instances and updates of two tasks come as they come.
fn compare(command: &str, shown: &[String], printed: &str) {
    let sorted = |lines: Vec<String>| {
        let mut lines = lines;
        lines.sort();
        lines
    };
    let wanted = sorted(shown.iter().map(|line| blotted(line)).collect());
    let lines = sorted(printed.lines().map(blotted).collect());
    let same = wanted.len() == lines.len()
        && wanted.iter().zip(&lines).all(|(wanted, line)| match wanted.strip_suffix('…') {
            Some(beginning) => line.starts_with(beginning),
            None => wanted == line,
        });
    assert!(
        same,
        "{command}\nthe README shows:\n{}\nbut it prints:\n{}",
        wanted.join("\n"),
        lines.join("\n")
    );
}

/// The cluster of the first command.
struct Tour {
    child: Child,
    lines: mpsc::Receiver<String>,
    master: String,
    marathon: String,
    last_code: Option<i32>,
}

impl Drop for Tour {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Tour {
    fn start(arguments: &[String]) -> Self {
        let free = "127.0.0.1:0";
        let mut child = program()
            .args(arguments)
            .args(["--master-addr", free, "--agent-addr", free, "--marathon-addr", free])
            .env("MESITA_RUN_ID", own_run_id())
            .current_dir(file(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = lines_of(&mut child);
        Self { child, lines, master: String::new(), marathon: String::new(), last_code: None }
    }

    /// Reads as many lines as the README shows of the first command.
    fn first(&mut self, step: &Step) {
        let mut printed = String::new();
        for _ in &step.shown {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("only this within {DEADLINE:?}:\n{printed}"));
            let url = |name: &str| line.trim().strip_prefix(name).map(|rest| rest.trim().to_owned());
            if let Some(url) = url("Mesos API") {
                self.master = url;
            }
            if let Some(url) = url("Marathon API") {
                self.marathon = url;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        compare(&step.command, &step.shown, &printed);
    }

    fn run(&mut self, command: &str) -> String {
        let mut words = words(command);
        let name = words.remove(0);
        let output = match name.as_str() {
            "mesita" => program().args(&words).env("MESITA_ADDR", &self.master).output(),
            "python3" => Command::new(name)
                .args(&words)
                .args(["--master", &self.master])
                .current_dir(file(""))
                .output(),
            "echo" => return format!("{}\n", self.last_code.expect("a command before")),
            "curl" => return self.curl(&words),
            other => panic!("the README runs {other}, which this test does not know"),
        };
        let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
        self.last_code = output.status.code();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn curl(&self, words: &[String]) -> String {
        let url = words.iter().find(|word| word.starts_with("http://")).expect("a URL");
        let (base, path) = url.split_at(url[7..].find('/').expect("a path") + 7);
        let base = if base.ends_with(":5050") { &self.master } else { &self.marathon };
        let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
        let headers: Vec<(&str, &str)> =
            after("-H").and_then(|header| header.split_once(": ")).into_iter().collect();
        let body = after("-d").map(String::as_bytes);
        let method = if body.is_some() { "POST" } else { "GET" };
        let (_, answer) = request(base, method, path, &headers, body.unwrap_or_default());
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn the_tour_is_true() {
    let steps = tour();
    let (first, rest) = steps.split_first().expect("a first command");
    let command = first.command.strip_prefix("cargo run --release -- ").expect("cargo runs it");
    let mut tour = Tour::start(&words(command));
    tour.first(first);
    for step in rest {
        // An explanation needs an offer to have come.
        if step.command.contains(" explain ") {
            let wanted = blotted(step.shown.last().expect("a reason"));
            wait_for("the explanation", || {
                tour.run(&step.command).lines().any(|line| blotted(line) == wanted).then_some(())
            });
        }
        let printed = tour.run(&step.command);
        compare(&step.command, &step.shown, &printed);
    }
    signal_process(tour.child.id(), "INT");
    let ended = wait_for("the end of the tour", || tour.child.try_wait().expect("our own child"));
    assert_eq!(ended.code(), Some(0));
}
