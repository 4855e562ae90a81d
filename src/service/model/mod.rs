//! What the service framework stores: apps in canonical form, its commands and its state.

mod canonical;
mod check;
pub mod files;
pub mod ids;
mod legacy;
mod merge;
mod replicated;
mod together;

pub use canonical::{Keys, Unreadable, read};
pub use check::check;
pub use merge::merge;
pub use replicated::{
    Action, AppEntry, AppVersion, Attribute, Command, Deployment, Failure, Instance, Plan, Reply, State,
};
pub use together::{check_together, depths};
