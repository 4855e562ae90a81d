//! The loop that owns a [`super::core::Master`] while this node leads.

mod handle;
mod member;
mod outbox;
#[cfg(test)]
mod tests;

pub use handle::Handle;
