//! Over real sockets on loopback.

mod calls;
mod consensus;
mod joining;
mod links;
mod support;
