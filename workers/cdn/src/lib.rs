//! Consumes: `keelson.evt.content.changed` and `keelson.evt.cdn.requested`, in order; commands to purge and to warm.
//! Publishes: `keelson.evt.cdn.<requested|verified|unverifiable|stale|failed|signals>`; answers `keelson.qry.cdn.*`.
//! Keeps: how far each cache is with what was asked for; calls that are to be made once only, before they are made.
//! On failure: the next sender of a cache does again what had not ended; a purge that is sent once more harms nothing.

pub mod batch;
pub mod board;
pub mod budget;
pub mod commands;
pub mod config;
pub mod edge;
pub mod flow;
pub mod health;
mod http;
pub mod index;
pub mod intake;
pub mod keeper;
pub mod latest;
pub mod ledger;
pub mod limits;
pub mod plan;
pub mod provider;
pub mod purge;
pub mod reach;
pub mod record;
pub mod report;
pub mod selector;
pub mod sender;
pub mod setup;
pub mod status;
pub mod url;
pub mod warm;
mod worker;

pub use worker::Cdn;
