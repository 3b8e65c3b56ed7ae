//! Verifying the stream of a bus: reads all of it, decides nothing.

use ed25519_dalek::VerifyingKey;
use keelson_bus_config::BusConfig;
use keelson_kit::bus::Bus;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::stream::StreamInfo;
use keelson_schemas::audit::{SEALED, STREAM, Seal};

use crate::digest::Entry;
use crate::report::Report;
use crate::sealer::EVENTS;
use crate::verify::{Beside, Verifier};

/// From this share of its size on a stream may be making room.
const FULL: f64 = 0.95;

/// Verifies every entry that is there now.
///
/// # Errors
/// When the bus cannot be read.
pub async fn verify(bus: &Bus, trusted: Vec<VerifyingKey>, now_ms: u64) -> anyhow::Result<Report> {
    let info = bus.stream_info(STREAM).await?;
    let beside = beside(bus, &info, now_ms).await?;
    let mut verifier = Verifier::new(trusted, info.created_ms, info.first_sequence);
    let mut entries = bus.follow(FollowOptions::new(STREAM, ">", Start::After(0)));
    while entries.position() < info.last_sequence
        && let Some(entry) = entries.next_if_any().await?
    {
        verifier.entry(&Entry::from(&entry));
    }
    Ok(verifier.end(&beside))
}

/// Looked at before the entries: what they tell is newer.
async fn beside(bus: &Bus, info: &StreamInfo, now_ms: u64) -> anyhow::Result<Beside> {
    let config = BusConfig::load()?;
    let spec = config.stream(STREAM);
    let newest = bus.last_message(EVENTS, SEALED).await?;
    let newest_seal = newest.and_then(|message| Some((message.sequence, message.decode::<Seal>().ok()?)));
    Ok(Beside {
        newest_seal,
        max_age: spec.map(|spec| spec.max_age()).filter(|age| !age.is_zero()),
        is_full: spec.is_some_and(|spec| info.bytes as f64 >= spec.max_bytes as f64 * FULL),
        now_ms,
    })
}
