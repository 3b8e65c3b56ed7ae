//! Which message is said where: the catalogue of the bus, from which `asyncapi.json` and the table in this crate's README are made.

use serde_json::{Map, Value, json};

use crate::message::{ALL, Command, Message, MessageType};
use crate::{alerting, audit, backup, cdn, dead_letter, services, slice, subject, telemetry, totals};

/// Who says it, from where Keelson stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Keelson takes it.
    Receive,
    /// Keelson says it.
    Send,
}

/// A subject, or several that are alike, and what is said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The subject, with `{parameters}`.
    pub address: String,
    /// Who says it.
    pub action: Action,
    /// The message's type; none where a question has no body.
    pub message: Option<&'static str>,
    /// The type of the answer; none where nothing is asked.
    pub reply: Option<&'static str>,
}

impl Channel {
    fn command<C: Command>() -> Self {
        Self::taken::<C>(&subject::command::<C>())
    }

    fn taken<M: Message>(address: &str) -> Self {
        Self { address: address.to_owned(), action: Action::Receive, message: Some(M::TYPE), reply: None }
    }

    fn said<M: Message>(address: &str) -> Self {
        Self { action: Action::Send, ..Self::taken::<M>(address) }
    }

    fn asked<Q: Message, A: Message>(worker: &str, noun: &str) -> Self {
        Self { reply: Some(A::TYPE), ..Self::taken::<Q>(&subject::qry(worker, noun)) }
    }

    fn answered<A: Message>(worker: &str, noun: &str) -> Self {
        let (address, reply) = (subject::qry(worker, noun), Some(A::TYPE));
        Self { address, action: Action::Receive, message: None, reply }
    }
}

/// All channels: commands, events, telemetry, questions; by what they are, then by worker.
#[must_use]
pub fn all() -> Vec<Channel> {
    vec![
        Channel::command::<alerting::Backtest>(),
        Channel::command::<alerting::EndAlert>(),
        Channel::command::<alerting::ExpireSilence>(),
        Channel::command::<alerting::Notify>(),
        Channel::command::<alerting::ReloadRules>(),
        Channel::command::<alerting::SetSilence>(),
        Channel::command::<backup::Automate>(),
        Channel::command::<backup::Backup>(),
        Channel::command::<backup::DeleteBackup>(),
        Channel::command::<backup::HoldBackup>(),
        Channel::command::<backup::Restore>(),
        Channel::command::<backup::TestBackup>(),
        Channel::command::<cdn::Purge>(),
        Channel::command::<cdn::Warm>(),
        Channel::command::<services::Deregister>(),
        Channel::command::<services::Register>(),
        Channel::command::<services::Reset>(),
        Channel::command::<services::Trip>(),
        Channel::command::<dead_letter::Redrive>(),
        Channel::taken::<cdn::ContentChanged>("keelson.evt.content.changed"),
        Channel::said::<alerting::Transition>("keelson.evt.alerting.{fact}"),
        Channel::said::<alerting::Signals>("keelson.evt.{worker}.signals"),
        Channel::said::<audit::Seal>(audit::SEALED),
        Channel::said::<backup::BackupSummary>("keelson.evt.backup.{fact}"),
        Channel::said::<backup::RestoreReport>("keelson.evt.backup.restored"),
        Channel::said::<backup::DrillReport>("keelson.evt.backup.drilled"),
        Channel::said::<cdn::PurgeRequested>("keelson.evt.cdn.requested"),
        Channel::said::<cdn::PurgeOutcomes>("keelson.evt.cdn.{fact}.{operation}"),
        Channel::said::<cdn::PurgeOutcomes>("keelson.evt.cdn.{fact}"),
        Channel::said::<services::Service>("keelson.evt.services.registered"),
        Channel::said::<services::Deregistered>("keelson.evt.services.deregistered"),
        Channel::said::<services::HealthChanged>("keelson.evt.services.{health}"),
        Channel::said::<services::BreakerChanged>("keelson.evt.services.breaker-{state}"),
        Channel::taken::<telemetry::Batch>("keelson.tel.{partition}"),
        Channel::said::<slice::Slice>("keelson.slice.{partition}"),
        Channel::said::<dead_letter::DeadLetter>("keelson.dlq.{stream}.{consumer}"),
        Channel::answered::<alerting::Alerts>("alerting", "alerts"),
        Channel::answered::<alerting::Groups>("alerting", "groups"),
        Channel::answered::<alerting::Rules>("alerting", "rules"),
        Channel::answered::<alerting::Silences>("alerting", "silences"),
        Channel::answered::<audit::AuditStatus>("audit", "status"),
        Channel::answered::<backup::Backups>("backup", "backups"),
        Channel::asked::<backup::FindBackup, backup::Manifest>("backup", "manifest"),
        Channel::answered::<cdn::CdnStatus>("cdn", "status"),
        Channel::asked::<cdn::FindAssetUrl, cdn::AssetUrl>("cdn", "url"),
        Channel::answered::<totals::PartitionTotals>("metrics", "export.{partition}"),
        Channel::answered::<totals::PartitionSummary>("metrics", "summary.{partition}"),
        Channel::answered::<services::Services>("services", "list"),
        Channel::answered::<services::ServicesHealth>("services", "health"),
        Channel::asked::<services::FindService, services::ServiceStatus>("services", "status"),
        Channel::taken::<services::FindService>("keelson.qry.services.heartbeat"),
        Channel::asked::<services::Call, services::CallAnswer>("services", "call"),
        Channel::asked::<dead_letter::ListDeadLetters, dead_letter::DeadLetters>("steward", "dead-letters"),
    ]
}

/// What travels in no channel of its own, and where it is.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("keelson.alerting.silence.v1", "a value of the bucket `silences`"),
    ("keelson.alerting.backtest-report.v1", "the result of an operation"),
    ("keelson.backup.automation-report.v1", "the result of an operation"),
    ("keelson.cdn.purge-report.v1", "the result of an operation"),
    ("keelson.cdn.warm-report.v1", "the result of an operation"),
    ("keelson.metrics.service-totals.v1", "a chunk of a checkpoint"),
    ("keelson.operation.v1", "a value of the bucket `operations`"),
    ("keelson.services.call-reply.v1", "within `keelson.services.call-answer.v1`"),
    ("keelson.services.registered.v1", "the result of an operation"),
];

/// The channels as AsyncAPI 3. Payloads are the published JSON Schemas, beside it in `json/`.
#[must_use]
pub fn asyncapi() -> Value {
    let channels = all();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Keelson",
            "version": "1",
            "description": "What is said on the bus. Bodies are MessagePack with named fields; JSON is taken everywhere. Commands and events may be published without any header.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": crate::codec::MSGPACK,
        "servers": {"local": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "A nats-server with JetStream, 2.14 or newer"}},
        "channels": channels.iter().map(|channel| (key(&channel.address), described(channel))).collect::<Map<_, _>>(),
        "operations": channels.iter().map(|channel| (key(&channel.address), operation(channel))).collect::<Map<_, _>>(),
        "components": {"messages": ALL.iter().map(|message| (message.name.to_owned(), component(message))).collect::<Map<_, _>>()},
    })
}

/// AsyncAPI's names have no braces.
fn key(address: &str) -> String {
    address.replace(['{', '}'], "_")
}

fn described(channel: &Channel) -> Value {
    let messages = [channel.message, channel.reply].into_iter().flatten();
    let messages: Map<String, Value> = messages
        .map(|name| (name.to_owned(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    let parameters: Map<String, Value> =
        parameters(&channel.address).map(|name| (name.to_owned(), json!({}))).collect();
    let mut described = json!({"address": channel.address, "messages": messages});
    if !parameters.is_empty() {
        described["parameters"] = Value::Object(parameters);
    }
    described
}

fn parameters(address: &str) -> impl Iterator<Item = &str> {
    address.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

fn operation(channel: &Channel) -> Value {
    let key = key(&channel.address);
    let of = |name: &str| json!({"$ref": format!("#/channels/{key}/messages/{name}")});
    let action = match channel.action {
        Action::Receive => "receive",
        Action::Send => "send",
    };
    let mut operation = json!({
        "action": action,
        "channel": {"$ref": format!("#/channels/{key}")},
        "messages": channel.message.iter().map(|name| of(name)).collect::<Vec<_>>(),
    });
    if let Some(reply) = channel.reply {
        operation["reply"] =
            json!({"channel": {"$ref": format!("#/channels/{key}")}, "messages": [of(reply)]});
    }
    operation
}

fn component(message: &MessageType) -> Value {
    let schema = (message.schema)();
    let summary = schema.get("description").and_then(Value::as_str).map(first_sentence);
    json!({
        "name": message.name,
        "summary": summary.unwrap_or_default(),
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": format!("./json/{}.json", message.name)},
        },
    })
}

/// The catalogue as a table in Markdown.
#[must_use]
pub fn table() -> String {
    let channels = all();
    let said = |channel: &Channel| {
        let body = channel.message.map_or("no body".to_owned(), |name| format!("`{name}`"));
        let reply = channel.reply.map_or(String::new(), |name| format!(", answered by `{name}`"));
        format!("| `{}` | {body}{reply} | {} |", channel.address, meaning(channel.message.or(channel.reply)))
    };
    let elsewhere =
        |(name, place): &(&str, &str)| format!("| {place} | `{name}` | {} |", meaning(Some(name)));
    let head = ["| Where | Message | |".to_owned(), "|---|---|---|".to_owned()];
    let rows = channels.iter().map(said).chain(ELSEWHERE.iter().map(elsewhere));
    head.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

fn meaning(name: Option<&str>) -> String {
    let message = ALL.iter().find(|message| Some(message.name) == name);
    let schema = message.map(|message| (message.schema)());
    let text = schema.as_ref().and_then(|schema| schema.get("description")?.as_str().map(first_sentence));
    text.unwrap_or_default()
}

/// Up to the end of the first sentence, on one line.
fn first_sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.split_once(". ").map_or(line.clone(), |(first, _)| format!("{first}.")).replace('|', "\\|")
}
