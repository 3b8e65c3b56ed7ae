//! Consumes: commands to register, deregister, trip, reset; the buckets `services` and `breakers`, as they change;
//! what micro services answer to `$SRV.INFO`.
//! Publishes: `keelson.evt.services.<registered|deregistered|up|down|unknown|breaker-*|signals>`; answers `keelson.qry.services.*`.
//! Keeps: what is registered, what checks found, what breakers are.
//! On failure: the next owner of a shard checks from what was found last; breakers are as they were; calls under way have no answer.

pub mod address;
pub mod allow;
pub mod announce;
pub mod balance;
pub mod breaker;
pub mod breakers;
pub mod budget;
pub mod call;
pub mod certificate;
pub mod checker;
pub mod commands;
pub mod config;
pub mod directory;
pub mod discovery;
pub mod health;
pub mod http;
pub mod hysteresis;
pub mod phase;
pub mod probe;
pub mod recovery;
pub mod registration;
pub mod registry;
pub mod status;
pub mod uptime;
mod worker;

pub use worker::Services;
