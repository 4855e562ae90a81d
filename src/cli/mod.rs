//! The command line: one file per verb. Commands return data or an [`CliError`]; `output` prints.
//!
//! What flags, environment and files set comes together in `settings`. A command finds its cluster through
//! `target`: the address that was set, then the ready file of a running `mesita dev`, then the default port.

mod args;
mod cluster;
mod completion;
mod config;
mod demo_web;
mod deploy;
mod dev;
mod error;
mod exit;
mod explain;
mod files;
mod flags;
mod follow;
mod log;
mod logs;
mod main;
mod node;
mod output;
mod ps;
mod ready;
mod reap;
mod run;
mod scale;
mod services;
mod settings;
mod signals;
mod snapshot;
mod stop;
mod target;
mod version;
mod wait;
mod with;

pub use error::CliError;
pub use exit::Exit;
pub use main::main;
