//! One result, printed in the form that was asked for.

use std::io::Write;

use serde_json::{Value, json};

use super::super::CliError;
use super::super::args::Format;
use super::super::settings::Global;
use super::{Table, say};

/// A result in every form.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Report {
    /// The document of `--output json`; an array of objects prints line by line as `jsonl`.
    pub(in crate::cli) json: Value,
    /// Key of the array in `json` whose elements are the lines of `jsonl`.
    pub(in crate::cli) items: Option<&'static str>,
    /// For people.
    pub(in crate::cli) lines: Vec<String>,
    /// Ids, for `name` and `--quiet`.
    pub(in crate::cli) ids: Vec<String>,
}

impl Report {
    /// A report that is a table.
    pub(in crate::cli) fn table(
        items: &'static str,
        rows: Vec<Value>,
        table: &Table,
        ids: Vec<String>,
    ) -> Self {
        Self { json: json!({ "schema": 1, items: rows }), items: Some(items), lines: table.lines(), ids }
    }
}

/// A document as YAML, without its last end of line.
fn yaml(json: &Value) -> Result<String, CliError> {
    let text = serde_yaml_ng::to_string(json);
    text.map(|text| text.trim_end().to_owned())
        .map_err(|error| CliError::new(format!("the result cannot be written as YAML: {error}")))
}

/// Prints reports, lines and errors.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Printer {
    format: Format,
}

impl Printer {
    /// The printer that the arguments ask for.
    pub(in crate::cli) fn new(global: &Global) -> Self {
        Self { format: if global.quiet { Format::Name } else { global.output } }
    }

    /// A printer for people, without arguments.
    #[cfg(test)]
    pub(in crate::cli) fn for_tests() -> Self {
        Self { format: Format::Table }
    }

    /// Whether machines read what is printed.
    pub(in crate::cli) fn is_json(self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Prints a result to stdout.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(in crate::cli) fn report(self, report: &Report) -> Result<(), CliError> {
        let lines = match self.format {
            Format::Table => report.lines.clone(),
            Format::Name => report.ids.clone(),
            Format::Json => vec![report.json.to_string()],
            Format::Yaml => vec![yaml(&report.json)?],
            Format::Jsonl => match report.items.and_then(|key| report.json[key].as_array()) {
                Some(items) => items.iter().map(Value::to_string).collect(),
                None => vec![report.json.to_string()],
            },
        };
        self.data(&lines)
    }

    /// Prints lines of data to stdout at once.
    ///
    /// # Errors
    /// Stdout cannot be written; a closed pipe ends quietly.
    pub(in crate::cli) fn data(self, lines: &[String]) -> Result<(), CliError> {
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        self.bytes(text.as_bytes())
    }

    /// Writes bytes to stdout as they are.
    ///
    /// # Errors
    /// Stdout cannot be written; a closed pipe is one that ends the program quietly.
    pub(in crate::cli) fn bytes(self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| CliError::unwritable("stdout", &error))
    }

    /// The same where the reader may be slow: whoever waits can be interrupted, the bytes go on.
    ///
    /// # Errors
    /// As above.
    pub(in crate::cli) async fn write(self, bytes: Vec<u8>) -> Result<(), CliError> {
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || self.bytes(&bytes))
            .await
            .map_err(|error| CliError::new(format!("stdout cannot be written: {error}")))?
    }

    /// Writes bytes to stderr as they are (what a task wrote to its stderr), as [`Printer::write`] does.
    ///
    /// # Errors
    /// There is no thread to write.
    pub(in crate::cli) async fn write_error(self, bytes: Vec<u8>) -> Result<(), CliError> {
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || {
            // As with `say`: nobody may be left to read it.
            let _ = std::io::stderr().write_all(&bytes);
        })
        .await
        .map_err(|error| CliError::new(format!("stderr cannot be written: {error}")))
    }

    /// Tells the person something on stderr.
    pub(in crate::cli) fn note(self, text: &str) {
        say(text);
    }

    /// Prints a result in the place of the one before it, if a person looks.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(in crate::cli) fn again(self, report: &Report) -> Result<(), CliError> {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            // Home, and clear to the end of the screen.
            self.bytes(b"\x1b[H\x1b[J")?;
        }
        self.report(report)
    }

    /// Prints an error to stderr, unless it only ends the program quietly.
    pub(in crate::cli) fn error(self, error: &CliError) {
        if error.is_quiet() {
            return;
        }
        if self.is_json() {
            let body = json!({ "code": error.exit.code(), "message": error.message, "hint": error.hint });
            say(&json!({ "error": body }).to_string());
            return;
        }
        say(&format!("error: {}", error.message));
        if let Some(hint) = &error.hint {
            say(&format!("hint: {hint}"));
        }
    }
}
