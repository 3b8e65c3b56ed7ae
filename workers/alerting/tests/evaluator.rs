//! The evaluator on a real nats-server: what slices make true, who may say so, and what is made up for after an absence.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keelson_alerting::board::Board;
use keelson_alerting::config::AlertingConfig;
use keelson_alerting::evaluator::Job;
use keelson_alerting::history::{History, Position, subject_of};
use keelson_alerting::loaded::Loaded;
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::journal::Commit;
use keelson_kit::lease::{GroupSpec, Timing};
use keelson_kit::publish::fresh_id;
use keelson_kit::role::Context;
use keelson_kit::testing::{self, NatsServer};
use keelson_schemas::alerting::{Alert, AlertState, Reading, Signals, Transition, fingerprint};
use keelson_schemas::slice::{Cell, HttpDelta, ServiceSlice, Slice};
use keelson_schemas::subject::{self, Partition};
use keelson_schemas::telemetry::HttpSeries;
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(5);

fn config() -> AlertingConfig {
    let text = "default_rules = false\n[[rules]]\nname = \"Errors\"\nsignal = \"error_ratio\"\nabove = 0.05\nwindow = \"2s\"\n[[rules]]\nname = \"Backups\"\nsignal = \"backup_age_seconds\"\nabove = 5\nwindow = \"2s\"\n";
    toml::from_str(text).unwrap()
}

/// An evaluator that runs until its tasks are shut down.
fn start(bus: &Bus) -> Context {
    start_with(bus, Board::default())
}

fn start_with(bus: &Bus, board: Board) -> Context {
    let ctx = testing::context(bus);
    let loaded = Loaded::first(config(), &ctx).unwrap();
    let (sender, loaded) = watch::channel(Arc::new(loaded));
    let job = Job { ctx: ctx.clone(), loaded, board };
    let spec =
        GroupSpec { name: "alerting".into(), keys: vec!["evaluator".into()], timing: Timing::default() };
    let sender = Arc::new(sender);
    ctx.own(spec, move |lease| {
        let (job, sender) = (job.clone(), sender.clone());
        async move {
            let _rules_stay_loaded = sender;
            job.run(&lease).await
        }
    });
    ctx
}

/// What a service answered in this second.
async fn slice(bus: &Bus, status: u16, count: u64) {
    let now_ms = Clock::system().now_ms();
    let series = HttpSeries { method: "GET".into(), route: "/".into(), status };
    let cell = Cell { second: now_ms / 1000, count, ..Cell::default() };
    let http = vec![HttpDelta { series, cells: vec![cell] }];
    let services = vec![ServiceSlice { service: "web".into(), http, ..ServiceSlice::default() }];
    // Slices of a partition follow each other; of several tests that share the count each leaves gaps, which is only told.
    static THROUGH: AtomicU64 = AtomicU64::new(0);
    let after = THROUGH.fetch_add(1, Ordering::SeqCst);
    let slice = Slice { cut_at_ms: now_ms, after, through: after + 1, services, ..Slice::default() };
    let to = subject::slice(Partition::new(0).unwrap());
    bus.publish_message(to, fresh_id(), &slice).await.unwrap();
}

async fn transitions(bus: &Bus) -> Vec<(AlertState, Transition)> {
    let options = FollowOptions::new("EVENTS", subject_of("*"), Start::After(0));
    let mut inbox = bus.follow(options);
    let mut read = Vec::new();
    while let Some(message) = inbox.next_if_any().await.unwrap() {
        if let Ok(transition) = message.decode::<Transition>() {
            assert!(message.subject().ends_with(transition.fact()));
            read.push((transition.alert.state, transition));
        }
    }
    read
}

async fn until(bus: &Bus, states: &[AlertState]) -> Vec<Transition> {
    let started = Instant::now();
    loop {
        let (seen, transitions): (Vec<_>, Vec<_>) = transitions(bus).await.into_iter().unzip();
        if seen == states {
            return transitions;
        }
        assert!(started.elapsed() < SOON, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_fails_fires_and_resolves_when_it_no_longer_does() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let ctx = start(&bus);
    tokio::time::sleep(Duration::from_millis(500)).await;
    slice(&bus, 500, 1_000).await;
    let fired = until(&bus, &[AlertState::Firing]).await.remove(0);
    assert_eq!(fired.alert.labels["service_name"], "web");
    assert_eq!(fired.alert.fingerprint, fingerprint(&fired.alert.labels));
    for _ in 0..20 {
        slice(&bus, 200, 100).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let resolved = until(&bus, &[AlertState::Firing, AlertState::Resolved]).await.remove(1);
    assert_eq!(resolved.alert.starts_at_ms, fired.alert.starts_at_ms);
    assert!(resolved.at_ms - fired.at_ms >= 1_000, "not before the window of two seconds is over");
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn what_will_not_be_heard_of_again_is_ended_by_hand() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let board = Board::default();
    let ctx = start_with(&bus, board.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let reading = Reading { signal: "backup_age_seconds".into(), value: 6.0, ..Reading::default() };
    let to = subject::evt("test", "signals");
    bus.publish_message(to, fresh_id(), &Signals { readings: vec![reading] }).await.unwrap();
    let fired = until(&bus, &[AlertState::Firing]).await.remove(0);
    assert_eq!(board.end("of nothing".into()).await, Some(false));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(transitions(&bus).await.len(), 1, "silence ends nothing");
    assert_eq!(board.end(fired.alert.fingerprint.clone()).await, Some(true));
    let ended = until(&bus, &[AlertState::Firing, AlertState::Resolved]).await.remove(1);
    assert_eq!(ended.alert.ends_at_ms, Some(ended.at_ms));
    assert_eq!(board.end(fired.alert.fingerprint).await, Some(false));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(transitions(&bus).await.len(), 2, "and it stays ended");
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn what_failed_while_nobody_looked_is_found_and_told_once() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let first = start(&bus);
    tokio::time::sleep(Duration::from_millis(500)).await;
    slice(&bus, 200, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.tasks.shutdown(SOON).await;
    slice(&bus, 500, 1).await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    slice(&bus, 200, 100).await;
    let second = start(&bus);
    let told = until(&bus, &[AlertState::Firing, AlertState::Resolved]).await;
    assert!(told[1].at_ms - told[0].at_ms < 4_000, "at the times at which it happened: {told:?}");
    second.tasks.shutdown(SOON).await;
    let third = start(&bus);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(transitions(&bus).await.len(), 2, "a successor makes nothing true again");
    third.tasks.shutdown(SOON).await;
}

fn transition(name: &str, state: AlertState, epoch: u64) -> Transition {
    let labels = [("alertname".to_owned(), name.to_owned())].into();
    let alert = Alert {
        fingerprint: fingerprint(&labels),
        labels,
        annotations: Default::default(),
        state,
        value: Some(1.0),
        active_at_ms: 1,
        starts_at_ms: Some(1),
        ends_at_ms: None,
    };
    Transition { alert, from: AlertState::Inactive, at_ms: 7, epoch, slices_through: 3 }
}

#[tokio::test]
async fn history_is_read_back_and_only_its_owner_adds_to_it() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let mut old = History::open(&bus, 1).await.unwrap().unwrap();
    assert!(matches!(old.commit(&transition("A", AlertState::Firing, 1)).await, Commit::Done(_)));
    assert!(old.keep().await.unwrap());
    assert!(matches!(old.commit(&transition("B", AlertState::Pending, 1)).await, Commit::Done(_)));
    bus.publish_message(subject_of("nonsense"), fresh_id(), &Slice::default()).await.unwrap();

    let mut new = History::open(&bus, 2).await.unwrap().unwrap();
    let names: Vec<_> = new.alerts().map(|alert| alert.labels["alertname"].clone()).collect();
    assert_eq!((names.len(), new.position().slices_through, new.position().at_ms), (2, 3, 7), "{names:?}");
    assert!(matches!(new.commit(&transition("A", AlertState::Resolved, 2)).await, Commit::Done(_)));
    assert_eq!(old.commit(&transition("C", AlertState::Firing, 1)).await, Commit::Fenced { epoch: 2 });
    old.evaluated(Position { at_ms: 9, ..old.position() });
    assert!(!old.keep().await.unwrap(), "the checkpoint is another's");
    assert!(History::open(&bus, 1).await.unwrap().is_none(), "a higher epoch has been there");
    assert_eq!(new.alerts().count(), 1);
}
