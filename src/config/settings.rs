//! Values from everywhere, and the ones that hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::keys::{For, KEYS, Key};
use super::kind::{Raw, Value};
use super::problem::Problem;

/// Where values come from, the most general first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Files of this machine.
    System,
    /// The user's file.
    User,
    /// The file of the working directory.
    Project,
    /// A file that was named in place of the others.
    Named,
    /// Variables.
    Environment,
    /// The command line.
    Flag,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

/// What set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(Place),
    /// This variable.
    Variable(&'static str),
    /// This flag, without its dashes.
    Flag(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(place) => place.fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value and what set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// What set it.
    pub source: Source,
}

/// Every value that was found, wherever it was found.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    found: Vec<(Layer, &'static Key, Setting)>,
}

impl Layers {
    /// Adds a file. Of two of the same layer the later one counts.
    ///
    /// # Errors
    /// It is no TOML, has a key that nobody knows, or a value that its key cannot have.
    #[cfg(feature = "cli")]
    pub fn add_file(&mut self, layer: Layer, path: &str, text: &str) -> Result<(), Problem> {
        let settings = super::file::read(path, text)?;
        self.found.extend(settings.into_iter().map(|(key, setting)| (layer, key, setting)));
        Ok(())
    }

    /// Adds the variables that are set, as `variable` tells; an empty one counts as none.
    ///
    /// # Errors
    /// One has a value that its key cannot have.
    pub fn add_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), Problem> {
        for key in KEYS.iter().copied() {
            let Some(text) = variable(key.variable).filter(|text| !text.is_empty()) else { continue };
            let source = Source::Variable(key.variable);
            match key.read(&Raw::Typed(&text)) {
                Ok(value) => self.found.push((Layer::Environment, key, Setting { value, source })),
                Err(refusal) => {
                    let (found, refusal) = (format!("{text:?}"), Box::new(refusal));
                    return Err(Problem::Value { from: source, key: key.name, found, refusal });
                }
            }
        }
        Ok(())
    }

    /// Adds what a flag sets; its name is without dashes.
    pub fn add_flag(&mut self, key: &'static Key, value: Value, flag: &'static str) {
        self.found.push((Layer::Flag, key, Setting { value, source: Source::Flag(flag) }));
    }

    /// What holds for a command: of each key that it takes, the value of the most particular layer.
    #[must_use]
    pub fn effective(&self, command: For) -> Settings {
        let mut chosen: BTreeMap<&'static str, (Layer, &Setting)> = BTreeMap::new();
        for (layer, key, setting) in &self.found {
            let is_covered = chosen.get(key.name).is_some_and(|(other, _)| other > layer);
            if key.is_taken(command, *layer) && !is_covered {
                chosen.insert(key.name, (*layer, setting));
            }
        }
        let chosen = chosen.into_iter().map(|(name, (_, setting))| (name, setting.clone())).collect();
        Settings { command, chosen }
    }
}

/// What holds for one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    command: For,
    chosen: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Nothing is set.
    #[must_use]
    pub fn none(command: For) -> Self {
        Self { command, chosen: BTreeMap::new() }
    }

    /// Which command they are for.
    #[must_use]
    pub fn command(&self) -> For {
        self.command
    }

    /// What was set; none: the default holds.
    #[must_use]
    pub fn set(&self, key: &Key) -> Option<&Setting> {
        self.chosen.get(key.name)
    }

    /// What set the key; none: nothing did.
    #[must_use]
    pub fn source(&self, key: &Key) -> Option<&Source> {
        self.set(key).map(|setting| &setting.source)
    }

    /// What holds: what was set, else the default, if that is one value.
    #[must_use]
    pub fn value(&self, key: &Key) -> Option<Value> {
        self.set(key).map(|setting| setting.value.clone()).or_else(|| key.default_value(self.command))
    }

    /// What holds, of a key that is text.
    #[must_use]
    pub fn text(&self, key: &Key) -> Option<String> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// What holds, of a key that is a list.
    #[must_use]
    pub fn list(&self, key: &Key) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }

    /// What holds, of a key that is a socket address.
    #[must_use]
    pub fn address(&self, key: &Key) -> Option<SocketAddr> {
        match self.value(key) {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        }
    }

    /// What holds, of a key that is yes or no.
    #[must_use]
    pub fn switch(&self, key: &Key) -> bool {
        self.value(key) == Some(Value::Switch(true))
    }

    /// What holds, of a key that is a number.
    #[must_use]
    pub fn count(&self, key: &Key) -> Option<usize> {
        match self.value(key) {
            Some(Value::Count(number)) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    /// What holds, of a key that is a duration.
    #[must_use]
    pub fn time(&self, key: &Key) -> Option<Duration> {
        match self.value(key) {
            Some(Value::Time(time)) => Some(time),
            _ => None,
        }
    }
}
