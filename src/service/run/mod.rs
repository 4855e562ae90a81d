//! The loop that owns the service framework while this node leads: scheduler stream, replicated
//! state, probes, requests of `/v2`.

mod changes;
mod handle;
mod hold;
mod member;
mod prober;
mod requests;

pub use handle::Handle;
