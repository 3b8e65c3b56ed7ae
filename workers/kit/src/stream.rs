//! Looking into a stream, and removing what is no longer needed from it.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::RawMessage;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bus::{ApiError, Bus};
use crate::incoming::Stored;

/// JetStream's "no message found"; "stream not found" is another.
const NO_MESSAGE: u64 = 10037;

/// The state of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// When it was made, Unix milliseconds. A stream of the same name made at another time is another stream.
    pub created_ms: i64,
    /// Sequence of the oldest message; one more than `last_sequence` when there is none.
    pub first_sequence: u64,
    /// Sequence of the newest message that was ever in it.
    pub last_sequence: u64,
    /// Messages in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct InfoResponse {
    created: jiff::Timestamp,
    state: StateResponse,
}

#[derive(Deserialize)]
struct StateResponse {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct SubjectsResponse {
    /// Absent when everything fits one page.
    total: Option<usize>,
    state: SubjectsState,
}

#[derive(Deserialize)]
struct SubjectsState {
    subjects: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct MessageResponse {
    message: RawMessage,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    num_pending: u64,
}

#[derive(Deserialize)]
struct PurgeResponse {
    purged: u64,
}

impl Bus {
    /// The state of a stream.
    pub async fn stream_info(&self, stream: &str) -> Result<StreamInfo, ApiError> {
        let info: InfoResponse = self.api(&format!("STREAM.INFO.{stream}"), &json!({})).await?;
        Ok(StreamInfo {
            created_ms: info.created.as_millisecond(),
            first_sequence: info.state.first_seq,
            last_sequence: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
        })
    }

    /// How many messages wait on a stream that a durable consumer has not been given yet.
    pub async fn consumer_pending(&self, stream: &str, consumer: &str) -> Result<u64, ApiError> {
        let info: ConsumerInfo = self.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await?;
        Ok(info.num_pending)
    }

    /// The newest message on a subject. Answered by the stream's leader, so it never is a former one.
    pub async fn last_message(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ApiError> {
        self.get_message(stream, &json!({"last_by_subj": subject})).await
    }

    /// The message with a sequence.
    pub async fn message(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
        if sequence == 0 {
            return Ok(None);
        }
        self.get_message(stream, &json!({"seq": sequence})).await
    }

    /// The first message on a subject (or filter) from a sequence on.
    pub async fn next_message(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
    ) -> Result<Option<Stored>, ApiError> {
        self.get_message(stream, &json!({"next_by_subj": filter, "seq": from.max(1)})).await
    }

    /// Removes the messages of a subject up to and including `through`, and says how many there were.
    pub async fn purge_subject(&self, stream: &str, subject: &str, through: u64) -> Result<u64, ApiError> {
        let request = json!({"filter": subject, "seq": through.saturating_add(1)});
        let purged: PurgeResponse = self.api(&format!("STREAM.PURGE.{stream}"), &request).await?;
        Ok(purged.purged)
    }

    /// The subjects on which a stream has messages, of those that match a filter.
    pub async fn stream_subjects(&self, stream: &str, filter: &str) -> Result<Vec<String>, ApiError> {
        let mut subjects = Vec::new();
        loop {
            let request = json!({"subjects_filter": filter, "offset": subjects.len()});
            let page: SubjectsResponse = self.api(&format!("STREAM.INFO.{stream}"), &request).await?;
            let found = page.state.subjects.unwrap_or_default();
            let last = found.is_empty();
            subjects.extend(found.into_keys());
            if last || subjects.len() >= page.total.unwrap_or_default() {
                return Ok(subjects);
            }
        }
    }

    async fn get_message<Q: Serialize>(&self, stream: &str, which: &Q) -> Result<Option<Stored>, ApiError> {
        match self.api::<_, MessageResponse>(&format!("STREAM.MSG.GET.{stream}"), which).await {
            Ok(found) => readable(found.message).map(Some),
            Err(ApiError::NotFound { code: NO_MESSAGE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn readable(message: RawMessage) -> Result<Stored, ApiError> {
    let message: async_nats::jetstream::message::StreamMessage =
        message.try_into().map_err(|error: async_nats::Error| ApiError::Unavailable(error.to_string()))?;
    Ok(message.into())
}
