//! One attempt at a command, as its handler sees it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use keelson_schemas::id;
use keelson_schemas::operation::Progress;
use tokio::time::Instant;
use tracing::debug;

use crate::operations::Operations;

/// Progress is written at most this often; what comes sooner is left out.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What a handler is told about the command, and by which it tells how far it is.
#[derive(Debug)]
pub struct Attempt {
    /// The operation's id. What is published because of the command has an id derived from it.
    pub operation: String,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// Who asked.
    pub requested_by: String,
    pub(super) operations: Operations,
    pub(super) last_progress: Mutex<Option<Instant>>,
}

impl Attempt {
    /// The id of what is published because of this command; `what` tells several consequences apart.
    pub fn consequence(&self, what: &str) -> String {
        id::consequence(&self.operation, what)
    }

    /// Says how far the work is. Cheap to call often. That it could not be said does not stop the work.
    pub async fn progress(&self, done: u64, total: Option<u64>, note: &str) {
        if !self.is_due() {
            return;
        }
        let progress = Progress { done, total, note: (!note.is_empty()).then(|| note.to_owned()) };
        if let Err(error) = self.operations.progress(&self.operation, progress).await {
            debug!(operation.id = %self.operation, error = %error, "progress could not be noted");
        }
    }

    fn is_due(&self) -> bool {
        let mut last = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
