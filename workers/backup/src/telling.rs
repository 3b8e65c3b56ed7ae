//! Work that takes long, and how far it is, told meanwhile.

use std::future::Future;
use std::time::Duration;

use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;

use crate::mongo::dump::Meter;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(1);

/// Does something and tells meanwhile how far it is, of `total` bytes where that is known.
pub async fn telling<T>(
    clock: &Clock,
    attempt: &Attempt,
    meter: &Meter,
    total: Option<u64>,
    note: &str,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = clock.sleep(EVERY) => attempt.progress(meter.bytes(), total, note).await,
        }
    }
}
