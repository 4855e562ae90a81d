//! The launcher: a small process that is the parent of process tasks.
//!
//! It is exec'd by an agent, is single-threaded, has a session of its own and adopts orphans (subreaper). It is
//! told what to start and signal, and tells what started and how it ended.
//!
//! With `--die-with-parent` it has one end of a socket pair as its standard input. When the socket closes, the
//! agent is gone: it kills every task with everything that the task started, and exits.
//!
//! With `--outlive DIRECTORY` it listens on a socket in that directory. When the agent is gone, it goes on: it
//! writes down how tasks end, and forgets an end only when an agent that came back has taken note of it. If it
//! dies itself, the next launcher of the directory ends what it left.

mod outlive;
mod program;
pub(super) mod protocol;
mod records;
mod remains;
mod tasks;

pub(super) use outlive::{READY, SOCKET, TAKEN, end_remains};
pub use program::main;
pub(super) use tasks::{decode, kill_marked};
