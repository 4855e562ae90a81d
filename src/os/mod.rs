//! System calls: opening files beneath a directory, users, process trees, what the host has.

pub mod beneath;
pub mod host;
pub mod processes;
pub mod users;
