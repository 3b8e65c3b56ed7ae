//! A bus, notifiers on it, and receivers.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use keelson_alerting::config::AlertingConfig;
use keelson_alerting::history::{History, Position};
use keelson_alerting::loaded::Loaded;
use keelson_alerting::notify::commands::NotifyHandler;
use keelson_alerting::notify::desk::Desk;
use keelson_alerting::notify::notifier::Job;
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::command::Commands;
use keelson_kit::lease::{GroupSpec, Timing};
use keelson_kit::publish::{Outgoing, fresh_id};
use keelson_kit::role::Context;
use keelson_kit::testing::{self, NatsServer};
use keelson_schemas::alerting::{Alert, AlertState, Labels, Silence, Transition, fingerprint};
use keelson_schemas::dead_letter::DeadLetter;
use serde_json::Value;
use tokio::sync::watch;

use crate::SOON;

const POLL: Duration = Duration::from_millis(2);
/// As long as something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// An alert that has not fired yet.
pub fn alert(name: &str, service: &str) -> Alert {
    let labels: Labels = [("alertname", name), ("service_name", service), ("severity", "critical")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    Alert {
        fingerprint: fingerprint(&labels),
        labels,
        annotations: [("summary".to_owned(), format!("{name} of {service}"))].into(),
        state: AlertState::Inactive,
        value: Some(1.0),
        active_at_ms: 0,
        starts_at_ms: None,
        ends_at_ms: None,
    }
}

/// A bus.
pub struct Place {
    _server: NatsServer,
    pub bus: Bus,
}

impl Place {
    pub async fn new() -> Self {
        let server = NatsServer::start().await.unwrap();
        let bus = server.prepared_bus().await.unwrap();
        Self { _server: server, bus }
    }

    /// A notifier with this section `[alerting]`, once it works.
    pub async fn notifier(&self, config: &str) -> Notifier {
        let ctx = testing::context(&self.bus);
        let loaded = watch::Sender::new(Arc::new(load(config, &ctx)));
        let desk = Desk::default();
        let job = Job { ctx: ctx.clone(), loaded: loaded.subscribe(), desk: desk.clone() };
        let timing = Timing { duration: Duration::from_millis(800), renew_every: Duration::from_millis(200) };
        let spec = GroupSpec { name: "alerting".into(), keys: vec!["notifier".into()], timing };
        ctx.obey(Commands::of("alerting").with(NotifyHandler::new(loaded.subscribe()))).unwrap();
        ctx.own(spec, move |lease| {
            let job = job.clone();
            async move { job.run(&lease).await }
        });
        let notifier = Notifier { ctx, loaded, desk };
        eventually(async || notifier.desk.groups().is_some().then_some(())).await;
        notifier
    }

    /// Publishes that an alert changed, and says when that was stored.
    pub async fn transition(&self, alert: &Alert, state: AlertState) -> Instant {
        let now_ms = Clock::system().now_ms();
        let ends_at_ms = (state == AlertState::Resolved).then_some(now_ms);
        let alert = Alert { state, starts_at_ms: Some(now_ms), ends_at_ms, ..alert.clone() };
        let transition =
            Transition { alert, from: AlertState::Inactive, at_ms: now_ms, epoch: 1, slices_through: 0 };
        let to = format!("keelson.evt.alerting.{}", transition.fact());
        self.bus.publish_message(to, fresh_id(), &transition).await.unwrap();
        Instant::now()
    }

    /// The evaluator keeps what it knows, and what was stored so far is gone.
    pub async fn roll_over(&self) {
        let mut history = History::open(&self.bus, 1).await.unwrap().unwrap();
        history.evaluated(Position { at_ms: 1, ..Position::default() });
        assert!(history.keep().await.unwrap());
        self.bus.purge_subject("EVENTS", "keelson.evt.>", u64::MAX - 1).await.unwrap();
    }

    pub async fn publish(&self, subject: &str, body: &'static str) {
        let mut outgoing = Outgoing::new(subject, fresh_id(), "test", body);
        outgoing.content_type = "application/json".into();
        self.bus.publish(&outgoing).await.unwrap();
    }

    /// Makes a silence for an hour, and gives its id.
    pub async fn silence(&self, matcher: &str) -> String {
        let now_ms = Clock::system().now_ms();
        let silence = Silence {
            id: fresh_id(),
            matchers: vec![matcher.parse().unwrap()],
            starts_at_ms: now_ms,
            ends_at_ms: now_ms + 3_600_000,
            updated_at_ms: now_ms,
            created_by: "test".into(),
            comment: String::new(),
        };
        self.bus.kv("silences").create(&silence.id, &silence).await.unwrap();
        silence.id
    }

    pub async fn end_silence(&self, id: &str) {
        let kv = self.bus.kv("silences");
        let found = kv.get::<Silence>(id).await.unwrap().unwrap();
        let ended = Silence { ends_at_ms: Clock::system().now_ms(), ..found.value };
        kv.update(id, &ended, found.revision).await.unwrap();
    }

    /// The only dead letter, once it is there.
    pub async fn dead_letter(&self) -> DeadLetter {
        let found = eventually(async || self.bus.dead_letters(0, 9).await.unwrap().pop()).await;
        found.letter
    }

    /// Publishes a dead letter's message again.
    pub async fn redrive(&self, letter: &DeadLetter) {
        let outgoing = Outgoing::new(&letter.subject, fresh_id(), "test", letter.payload.clone());
        self.bus.publish(&outgoing).await.unwrap();
    }

    /// Waits until no group is kept.
    pub async fn no_groups(&self) {
        eventually(async || self.bus.kv("alerts").list("group.*", 9).await.unwrap().is_empty().then_some(()))
            .await;
    }
}

/// A notifier.
pub struct Notifier {
    ctx: Context,
    loaded: watch::Sender<Arc<Loaded>>,
    desk: Desk,
}

impl Notifier {
    pub async fn stop(self) {
        self.ctx.tasks.shutdown(SOON).await;
    }

    /// As if its process were killed.
    pub async fn cut_off(self) {
        self.ctx.tasks.shutdown(Duration::ZERO).await;
    }

    pub fn reload(&self, config: &str) {
        self.loaded.send_replace(Arc::new(load(config, &self.ctx)));
    }

    /// Waits until an alert of a service is silenced.
    pub async fn sees_silence(&self, service: &str) {
        let is_silenced = || {
            let alerts = self.desk.alerts(Clock::system().now_ms())?.alerts;
            alerts
                .iter()
                .any(|view| view.alert.labels["service_name"] == service && !view.silenced_by.is_empty())
                .then_some(())
        };
        eventually(async || is_silenced()).await;
    }
}

fn load(config: &str, ctx: &Context) -> Loaded {
    let config: AlertingConfig = toml::from_str(&format!("default_rules = false\n{config}")).unwrap();
    Loaded::first(config, ctx).unwrap()
}

/// A receiver that keeps what it is posted.
pub struct Hook {
    address: std::net::SocketAddr,
    state: Arc<Received>,
}

#[derive(Default)]
struct Received {
    answer: AtomicU16,
    tried: Mutex<Vec<Posted>>,
}

/// Something that was posted.
#[derive(Clone, Debug)]
pub struct Posted {
    pub at: Instant,
    pub key: Option<String>,
    pub body: Value,
    pub accepted: bool,
}

/// Answers nothing at all.
const HANG: u16 = 0;

impl Hook {
    pub async fn start() -> Self {
        let state = Arc::new(Received { answer: AtomicU16::new(200), ..Received::default() });
        let router = Router::new().fallback(receive).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The least configuration there is.
    pub fn minimal(&self) -> String {
        format!("[[receivers]]\nname = \"ops\"\nwebhook_url = \"{}\"\n", self.url())
    }

    pub fn answer(&self, status: u16) {
        self.state.answer.store(status, Ordering::SeqCst);
    }

    pub fn hang(&self) {
        self.answer(HANG);
    }

    /// Everything that was posted, accepted or not.
    pub fn tried(&self) -> Vec<Posted> {
        self.state.tried.lock().unwrap().clone()
    }

    /// What was accepted, once it is so much.
    pub async fn until(&self, count: usize) -> Vec<Posted> {
        eventually(async || Some(self.accepted()).filter(|accepted| accepted.len() >= count)).await
    }

    pub async fn until_tried(&self, count: usize) -> Vec<Posted> {
        eventually(async || Some(self.tried()).filter(|tried| tried.len() >= count)).await
    }

    /// Waits a while for nothing more to come.
    pub async fn stays_at(&self, count: usize) {
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(self.accepted().len(), count, "{:#?}", self.accepted());
    }

    fn accepted(&self) -> Vec<Posted> {
        self.tried().into_iter().filter(|posted| posted.accepted).collect()
    }
}

async fn receive(
    State(state): State<Arc<Received>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let answer = state.answer.load(Ordering::SeqCst);
    let posted = Posted {
        at: Instant::now(),
        key: headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap(),
        accepted: answer == 200,
    };
    state.tried.lock().unwrap().push(posted);
    if answer == HANG {
        std::future::pending::<()>().await;
    }
    (StatusCode::from_u16(answer).unwrap(), "go away")
}

/// What is there in the end.
async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < 3 * SOON, "it does not come");
        tokio::time::sleep(POLL).await;
    }
}
