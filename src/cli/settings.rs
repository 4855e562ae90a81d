//! Where settings come from: the command line, the environment, files.
//!
//! ```text
//! /etc/mesita/mesita.toml, then /etc/mesita/conf.d/*.toml by name   this machine
//! $XDG_CONFIG_HOME/mesita/config.toml, else ~/.config/…             the user
//! ./mesita.toml                                                     the project
//! ```
//!
//! Later ones count more. `--config FILE` stands in place of them all; MESITA_CONFIG_DIR in place of
//! `/etc/mesita`. Commands that help with a broken file read none.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::{Cli, Color, Command, ConfigCommand, Format, GlobalArgs, LogFormat};
use super::{CliError, Exit};
use crate::config::{self, KEYS, Layer, Layers, Problem, Settings, Value};

/// Where the system's files are.
const SYSTEM: &str = "/etc/mesita";
/// The variable that names another place.
const SYSTEM_VARIABLE: &str = "MESITA_CONFIG_DIR";
/// Largest configuration file that is read, in bytes: one with every key and its comment has a few thousand.
const MAX_FILE: u64 = 1024 * 1024;

/// Options of every command, as they hold.
#[derive(Clone, Debug)]
pub(super) struct Global {
    /// Cluster to talk to.
    pub(super) addr: Option<String>,
    /// Output form.
    pub(super) output: Format,
    /// Only ids, one a line.
    pub(super) quiet: bool,
    /// When to colour.
    pub(super) color: Color,
    /// Filter of mesita's own log, and what set it.
    pub(super) log_level: (String, String),
    /// Its form.
    pub(super) log_format: LogFormat,
}

impl Global {
    /// What holds of what was found.
    pub(super) fn new(arguments: &GlobalArgs, settings: &Settings) -> Self {
        let level = &config::LOG_LEVEL;
        Self {
            addr: settings.text(&config::ADDR),
            output: word(settings, &config::OUTPUT, Format::Table),
            quiet: arguments.quiet,
            color: word(settings, &config::COLOR, Color::Auto),
            log_level: (
                settings.text(level).unwrap_or_default(),
                settings.source(level).map(ToString::to_string).unwrap_or_default(),
            ),
            log_format: word(settings, &config::LOG_FORMAT, LogFormat::Text),
        }
    }
}

/// One of the words that a key allows, as its type.
fn word<T: clap::ValueEnum>(settings: &Settings, key: &config::Key, default: T) -> T {
    settings.text(key).and_then(|word| T::from_str(&word, false).ok()).unwrap_or(default)
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        let error = Self::with(Exit::Usage, problem.to_string());
        match problem.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Adds what the command line sets.
pub(super) fn add_flags(cli: &Cli, layers: &mut Layers) {
    cli.global.flags.add_to(layers);
    if cli.global.json && !cli.global.flags.has(&config::OUTPUT) {
        layers.add_flag(&config::OUTPUT, Value::Text("json".to_owned()), "json");
    }
    match &cli.command {
        Command::Dev(arguments) => arguments.flags.add_to(layers),
        Command::Node(arguments) => arguments.flags.add_to(layers),
        Command::Config { command: ConfigCommand::Show(arguments) } => arguments.flags.add_to(layers),
        _ => {}
    }
}

/// Adds what the environment sets.
///
/// # Errors
/// A variable has a value that its key cannot have.
pub(super) fn add_environment(_: &Cli, layers: &mut Layers) -> Result<(), CliError> {
    for key in KEYS.iter().copied() {
        if matches!(env::var(key.variable), Err(env::VarError::NotUnicode(_))) {
            return Err(CliError::with(Exit::Usage, format!("{} is no text (UTF-8)", key.variable)));
        }
    }
    Ok(layers.add_environment(|name| env::var(name).ok())?)
}

/// Adds what the files set that a command reads.
///
/// # Errors
/// A file cannot be read, or says something that it cannot say.
pub(super) fn add_files(cli: &Cli, layers: &mut Layers) -> Result<(), CliError> {
    let named = match &cli.command {
        Command::Node(arguments) => arguments.config.as_ref(),
        Command::Config { command: ConfigCommand::Show(arguments) } => arguments.config.as_ref(),
        Command::Config { command: ConfigCommand::Default | ConfigCommand::Explain(_) }
        | Command::Completion(_)
        | Command::Version
        | Command::DemoWeb(_)
        | Command::Launcher { .. } => return Ok(()),
        _ => None,
    };
    if let Some(path) = named {
        let text = text_of(path)?.ok_or_else(|| unreadable(path, "there is no such file"))?;
        return add(layers, Layer::Named, path, &text);
    }
    for (layer, path) in places(|name| env::var_os(name))? {
        if let Some(text) = text_of(&path)? {
            add(layers, layer, &path, &text)?;
        }
    }
    Ok(())
}

fn add(layers: &mut Layers, layer: Layer, path: &Path, text: &str) -> Result<(), CliError> {
    Ok(layers.add_file(layer, &path.display().to_string(), text)?)
}

/// Where files may be, those that count least first.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<(Layer, PathBuf)>, CliError> {
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let system = directory(SYSTEM_VARIABLE).unwrap_or_else(|| PathBuf::from(SYSTEM));
    let mut places = vec![(Layer::System, system.join("mesita.toml"))];
    places.extend(parts(&system.join("conf.d"))?.into_iter().map(|path| (Layer::System, path)));
    let user = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    places.extend(user.map(|user| (Layer::User, user.join("mesita/config.toml"))));
    places.push((Layer::Project, PathBuf::from("mesita.toml")));
    Ok(places)
}

/// The files `*.toml` of a directory, by name; hidden ones are an editor's.
fn parts(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, error)),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            parts.push(path);
        }
    }
    parts.sort();
    Ok(parts)
}

/// A file's text; none: there is no such file.
fn text_of(path: &Path) -> Result<Option<String>, CliError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    if size > MAX_FILE {
        let problem = format!("{size} bytes are too much for a configuration file (at most {MAX_FILE})");
        return Err(unreadable(path, problem));
    }
    fs::read_to_string(path).map(Some).map_err(|error| unreadable(path, error))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(path: &Path, problem: impl std::fmt::Display) -> CliError {
    CliError::with(
        Exit::Usage,
        format!("the configuration file {} cannot be read: {problem}", path.display()),
    )
}
