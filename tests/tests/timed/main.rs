//! What is promised within so many seconds: one test at a time, so that none measures another's load.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

use tokio::sync::Mutex;

mod alerting;
mod restarts;
mod takeover;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::const_new(());
