//! What the end-to-end tests and the benchmark share: real processes, a telemetry client that keeps a ledger of what was accepted, and
//! checkers of everything Keelson shows against that ledger.
//!
//! It stands outside: it starts executables and speaks HTTP and NATS to them. Of Keelson's code it uses the message types alone.
//! As in any test, what cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod alerting;
pub mod alertmanager;
pub mod binary;
pub mod client;
pub mod commands;
pub mod fakes;
pub mod garbage;
pub mod keelson;
pub mod ledger;
pub mod mongod;
pub mod nats;
pub mod otlp;
pub mod place;
pub mod process;
pub mod prometheus;
pub mod scrape;
pub mod seed;
pub mod service;
pub mod slices;
pub mod traffic;
pub mod transitions;
pub mod varnish;
pub mod watcher;
pub mod webhook;
pub mod wire;
