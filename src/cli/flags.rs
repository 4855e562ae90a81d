//! Flags that set keys of the configuration: made from the table of keys, so that both say the same.

use std::marker::PhantomData;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

use crate::config::{For, KEYS, Key, Kind, Layers, Raw, Users, Value};

/// Which keys have a flag at a command.
pub(super) trait Of {
    /// Whether this one has.
    fn has(key: &Key) -> bool;
    /// Which default the help tells.
    const COMMAND: For;
    /// At every command.
    const IS_GLOBAL: bool = false;
}

/// At every command.
#[derive(Debug)]
pub(super) struct OfAll;

impl Of for OfAll {
    const COMMAND: For = For::Node;
    const IS_GLOBAL: bool = true;

    fn has(key: &Key) -> bool {
        key.users == Users::All
    }
}

/// At `node`.
#[derive(Debug)]
pub(super) struct OfNode;

impl Of for OfNode {
    const COMMAND: For = For::Node;

    fn has(key: &Key) -> bool {
        key.users != Users::All && key.is_for(For::Node)
    }
}

/// At `dev`.
#[derive(Debug)]
pub(super) struct OfDev;

impl Of for OfDev {
    const COMMAND: For = For::Dev;

    fn has(key: &Key) -> bool {
        key.users != Users::All && key.is_for(For::Dev)
    }
}

/// At `config show`, which takes what the others take.
#[derive(Debug)]
pub(super) struct OfShow;

impl Of for OfShow {
    const COMMAND: For = For::Node;

    fn has(key: &Key) -> bool {
        key.users != Users::All
    }
}

/// The flags that were given.
#[derive(Debug)]
pub(super) struct Flags<S> {
    given: Vec<(&'static Key, &'static str, Value)>,
    set: PhantomData<S>,
}

impl<S> Flags<S> {
    /// Adds them to what else sets keys.
    pub(super) fn add_to(&self, layers: &mut Layers) {
        for (key, flag, value) in &self.given {
            layers.add_flag(key, value.clone(), flag);
        }
    }

    /// Whether a key is among them.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.given.iter().any(|(given, ..)| given.name == key.name)
    }
}

/// The keys of a set with their flags.
fn flags<S: Of>() -> impl Iterator<Item = (&'static Key, &'static str)> {
    KEYS.iter().filter(|key| S::has(key)).filter_map(|key| Some((*key, key.flag?)))
}

fn argument<S: Of>(key: &'static Key, flag: &'static str) -> Arg {
    let default = match key.default_text(S::COMMAND) {
        "" => String::new(),
        text => format!(" [default: {text}]"),
    };
    let read = |text: &str| key.read(&Raw::Typed(text));
    let parser = match key.kind {
        Kind::Choice(words) => {
            let value = |text: String| key.read(&Raw::Typed(&text));
            ValueParser::new(PossibleValuesParser::new(words).try_map(value))
        }
        _ => ValueParser::new(read),
    };
    let argument = Arg::new(flag)
        .long(flag)
        .value_name(key.kind.placeholder())
        .value_parser(parser)
        .global(S::IS_GLOBAL)
        .action(ArgAction::Set)
        .help(format!("{}{default} [env: {}]", key.meaning, key.variable));
    match (key.kind, flag) {
        (Kind::Switch, _) => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        (_, "output") => argument.short('o'),
        _ => argument,
    }
}

impl<S: Of> Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        command.args(flags::<S>().map(|(key, flag)| argument::<S>(key, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Of> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = flags::<S>()
            .filter(|(_, flag)| matches.value_source(flag) == Some(ValueSource::CommandLine))
            .filter_map(|(key, flag)| Some((key, flag, matches.get_one::<Value>(flag)?.clone())));
        Ok(Self { given: given.collect(), set: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
