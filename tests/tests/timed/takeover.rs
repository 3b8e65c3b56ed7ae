//! Two replicas of the metrics worker: one is killed, the next is stopped, and the other has the partitions within five seconds.

use std::time::{Duration, Instant};

use keelson_tests::client::Client;
use keelson_tests::keelson::{READY_WITHIN, SHOWN_WITHIN, Separate, assert_bus};
use keelson_tests::traffic::{Load, Traffic};
use keelson_tests::watcher::Watcher;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

/// The promise.
const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_within_five_seconds_and_counts_stay_exact() {
    let _alone = crate::ALONE.lock().await;
    let mut all = Separate::start(2).await;
    let traffic = Traffic::start(&all.client(), Load { pause: Duration::from_millis(50), ..Load::default() });
    let watcher = Watcher::start(&all.client(), traffic.attempts());
    both_own(&all).await;

    let lost = all.partitions_of(0).await;
    let killed = Instant::now();
    all.replica(0).kill();
    report("kill -9", lost.len(), taken_over(&all, &lost, 1, traffic.accepted(), killed).await);

    all.start_metrics(0, &[]);
    both_own(&all).await;
    let lost = all.partitions_of(1).await;
    let stopped = Instant::now();
    all.signal(1, Signal::SIGSTOP);
    report("SIGSTOP", lost.len(), taken_over(&all, &lost, 0, traffic.accepted(), stopped).await);
    all.signal(1, Signal::SIGCONT);
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (sent, retries) = traffic.stop().await;
    all.client().assert_shows(&sent, SHOWN_WITHIN).await;
    let seen = watcher.end().await;
    println!(
        "{} samples, {retries} requests repeated, {} scrapes answered, {} not",
        sent.requests(),
        seen.scrapes,
        seen.unanswered
    );
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert_bus(&all.nats.url(), &sent).await;
}

/// Waits until each replica owns some partitions.
async fn both_own(all: &Separate) {
    let deadline = Instant::now() + READY_WITHIN;
    while all.partitions_of(0).await.is_empty() || all.partitions_of(1).await.is_empty() {
        assert!(Instant::now() < deadline, "the replicas do not share: {:?}", all.leases().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until `heir` has the partitions and the export shows everything that had been accepted when the other went.
async fn taken_over(all: &Separate, lost: &[u8], heir: usize, accepted: u64, since: Instant) -> Duration {
    let took =
        tokio::time::timeout(4 * WITHIN, shown(all.client(), accepted)).await.map(|()| since.elapsed());
    let took =
        took.unwrap_or_else(|_| panic!("{accepted} requests are not shown after {:?}", since.elapsed()));
    let owned = all.partitions_of(heir).await;
    assert!(lost.iter().all(|partition| owned.contains(partition)), "{lost:?} are not all in {owned:?}");
    took
}

/// Asks ten times a second, whether or not the questions before were answered: one that waits for the dead must not delay the measure.
async fn shown(client: Client, requests: u64) {
    let mut asked = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let client = client.clone();
                asked.spawn(async move { client.try_scrape().await });
            }
            Some(page) = asked.join_next() => {
                if page.expect("a scrape").is_ok_and(|page| page.requests() >= requests) {
                    return;
                }
            }
        }
    }
}

fn report(how: &str, partitions: usize, took: Duration) {
    println!("{how} of the owner of {partitions} partitions: taken over after {:.2} s", took.as_secs_f64());
    assert!(took <= WITHIN, "{took:?}");
}
