//! The alerting worker as far as HTTP meets it: answers that stand still, and silences that are kept in memory.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_kit::clock::Clock;
use keelson_kit::command::{Attempt, CommandHandler, Commands};
use keelson_kit::failure::Failure;
use keelson_kit::query::{Queries, Refusal};
use keelson_schemas::alerting::{
    Alert, AlertState, AlertView, Alerts, Backtest, BacktestReport, ExpireSilence, Group, Groups, Labels,
    Matcher, Rules, SetSilence, Silence, Silences, fingerprint,
};
use keelson_schemas::message::Message;

use crate::fixture::Fixture;

pub const NOW_MS: u64 = 1_764_000_000_000;

#[derive(Clone)]
pub struct StandIn(Arc<Mutex<Vec<Silence>>>);

impl StandIn {
    /// Starts one; with `obeys`, it also obeys commands.
    pub async fn start(fixture: &Fixture, obeys: bool) -> Self {
        let standin = Self(Arc::default());
        let asked = standin.clone();
        let queries = Queries::of("alerting")
            .exclusive("alerts", move |(): ()| {
                let answer = asked.alerts();
                async move { Ok(Some(answer)) }
            })
            .exclusive("groups", |(): ()| async { Ok(Some(groups())) })
            .exclusive("rules", |(): ()| async { Ok(Some(rules())) });
        let asked = standin.clone();
        let queries = queries
            .with("silences", move |(): ()| {
                let silences = asked.all();
                async move { Ok(Silences { silences }) }
            })
            .with("check.silence", |silence: SetSilence| async move {
                meaning(&silence).map(drop).map_err(|reason| Refusal::new(400, reason))
            });
        let asked = standin.clone();
        let queries = queries.with("check.expire-silence", move |expire: ExpireSilence| {
            let found = asked.all().into_iter().any(|silence| silence.id == expire.id);
            async move { found.then_some(()).ok_or_else(|| Refusal::new(404, "there is no such silence")) }
        });
        fixture.context().answer(queries).await.expect("can be asked");
        if obeys {
            let commands = Commands::of("alerting")
                .with(Set(standin.clone()))
                .with(Expire(standin.clone()))
                .with(Replay);
            fixture.context().obey(commands).expect("obeys");
        }
        standin
    }

    pub fn all(&self) -> Vec<Silence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Silence>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One that fires, one that is inhibited, one that is silenced if there is a silence, one that is pending, one that resolved.
    fn alerts(&self) -> Alerts {
        let now_ms = now_ms();
        let silenced_by: Vec<String> = self
            .all()
            .into_iter()
            .filter(|silence| silence.ends_at_ms > now_ms)
            .map(|each| each.id)
            .collect();
        let firing = AlertState::Firing;
        let alerts = vec![
            AlertView { silenced_by, ..view("HighErrorRate", "content", firing) },
            view("SlowResponses", "video", firing),
            AlertView { inhibited_by: vec!["x".into()], ..view("SlowQueries", "content", firing) },
            view("HighMemory", "content", AlertState::Pending),
            view("HighMemory", "video", AlertState::Resolved),
        ];
        Alerts { as_of_ms: NOW_MS, alerts }
    }
}

/// Alertmanager's clients send times of their own, so silences go by the real one.
fn now_ms() -> u64 {
    Clock::system().now_ms()
}

fn labels(name: &str, service: &str) -> Labels {
    [("alertname", name), ("service_name", service), ("severity", "warning")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn view(name: &str, service: &str, state: AlertState) -> AlertView {
    let labels = labels(name, service);
    let summary = format!("{service} is in trouble");
    let alert = Alert {
        fingerprint: fingerprint(&labels),
        annotations: [("summary".to_owned(), summary)].into(),
        labels,
        state,
        value: Some(0.5),
        active_at_ms: NOW_MS,
        starts_at_ms: (state != AlertState::Pending).then_some(NOW_MS),
        ends_at_ms: (state == AlertState::Resolved).then_some(NOW_MS + 1),
    };
    AlertView {
        alert,
        updated_at_ms: NOW_MS,
        receivers: vec!["ops".into()],
        silenced_by: Vec::new(),
        inhibited_by: Vec::new(),
        flapping: false,
    }
}

fn groups() -> Groups {
    let labels = labels("HighErrorRate", "content");
    let group = Group {
        receiver: "ops".into(),
        fingerprints: vec![fingerprint(&labels)],
        labels: [("alertname".to_owned(), "HighErrorRate".to_owned())].into(),
        deliveries: Vec::new(),
    };
    Groups { groups: vec![group] }
}

fn rules() -> Rules {
    Rules { receivers: vec!["ops".into(), "pager".into()], ..Rules::example() }
}

/// What a silence is to match; or why it cannot be.
fn meaning(silence: &SetSilence) -> Result<Vec<Matcher>, String> {
    if silence.matchers.is_empty() {
        return Err("a silence needs at least one matcher".into());
    }
    if silence.starts_at_ms.zip(silence.ends_at_ms).is_some_and(|(start, end)| end <= start) {
        return Err("a silence ends after its start".into());
    }
    let parsed = silence.matchers.iter().map(|text| text.parse().map_err(|error| format!("{error}")));
    let matchers: Vec<Matcher> = parsed.collect::<Result<_, String>>()?;
    if matchers.iter().all(|matcher| matcher.value.is_empty()) {
        return Err("it would match everything".into());
    }
    Ok(matchers)
}

struct Set(StandIn);

impl CommandHandler for Set {
    type Command = SetSilence;
    type Outcome = Silence;

    async fn run(&self, command: SetSilence, attempt: &Attempt) -> Result<Silence, Failure> {
        let now_ms = now_ms();
        let matchers = meaning(&command).map_err(Failure::reject)?;
        let silence = Silence {
            id: command.id.unwrap_or_else(|| attempt.consequence("silence")),
            matchers,
            starts_at_ms: command.starts_at_ms.unwrap_or(now_ms),
            ends_at_ms: command.ends_at_ms.unwrap_or(now_ms + 3_600_000),
            updated_at_ms: now_ms,
            created_by: command.created_by.unwrap_or_else(|| attempt.requested_by.clone()),
            comment: command.comment,
        };
        self.0.change(|all| {
            all.retain(|other| other.id != silence.id);
            all.push(silence.clone());
        });
        Ok(silence)
    }
}

struct Expire(StandIn);

impl CommandHandler for Expire {
    type Command = ExpireSilence;
    type Outcome = Silence;

    async fn run(&self, command: ExpireSilence, _: &Attempt) -> Result<Silence, Failure> {
        let now_ms = now_ms();
        self.0.change(|all| {
            let found = all.iter_mut().find(|silence| silence.id == command.id);
            let silence = found.ok_or_else(|| Failure::reject("there is no such silence"))?;
            if silence.ends_at_ms <= now_ms {
                return Err(Failure::reject("it has ended"));
            }
            silence.ends_at_ms = now_ms;
            Ok(silence.clone())
        })
    }
}

struct Replay;

impl CommandHandler for Replay {
    type Command = Backtest;
    type Outcome = BacktestReport;

    async fn run(&self, _: Backtest, attempt: &Attempt) -> Result<BacktestReport, Failure> {
        attempt.progress(1, Some(2), "slices").await;
        Ok(BacktestReport::example())
    }
}
