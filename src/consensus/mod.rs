//! Agreement on a sequence of commands (Raft, by the crate `raft`). [`core`] drives it without I/O,
//! [`run`] gives it a disk and a clock and applies what is agreed to a state machine.
//!
//! For now a cluster has one voter: the path of a command is the one that three voters will use
//! (append, persist, commit, apply), only nothing has to be sent.

pub mod core;
pub mod run;
