//! m
pub mod config;
pub mod delta;
pub mod host;
pub mod intake;
pub mod suspicion;
pub mod totals;
pub mod windows;
