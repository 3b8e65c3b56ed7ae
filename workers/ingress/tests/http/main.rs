//! The ingress over real HTTP, against a real nats-server.

mod fixture;
mod monitoring;
mod operations;
mod refusals;
mod telemetry;
mod traces;
