//! `mesita config`: what is set and by what, a file to begin with, and what each key means.

use serde_json::{Value, json};

use super::args::{ConfigCommand, ConfigFor, ConfigShow};
use super::output::{Report, Table};
use super::{CliError, Exit};
use crate::config::{self, For, KEYS, Key, Layers, Source, Users};

/// Does what was asked.
pub(super) fn config(command: &ConfigCommand, layers: &Layers) -> Result<Report, CliError> {
    match command {
        ConfigCommand::Show(arguments) => Ok(show(arguments, layers)),
        ConfigCommand::Default => Ok(default()),
        ConfigCommand::Explain(arguments) => explain(&arguments.key),
    }
}

fn show(arguments: &ConfigShow, layers: &Layers) -> Report {
    let command = match arguments.r#for {
        ConfigFor::Node => For::Node,
        ConfigFor::Dev => For::Dev,
    };
    let settings = layers.effective(command);
    let mut table = Table::new(&["KEY", "VALUE", "SOURCE"]);
    let (mut rows, mut ids) = (Vec::new(), Vec::new());
    for key in KEYS.iter().filter(|key| key.is_for(command)) {
        let (value, source) = (settings.value(key), settings.source(key));
        let shown = match &value {
            Some(value) => value.to_string(),
            None => format!("({})", key.default_text(command)),
        };
        let shown = if shown.is_empty() { "-".to_owned() } else { shown };
        table.row(vec![key.name.to_owned(), shown, source_text(source)]);
        let value = value.map_or(Value::Null, |value| value.json());
        rows.push(json!({ "key": key.name, "value": value, "source": source_json(source) }));
        ids.push(key.name.to_owned());
    }
    Report::table("keys", rows, &table, ids)
}

fn source_text(source: Option<&Source>) -> String {
    match source {
        None => "default".to_owned(),
        Some(Source::File(place)) => format!("file {}:{}", place.path, place.line),
        Some(Source::Variable(name)) => format!("env {name}"),
        Some(Source::Flag(name)) => format!("flag --{name}"),
    }
}

fn source_json(source: Option<&Source>) -> Value {
    match source {
        None => json!({ "kind": "default" }),
        Some(Source::File(place)) => {
            json!({ "kind": "file", "path": place.path, "line": place.line, "column": place.column })
        }
        Some(Source::Variable(name)) => json!({ "kind": "env", "variable": name }),
        Some(Source::Flag(name)) => json!({ "kind": "flag", "flag": format!("--{name}") }),
    }
}

fn default() -> Report {
    let text = config::sample();
    let ids = KEYS.iter().map(|key| key.name.to_owned()).collect();
    let lines = text.lines().map(str::to_owned).collect();
    Report { json: json!({ "schema": 1, "text": text }), items: None, lines, ids }
}

/// One key, or every key of a table.
fn explain(typed: &str) -> Result<Report, CliError> {
    let in_table = |key: &Key| key.split().0 == Some(typed);
    let keys: Vec<&Key> = KEYS.iter().copied().filter(|key| key.name == typed || in_table(key)).collect();
    if keys.is_empty() {
        let nearest = config::nearest_key(typed).unwrap_or_default();
        return Err(CliError::with(
            Exit::NotFound,
            format!("no key is called {typed:?}; did you mean {nearest:?}?"),
        )
        .hint("`mesita config default` lists every key"));
    }
    let mut lines = Vec::new();
    for key in &keys {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(explained(key));
    }
    let rows: Vec<Value> = keys.iter().map(|key| as_json(key)).collect();
    let ids = keys.iter().map(|key| key.name.to_owned()).collect();
    Ok(Report { json: json!({ "schema": 1, "keys": rows }), items: Some("keys"), lines, ids })
}

fn explained(key: &Key) -> Vec<String> {
    let text = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let (node, dev) = (text(key.default_text(For::Node)), text(key.default_text(For::Dev)));
    let default =
        if node == dev || key.users == Users::Dev { dev } else { format!("{node}; of `dev`: {dev}") };
    let (table, name) = key.split();
    let place = table.map(|table| format!(" in [{table}]")).unwrap_or_default();
    let example = key.example().map(|value| value.toml()).unwrap_or_default();
    vec![
        key.name.to_owned(),
        format!("  {}.", key.meaning),
        format!("  allowed   {}", key.kind.allowed()),
        format!("  default   {default}"),
        format!("  file      {name} = {example}{place}"),
        format!("  variable  {}", key.variable),
        format!("  flag      {}", key.flag.map_or_else(|| "none".to_owned(), |flag| format!("--{flag}"))),
        format!("  taken by  {}", users(key.users)),
    ]
}

fn users(users: Users) -> &'static str {
    match users {
        Users::All => "every command",
        Users::Node => "`node`",
        Users::Dev => "`dev`",
        Users::Both => "`node` and `dev`",
        Users::NodeAndOwnDev => {
            "`node`, and `dev` unless a file of the system sets it: those are about this machine's node"
        }
    }
}

fn as_json(key: &Key) -> Value {
    json!({
        "key": key.name,
        "meaning": key.meaning,
        "allowed": key.kind.allowed(),
        "default": key.default_value(For::Node).map_or(Value::Null, |value| value.json()),
        "default_text": key.default_text(For::Node),
        "default_text_dev": key.default_text(For::Dev),
        "example": key.example().map_or(Value::Null, |value| value.json()),
        "variable": key.variable,
        "flag": key.flag.map(|flag| format!("--{flag}")),
        "node": key.is_for(For::Node),
        "dev": key.is_for(For::Dev),
    })
}
