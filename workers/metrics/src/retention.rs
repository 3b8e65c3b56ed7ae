//! What a checkpoint covers is removed from the streams once nobody needs it any more.

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::follow::{FollowOptions, Start};

/// Telemetry stays for the stream's duplicate window (10 minutes) and a little more, since the server knows its message ids from the stream.
pub const TELEMETRY: Duration = Duration::from_secs(11 * 60);
/// How often a partition looks.
pub const EVERY: Duration = Duration::from_secs(60);

/// Removes the messages of a subject that are older than `older_than` at `now_ms`, up to the sequence `covered`.
///
/// # Errors
/// The bus is away or refuses; the next time will do.
pub async fn forget(
    bus: &Bus,
    stream: &str,
    filter: &str,
    now_ms: u64,
    older_than: Duration,
    covered: u64,
) -> anyhow::Result<()> {
    let cutoff_ms = now_ms.saturating_sub(u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX));
    let options =
        FollowOptions { max_messages: 1, ..FollowOptions::new(stream, filter, Start::Since(cutoff_ms)) };
    let young = bus.follow(options).next_if_any().await?;
    let old = young.map_or(covered, |young| covered.min(young.sequence - 1));
    if old > 0 {
        bus.purge_subject(stream, filter, old).await?;
    }
    Ok(())
}
