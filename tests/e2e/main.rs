//! End-to-end tests against the built program: real processes, real sockets, real signals.

mod cli;
mod dev;
mod docker;
mod engine;
mod http;
mod support;
mod v2;
