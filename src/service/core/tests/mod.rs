//! The service framework between a replicated state and a master, both played: scripts, and random
//! sequences with late commits, late events and lost connections.

mod launch;
mod model;
mod random;
