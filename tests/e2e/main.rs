//! End-to-end tests against the built program: real processes, real sockets, real signals.

mod bad_inputs;
mod chaos;
mod cli;
mod config;
mod console;
mod dev;
mod disks;
mod docker;
mod embedding;
mod engine;
mod formats;
mod http;
mod kills;
mod launcher;
mod masters;
mod mixed;
mod nodes;
mod outliving;
mod readme;
mod recovery;
mod services;
mod support;
mod v2;
mod with;
