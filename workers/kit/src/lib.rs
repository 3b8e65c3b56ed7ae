//! What every worker stands on. A worker says what it wants (obey these commands, follow this stream, own this lease); that it happens once, in order, and
//! again after a crash is done here. The only user of `async-nats`.
//!
//! | To | see |
//! |---|---|
//! | be a worker | [`role`]: a name, a configuration, a start; it is given a [`role::Context`] |
//! | obey commands | [`command`], on [`consume`] (durable consumers) and [`operations`] (what became of each) |
//! | read a stream in order | [`follow`]; one message of it, [`stream`] |
//! | publish | [`publish`]; what cannot be processed, [`dead_letter`] |
//! | ask and answer | [`query`] |
//! | own something alone | [`lease`], with its state in a [`checkpoint`] or in [`kv`]; write a stream alone, [`journal`] |
//! | run in the background, and wait | [`tasks`], [`clock`], [`retry`] |
//! | be configured and seen | [`config`], [`otel`], [`trace`] |
//! | say how something failed | [`failure`] |
//! | prepare a bus, and look after it | [`bus_admin`], [`steward`] |
//! | be crashed on purpose | [`fault`], in tests alone |

pub mod audit;
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
pub mod matcher;
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
