//! A whole Mesos-style cluster in one process: a Raft-replicated master, a local agent and a
//! service framework, with state in sled. It speaks the Mesos v1 HTTP API and Marathon's `/v2`.

pub mod agent;
pub mod allocator;
pub mod api;
pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod consensus;
pub mod containerizer;
pub mod master;
pub mod node;
pub mod os;
pub mod peer;
pub mod registry;
pub mod resources;
pub mod server;
pub mod service;
pub mod sim;
pub mod storage;

pub use cluster::Cluster;

/// The README's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
