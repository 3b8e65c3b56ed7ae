//! Consumes: `keelson.evt.content.changed` and `keelson.evt.cdn.requested`, in order; commands to purge and to warm.
//! Publishes: `keelson.evt.cdn.<requested|verified|unverifiable|stale|failed|signals>`; answers `keelson.qry.cdn.*`.
//! Keeps: how far each provider is, and what each URL's tags are.
//! On failure: the next sender of a provider does again what had not ended; a purge that is sent once more harms nothing.

pub mod batch;
pub mod flow;
pub mod health;
pub mod index;
pub mod latest;
pub mod limits;
pub mod purge;
pub mod selector;
pub mod url;
