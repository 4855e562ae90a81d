//! The master as others see it: scripts that assert each effect and then silence, and random
//! sequences against a model of the cluster.

mod agents;
mod failover;
mod frameworks;
mod launch;
mod model;
mod nodes;
mod offers;
mod random;
mod reconcile;
mod support;
