//! The bus goes away and comes back: nothing that was accepted is lost, and work resumes by itself.

use std::time::{Duration, Instant};

use keelson_tests::keelson::{SHOWN_WITHIN, Separate, assert_bus};
use keelson_tests::traffic::{Load, Traffic};
use keelson_tests::watcher::Watcher;

/// "Work resumes within 5 s of the bus being back."
const RESUMES_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_resumes_within_five_seconds_of_the_bus_being_back() {
    let _alone = crate::ALONE.lock().await;
    let mut all = Separate::start(1).await;
    let traffic = Traffic::start(&all.client(), Load::default());
    let watcher = Watcher::start(&all.client(), traffic.attempts());

    for away in [0, 1, 6] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        all.nats.kill();
        tokio::time::sleep(Duration::from_secs(away)).await;
        all.nats.restart().await;
        let back = Instant::now();
        let accepted = traffic.accepted();
        all.client().scrape_until(SHOWN_WITHIN, |page| page.requests() > accepted).await;
        let took = back.elapsed();
        println!(
            "the bus was away for {away} s: new samples are shown {:.2} s after its return",
            took.as_secs_f64()
        );
        assert!(took <= RESUMES_WITHIN, "{took:?}");
    }

    let (sent, retries) = traffic.stop().await;
    all.client().assert_shows(&sent, SHOWN_WITHIN).await;
    let seen = watcher.end().await;
    println!("{} samples, {retries} requests repeated", sent.requests());
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert_bus(&all.nats.url(), &sent).await;
}
