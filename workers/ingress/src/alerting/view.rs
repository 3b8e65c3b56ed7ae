//! Alerts and silences as they are shown: times in Unix milliseconds for programs, and beside them in RFC 3339 for people.

use jiff::Timestamp;
use keelson_schemas::alerting::{Alert, AlertView, Alerts, Silence, Silences};
use schemars::JsonSchema;
use serde::Serialize;

/// All alerts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertPage {
    /// As of when this is.
    #[schemars(with = "String")]
    as_of: Timestamp,
    /// As of when this is, Unix milliseconds.
    as_of_ms: u64,
    /// Firing, pending, and those that resolved within the last minutes; in this order, in each the one that changed last first.
    alerts: Vec<ShownAlert>,
}

/// An alert and what becomes of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AlertOfPage")]
struct ShownAlert {
    #[serde(flatten)]
    alert: Alert,
    /// When it began to fire.
    #[schemars(with = "Option<String>")]
    starts_at: Option<Timestamp>,
    /// When it resolved.
    #[schemars(with = "Option<String>")]
    ends_at: Option<Timestamp>,
    /// Unix milliseconds at which it last changed.
    updated_at_ms: u64,
    /// The receivers that its routes name.
    receivers: Vec<String>,
    /// The ids of the silences that keep it from being notified.
    silenced_by: Vec<String>,
    /// The fingerprints of the alerts that inhibit it.
    inhibited_by: Vec<String>,
    /// Whether it goes up and down so often that it is held.
    flapping: bool,
}

/// All silences.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SilencePage {
    /// Those that hold, those that will, those that ended within the last days; in each the one that ends first comes first, of the ended the last.
    silences: Vec<ShownSilence>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SilenceOfPage")]
struct ShownSilence {
    #[serde(flatten)]
    silence: Silence,
    state: SilenceState,
    /// From when it holds.
    #[schemars(with = "String")]
    starts_at: Timestamp,
    /// Up to when it holds.
    #[schemars(with = "String")]
    ends_at: Timestamp,
}

/// Whether a silence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It holds.
    Active,
    /// It will.
    Pending,
    /// It did.
    Expired,
}

impl SilenceState {
    /// The state of a silence at a time.
    #[must_use]
    pub fn of(silence: &Silence, now_ms: u64) -> Self {
        if silence.ends_at_ms <= now_ms {
            Self::Expired
        } else if silence.starts_at_ms > now_ms {
            Self::Pending
        } else {
            Self::Active
        }
    }
}

/// What of a worker's answer is shown as `GET /api/monitoring/alerts`.
#[must_use]
pub fn alerts(answer: Alerts) -> AlertPage {
    let mut alerts = answer.alerts;
    alerts.sort_by_key(|view| (rank(&view.alert), std::cmp::Reverse(view.updated_at_ms)));
    AlertPage {
        as_of: timestamp(answer.as_of_ms),
        as_of_ms: answer.as_of_ms,
        alerts: alerts.into_iter().map(shown_alert).collect(),
    }
}

fn rank(alert: &Alert) -> u8 {
    use keelson_schemas::alerting::AlertState::{Firing, Inactive, Pending, Resolved};
    match alert.state {
        Firing => 0,
        Pending => 1,
        Resolved => 2,
        Inactive => 3,
    }
}

fn shown_alert(view: AlertView) -> ShownAlert {
    ShownAlert {
        starts_at: view.alert.starts_at_ms.map(timestamp),
        ends_at: view.alert.ends_at_ms.map(timestamp),
        alert: view.alert,
        updated_at_ms: view.updated_at_ms,
        receivers: view.receivers,
        silenced_by: view.silenced_by,
        inhibited_by: view.inhibited_by,
        flapping: view.flapping,
    }
}

/// What of a worker's answer is shown as `GET /api/monitoring/silences`.
#[must_use]
pub fn silences(answer: Silences, now_ms: u64) -> SilencePage {
    let silences = in_order(answer.silences, now_ms).into_iter();
    SilencePage { silences: silences.map(|silence| shown_silence(silence, now_ms)).collect() }
}

fn shown_silence(silence: Silence, now_ms: u64) -> ShownSilence {
    ShownSilence {
        state: SilenceState::of(&silence, now_ms),
        starts_at: timestamp(silence.starts_at_ms),
        ends_at: timestamp(silence.ends_at_ms),
        silence,
    }
}

/// Silences as Alertmanager orders them: active ones by their end, pending ones by their start, expired ones by their end, the last first.
#[must_use]
pub fn in_order(mut silences: Vec<Silence>, now_ms: u64) -> Vec<Silence> {
    silences.sort_by_key(|silence| {
        let state = SilenceState::of(silence, now_ms);
        let time = match state {
            SilenceState::Active => silence.ends_at_ms,
            SilenceState::Pending => silence.starts_at_ms,
            SilenceState::Expired => u64::MAX - silence.ends_at_ms,
        };
        (state, time)
    });
    silences
}

/// A time of the bus; past what can be shown, the last one that can.
#[must_use]
pub fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use keelson_schemas::alerting::AlertState;
    use keelson_schemas::message::Message;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn alerts_are_shown_with_what_fires_first() {
        let view = Alerts::example().alerts.remove(0);
        let of = |state, updated_at_ms| {
            let alert = Alert { state, ends_at_ms: None, ..view.alert.clone() };
            AlertView { alert, updated_at_ms, ..view.clone() }
        };
        let alerts = vec![
            of(AlertState::Resolved, 9),
            of(AlertState::Pending, 5),
            of(AlertState::Firing, 1),
            of(AlertState::Firing, 2),
        ];
        let shown = serde_json::to_value(super::alerts(Alerts { as_of_ms: 1_500, alerts })).unwrap();
        let order: Vec<(Value, Value)> = shown["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| (alert["state"].clone(), alert["updatedAtMs"].clone()))
            .collect();
        let expected = [("firing", 2), ("firing", 1), ("pending", 5), ("resolved", 9)];
        assert_eq!(order, expected.map(|(state, at)| (json!(state), json!(at))));
        assert_eq!(shown["asOf"], "1970-01-01T00:00:01.5Z");
        let first = &shown["alerts"][0];
        assert_eq!(first["startsAt"], "2025-11-24T16:00:00.5Z");
        assert_eq!((&first["endsAt"], &first["endsAtMs"]), (&Value::Null, &Value::Null));
        assert_eq!(first["labels"]["alertname"], "HighErrorRate");
    }

    #[test]
    fn silences_are_ordered_by_what_they_do_now() {
        let of = |id: &str, starts_at_ms, ends_at_ms| Silence {
            id: id.into(),
            starts_at_ms,
            ends_at_ms,
            ..Silence::example()
        };
        let all = vec![
            of("over", 0, 50),
            of("over-later", 0, 100),
            of("to-come-later", 300, 400),
            of("to-come", 101, 500),
            of("holds-long", 0, 900),
            of("holds", 100, 101),
        ];
        let order: Vec<String> = in_order(all, 100).into_iter().map(|silence| silence.id).collect();
        assert_eq!(order, ["holds", "holds-long", "to-come", "to-come-later", "over-later", "over"]);
    }

    #[test]
    fn times_past_the_calendar_are_its_end() {
        assert_eq!(timestamp(u64::MAX), Timestamp::MAX);
        assert_eq!(timestamp(i64::MAX as u64), Timestamp::MAX);
    }
}
