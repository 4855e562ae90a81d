//! System calls: opening files beneath a directory, users, process trees, control groups, networks of
//! processes, what the host has.

pub mod beneath;
pub mod cgroup;
pub mod child;
pub mod disk;
pub mod exact;
pub mod files;
pub mod host;
pub mod netns;
pub mod notify;
pub mod owner;
pub mod processes;
pub mod users;
pub mod watched;
