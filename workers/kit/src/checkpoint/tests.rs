use super::*;
use crate::testing::NatsServer;

const NAME: &str = "test.7";

fn snapshot(sequence: u64, chunks: Vec<Chunk>) -> Snapshot {
    Snapshot { sequence, stream_created_ms: 1, meta: Bytes::from_static(b"meta"), chunks }
}

fn bytes(text: &str) -> Chunk {
    Chunk::Bytes(Bytes::from(text.to_owned()))
}

async fn stored(bus: &Bus) -> anyhow::Result<usize> {
    let subjects = bus.stream_subjects(&stream_name(), &format!("{}{NAME}.chunk.>", prefix())).await?;
    Ok(subjects.len())
}

#[tokio::test]
async fn what_was_saved_is_what_the_next_owner_loads() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut first = Checkpoint::claim(&bus, NAME, 1).await?;
    assert!(first.head().is_empty() && first.load().await?.is_empty());
    first.save(snapshot(10, vec![bytes("a"), bytes("b"), bytes("b")])).await?;
    first.save(snapshot(20, vec![Chunk::Unchanged, bytes("c"), bytes("b"), bytes("")])).await?;
    assert_eq!(stored(&bus).await?, 4, "chunks that no head names are still there");

    let second = Checkpoint::claim(&bus, NAME, 2).await?;
    assert_eq!((second.head().sequence, second.head().epoch, &second.head().meta[..]), (20, 2, &b"meta"[..]));
    assert_eq!(second.load().await?, ["a", "c", "b", ""].map(Bytes::from));
    Ok(())
}

#[tokio::test]
async fn whoever_was_overtaken_is_fenced_and_harms_nothing() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut old = Checkpoint::claim(&bus, NAME, 1).await?;
    old.save(snapshot(10, vec![bytes("a"), bytes("b")])).await?;
    let mut new = Checkpoint::claim(&bus, NAME, 2).await?;

    let fenced = old.save(snapshot(11, vec![bytes("zombie"), bytes("zombie")])).await;
    assert!(matches!(fenced, Err(CheckpointError::Fenced { epoch: 2, .. })), "{fenced:?}");
    let late = Checkpoint::claim(&bus, NAME, 1).await;
    assert!(matches!(late, Err(CheckpointError::Fenced { epoch: 2, .. })));
    assert_eq!(new.load().await?, ["a", "b"].map(Bytes::from));

    new.save(snapshot(12, vec![Chunk::Unchanged, bytes("c")])).await?;
    assert_eq!(stored(&bus).await?, 3, "the zombie's chunk, and two that the head names");
    let again = Checkpoint::claim(&bus, NAME, 2).await?;
    assert_eq!(stored(&bus).await?, 2, "the next claim removes what nobody names");
    assert_eq!(again.load().await?, ["a", "c"].map(Bytes::from));
    assert!(matches!(new.save(snapshot(13, vec![])).await, Err(CheckpointError::Fenced { .. })));
    Ok(())
}

#[tokio::test]
async fn damage_and_what_cannot_be_saved_are_named() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut checkpoint = Checkpoint::claim(&bus, NAME, 1).await?;
    let too_large = Chunk::Bytes(vec![0; MAX_CHUNK_BYTES + 1].into());
    for wrong in [vec![Chunk::Unchanged], vec![too_large]] {
        let refused = checkpoint.save(snapshot(1, wrong)).await;
        assert!(matches!(refused, Err(CheckpointError::Invalid { .. })));
    }
    checkpoint.save(snapshot(1, vec![Chunk::Bytes(vec![7; MAX_CHUNK_BYTES].into()), bytes("b")])).await?;

    let key = checkpoint.head.chunks[1].key.clone();
    checkpoint.kv.put_bytes(&key, "x").await?;
    assert!(
        matches!(checkpoint.load().await, Err(CheckpointError::Damaged { key: found, .. }) if found == key)
    );
    checkpoint.kv.delete(&key, None).await?;
    assert!(matches!(checkpoint.load().await, Err(CheckpointError::Damaged { problem: "is missing", .. })));
    Ok(())
}

#[tokio::test]
async fn a_save_that_failed_for_the_bus_may_be_repeated() -> anyhow::Result<()> {
    let mut server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut checkpoint = Checkpoint::claim(&bus, NAME, 1).await?;
    checkpoint.save(snapshot(1, vec![bytes("a")])).await?;
    checkpoint.kv = checkpoint.kv.within(std::time::Duration::from_millis(100));
    server.kill();
    let failed = checkpoint.save(snapshot(2, vec![bytes("b")])).await;
    assert!(matches!(failed, Err(CheckpointError::Bus { .. })), "{failed:?}");
    server.resume_after_kill().await?;
    bus.connected().await;
    checkpoint.save(snapshot(2, vec![bytes("b")])).await?;
    assert_eq!(checkpoint.load().await?, [Bytes::from("b")]);
    Ok(())
}
