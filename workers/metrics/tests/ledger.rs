//! Committing slices on a real nats-server: who comes second is told so, and a subject that lost slices can be written again.

#![allow(clippy::expect_used)]

use keelson_kit::bus::Bus;
use keelson_kit::testing::NatsServer;
use keelson_metrics::ledger::{Commit, Ledger, STREAM};
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
async fn of_two_owners_one_commits_and_the_other_is_told_what_it_is() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let (mut old, mut new) = (open(&bus, 0).await, open(&bus, 0).await);
    assert_eq!(new.commit(&slice(2, 0, 10)).await, Commit::Done);
    assert_eq!(old.commit(&slice(1, 0, 7)).await, Commit::Fenced { epoch: 2 });
    let mut late = open(&bus, 0).await;
    assert_eq!(late.commit(&slice(3, 0, 7)).await, Commit::Overtaken, "an older owner's slice came first");
    // The answer to the first commit was lost: the same slice again is known as one's own.
    let mut again = open(&bus, 0).await;
    assert_eq!(again.commit(&slice(2, 0, 10)).await, Commit::Done);
    assert_eq!(again.last(), new.last());
    assert_eq!(new.commit(&slice(2, 10, 20)).await, Commit::Done);
    assert_eq!(bus.stream_info(STREAM).await?.messages, 2);
    Ok(())
}

#[tokio::test]
async fn slices_that_are_gone_stop_nobody() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut ledger = open(&bus, 0).await;
    assert_eq!(ledger.commit(&slice(1, 0, 10)).await, Commit::Done);
    let covered = ledger.last();
    bus.purge_subject(STREAM, &subject::slice(partition()), covered).await?;
    assert_eq!(
        ledger.commit(&slice(1, 10, 20)).await,
        Commit::Overtaken,
        "what is there has to be read again"
    );
    let mut ledger = open(&bus, covered).await;
    assert_eq!(ledger.commit(&slice(1, 10, 20)).await, Commit::Done);
    Ok(())
}
