//! Backups and restores on a real nats-server, a real mongod and a real restic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod automation;
mod drill;
mod files;
mod fixture;
mod incremental;
mod log;
mod mongod;
mod roundtrip;
mod shapes;
mod trouble;
