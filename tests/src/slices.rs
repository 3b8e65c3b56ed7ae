//! The slices, read as a foreign client reads them: every message of the stream, in order.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::StreamExt;
use keelson_schemas::codec;
use keelson_schemas::slice::{ServiceSlice, Slice};

use crate::ledger::{Ledger, Series};
use crate::nats;

/// All slices of all partitions, in the order of the stream.
pub async fn read_all(url: &str) -> Vec<Slice> {
    let mut stream = nats::jetstream(url).await.get_stream("SLICES").await.expect("SLICES");
    let stored = stream.info().await.expect("its state").state.messages;
    let config = OrderedConfig { deliver_policy: DeliverPolicy::All, ..OrderedConfig::default() };
    let consumer = stream.create_consumer(config).await.expect("an ordered consumer");
    let messages = consumer.messages().await.expect("its messages");
    let slices = messages.take(usize::try_from(stored).expect("fits")).map(|message| {
        let message = message.expect("a slice");
        let slice: Slice = codec::decode(None, &message.payload).expect("a slice decodes");
        assert_eq!(message.subject.as_str(), format!("keelson.slice.{}", slice.partition));
        slice
    });
    slices.collect().await
}

/// Checks that the ranges of every partition follow each other without gap or overlap, from the beginning.
///
/// # Errors
/// The first that does not.
pub fn check_contiguous(slices: &[Slice]) -> Result<(), String> {
    let mut through: BTreeMap<u8, u64> = BTreeMap::new();
    for slice in slices {
        let before = through.insert(slice.partition, slice.through).unwrap_or(0);
        if slice.after != before || slice.through <= slice.after {
            let (partition, after, until) = (slice.partition, slice.after, slice.through);
            return Err(format!("partition {partition}: ({after}, {until}] after one that ends at {before}"));
        }
    }
    Ok(())
}

/// What all slices add up to.
pub fn sum(slices: &[Slice]) -> Ledger {
    let mut ledger = Ledger::default();
    for service in slices.iter().flat_map(|slice| &slice.services) {
        add(&mut ledger, service);
    }
    ledger
}

fn add(ledger: &mut Ledger, service: &ServiceSlice) {
    for delta in &service.http {
        let series = Series {
            service: service.service.clone(),
            method: delta.series.method.clone(),
            route: delta.series.route.clone(),
            status: delta.series.status,
        };
        let count = ledger.0.entry(series).or_default();
        for cell in &delta.cells {
            assert!(cell.latency.is_consistent(), "a histogram that does not add up");
            count.requests += cell.count;
            count.timed += cell.latency.count();
            count.sum_us += cell.latency.sum_us();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(partition: u8, after: u64, through: u64) -> Slice {
        Slice { partition, after, through, ..Slice::default() }
    }

    #[test]
    fn gaps_and_overlaps_are_found_and_partitions_are_independent() {
        check_contiguous(&[slice(0, 0, 5), slice(1, 0, 3), slice(0, 5, 9)]).unwrap();
        for wrong in [slice(0, 6, 9), slice(0, 4, 9), slice(0, 5, 5), slice(0, 0, 5)] {
            check_contiguous(&[slice(0, 0, 5), wrong]).unwrap_err();
        }
        check_contiguous(&[slice(0, 2, 5)]).unwrap_err();
    }
}
