//! Consumes: the stream AUDIT, in order, from the last seal on.
//! Publishes: `keelson.evt.audit.sealed`; answers `keelson.qry.audit.status`.
//! Keeps: the end of the chain of seals, as a checkpoint; the seals themselves are events.
//! On failure: the next owner of the lease reads the seals after the checkpoint, and seals on from there.

pub mod chain;
pub mod check;
pub mod config;
pub mod digest;
pub mod key;
pub mod report;
pub mod seal;
mod sealer;
pub mod verify;
mod worker;

pub use worker::Audit;
