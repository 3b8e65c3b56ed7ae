//! The HTTP ingress.
//!
//! Consumes: HTTP. Publishes: telemetry batches (`keelson.tel.<partition>`) and commands (`keelson.cmd.<worker>.<verb>`).
//! Keeps: nothing. Every read is a query to the worker that knows.
//! On failure: answers problem+json with what to do; a 202 is only said when JetStream has stored what it is for.

pub mod alerting;
pub mod alertmanager;
pub mod api;
pub mod app;
mod ask;
pub mod auth;
pub mod body;
mod call;
mod cdn;
pub mod command;
pub mod config;
pub mod decode;
pub mod exposition;
pub mod idempotency;
mod layers;
pub mod monitoring;
pub mod otlp;
mod path;
pub mod problem;
pub mod rate;
mod server;
mod store;
pub mod telemetry;
mod worker;

pub use worker::Ingress;
