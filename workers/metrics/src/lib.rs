//! Consumes: `keelson.tel.<partition>`, in order, for the partitions that this replica owns by lease.
//! Publishes: `keelson.slice.<partition>`, and answers `keelson.qry.metrics.export` and `.summary`, each `.<partition>`.
//! Keeps: leases, checkpoints of the totals, the register of service names.
//! On failure: nothing is lost that was stored; the next owner reads back what is committed and counts the rest again.
//!
//! `delta` counts, `ledger` commits, `totals` and `windows` are what the committed slices add up to, `snapshot` keeps the totals, `recover` reads everything back,
//! and `partition` does one after the other.

pub mod config;
pub mod delta;
pub mod host;
pub mod intake;
pub mod ledger;
pub mod partition;
pub mod recover;
pub mod retention;
pub mod services;
pub mod snapshot;
pub mod state;
pub mod suspicion;
pub mod totals;
pub mod trail;
pub mod windows;
mod worker;

pub use worker::Metrics;
