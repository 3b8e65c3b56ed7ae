//! m
pub mod config;
pub mod delta;
pub mod host;
pub mod intake;
pub mod ledger;
pub mod owned;
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
