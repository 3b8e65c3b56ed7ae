//! What a message of the telemetry stream holds, or why it cannot be counted.

use keelson_schemas::codec;
use keelson_schemas::limits::MAX_AHEAD_MS;
use keelson_schemas::subject::{self, Partition};
use keelson_schemas::telemetry::Batch;

/// How much the clock of the ingress, which has checked the batch, may be ahead of the bus' clock.
const CLOCKS_DIFFER_MS: u64 = 60_000;

/// Reads a batch that was stored in `partition` at `arrival_ms`. One that is read can be counted without a further check.
///
/// # Errors
/// A sentence for the dead letter.
pub fn read(
    content_type: Option<&str>,
    payload: &[u8],
    partition: Partition,
    arrival_ms: u64,
) -> Result<Batch, String> {
    let batch: Batch = codec::decode(content_type, payload).map_err(|error| error.to_string())?;
    batch.check().map_err(|invalid| invalid.to_string())?;
    in_its_partition(&batch.service, partition)?;
    not_ahead(&batch, arrival_ms)?;
    Ok(batch)
}

/// A service counted in two partitions would have the bounds on its series twice.
fn in_its_partition(service: &str, partition: Partition) -> Result<(), String> {
    let own = subject::partition_of(service);
    if own == partition {
        return Ok(());
    }
    Err(format!("service {service:?} belongs on {}, not on {}", subject::tel(own), subject::tel(partition)))
}

fn not_ahead(batch: &Batch, arrival_ms: u64) -> Result<(), String> {
    let furthest =
        batch.http.at_ms.iter().chain(&batch.db.at_ms).max().map_or(0, |at_ms| batch.base_ms + at_ms);
    let furthest = batch.host.iter().map(|reading| reading.ts).fold(furthest, u64::max);
    if furthest > arrival_ms + MAX_AHEAD_MS + CLOCKS_DIFFER_MS {
        let ahead_s = (furthest - arrival_ms) / 1000;
        return Err(format!(
            "a sample is {ahead_s} s ahead of its arrival, and 300 are the most (times are Unix milliseconds)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keelson_schemas::telemetry::BatchBuilder;

    use super::*;

    const ARRIVAL_MS: u64 = 1_764_000_000_000;

    fn body(ts_ms: u64) -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        builder.http(ts_ms, "GET", "/a", 200, Some(5));
        codec::encode(&builder.build("content".into(), "".into())).expect("encodes")
    }

    fn own() -> Partition {
        subject::partition_of("content")
    }

    #[test]
    fn a_batch_on_the_subject_of_another_partition_is_told_its_own() {
        let other = Partition::all().find(|partition| *partition != own()).expect("there are sixteen");
        let said = read(None, &body(ARRIVAL_MS), other, ARRIVAL_MS).expect_err("refused");
        assert!(said.contains(&subject::tel(own())), "{said}");
    }

    #[test]
    fn a_sample_may_be_from_any_past_and_five_minutes_ahead() {
        for (ts_ms, good) in [
            (0, true),
            (ARRIVAL_MS, true),
            (ARRIVAL_MS + MAX_AHEAD_MS + CLOCKS_DIFFER_MS, true),
            (ARRIVAL_MS + MAX_AHEAD_MS + CLOCKS_DIFFER_MS + 1, false),
        ] {
            assert_eq!(read(None, &body(ts_ms), own(), ARRIVAL_MS).is_ok(), good, "{ts_ms}");
        }
    }

    #[test]
    fn what_cannot_be_counted_says_why() {
        let cases: [(&[u8], &str); 4] = [
            (b"", "MessagePack"),
            (b"{\"service\":5}", "service"),
            (b"{\"service\":\"\"}", "must not be empty"),
            (b"\xc1garbage", "MessagePack"),
        ];
        for (payload, says) in cases {
            let said = read(None, payload, own(), ARRIVAL_MS).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }
}
