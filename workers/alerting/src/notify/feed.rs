//! Keeps Alertmanagers informed: of what changes at once, and of everything once a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_kit::lease::Lease;
use keelson_kit::retry::{Backoff, Schedule};
use keelson_kit::role::Context;
use keelson_kit::tasks::Tasks;
use keelson_schemas::alerting::{Alert, AlertState, Signals};
use tokio::sync::watch;
use tracing::{error, warn};

use super::config::NotifyConfig;
use super::desk::Desk;
use super::failures;
use crate::receivers::alertmanager::{Alertmanager, EVERY};
use crate::receivers::http::Http;

/// What it is called where failures are counted.
const INTEGRATION: &str = "alertmanager";
/// After a failure.
const TRIES: Schedule = Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// One task an Alertmanager, for as long as this lives.
pub struct Feeds {
    tasks: Tasks,
    changes: watch::Sender<()>,
}

impl Feeds {
    /// Begins to keep those of the configuration informed of what is on the desk.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn begin(ctx: &Context, lease: &Lease, config: &NotifyConfig, desk: &Desk) -> anyhow::Result<Self> {
        let feeds = Self { tasks: ctx.tasks.group(), changes: watch::Sender::new(()) };
        let http = Http::new()?;
        for receiver in &config.receivers {
            let Some(url) = &receiver.alertmanager_url else { continue };
            let feed = Feed {
                ctx: ctx.clone(),
                tasks: feeds.tasks.clone(),
                lease: lease.clone(),
                desk: desk.clone(),
                receiver: receiver.name.clone(),
                sends_resolved: receiver.send_resolved,
                alertmanager: Arc::new(Alertmanager::new(http.clone(), url, &config.external_url)),
                changes: feeds.changes.subscribe(),
            };
            feeds.tasks.spawn(format!("alertmanager of {}", receiver.name), move || feed.clone().run());
        }
        Ok(feeds)
    }

    /// Alerts may have changed.
    pub fn tell(&self) {
        self.changes.send_replace(());
    }
}

impl Drop for Feeds {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

#[derive(Clone)]
struct Feed {
    ctx: Context,
    tasks: Tasks,
    lease: Lease,
    desk: Desk,
    receiver: String,
    sends_resolved: bool,
    alertmanager: Arc<Alertmanager>,
    changes: watch::Receiver<()>,
}

impl Feed {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut told = Told::default();
        let mut waits = Backoff::new(TRIES);
        let clock = self.ctx.clock.clone();
        let mut all_at = clock.now();
        loop {
            let now = clock.now();
            if now >= all_at {
                told.forget();
                all_at = now + EVERY;
            }
            let wake_at = match self.tell(&mut told).await {
                Ok(()) => {
                    waits.reset();
                    all_at
                }
                Err(reason) => {
                    warn!(
                        receiver = self.receiver,
                        reason, "an Alertmanager could not be told how alerts stand; trying again"
                    );
                    clock.now() + waits.next_wait()
                }
            };
            tokio::select! {
                biased;
                () = self.tasks.cancelled() => return Ok(()),
                // Nobody tells of changes any more: its notifier is over.
                changed = self.changes.changed() => if changed.is_err() { return Ok(()) },
                () = clock.sleep_until(wake_at) => {}
            }
        }
    }

    /// Tells what it was not told yet.
    async fn tell(&self, told: &mut Told) -> Result<(), String> {
        let now_ms = self.ctx.clock.now_ms();
        let mut alerts = self.desk.routed_to(&self.receiver, now_ms);
        alerts.retain(|alert| self.sends_resolved || alert.state == AlertState::Firing);
        let news: Vec<Alert> = alerts.into_iter().filter(|alert| told.is_news(alert)).collect();
        // One that was replaced must not say what was.
        if news.is_empty() || !self.lease.is_valid() {
            return Ok(());
        }
        let told_of = self.alertmanager.tell(&news, now_ms).await;
        if told_of.as_ref().map_or(true, |refused| !refused.is_empty()) {
            let failure = failures::reading(&self.receiver, INTEGRATION, 1, now_ms);
            failures::publish(&self.ctx, Signals { readings: vec![failure] });
        }
        for reason in told_of.map_err(|failure| failure.to_string())? {
            // What it refuses now it would refuse at once again: it is told of it with everything else.
            error!(receiver = self.receiver, reason, "an Alertmanager refuses what it is told");
        }
        news.iter().for_each(|alert| told.note(alert));
        Ok(())
    }
}

/// What an Alertmanager was told since everything was last told: the state of each alert, and since when.
#[derive(Default)]
struct Told(BTreeMap<String, (AlertState, Option<u64>)>);

impl Told {
    fn is_news(&self, alert: &Alert) -> bool {
        self.0.get(&alert.fingerprint) != Some(&Self::standing(alert))
    }

    fn note(&mut self, alert: &Alert) {
        self.0.insert(alert.fingerprint.clone(), Self::standing(alert));
    }

    fn forget(&mut self) {
        self.0.clear();
    }

    fn standing(alert: &Alert) -> (AlertState, Option<u64>) {
        (alert.state, if alert.state == AlertState::Resolved { alert.ends_at_ms } else { alert.starts_at_ms })
    }
}
