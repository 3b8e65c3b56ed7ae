//! What the rules look at, as it comes: slices, signals of other workers, dead letters, and how far consumers lag.

mod lags;
mod order;

use keelson_kit::dead_letter;
use keelson_kit::follow::{Follow, FollowError, FollowOptions, Start};
use keelson_kit::incoming::Stored;
use keelson_kit::role::Context;
use keelson_schemas::alerting::{Labels, Reading, Signals};
use keelson_schemas::limits::MAX_AHEAD_MS;
use keelson_schemas::slice::Slice;
use keelson_schemas::subject;
use tracing::warn;

use lags::Lags;
use order::Order;

/// The stream that holds the slices.
pub const SLICES: &str = "SLICES";
/// Something that rules can look at.
#[derive(Debug)]
pub enum Input {
    /// What was counted, and its sequence.
    Slice(u64, Slice),
    /// Values of signals that are no telemetry.
    Readings(Vec<Reading>),
}

/// All inputs. [`Inputs::next`] may be dropped at any await point without losing anything.
pub struct Inputs {
    slices: Follow,
    signals: Follow,
    dead_letters: Follow,
    lags: Lags,
    order: Order,
}

impl Inputs {
    /// Everything since a Unix millisecond.
    ///
    /// # Errors
    /// When the built-in configuration of the bus cannot be read.
    pub fn since(ctx: &Context, since_ms: u64) -> anyhow::Result<Self> {
        let start = Start::Since(since_ms);
        let follow = |stream: &str, filter: String| ctx.bus.follow(FollowOptions::new(stream, filter, start));
        Ok(Self {
            slices: follow(SLICES, "keelson.slice.*".to_owned()),
            signals: follow("EVENTS", subject::evt("*", "signals")),
            dead_letters: follow(dead_letter::STREAM, subject::dlq("*", "*")),
            lags: Lags::of(ctx)?,
            order: Order::default(),
        })
    }

    /// The next slice that is stored already.
    ///
    /// # Errors
    /// When the stream was replaced or cannot be read.
    pub async fn next_stored_slice(&mut self) -> Result<Option<(Stored, Slice)>, FollowError> {
        while let Some(message) = self.slices.next_if_any().await? {
            if let Some(slice) = self.take(&message) {
                return Ok(Some((message, slice)));
            }
        }
        Ok(None)
    }

    /// The next readings that are stored already; none when all were taken.
    ///
    /// # Errors
    /// When a stream was replaced or cannot be read.
    pub async fn next_stored_readings(&mut self) -> Result<Option<Vec<Reading>>, FollowError> {
        if let Some(message) = self.signals.next_if_any().await? {
            return Ok(Some(signals(&message)));
        }
        let message = self.dead_letters.next_if_any().await?;
        Ok(message.map(|message| dead_letter_reading(&message).into_iter().collect()))
    }

    /// The next input, however long that takes.
    ///
    /// # Errors
    /// When a stream was replaced or cannot be read.
    pub async fn next(&mut self) -> Result<Input, FollowError> {
        loop {
            tokio::select! {
                message = self.slices.next() => {
                    let message = message?;
                    if let Some(slice) = self.take(&message) {
                        return Ok(Input::Slice(message.sequence, slice));
                    }
                }
                message = self.signals.next() => return Ok(Input::Readings(signals(&message?))),
                message = self.dead_letters.next() => {
                    return Ok(Input::Readings(dead_letter_reading(&message?).into_iter().collect()));
                }
                readings = self.lags.next() => return Ok(Input::Readings(readings)),
            }
        }
    }

    /// A slice that is new. What is none of ours is passed over: it must not keep others from being seen.
    fn take(&mut self, message: &Stored) -> Option<Slice> {
        let decoded = message.decode::<Slice>();
        let told = decoded.inspect_err(
            |error| warn!(sequence = message.sequence, %error, "this is no slice and is passed over"),
        );
        told.ok().filter(|slice| self.order.take(slice))
    }
}

fn signals(message: &Stored) -> Vec<Reading> {
    let signals: Signals = message.decode().unwrap_or_else(|error| {
        warn!(subject = message.subject(), sequence = message.sequence, %error, "these are no signals and are passed over");
        Signals::default()
    });
    signals.readings.into_iter().map(|reading| stamped(reading, message.time_ms)).collect()
}

/// A reading with the time at which it was stored, if it does not tell its own, or one so far ahead that it is none.
fn stamped(reading: Reading, stored_ms: u64) -> Reading {
    let is_told = (1..=stored_ms + MAX_AHEAD_MS).contains(&reading.ts);
    if is_told { reading } else { Reading { ts: stored_ms, ..reading } }
}

fn dead_letter_reading(message: &Stored) -> Option<Reading> {
    let (stream, consumer) = subject::parse_dlq(message.subject())?;
    Some(Reading {
        signal: "dead_letters".into(),
        labels: labels(stream, consumer),
        value: 1.0,
        ts: message.time_ms,
    })
}

fn labels(stream: &str, consumer: &str) -> Labels {
    [("consumer", consumer), ("stream", stream)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_the_time_it_tells_unless_that_is_none() {
        const STORED: u64 = 1_764_000_000_000;
        for (told, expected) in [
            (STORED - 1, STORED - 1),
            (0, STORED),
            (STORED + MAX_AHEAD_MS, STORED + MAX_AHEAD_MS),
            (STORED + MAX_AHEAD_MS + 1, STORED),
            (STORED * 1000, STORED),
        ] {
            assert_eq!(stamped(Reading { ts: told, ..Reading::default() }, STORED).ts, expected, "{told}");
        }
    }
}
