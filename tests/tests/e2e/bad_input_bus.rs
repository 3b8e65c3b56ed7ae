//! Bad input on the bus: each message is a dead letter with the reason, and the good ones around it are counted.

use std::time::{Duration, Instant};

use futures::StreamExt;
use keelson_schemas::dead_letter::DeadLetter;
use keelson_schemas::subject::{self, partition_of};
use keelson_schemas::telemetry::{Batch, BatchBuilder};
use keelson_schemas::{codec, limits};
use keelson_tests::client::now_ms;
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::{nats, slices};

const SERVICE: &str = "content";

#[tokio::test]
async fn bad_telemetry_becomes_dead_letters_and_good_telemetry_is_counted() {
    let up = Up::start().await;
    let jetstream = nats::jetstream(&up.nats_url()).await;
    let publish = async |subject: String, body: Vec<u8>| {
        jetstream.publish(subject, body.into()).await.expect("sent").await.expect("stored");
    };
    let tel = subject::tel(partition_of(SERVICE));

    let bad = bad_batches();
    for (_, body) in &bad {
        publish(tel.clone(), encoded(&good())).await;
        publish(tel.clone(), body.clone()).await;
    }
    // A person may write JSON.
    publish(tel.clone(), serde_json::to_vec(&good()).expect("encodes")).await;

    let expected = bad.len() as u64 + 1;
    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= expected).await;
    assert_eq!(page.requests(), expected);
    let letters = dead_letters(&up.nats_url(), bad.len() as u64).await;
    for ((name, body), letter) in bad.iter().zip(&letters) {
        println!("{name}: {}", letter.reason);
        assert_eq!((letter.stream.as_str(), letter.subject.as_str()), ("TELEMETRY", tel.as_str()), "{name}");
        assert_eq!(&letter.payload[..], &body[..], "{name}");
        assert!(letter.reason.contains(name), "{name}: {}", letter.reason);
    }
    let rejected: u64 = slices::read_all(&up.nats_url()).await.iter().map(|slice| slice.rejected).sum();
    assert_eq!(rejected, bad.len() as u64, "slices do not account for what was rejected");
}

#[tokio::test]
async fn bad_commands_become_dead_letters() {
    let up = Up::start().await;
    let client = nats::connect(&up.nats_url()).await;
    let bad: [(&str, &[u8]); 3] = [
        ("keelson.cmd.steward.redrive", b"{\"sequence\":\"seven\"}"),
        ("keelson.cmd.steward.redrive", b"\xff\xfe"),
        ("keelson.cmd.steward.dance", b"{}"),
    ];
    for (subject, body) in bad {
        client.publish(subject, body.into()).await.expect("sent");
    }
    client.flush().await.expect("sent");
    let letters = dead_letters(&up.nats_url(), bad.len() as u64).await;
    for letter in &letters {
        println!("{}: {}", letter.subject, letter.reason);
        assert_eq!(letter.stream, "COMMANDS");
        assert!(!letter.reason.is_empty());
    }
    assert!(letters.iter().any(|letter| letter.reason.contains("sequence")), "no reason names the field");
}

/// What the reason has to name, and a body.
fn bad_batches() -> Vec<(&'static str, Vec<u8>)> {
    let spoiled = |spoil: fn(&mut Batch)| {
        let mut batch = good();
        spoil(&mut batch);
        encoded(&batch)
    };
    vec![
        ("MessagePack", b"\xff\xfe garbage".to_vec()),
        ("MessagePack", Vec::new()),
        ("MessagePack", encoded(&good())[..20].to_vec()),
        ("JSON", b"{\"service\":".to_vec()),
        ("service", b"{\"service\":5}".to_vec()),
        ("service", spoiled(|batch| batch.service.clear())),
        ("status", spoiled(|batch| batch.http.series[0].status = 99)),
        ("status", spoiled(|batch| batch.http.series[0].status = 1000)),
        ("route", spoiled(|batch| batch.http.series[0].route = "x".repeat(10_000))),
        ("index", spoiled(|batch| batch.http.index[0] = 9)),
        ("duration_us", spoiled(|batch| batch.http.duration_us[0] = Some(u64::MAX))),
        ("at_ms", spoiled(|batch| batch.http.at_ms[0] = u64::MAX)),
    ]
}

fn good() -> Batch {
    let mut builder = BatchBuilder::default();
    builder.http(now_ms(), "GET", "/", 200, Some(1_000));
    builder.build(SERVICE.into(), "".into())
}

fn encoded(batch: &Batch) -> Vec<u8> {
    assert!(batch.len() <= limits::MAX_SAMPLES_PER_BATCH);
    codec::encode(batch).expect("encodes")
}

/// The first dead letters, in the order of the stream; fails when there are more or fewer.
async fn dead_letters(url: &str, expected: u64) -> Vec<DeadLetter> {
    let deadline = Instant::now() + SHOWN_WITHIN;
    while nats::messages_on(url, "DEAD_LETTERS").await < expected {
        assert!(Instant::now() < deadline, "not all are dead letters");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(nats::messages_on(url, "DEAD_LETTERS").await, expected);
    let stream = nats::jetstream(url).await.get_stream("DEAD_LETTERS").await.expect("the stream");
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let messages =
        stream.create_consumer(config).await.expect("a consumer").messages().await.expect("messages");
    let letters = messages.take(usize::try_from(expected).expect("fits"));
    letters
        .map(|letter| codec::decode(None, &letter.expect("one").payload).expect("a dead letter"))
        .collect()
        .await
}
