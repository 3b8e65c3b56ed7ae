//! Those who keep copies. Each takes batches within its limits and says what became of them; nothing is retried here.

pub mod cloudflare;
pub mod cloudfront;
pub mod fastly;
pub mod varnish;

use futures::future::BoxFuture;

use crate::batch::Batch;
use crate::flow::Answer;
use crate::limits::Limits;

/// A cache that can be purged.
pub trait Provider: Send + Sync + 'static {
    /// What it takes.
    fn limits(&self) -> Limits;

    /// Sends a batch, once, and waits until it is done.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Answer>;
}
