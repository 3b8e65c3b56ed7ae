//! Batches on their way: a bounded number at once, each sent until it is taken, refused for good, or given up.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use keelson_kit::retry::{Backoff, Schedule};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::batch::Batch;
use crate::client::{CallError, Client};

const WAITS: Schedule = Schedule { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// What the receiver said it took.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests.
    pub accepted: u64,
}

#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
}

/// Sends every batch that comes.
///
/// # Errors
/// At the first batch that is refused or given up, naming its lines. Batches before it may have been taken.
pub async fn upload(
    client: &Client,
    batches: mpsc::Receiver<Batch>,
    concurrency: usize,
    give_up_after: Duration,
    bar: &ProgressBar,
) -> anyhow::Result<Tally> {
    let batches = stream::unfold(batches, |mut batches| async { Some((batches.recv().await?, batches)) });
    batches
        .map(|batch| async move {
            deliver(client, &batch, give_up_after, bar).await.with_context(|| unfinished(&batch))
        })
        .buffer_unordered(concurrency)
        .try_fold(Tally::default(), |tally, accepted| async move {
            Ok(Tally { accepted: tally.accepted + accepted })
        })
        .await
}

fn unfinished(batch: &Batch) -> String {
    format!(
        "lines {} to {} were not imported (earlier ones may have been); run the same command again within ten minutes and nothing counts twice",
        batch.first_line, batch.last_line
    )
}

async fn deliver(
    client: &Client,
    batch: &Batch,
    give_up_after: Duration,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let body = serde_json::to_vec(&batch.body)?;
    let deadline = Instant::now() + give_up_after;
    let mut waits = Backoff::new(WAITS);
    loop {
        match client.post_once::<Accepted>("/api/telemetry", &batch.idempotency_key(), body.clone()).await {
            Ok(answer) => return Ok(answer.accepted),
            Err(CallError::Later { after, why }) => {
                let wait = after.unwrap_or_else(|| waits.next_wait());
                if Instant::now() + wait > deadline {
                    return Err(anyhow::anyhow!(why).context("gave up (see --give-up-after)"));
                }
                bar.set_message("waiting for the receiver");
                tokio::time::sleep(wait).await;
                bar.set_message("");
            }
            Err(error) => return Err(error.into()),
        }
    }
}
