//! Calls that are to be made once only, written to the bus before they are made. Only the sender that raised the fence last can write; so whoever reads after it
//! raised the fence reads all that any former sender can have called, or will.

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::fault;
use keelson_kit::kv::{Kv, KvError};
use keelson_schemas::codec;
use tracing::{debug, info, warn};

use crate::record::{Record, Recorded};
use crate::url::Site;

/// The bucket that holds them.
const BUCKET: &str = "purges";
/// Calls of one lane that are read at most: far more than there can be for the purges under way.
const MOST_CALLS: usize = 100_000;
/// How long after a write that failed it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The calls of one lane.
#[derive(Clone)]
pub struct Ledger {
    kv: Kv,
    clock: Clock,
    lane: String,
    /// When the stream was made whose messages calls are for: with another stream, the same sequence means another message.
    stream_created_ms: i64,
    fence: u64,
}

/// Why a call cannot be written down.
#[derive(Debug)]
pub enum LedgerError {
    /// Another sender has raised the fence since.
    Fenced,
    /// The bus does not take it.
    Refused(String),
}

impl Ledger {
    /// Keeps former senders out, and gives what they wrote, the oldest first; none when a newer sender has been there.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn open(
        bus: &Bus,
        clock: &Clock,
        lane: &str,
        epoch: u64,
        stream_created_ms: i64,
    ) -> anyhow::Result<Option<(Self, Vec<(String, Record)>)>> {
        let kv = bus.kv(BUCKET);
        let Some(fence) = kv.raise_fence(&fence_of(lane), epoch).await? else {
            info!(cdn.lane = lane, lease.epoch = epoch, "fenced: another sender has been there");
            return Ok(None);
        };
        let ledger = Self { kv, clock: clock.clone(), lane: lane.to_owned(), stream_created_ms, fence };
        let found = match fault::disabled("record") {
            true => Vec::new(),
            false => ledger.kv.list(&ledger.key("*"), MOST_CALLS).await?,
        };
        let calls = found.into_iter().filter_map(|(key, entry)| {
            let reference = key.rsplit('.').next().unwrap_or_default().to_owned();
            let record = codec::decode(Some(codec::MSGPACK), &entry.value);
            record
                .map(|record| (reference, record))
                .map_err(|error| unreadable(lane, &key, &error.to_string()))
                .ok()
        });
        Ok(Some((ledger, calls.collect())))
    }

    /// Writes a call down, however long the bus is away.
    ///
    /// # Errors
    /// It must not be made.
    pub async fn write(&self, reference: &str, record: &Record) -> Result<(), LedgerError> {
        let refused = |error: &dyn std::fmt::Display| {
            LedgerError::Refused(format!("the call cannot be written down: {error}"))
        };
        let value = codec::encode(record).map_err(|error| refused(&error))?;
        let (key, fence) = (self.key(reference), fence_of(&self.lane));
        loop {
            match self.kv.put_bytes_guarded(&key, value.clone(), &fence, self.fence).await {
                Ok(_) => break,
                Err(KvError::Conflict { .. }) => return Err(LedgerError::Fenced),
                Err(KvError::Unavailable(reason)) => {
                    debug!(cdn.lane = self.lane, reason, "a call waits until it can be written down");
                    self.clock.sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(refused(&error)),
            }
        }
        fault::point("cdn.recorded");
        Ok(())
    }

    /// Removes calls whose purges have all ended. What cannot be removed now is by the next sender.
    pub async fn remove(self, references: Vec<String>) {
        for reference in references {
            if let Err(error) = self.kv.purge(&self.key(&reference), u64::MAX - 1).await {
                debug!(cdn.lane = self.lane, %error, "the record of a call stays for now");
            }
        }
    }

    fn key(&self, reference: &str) -> String {
        format!("call.{}.{}.{reference}", self.lane, self.stream_created_ms)
    }
}

/// What calls say at a site; those of a site that was configured otherwise are left out, and their purges are sent as if they had never been.
#[must_use]
pub fn read(calls: Vec<(String, Record)>, site: &Site, lane: &str) -> Vec<(String, Recorded)> {
    let read = calls.into_iter().filter_map(|(reference, record)| {
        let recorded = record.read(site).map_err(|error| unreadable(lane, &reference, &error)).ok()?;
        Some((reference, recorded))
    });
    read.collect()
}

fn fence_of(lane: &str) -> String {
    format!("fence.{lane}")
}

fn unreadable(lane: &str, key: &str, reason: &str) {
    warn!(cdn.lane = lane, key, reason, "the record of a call cannot be read: its purges are sent anew");
}
