//! Asking for a command: first the record, then the message. Whatever happens in between, the command is published in the end,
//! once: by the caller who asks again, or by the steward's sweep, under the same message id.

use std::time::Duration;

use bytes::Bytes;
use keelson_schemas::codec::{self, EncodeError};
use keelson_schemas::envelope::TRACEPARENT;
use keelson_schemas::message::Command;
use keelson_schemas::operation::{Operation, OperationRecord, State};
use keelson_schemas::{id, subject};

use super::Operations;
use crate::fault;
use crate::kv::KvError;
use crate::publish::{Outgoing, PublishError};
use crate::trace;

/// The largest command: what is larger is put somewhere and named. Leaves room for headers within the stream's 1 MiB.
pub const MAX_COMMAND_BYTES: usize = 1_000_000;
/// How long publishing is tried before the caller is told to come again.
const PUBLISH_WITHIN: Duration = Duration::from_secs(5);

/// A command that somebody asks for.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The operation's id: [`id::operation`] with an Idempotency-Key, [`crate::publish::fresh_id`] without.
    pub id: String,
    /// `<worker>.<verb>`.
    pub kind: String,
    /// Where to.
    pub subject: String,
    /// CloudEvents type.
    pub message_type: String,
    /// The command, encoded.
    pub body: Bytes,
    /// Who asks.
    pub requested_by: String,
}

impl Submission {
    /// `command`, asked for by `requested_by`.
    pub fn of<C: Command>(
        id: impl Into<String>,
        command: &C,
        requested_by: impl Into<String>,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            id: id.into(),
            kind: format!("{}.{}", C::WORKER, C::VERB),
            subject: subject::command::<C>(),
            message_type: C::TYPE.to_owned(),
            body: codec::encode(command)?.into(),
            requested_by: requested_by.into(),
        })
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The same key was used for another command.
    #[error("operation {id} was asked for with another body")]
    OtherBody {
        /// The operation.
        id: String,
    },
    /// The command is larger than `MAX_COMMAND_BYTES`.
    #[error("a command has at most {MAX_COMMAND_BYTES} bytes, this one has {0}")]
    TooLarge(usize),
    /// The bus is away or full. The command may have been recorded and will then be obeyed: ask again under the same id.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The bus refuses it.
    #[error("the command is refused: {0}")]
    Refused(String),
}

impl Operations {
    /// Records a command and publishes it. Asked again under the same id, it gives the operation as it stands, and publishes
    /// again if that is not known to have been done.
    pub async fn submit(&self, submission: &Submission) -> Result<Operation, SubmitError> {
        if submission.body.len() > MAX_COMMAND_BYTES {
            return Err(SubmitError::TooLarge(submission.body.len()));
        }
        let record = self.recorded(submission).await?;
        fault::point("operation.recorded");
        if record.operation.state != State::Accepted || record.published.is_some() {
            return Ok(record.operation);
        }
        match self.publish(&record).await {
            Ok(()) => Ok(record.operation),
            Err(PublishError::TooLarge(reason) | PublishError::Rejected(reason)) => {
                let _ = self.finish(&submission.id, State::Rejected, Err(reason.clone())).await;
                Err(SubmitError::Refused(reason))
            }
            Err(passing) => Err(SubmitError::Unavailable(passing.to_string())),
        }
    }

    /// Publishes the command of a record under the operation's id, and notes where it is.
    pub(crate) async fn publish(&self, record: &OperationRecord) -> Result<(), PublishError> {
        let Some(body) = record.payload.clone() else { return Ok(()) };
        let id = &record.operation.id;
        let mut outgoing = Outgoing::new(&record.subject, id, &record.message_type, body);
        outgoing.content_type = content_type(&outgoing.body).to_owned();
        if let Some(traceparent) = &record.traceparent {
            outgoing = outgoing.header(TRACEPARENT, traceparent);
        }
        let receipt = self.bus.publish_within(&outgoing, PUBLISH_WITHIN).await?;
        fault::point("operation.published");
        // Only saves the sweeper work: unknown, the command is published once more and found to be a duplicate.
        let _ = self.change(id, |record| published(record, receipt.sequence)).await;
        Ok(())
    }

    async fn recorded(&self, submission: &Submission) -> Result<OperationRecord, SubmitError> {
        let record = self.accepted(submission);
        match self.kv.create(&submission.id, &record).await {
            Ok(_) => return Ok(record),
            Err(KvError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = || SubmitError::Unavailable("the record was there and is gone".into());
        let found = self.record(&submission.id).await?.ok_or_else(gone)?.value;
        if found.body_hash == record.body_hash && found.subject == record.subject {
            return Ok(found);
        }
        Err(SubmitError::OtherBody { id: submission.id.clone() })
    }

    fn accepted(&self, submission: &Submission) -> OperationRecord {
        let now = self.bus.timestamp();
        OperationRecord {
            operation: Operation {
                id: submission.id.clone(),
                kind: submission.kind.clone(),
                state: State::Accepted,
                attempts: 0,
                progress: None,
                result: None,
                error: None,
                requested_by: submission.requested_by.clone(),
                created_at: now,
                updated_at: now,
            },
            subject: submission.subject.clone(),
            message_type: submission.message_type.clone(),
            payload: Some(submission.body.clone()),
            body_hash: Some(id::body_hash(&submission.body)),
            traceparent: trace::current().traceparent,
            published: None,
            carrier: None,
            attempt_open: false,
        }
    }
}

/// A command that was published by hand in JSON stays JSON when it is redriven.
fn content_type(body: &[u8]) -> &'static str {
    match codec::format_of(None, body) {
        Ok(codec::Format::Json) => codec::JSON,
        _ => codec::MSGPACK,
    }
}

fn published(record: OperationRecord, sequence: u64) -> Option<OperationRecord> {
    (record.operation.state == State::Accepted)
        .then(|| OperationRecord { published: Some(sequence), ..record })
}

impl From<KvError> for SubmitError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Unavailable(reason) => Self::Unavailable(reason),
            other => Self::Refused(other.to_string()),
        }
    }
}
