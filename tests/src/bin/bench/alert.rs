//! Bad telemetry to whoever has to know: from the 202 to the webhook, and from the end of the window to the word that it is over, by the rules that are
//! shipped. Beside it, at the same time and of the same services, Debian's Prometheus and Alertmanager, which scrape Keelson's export with the
//! intervals that they are shipped with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_tests::alerting::receiver;
use keelson_tests::alertmanager::Alertmanager;
use keelson_tests::client::{Client, now_ms};
use keelson_tests::keelson::Up;
use keelson_tests::ledger::Sample;
use keelson_tests::place::{Place, TOKEN};
use keelson_tests::prometheus::{Prometheus, scrapes};
use keelson_tests::service::requests;
use keelson_tests::webhook::{Post, Webhook};
use rand::RngExt;
use tokio::task::JoinSet;

/// Services, each of which goes bad once.
const TRIALS: usize = 60;
/// One goes bad after the other, at a random moment of so long.
const EVERY: Duration = Duration::from_secs(1);
/// Prometheus has scraped every series three times by then.
const LEAD: Duration = Duration::from_secs(50);
/// A service reports this often, so many requests.
const REPORTS_EVERY: Duration = Duration::from_secs(1);
const GOOD: usize = 10;
/// The requests that fail: more than 5 % of all for as long as they are within the window.
const BAD: usize = 50;
/// The window of HighErrorRate.
const WINDOW_MS: u64 = 60_000;
const RULE: &str = "HighErrorRate";
/// Whoever has not been told by then fails the run.
const PATIENCE: Duration = Duration::from_secs(240);

/// The middle and the end of what was measured, in seconds.
pub struct Spread {
    /// Half took longer.
    pub median: f64,
    /// One in a hundred took longer.
    pub worst: f64,
}

/// What a run gives.
pub struct Measured {
    /// From the 202 to Keelson's webhook.
    pub told: Spread,
    /// From the first second that the bad requests are not in the window of to Keelson's webhook.
    pub resolved: Spread,
    /// From the 202 to the webhook of Alertmanager.
    pub prometheus: Spread,
}

/// One run.
pub async fn measure() -> Measured {
    let hooks = Arc::new(Hooks { ours: Webhook::start().await, theirs: Webhook::start().await });
    let up = Up::start_in(Place::new().configured(&receiver("ops", &hooks.ours))).await;
    let alertmanager = Alertmanager::start(&as_shipped(&hooks.theirs)).await;
    let _prometheus = Prometheus::start(&scrapes_and_alerts(&up, &alertmanager), PROMETHEUS_RULES);

    let (mut rng, start) = (rand::rng(), Instant::now() + LEAD);
    let mut trials = JoinSet::new();
    for number in 0..TRIALS {
        let bad_at = start + EVERY * u32::try_from(number).expect("few") + EVERY.mul_f64(rng.random());
        let (service, client) = (format!("trial-{number}"), up.client());
        trials.spawn(Trial { service, client, hooks: hooks.clone(), bad_at }.run());
    }
    let trials = trials.join_all().await;
    let spread = |of: fn(&Outcome) -> f64| Spread::of(trials.iter().map(of).collect());
    assert_eq!(hooks.ours.deduplicated().len(), 2 * TRIALS, "each fires once and resolves once");
    Measured {
        told: spread(|one| one.told),
        resolved: spread(|one| one.resolved),
        prometheus: spread(|one| one.prometheus),
    }
}

struct Hooks {
    ours: Webhook,
    theirs: Webhook,
}

/// A service that goes well, then badly for a moment, then well.
struct Trial {
    service: String,
    client: Client,
    hooks: Arc<Hooks>,
    bad_at: Instant,
}

/// In seconds.
struct Outcome {
    told: f64,
    resolved: f64,
    prometheus: f64,
}

impl Trial {
    async fn run(self) -> Outcome {
        // An error of long ago, so that the counter of errors is there before it rises: Prometheus sees no increase in a counter that is new.
        let mut long_ago = requests(&self.service, 500, 1);
        long_ago.iter_mut().for_each(|sample| sample.ts -= 600_000);
        self.send(&long_ago).await;
        self.go_well(|| Instant::now() >= self.bad_at).await;

        let bad = requests(&self.service, 500, BAD);
        let second_ms = bad[0].ts / 1000 * 1000;
        self.send(&bad).await;
        let accepted = Instant::now();
        let deadline = accepted + PATIENCE;
        self.go_well(|| self.is_over() || Instant::now() >= deadline).await;

        let since = |hook: &Webhook| (self.post(hook, "firing").at - accepted).as_secs_f64();
        let resolved_ms = self.post(&self.hooks.ours, "resolved").at_ms - (second_ms + WINDOW_MS);
        Outcome {
            told: since(&self.hooks.ours),
            resolved: Duration::from_millis(resolved_ms).as_secs_f64(),
            prometheus: since(&self.hooks.theirs),
        }
    }

    /// Reports good requests until `enough`.
    async fn go_well(&self, enough: impl Fn() -> bool) {
        while !enough() {
            self.send(&requests(&self.service, 200, GOOD)).await;
            let next = Instant::now() + REPORTS_EVERY;
            while Instant::now() < next && !enough() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn send(&self, samples: &[Sample]) {
        let key = format!("{}-{}-{:x}", self.service, now_ms(), rand::random::<u64>());
        self.client.send(&key, &self.service, samples).await;
    }

    fn is_over(&self) -> bool {
        let times = |hook: &Webhook, status: &str| hook.times(status, RULE, &self.service) > 0;
        times(&self.hooks.ours, "resolved") && times(&self.hooks.theirs, "firing")
    }

    fn post(&self, hook: &Webhook, status: &str) -> Post {
        let post = hook.posts().into_iter().find(|post| post.says(status, RULE, &self.service));
        post.unwrap_or_else(|| panic!("nobody was told that {} is {status}", self.service))
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).max(1) - 1];
        Self { median: at(0.5), worst: at(0.99) }
    }
}

/// Alertmanager's shipped timing. Each service is a group of its own, as it is with Keelson.
fn as_shipped(hook: &Webhook) -> String {
    format!(
        "route: {{receiver: hook, group_by: [alertname, service_name], group_wait: 30s, group_interval: 5m, repeat_interval: 3h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
        hook.url()
    )
}

/// Prometheus' shipped timing.
fn scrapes_and_alerts(up: &Up, alertmanager: &Alertmanager) -> String {
    let target = alertmanager.url().replace("http://", "");
    format!(
        "global: {{scrape_interval: 15s, evaluation_interval: 15s}}\n\
         rule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}\n\
         {}",
        scrapes(&up.place().url(), "15s", TOKEN)
    )
}

const PROMETHEUS_RULES: &str = r#"
groups:
- name: as Keelson's
  rules:
  - alert: HighErrorRate
    expr: >-
      sum by (service_name) (increase(http_server_requests_total{http_response_status_code=~"5.."}[1m]))
      / sum by (service_name) (increase(http_server_requests_total[1m])) > 0.05
    labels: {severity: critical}
"#;
