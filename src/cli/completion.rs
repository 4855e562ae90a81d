//! `mesita completion`: a script with which a shell completes commands and flags.

use clap::CommandFactory;
use serde_json::json;

use super::CliError;
use super::args::{Cli, Completion};
use super::output::Report;

/// The script.
pub(super) fn completion(arguments: &Completion) -> Result<Report, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "mesita", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| CliError::new(format!("the script is no text: {error}")))?;
    let lines: Vec<String> = script.lines().map(str::to_owned).collect();
    let json = json!({ "schema": 1, "shell": arguments.shell.to_string(), "script": script });
    // A script has no ids; whoever asks for less than everything wants it all the same.
    Ok(Report { ids: lines.clone(), lines, json, items: None })
}
