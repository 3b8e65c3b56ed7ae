//! keelson-kit

pub mod bus;
pub mod bus_admin;
pub mod checkpoint;
pub mod clock;
pub mod command;
pub mod config;
pub mod consume;
pub mod dead_letter;
pub mod failure;
pub mod fault;
pub mod follow;
pub mod incoming;
pub mod journal;
pub mod kv;
pub mod lease;
pub mod node;
pub mod operations;
pub mod otel;
pub mod publish;
pub mod query;
pub mod retry;
pub mod role;
pub mod steward;
pub mod stream;
pub mod tasks;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
pub mod trace;
