//! End-to-end tests against the built program: real processes, real sockets, real signals.

mod bad_inputs;
mod chaos;
mod cli;
mod console;
mod dev;
mod docker;
mod embedding;
mod engine;
mod http;
mod kills;
mod launcher;
mod masters;
mod mixed;
mod nodes;
mod outliving;
mod readme;
mod services;
mod support;
mod v2;
