//! The loop that owns a [`super::core::Master`] while this node leads.

mod handle;
mod member;
mod outbox;
mod proposals;
#[cfg(test)]
mod tests;

pub use handle::Handle;
