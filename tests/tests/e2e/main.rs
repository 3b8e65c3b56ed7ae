//! Keelson as it is shipped, against real servers: one scenario a file.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod access_log;
mod alerting;
mod audit;
mod backup;
mod bad_input_bus;
mod bad_input_http;
mod cardinality;
mod cdn;
mod certificates;
mod discovery;
mod first_request;
mod foreign;
mod operations;
mod orphans;
mod permissions;
mod prometheus;
mod quantiles;
mod redelivery;
mod services;
mod stack;
mod summary;
mod traces;
