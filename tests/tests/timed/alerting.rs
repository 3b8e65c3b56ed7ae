//! The process that evaluates or notifies is killed at the moment at which a service goes bad: the other takes over, and whoever has to know is told.

use std::time::{Duration, Instant};

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, receiver, rules_of};
use keelson_tests::binary;
use keelson_tests::keelson::{READY_WITHIN, Separate};
use keelson_tests::place::Place;
use keelson_tests::service::Service;
use keelson_tests::webhook::Webhook;

/// A replica takes over within five seconds, and tells within one.
const WITHIN: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_told_within_six_seconds_of_the_death_of_whoever_would_have_told_it() {
    let _alone = crate::ALONE.lock().await;
    let hook = Webhook::start().await;
    let place = Place::new().configured(&(rules_of("short.toml") + &receiver("ops", &hook)));
    let mut all = Separate::start_of(binary::keelson(), place, 1).await;
    for replica in 0..2 {
        all.start_alerting(replica, &[]);
    }
    for job in ["evaluator", "notifier"] {
        let active = active(&all, job).await;
        let service = Service::start(&all.client(), format!("while-the-{job}-dies"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        all.alerting[active] = None;
        let killed = Instant::now();
        service.fail();
        let told = hook.told_of("firing", SHORT_RULE, service.name(), TOLD_WITHIN).await;
        let took = told.at - killed;
        println!(
            "kill -9 of the {job}: a service that went bad then is told of after {:.2} s",
            took.as_secs_f64()
        );
        assert!(took <= WITHIN, "{took:?}");
        all.start_alerting(active, &[]);
        service.stop().await;
    }
}

/// The replica that has a job, as soon as one has it.
async fn active(all: &Separate, job: &str) -> usize {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(replica) = all.active(job).await {
            return replica;
        }
        assert!(Instant::now() < deadline, "there is no {job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
