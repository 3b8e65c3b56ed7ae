//! The ingress over real HTTP, against a real nats-server.
#![allow(clippy::expect_used, reason = "a test that cannot go on is to fail")]

mod fixture;
mod monitoring;
mod operations;
mod refusals;
mod telemetry;
mod traces;
