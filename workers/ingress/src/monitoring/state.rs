//! How the workers and the bus stand, as gauges beside what was counted. A worker that does not answer leaves its own out and nothing else: none of these
//! is a sum that would be wrong without it.

mod services;

use std::time::Duration;

use futures::future::join_all;
use keelson_bus_config::BusConfig;
use keelson_kit::bus::Bus;
use keelson_kit::query::AskError;
use keelson_kit::stream::StreamInfo;
use keelson_schemas::alerting::{AlertState, Alerts};
use keelson_schemas::audit::AuditStatus;
use keelson_schemas::backup::{BackupKind, BackupState, BackupSummary, Backups};
use keelson_schemas::cdn::{CdnStatus, ProviderHealth, ProviderStatus};
use keelson_schemas::services::ServicesHealth;
use keelson_schemas::subject;
use serde::de::DeserializeOwned;

use super::export::label;
use crate::exposition::{Family, Kind, Value};

/// How long a worker has to say how it stands. A scrape has ten seconds, and what was counted is worth more than this.
const WITHIN: Duration = Duration::from_millis(500);

/// Everything that is known of it now.
#[derive(Debug, Default)]
pub struct State {
    alerts: Option<Alerts>,
    cdn: Option<CdnStatus>,
    backups: Option<Backups>,
    services: Option<ServicesHealth>,
    audit: Option<AuditStatus>,
    streams: Vec<(String, StreamInfo)>,
    /// Stream, consumer, messages that it was not given yet.
    pending: Vec<(String, String, u64)>,
}

impl State {
    /// Asks for all of it at once.
    pub async fn ask(bus: &Bus) -> Self {
        let ((alerts, cdn, backups, services, audit), (streams, pending)) = tokio::join!(
            async {
                tokio::join!(
                    owner(bus, "alerting", "alerts"),
                    any(bus, "cdn", "status"),
                    any(bus, "backup", "backups"),
                    any(bus, "services", "health"),
                    owner(bus, "audit", "status")
                )
            },
            async { tokio::time::timeout(WITHIN, of_the_bus(bus)).await.unwrap_or_default() },
        );
        Self { alerts, cdn, backups, services, audit, streams, pending }
    }

    /// As metric families.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = vec![self.workers()];
        families.extend(self.alerts.as_ref().map(firing));
        families.extend(self.cdn.iter().flat_map(|status| edge(&status.providers)));
        families.extend(self.backups.iter().flat_map(|backups| kept(&backups.backups)));
        families.extend(self.services.iter().flat_map(services::families));
        families.extend(self.bus());
        families
    }

    fn workers(&self) -> Family {
        let answered = [
            ("alerting", self.alerts.is_some()),
            ("audit", self.audit.is_some()),
            ("backup", self.backups.is_some()),
            ("cdn", self.cdn.is_some()),
            ("services", self.services.is_some()),
        ];
        let mut family = Family::new(
            "keelson_worker_up",
            Kind::Gauge,
            "Whether a worker answered the last question, 1 or 0.",
        );
        for (worker, up) in answered {
            family.push(vec![label("worker", worker)], Value::Gauge(f64::from(u8::from(up))));
        }
        family
    }

    fn bus(&self) -> [Family; 3] {
        let mut messages = Family::new(
            "keelson_bus_stream_messages",
            Kind::Gauge,
            "Messages that a stream of the bus holds.",
        );
        let mut bytes =
            Family::new("keelson_bus_stream_bytes", Kind::Gauge, "Bytes that a stream of the bus holds.");
        let mut pending = Family::new(
            "keelson_bus_consumer_pending_messages",
            Kind::Gauge,
            "Messages on a stream of the bus that a worker was not given yet.",
        );
        for (stream, info) in &self.streams {
            messages.push(vec![label("stream", stream)], Value::Gauge(info.messages as f64));
            bytes.push(vec![label("stream", stream)], Value::Gauge(info.bytes as f64));
        }
        for (stream, consumer, waiting) in &self.pending {
            let labels = vec![label("stream", stream), label("consumer", consumer)];
            pending.push(labels, Value::Gauge(*waiting as f64));
        }
        [messages, bytes, pending]
    }
}

async fn owner<A: DeserializeOwned>(bus: &Bus, worker: &str, noun: &str) -> Option<A> {
    known(bus.ask_owner(&subject::qry(worker, noun), &(), WITHIN).await)
}

async fn any<A: DeserializeOwned>(bus: &Bus, worker: &str, noun: &str) -> Option<A> {
    known(bus.ask(&subject::qry(worker, noun), &(), WITHIN).await)
}

/// That there is no answer is shown as such, by `keelson_worker_up`.
fn known<A>(answer: Result<A, AskError>) -> Option<A> {
    answer.ok()
}

/// The streams and buckets of bus-config, and its consumers, as far as they are there.
async fn of_the_bus(bus: &Bus) -> (Vec<(String, StreamInfo)>, Vec<(String, String, u64)>) {
    let Ok(config) = BusConfig::load() else { return Default::default() };
    let buckets = config.buckets.into_iter().map(|bucket| format!("KV_{}", bucket.name));
    let names = config.streams.into_iter().map(|stream| stream.name).chain(buckets);
    let streams = names.map(async |name| Some((bus.stream_info(&name).await.ok()?, name)));
    let pending = config.consumers.into_iter().map(async |consumer| {
        let waiting = bus.consumer_pending(&consumer.stream, &consumer.name).await.ok()?;
        Some((consumer.stream, consumer.name, waiting))
    });
    let (streams, pending) = tokio::join!(join_all(streams), join_all(pending));
    let streams = streams.into_iter().flatten().map(|(info, name)| (name, info));
    (streams.collect(), pending.into_iter().flatten().collect())
}

fn firing(alerts: &Alerts) -> Family {
    let mut family = Family::new(
        "keelson_alert_firing",
        Kind::Gauge,
        "An alert that fires, with its labels that say most: 1.",
    );
    let mut known = std::collections::BTreeMap::<[String; 3], u32>::new();
    for view in alerts.alerts.iter().filter(|view| view.alert.state == AlertState::Firing) {
        let of = |name: &str| view.alert.labels.get(name).cloned().unwrap_or_default();
        *known.entry([of("alertname"), of("severity"), of("service_name")]).or_default() += 1;
    }
    for ([alert, severity, service], count) in known {
        let labels =
            vec![label("alert_name", alert), label("severity", severity), label("service_name", service)];
        family.push(labels, Value::Gauge(count.into()));
    }
    family
}

/// A gauge of a provider.
type OfProvider = (&'static str, &'static str, fn(&ProviderStatus) -> f64);

const OF_PROVIDER: [OfProvider; 4] = [
    ("keelson_cdn_provider_up", "Whether a provider takes purges and serves, 1 or 0.", |provider| {
        f64::from(u8::from(provider.health == ProviderHealth::Up))
    }),
    ("keelson_cdn_purges_waiting", "Selectors that wait to be sent to a provider.", |provider| {
        provider.waiting as f64
    }),
    ("keelson_cdn_purges_under_way", "Purges that were sent and have not ended.", |provider| {
        provider.under_way as f64
    }),
    (
        "keelson_cdn_messages_behind",
        "Messages on the bus that the sender of a provider has not read yet.",
        |provider| provider.behind as f64,
    ),
];

fn edge(providers: &[ProviderStatus]) -> Vec<Family> {
    let mut fresh = Family::new(
        "keelson_cdn_time_to_fresh_seconds",
        Kind::Histogram,
        "Time from a change until readers were seen to get it, since the sender of the provider began.",
    );
    for provider in providers {
        let labels = vec![label("provider", &provider.provider)];
        fresh.push(labels, Value::Histogram(Box::new(provider.time_to_fresh.clone())));
    }
    let gauges = OF_PROVIDER.into_iter().map(|(name, help, read)| {
        let mut family = Family::new(name, Kind::Gauge, help);
        for provider in providers {
            family.push(vec![label("provider", &provider.provider)], Value::Gauge(read(provider)));
        }
        family
    });
    gauges.chain([fresh]).collect()
}

/// A gauge of the newest complete backup of a kind.
type OfBackup = (&'static str, &'static str, fn(&BackupSummary) -> f64);

const OF_BACKUP: [OfBackup; 3] = [
    (
        "keelson_backup_last_success_timestamp_seconds",
        "When the newest complete backup had ended, Unix seconds.",
        |backup| backup.finished_at.as_second() as f64,
    ),
    ("keelson_backup_last_duration_seconds", "How long the newest complete backup took.", |backup| {
        backup.started_at.duration_until(backup.finished_at).as_secs_f64()
    }),
    (
        "keelson_backup_last_stored_bytes",
        "What the newest complete backup added to the repository.",
        |backup| backup.stored_bytes as f64,
    ),
];

const KINDS: [(BackupKind, &str); 2] = [(BackupKind::Full, "full"), (BackupKind::Incremental, "incremental")];
const STATES: [(BackupState, &str); 3] =
    [(BackupState::Complete, "complete"), (BackupState::Partial, "partial"), (BackupState::Failed, "failed")];

fn kept(backups: &[BackupSummary]) -> Vec<Family> {
    let mut all =
        Family::new("keelson_backups", Kind::Gauge, "Backups that are known, by what became of them.");
    for (state, name) in STATES {
        let count = backups.iter().filter(|backup| backup.state == state).count();
        all.push(vec![label("state", name)], Value::Gauge(count as f64));
    }
    let newest = KINDS.map(|(kind, name)| {
        let complete = |backup: &&BackupSummary| backup.kind == kind && backup.state == BackupState::Complete;
        (name, backups.iter().filter(complete).max_by_key(|backup| backup.finished_at))
    });
    let gauges = OF_BACKUP.into_iter().map(|(name, help, read)| {
        let mut family = Family::new(name, Kind::Gauge, help);
        for (kind, backup) in newest {
            if let Some(backup) = backup {
                family.push(vec![label("kind", kind)], Value::Gauge(read(backup)));
            }
        }
        family
    });
    gauges.chain([all]).collect()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;
    use keelson_schemas::services::{BreakerState, Health, ServiceSummary};

    use super::*;
    use crate::exposition::{Format, encode, tests::promtool};

    fn page(state: &State) -> String {
        String::from_utf8(encode(&state.families(), Format::Text)).unwrap()
    }

    #[test]
    fn who_does_not_answer_leaves_out_its_own_and_nothing_else() {
        let page = page(&State { backups: Some(Backups::default()), ..State::default() });
        assert!(page.contains("keelson_worker_up{worker=\"backup\"} 1\n"), "{page}");
        assert!(page.contains("keelson_worker_up{worker=\"cdn\"} 0\n"), "{page}");
        assert!(page.contains("keelson_backups{state=\"complete\"} 0\n"), "{page}");
        assert!(!page.contains("keelson_cdn"), "{page}");
    }

    #[test]
    fn of_backups_the_newest_complete_one_of_each_kind_is_shown() {
        let backup = |state, finished: i64, stored_bytes| BackupSummary {
            state,
            kind: BackupKind::Full,
            started_at: jiff::Timestamp::from_second(finished - 30).unwrap(),
            finished_at: jiff::Timestamp::from_second(finished).unwrap(),
            stored_bytes,
            ..BackupSummary::example()
        };
        let backups = vec![
            backup(BackupState::Complete, 1_000, 7),
            backup(BackupState::Failed, 3_000, 9),
            backup(BackupState::Complete, 2_000, 8),
        ];
        let page =
            page(&State { backups: Some(Backups { backups, ..Backups::default() }), ..State::default() });
        for line in [
            "keelson_backup_last_success_timestamp_seconds{kind=\"full\"} 2000\n",
            "keelson_backup_last_duration_seconds{kind=\"full\"} 30\n",
            "keelson_backup_last_stored_bytes{kind=\"full\"} 8\n",
            "keelson_backups{state=\"failed\"} 1\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }

    #[test]
    fn of_a_breaker_each_state_is_shown_and_one_is_it() {
        let service = ServiceSummary {
            name: "content".into(),
            health: Health::Degraded,
            breaker: BreakerState::HalfOpen,
            up: 1,
            instances: 3,
        };
        let services = ServicesHealth { services: vec![service], health: Health::Degraded };
        let page = page(&State { services: Some(services), ..State::default() });
        for line in [
            "keelson_service_instances{service_name=\"content\"} 3\n",
            "keelson_service_instances_up{service_name=\"content\"} 1\n",
            "keelson_breaker_state{service_name=\"content\",state=\"closed\"} 0\n",
            "keelson_breaker_state{service_name=\"content\",state=\"open\"} 0\n",
            "keelson_breaker_state{service_name=\"content\",state=\"half-open\"} 1\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }

    #[test]
    fn promtool_has_nothing_to_say_of_it() {
        let state = State {
            alerts: Some(Alerts::example()),
            cdn: Some(CdnStatus::example()),
            backups: Some(Backups { backups: vec![BackupSummary::example()], ..Backups::default() }),
            services: Some(ServicesHealth::example()),
            audit: Some(AuditStatus::example()),
            streams: vec![(
                "EVENTS".into(),
                StreamInfo { created_ms: 1, first_sequence: 1, last_sequence: 2, messages: 2, bytes: 99 },
            )],
            pending: vec![("COMMANDS".into(), "cdn".into(), 3)],
        };
        assert_eq!(promtool(page(&state).as_bytes()).unwrap_or_default(), "");
    }
}
