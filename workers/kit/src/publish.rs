//! Publishing to JetStream. Success means that the stream has the message; whatever else happens is an error with a type.
//!
//! Many publishes run at once, each awaiting its own ack; how many and how large they are together is bounded. A publish never
//! succeeds because the client library has buffered it: while the bus is away it fails at once.

mod in_flight;

use std::time::Duration;

use async_nats::{HeaderMap, RequestErrorKind};
use bytes::Bytes;
use keelson_schemas::codec;
use keelson_schemas::envelope::Envelope;
use keelson_schemas::message::Message;
use serde::Deserialize;
use tracing::{Instrument, Span, info_span};

use crate::bus::Bus;
use crate::fault;
use crate::retry::{Schedule, retry};
use crate::trace;

pub(crate) use in_flight::InFlight;

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// Its id, unique over all streams: a second message with it is not stored within the stream's duplicate window.
    pub id: String,
    /// CloudEvents type.
    pub message_type: String,
    /// The format of `body`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// Stored only if this is the sequence of the subject's last message (0: it has none).
    pub expect_last_subject_sequence: Option<u64>,
    /// The filter whose last message is meant by that, when it is more than the message's own subject.
    pub expect_among: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Outgoing {
    /// A message with a MessagePack body.
    pub fn new(
        subject: impl Into<String>,
        id: impl Into<String>,
        message_type: &str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self {
            subject: subject.into(),
            id: id.into(),
            message_type: message_type.to_owned(),
            content_type: codec::MSGPACK.to_owned(),
            body: body.into(),
            expect_last_subject_sequence: None,
            expect_among: None,
            headers: Vec::new(),
        }
    }

    /// `message`, encoded.
    pub fn of<M: Message>(
        subject: impl Into<String>,
        id: impl Into<String>,
        message: &M,
    ) -> Result<Self, codec::EncodeError> {
        Ok(Self::new(subject, id, M::TYPE, codec::encode(message)?))
    }

    /// The same message, stored only if `sequence` is that of the subject's last message.
    #[must_use]
    pub fn expecting(mut self, sequence: u64) -> Self {
        self.expect_last_subject_sequence = Some(sequence);
        self
    }

    /// The same message, stored only if `sequence` is that of the last message on any subject of `filter`, to which its own belongs. So
    /// messages on several subjects have one order, and one writer at a time.
    #[must_use]
    pub fn expecting_among(mut self, filter: &str, sequence: u64) -> Self {
        self.expect_among = (filter != self.subject).then(|| filter.to_owned());
        self.expecting(sequence)
    }

    fn expected_subject(&self) -> &str {
        self.expect_among.as_deref().unwrap_or(&self.subject)
    }

    /// The same message with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// The stream has the message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// Which stream.
    pub stream: String,
    /// Under which sequence; of the first one, if it is a duplicate.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Whether a message with this id was there already.
    #[serde(default)]
    pub duplicate: bool,
}

/// Why a message is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bus is away, no stream listens, or no ack came in time. The message may have been stored, or may still be: publish
    /// again under the same id.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The stream takes no more until something is removed from it.
    #[error("the stream is full: {0}")]
    Full(String),
    /// The message is larger than the server or the stream takes.
    #[error("the message is too large: {0}")]
    TooLarge(String),
    /// The subject's last message is not the expected one.
    #[error("the last message of {subject} is not number {expected}: {reason}")]
    WrongLastSequence {
        /// The subject.
        subject: String,
        /// What was expected.
        expected: u64,
        /// What the server said.
        reason: String,
    },
    /// The server refuses the message, or it cannot be written at all.
    #[error("the message is refused: {0}")]
    Rejected(String),
}

impl PublishError {
    /// Whether publishing the same message again may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }
}

impl From<codec::EncodeError> for PublishError {
    fn from(error: codec::EncodeError) -> Self {
        Self::Rejected(error.to_string())
    }
}

/// A new id, for what follows from nothing. Ids made one after another sort in that order.
pub fn fresh_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

impl Bus {
    /// Publishes once and waits for the stream's ack.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<Receipt, PublishError> {
        self.send(outgoing).instrument(publishing(outgoing)).await
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, PublishError> {
        let headers = self.headers(outgoing)?;
        let size = outgoing.body.len() + outgoing.subject.len();
        let _room = self.in_flight().enter(size).await;
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(outgoing.body.clone())
            .timeout(Some(self.request_timeout()));
        let answered = self.on_this_link(self.client().send_request(outgoing.subject.clone(), request)).await;
        match answered {
            None => Err(PublishError::Unavailable("disconnected".into())),
            Some(Err(error)) => Err(unanswered(&error, outgoing)),
            Some(Ok(ack)) => read_ack(&ack.payload, outgoing),
        }
    }

    /// Encodes and publishes a message once.
    pub async fn publish_message<M: Message>(
        &self,
        subject: impl Into<String>,
        id: impl Into<String>,
        message: &M,
    ) -> Result<Receipt, PublishError> {
        self.publish(&Outgoing::of(subject, id, message)?).await
    }

    /// Publishes, again and again under the same id while the bus is away or full, for up to `within`.
    pub async fn publish_within(
        &self,
        outgoing: &Outgoing,
        within: Duration,
    ) -> Result<Receipt, PublishError> {
        retry(Schedule::NEAR, within, PublishError::may_pass, || self.publish(outgoing)).await
    }

    /// Publishes a message that expects its subject's last sequence, for up to `within`, and reads the subject after a failure:
    /// one's own message there is success. The server looks at the expectation before it looks at the id, so that publishing
    /// again after a lost ack is refused although the message is stored.
    pub async fn publish_or_find(
        &self,
        stream: &str,
        outgoing: &Outgoing,
        within: Duration,
    ) -> Result<Receipt, PublishError> {
        let error = match self.publish_within(outgoing, within).await {
            Err(error @ (PublishError::WrongLastSequence { .. } | PublishError::Unavailable(_))) => error,
            done => return done,
        };
        let last = self.last_message(stream, outgoing.expected_subject()).await;
        let last = last.map_err(|unread| PublishError::Unavailable(unread.to_string()))?;
        match last.filter(|last| last.headers.message_id() == Some(&outgoing.id)) {
            Some(own) => Ok(Receipt { stream: stream.to_owned(), sequence: own.sequence, duplicate: true }),
            None => Err(error),
        }
    }

    fn headers(&self, outgoing: &Outgoing) -> Result<HeaderMap, PublishError> {
        let id = if fault::disabled("dedup") { fresh_id() } else { outgoing.id.clone() };
        let envelope = Envelope {
            id: Some(id),
            message_type: Some(outgoing.message_type.clone()),
            source: Some(self.source().to_owned()),
            time: Some(self.timestamp()),
            content_type: Some(outgoing.content_type.clone()),
            trace: trace::current(),
        };
        let expected = outgoing.expect_last_subject_sequence;
        let mut headers = HeaderMap::new();
        for (name, value) in envelope.headers() {
            insert(&mut headers, name, &value)?;
        }
        for (name, value) in &outgoing.headers {
            insert(&mut headers, name, value)?;
        }
        if let Some(sequence) = expected {
            insert(&mut headers, "Nats-Expected-Last-Subject-Sequence", &sequence.to_string())?;
        }
        if let Some(filter) = &outgoing.expect_among {
            insert(&mut headers, "Nats-Expected-Last-Subject-Sequence-Subject", filter)?;
        }
        Ok(headers)
    }
}

/// The span of one publish, if what publishes is traced.
fn publishing(outgoing: &Outgoing) -> Span {
    if !trace::is_traced() {
        return Span::none();
    }
    info_span!("publish", otel.name = %format!("publish {}", outgoing.subject), otel.kind = "producer", messaging.system = "nats", messaging.operation.name = "publish", messaging.destination.name = %outgoing.subject, messaging.message.id = %outgoing.id)
}

/// The library panics on names and values that cannot be sent; here they are refused.
fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), PublishError> {
    let bad = |what| PublishError::Rejected(format!("header {name:?} has a {what} that cannot be sent"));
    let name: async_nats::HeaderName = name.parse().map_err(|_| bad("name"))?;
    let value: async_nats::HeaderValue = value.parse().map_err(|_| bad("value"))?;
    headers.insert(name, value);
    Ok(())
}

fn unanswered(error: &async_nats::RequestError, outgoing: &Outgoing) -> PublishError {
    match error.kind() {
        RequestErrorKind::NoResponders => {
            PublishError::Unavailable(format!("no stream listens on {}", outgoing.subject))
        }
        RequestErrorKind::TimedOut => PublishError::Unavailable("no ack in time".into()),
        RequestErrorKind::MaxPayloadExceeded => PublishError::TooLarge(error.to_string()),
        RequestErrorKind::InvalidSubject => PublishError::Rejected(error.to_string()),
        RequestErrorKind::Other => PublishError::Unavailable(error.to_string()),
    }
}

/// A refusal also names the stream, and 0 as its sequence: only without an `error` is it an ack.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ack {
    Refused { error: ServerError },
    Stored(Receipt),
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

fn read_ack(payload: &[u8], outgoing: &Outgoing) -> Result<Receipt, PublishError> {
    match serde_json::from_slice(payload) {
        Ok(Ack::Refused { error }) => Err(refused(error, outgoing)),
        Ok(Ack::Stored(receipt)) if receipt.sequence > 0 => Ok(receipt),
        // Whatever answers in place of JetStream must not be taken for an ack.
        _ => Err(PublishError::Unavailable(format!("the answer on {} is no ack", outgoing.subject))),
    }
}

/// Error codes: nats-server/server/errors.json.
fn refused(error: ServerError, outgoing: &Outgoing) -> PublishError {
    let reason = error.description;
    match error.err_code {
        10071 | 10164 => PublishError::WrongLastSequence {
            subject: outgoing.expected_subject().to_owned(),
            expected: outgoing.expect_last_subject_sequence.unwrap_or_default(),
            reason,
        },
        10023 | 10028 | 10047 => PublishError::Full(reason),
        10054 => PublishError::TooLarge(reason),
        10077 if reason.contains("maximum") => PublishError::Full(reason),
        _ if error.code == 503 => PublishError::Unavailable(reason),
        _ => PublishError::Rejected(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_read_for_what_they_say() {
        let outgoing = Outgoing::new("a.b", "id", "t.v1", "x").expecting(4);
        let cases = [
            (r#"{"stream":"S","seq":5}"#, "Ok 5 false"),
            (r#"{"stream":"S","seq":5,"duplicate":true}"#, "Ok 5 true"),
            (
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"S","seq":0}"#,
                "not number 4",
            ),
            (r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#, "full"),
            (r#"{"error":{"code":500,"err_code":10047,"description":"insufficient storage"}}"#, "full"),
            (r#"{"error":{"code":400,"err_code":10054,"description":"message size"}}"#, "too large"),
            (
                r#"{"error":{"code":503,"err_code":10008,"description":"temporarily unavailable"}}"#,
                "not available",
            ),
            (r#"{"error":{"code":400,"err_code":10060,"description":"expected stream"}}"#, "refused"),
            ("", "no ack"),
            ("pong", "no ack"),
            ("{}", "no ack"),
        ];
        for (payload, says) in cases {
            let said = match read_ack(payload.as_bytes(), &outgoing) {
                Ok(receipt) => format!("Ok {} {}", receipt.sequence, receipt.duplicate),
                Err(error) => error.to_string(),
            };
            assert!(said.contains(says), "{payload}: {said}");
        }
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(insert(&mut headers, "a", "b").is_ok());
        assert!(insert(&mut headers, "a b", "c").is_err());
        assert!(insert(&mut headers, "a", "b\r\nc").is_err());
    }

    #[test]
    fn fresh_ids_are_unique_and_in_order() {
        let ids: Vec<_> = (0..100).map(|_| fresh_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
