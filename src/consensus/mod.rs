//! Agreement on a sequence of commands (Raft, by the crate `raft`). [`core`] drives it without I/O,
//! [`run`] gives it a disk and a clock and applies what is agreed to a state machine.

pub mod core;
pub mod run;
