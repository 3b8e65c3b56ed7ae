//! Committing slices on a real nats-server: who comes second is told so, and a subject that lost slices can be written again.

#![allow(clippy::expect_used)]

use keelson_kit::bus::Bus;
use keelson_kit::journal::Commit;
use keelson_kit::testing::NatsServer;
use keelson_metrics::ledger::{Ledger, STREAM};
use keelson_schemas::slice::Slice;
use keelson_schemas::subject::{self, Partition};

fn slice(epoch: u64, after: u64, through: u64) -> Slice {
    Slice { partition: 0, stream: 1, epoch, after, through, ..Slice::default() }
}

fn partition() -> Partition {
    Partition::new(0).expect("there is a partition 0")
}

async fn open(bus: &Bus, covered: u64) -> Ledger {
    Ledger::open(bus, partition(), covered).await.expect("the bus is there")
}

#[tokio::test]
async fn slices_that_are_gone_stop_nobody() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut ledger = open(&bus, 0).await;
    assert!(matches!(ledger.commit(&slice(1, 0, 10)).await, Commit::Done(_)));
    let covered = ledger.last();
    bus.purge_subject(STREAM, &subject::slice(partition()), covered).await?;
    assert_eq!(
        ledger.commit(&slice(1, 10, 20)).await,
        Commit::Overtaken,
        "what is there has to be read again"
    );
    let mut ledger = open(&bus, covered).await;
    assert!(matches!(ledger.commit(&slice(1, 10, 20)).await, Commit::Done(_)));
    Ok(())
}
