//! Who is offered what (Mesos hierarchical allocator, dominant resource fairness).
//!
//! Resources are charged to a framework in a role from the moment they are offered. An allocation
//! looks only at agents on which something changed: freed resources go to other frameworks at once,
//! to the framework that declined them no sooner than the allocation interval. Everything that can
//! refuse can [`Allocator::explain`].

mod agents;
mod cycle;
mod explain;
mod frameworks;
#[cfg(test)]
mod leaving_tests;
mod roles;
mod sorter;
mod state;
#[cfg(test)]
mod tests;

pub use explain::Explanation;
pub use frameworks::{Capabilities, FrameworkSpec};
pub use state::{Allocator, Config, Grant};
