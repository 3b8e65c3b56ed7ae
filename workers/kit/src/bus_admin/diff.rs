//! What is wanted, in the words of the server's API, and how what runs differs from it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use keelson_bus_config::{BucketSpec, BusConfig, ConsumerSpec, StreamSpec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Change, Field, Item, Kind};

/// What one stream, bucket or consumer should be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub kind: Kind,
    /// The stream that it is, or that it reads.
    pub stream: String,
    /// The consumer's name; None for a stream.
    pub consumer: Option<String>,
    /// The fields that bus-config decides.
    pub config: Map<String, Value>,
}

/// What one stream, bucket or consumer is.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Running {
    pub config: Map<String, Value>,
    /// A stream's; a consumer has none.
    #[serde(default)]
    pub state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct State {
    pub messages: u64,
    pub bytes: u64,
    #[serde(default)]
    pub first_ts: Option<Timestamp>,
}

/// Everything that bus-config asks for, in an order in which it can be created.
pub(super) fn wanted(config: &BusConfig) -> Vec<Wanted> {
    let streams = config.streams.iter().map(stream);
    let buckets = config.buckets.iter().map(bucket);
    let consumers = config.consumers.iter().map(consumer);
    streams.chain(buckets).chain(consumers).collect()
}

fn stream(spec: &StreamSpec) -> Wanted {
    let sources: Vec<Value> = spec.sources.iter().map(|name| json!({ "name": name })).collect();
    let config = json!({
        "name": spec.name,
        "description": spec.description,
        "subjects": spec.subjects,
        "sources": sources,
        "retention": "limits",
        "storage": "file",
        "discard": spec.discard,
        "max_age": nanos(spec.max_age()),
        "max_bytes": spec.max_bytes,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": spec.max_message_bytes.map_or(-1, i64::from),
        "duplicate_window": nanos(spec.duplicate_window()),
        "allow_direct": true,
        "deny_delete": spec.deny_delete,
        "deny_purge": spec.deny_purge,
    });
    Wanted { kind: Kind::Stream, stream: spec.name.clone(), consumer: None, config: fields(config) }
}

/// A bucket is a stream of a certain make; the NATS clients agree on it (ADR-8).
fn bucket(spec: &BucketSpec) -> Wanted {
    const CLIENTS_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
    let stream = format!("KV_{}", spec.name);
    let config = json!({
        "name": stream,
        "description": spec.description,
        "subjects": [format!("$KV.{}.>", spec.name)],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": nanos(spec.ttl()),
        "max_bytes": spec.max_bytes,
        "max_msgs": -1,
        "max_msgs_per_subject": spec.history,
        "max_msg_size": spec.max_value_bytes,
        "duplicate_window": nanos(CLIENTS_DUPLICATE_WINDOW),
        "allow_direct": true,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "deny_purge": false,
    });
    Wanted { kind: Kind::Bucket, stream, consumer: None, config: fields(config) }
}

fn consumer(spec: &ConsumerSpec) -> Wanted {
    Wanted {
        kind: Kind::Consumer,
        stream: spec.stream.clone(),
        consumer: Some(spec.name.clone()),
        config: consumer_config(spec),
    }
}

/// The configuration of a durable consumer, for the plan and for the worker that finds it missing.
pub(crate) fn consumer_config(spec: &ConsumerSpec) -> Map<String, Value> {
    // One filter is written as such, since only so can it stand in the subject of the request, where permissions see it.
    let (one, several) = match spec.filter_subjects.as_slice() {
        [one] => (one.as_str(), &[][..]),
        several => ("", several),
    };
    fields(json!({
        "durable_name": spec.name,
        "name": spec.name,
        "description": spec.description,
        "filter_subject": one,
        "filter_subjects": several,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": nanos(spec.ack_wait()),
        "max_deliver": spec.max_deliver,
        "max_ack_pending": spec.max_ack_pending,
    }))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn fields(config: Value) -> Map<String, Value> {
    match config {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

impl Wanted {
    /// The name in a plan.
    pub fn name(&self) -> String {
        match &self.consumer {
            Some(consumer) => format!("{}/{consumer}", self.stream),
            None => self.stream.strip_prefix("KV_").unwrap_or(&self.stream).to_owned(),
        }
    }

    pub fn item(&self, change: Change) -> Item {
        Item { kind: self.kind, name: self.name(), change }
    }

    /// What is to be sent to change `running`: its own fields stay where bus-config has no say, such as replicas.
    pub fn over(&self, running: &Running) -> Map<String, Value> {
        let mut config = running.config.clone();
        config.extend(self.config.clone());
        config
    }
}

/// What has to happen to `running` so that it is as `wanted`.
pub(super) fn change(wanted: &Wanted, running: Option<&Running>, now: Timestamp) -> Change {
    let Some(running) = running else { return Change::Create };
    let fields = differing(&wanted.config, &running.config);
    if fields.is_empty() {
        return Change::Same;
    }
    let replaced =
        fields.iter().filter(|field| is_fixed(field)).map(|field| made_anew(wanted, field, running));
    let replaced: Vec<String> = replaced.collect();
    if !replaced.is_empty() {
        return Change::LosesData { fields, losses: replaced, replace: true };
    }
    let losses: Vec<String> = fields.iter().filter_map(|field| loss(field, &running.state, now)).collect();
    match losses.is_empty() {
        true => Change::Update { fields },
        false => Change::LosesData { fields, losses, replace: false },
    }
}

fn differing(wanted: &Map<String, Value>, running: &Map<String, Value>) -> Vec<Field> {
    let differs = |(name, wanted): (&String, &Value)| {
        let now = running.get(name).cloned().unwrap_or(Value::Null);
        let same = normal(&now) == normal(wanted);
        (!same).then(|| Field { name: name.clone(), now, wanted: wanted.clone() })
    };
    wanted.iter().filter_map(differs).collect()
}

/// The server leaves out what is empty, and adds to a source what was not asked for.
fn normal(value: &Value) -> Value {
    match value {
        Value::Bool(false) => Value::Null,
        Value::Number(number) if number.as_i64() == Some(0) => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => items.iter().map(named).collect(),
        other => other.clone(),
    }
}

fn named(item: &Value) -> Value {
    item.get("name").unwrap_or(item).clone()
}

/// Fields that the server does not change on what exists.
fn is_fixed(field: &Field) -> bool {
    match field.name.as_str() {
        "storage" | "retention" | "ack_policy" | "deliver_policy" | "replay_policy" => true,
        // Once denied, always denied.
        "deny_delete" | "deny_purge" => field.wanted == json!(false),
        _ => false,
    }
}

fn made_anew(wanted: &Wanted, field: &Field, running: &Running) -> String {
    let name = &field.name;
    match wanted.kind {
        Kind::Consumer => {
            format!("{name} cannot be changed: it is made anew and begins at the first message again")
        }
        _ => format!(
            "{name} cannot be changed: it is made anew without its {} messages",
            running.state.messages
        ),
    }
}

/// What changing this field forgets.
fn loss(field: &Field, state: &State, now: Timestamp) -> Option<String> {
    if state.messages == 0 || !is_smaller(field) {
        return None;
    }
    let wanted = field.wanted.as_u64().unwrap_or(u64::MAX);
    match field.name.as_str() {
        "max_bytes" => (state.bytes > wanted).then(|| format!("it holds {} bytes", state.bytes)),
        "max_age" => {
            (oldest_age_ns(state, now) > wanted).then(|| "its oldest messages are older than that".into())
        }
        "max_msgs_per_subject" => Some("older values of its keys".into()),
        "duplicate_window" => {
            Some("message ids: a retry of what was already accepted would be stored again".into())
        }
        _ => None,
    }
}

/// Whether a limit shrinks; 0 and -1 are no limit.
fn is_smaller(field: &Field) -> bool {
    let limit = |value: &Value| value.as_u64().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    limit(&field.wanted) < limit(&field.now)
}

fn oldest_age_ns(state: &State, now: Timestamp) -> u64 {
    let age = state.first_ts.map_or(0, |first| now.as_nanosecond() - first.as_nanosecond());
    u64::try_from(age.max(0)).unwrap_or(u64::MAX)
}
