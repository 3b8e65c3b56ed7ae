//! What a type must be to cross the bus, and the table of all that do.

use schemars::{JsonSchema, Schema};
use serde::{Serialize, de::DeserializeOwned};

/// A body that crosses the bus. Its bytes are described by [`crate::codec`], its headers by [`crate::envelope`].
pub trait Message: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The CloudEvents type, e.g. `keelson.steward.redrive.v1`. Adding an optional field keeps the version; any change
    /// after which an old body no longer decodes to the same meaning is a new type with the next version.
    const TYPE: &'static str;

    /// One body with every field set, from which the golden fixture and the published examples are made.
    fn example() -> Self;
}

/// A message that asks one worker to do something.
pub trait Command: Message {
    /// The worker that owns the command: the third token of its subject.
    const WORKER: &'static str;
    /// What is to be done, in the imperative: the fourth token of its subject.
    const VERB: &'static str;
}

/// A message type as data, for tests and generated documentation.
#[derive(Clone, Copy)]
pub struct MessageType {
    /// The CloudEvents type.
    pub name: &'static str,
    /// Its JSON Schema (draft 2020-12).
    pub schema: fn() -> Schema,
    /// The example as MessagePack, the way it is written.
    pub example_msgpack: fn() -> Result<Vec<u8>, crate::codec::EncodeError>,
    /// The example as JSON, the way a person writes it.
    pub example_json: fn() -> Result<serde_json::Value, serde_json::Error>,
    /// Decodes a body of this type and gives it back as JSON, so that types can be compared without being known.
    pub decode_to_json: fn(content_type: Option<&str>, body: &[u8]) -> Result<serde_json::Value, String>,
}

impl MessageType {
    /// The entry of `M`.
    pub const fn of<M: Message>() -> Self {
        Self {
            name: M::TYPE,
            schema: || schemars::schema_for!(M),
            example_msgpack: || crate::codec::encode(&M::example()),
            example_json: || serde_json::to_value(M::example()),
            decode_to_json: |content_type, body| {
                let message: M =
                    crate::codec::decode(content_type, body).map_err(|error| error.to_string())?;
                serde_json::to_value(message).map_err(|error| error.to_string())
            },
        }
    }
}

/// Every message that crosses the bus. A new message is a type with [`Message`] and one line here;
/// `UPDATE_FIXTURES=1 cargo test -p keelson-schemas` then writes its fixture and its schema.
pub const ALL: &[MessageType] = &[
    MessageType::of::<crate::alerting::Alerts>(),
    MessageType::of::<crate::alerting::Backtest>(),
    MessageType::of::<crate::alerting::BacktestReport>(),
    MessageType::of::<crate::alerting::EndAlert>(),
    MessageType::of::<crate::alerting::ExpireSilence>(),
    MessageType::of::<crate::alerting::Groups>(),
    MessageType::of::<crate::alerting::Notify>(),
    MessageType::of::<crate::alerting::ReloadRules>(),
    MessageType::of::<crate::alerting::Rules>(),
    MessageType::of::<crate::alerting::SetSilence>(),
    MessageType::of::<crate::alerting::Signals>(),
    MessageType::of::<crate::alerting::Silence>(),
    MessageType::of::<crate::alerting::Silences>(),
    MessageType::of::<crate::alerting::Transition>(),
    MessageType::of::<crate::audit::AuditStatus>(),
    MessageType::of::<crate::audit::Seal>(),
    MessageType::of::<crate::backup::Automate>(),
    MessageType::of::<crate::backup::AutomationReport>(),
    MessageType::of::<crate::backup::Backup>(),
    MessageType::of::<crate::backup::BackupSummary>(),
    MessageType::of::<crate::backup::Backups>(),
    MessageType::of::<crate::backup::DeleteBackup>(),
    MessageType::of::<crate::backup::DrillReport>(),
    MessageType::of::<crate::backup::FindBackup>(),
    MessageType::of::<crate::backup::HoldBackup>(),
    MessageType::of::<crate::backup::Manifest>(),
    MessageType::of::<crate::backup::Restore>(),
    MessageType::of::<crate::backup::RestoreReport>(),
    MessageType::of::<crate::backup::TestBackup>(),
    MessageType::of::<crate::cdn::AssetUrl>(),
    MessageType::of::<crate::cdn::CdnStatus>(),
    MessageType::of::<crate::cdn::ContentChanged>(),
    MessageType::of::<crate::cdn::FindAssetUrl>(),
    MessageType::of::<crate::cdn::Purge>(),
    MessageType::of::<crate::cdn::PurgeOutcomes>(),
    MessageType::of::<crate::cdn::PurgeReport>(),
    MessageType::of::<crate::cdn::PurgeRequested>(),
    MessageType::of::<crate::cdn::Warm>(),
    MessageType::of::<crate::cdn::WarmReport>(),
    MessageType::of::<crate::dead_letter::DeadLetter>(),
    MessageType::of::<crate::dead_letter::DeadLetters>(),
    MessageType::of::<crate::dead_letter::ListDeadLetters>(),
    MessageType::of::<crate::dead_letter::Redrive>(),
    MessageType::of::<crate::operation::OperationRecord>(),
    MessageType::of::<crate::services::BreakerChanged>(),
    MessageType::of::<crate::services::Call>(),
    MessageType::of::<crate::services::CallAnswer>(),
    MessageType::of::<crate::services::CallReply>(),
    MessageType::of::<crate::services::Deregister>(),
    MessageType::of::<crate::services::Deregistered>(),
    MessageType::of::<crate::services::FindService>(),
    MessageType::of::<crate::services::HealthChanged>(),
    MessageType::of::<crate::services::Register>(),
    MessageType::of::<crate::services::Registered>(),
    MessageType::of::<crate::services::Reset>(),
    MessageType::of::<crate::services::Service>(),
    MessageType::of::<crate::services::Services>(),
    MessageType::of::<crate::services::ServicesHealth>(),
    MessageType::of::<crate::services::ServiceStatus>(),
    MessageType::of::<crate::services::Trip>(),
    MessageType::of::<crate::slice::Slice>(),
    MessageType::of::<crate::telemetry::Batch>(),
    MessageType::of::<crate::totals::PartitionSummary>(),
    MessageType::of::<crate::totals::PartitionTotals>(),
    MessageType::of::<crate::totals::ServiceTotals>(),
];
