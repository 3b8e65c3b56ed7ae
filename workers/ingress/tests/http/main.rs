//! The ingress over real HTTP, against a real nats-server.
#![allow(clippy::expect_used, reason = "a test that cannot go on is to fail")]

mod alerting;
mod alertmanager;
mod fixture;
mod monitoring;
mod operations;
mod refusals;
mod standin;
mod telemetry;
mod traces;
