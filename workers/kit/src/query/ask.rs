//! The asking side.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use keelson_schemas::codec;
use keelson_schemas::envelope::{CONTENT_TYPE, TRACEPARENT, TRACESTATE};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::parts::{Assembly, PART};
use super::{ACCEPT, Refusal};
use crate::bus::Bus;
use crate::incoming::Headers;
use crate::trace;

/// How long after a question to an owner that nobody answered it is put again; twice as long each time, since the owner may be there and slow.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody who answers this question is up.
    #[error("nobody answers {subject}")]
    NoResponder {
        /// What was asked.
        subject: String,
    },
    /// No whole answer came in time: the answerer is slow, or none of them may speak now.
    #[error("no answer on {subject} within {within_ms} ms")]
    Timeout {
        /// What was asked.
        subject: String,
        /// How long it was waited for, in milliseconds.
        within_ms: u128,
    },
    /// The answerer refused.
    #[error("{} ({})", .0.reason, .0.status)]
    Refused(Refusal),
    /// The bus is away.
    #[error("the bus is not available")]
    Unavailable,
    /// The answer came and makes no sense.
    #[error("the answer on {subject} cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        subject: String,
        /// Why.
        reason: String,
    },
}

impl Bus {
    /// Asks, and decodes the answer.
    ///
    /// # Errors
    /// When there is no whole answer within `within`.
    pub async fn ask<Q, A>(&self, subject: &str, question: &Q, within: Duration) -> Result<A, AskError>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        self.ask_as(subject, question, within, None).await
    }

    /// Asks what only an owner may answer ([`super::Queries::exclusive`]). While nobody speaks up the question is put again, since
    /// ownership may just be changing hands.
    ///
    /// # Errors
    /// When there is no whole answer within `within`.
    pub async fn ask_owner<Q, A>(&self, subject: &str, question: &Q, within: Duration) -> Result<A, AskError>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        self.ask_as(subject, question, within, Some(ASK_AGAIN_AFTER)).await
    }

    async fn ask_as<Q, A>(
        &self,
        subject: &str,
        question: &Q,
        within: Duration,
        again: Option<Duration>,
    ) -> Result<A, AskError>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        let unreadable = |reason: String| AskError::Unreadable { subject: subject.to_owned(), reason };
        let question = codec::encode(question).map_err(|error| unreadable(error.to_string()))?;
        let answer = self.exchange(subject, question.into(), within, again).await?;
        codec::decode(Some(codec::MSGPACK), &answer).map_err(|error| unreadable(error.to_string()))
    }

    /// Asks with a MessagePack body, for the MessagePack body of the answer.
    ///
    /// # Errors
    /// When there is no whole answer within `within`.
    pub async fn ask_bytes(
        &self,
        subject: &str,
        question: Bytes,
        within: Duration,
    ) -> Result<Bytes, AskError> {
        self.exchange(subject, question, within, None).await
    }

    /// Asks everybody who listens on a subject, with an empty body, for what they answer within `within`: the first `most` of them.
    /// The inbox for that ends in `.found`, so that they can be allowed to write there, and nowhere else.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn ask_all(
        &self,
        subject: &str,
        within: Duration,
        most: usize,
    ) -> Result<Vec<Bytes>, AskError> {
        let client = self.client();
        let inbox = format!("{}.found", client.new_inbox());
        let gathered = async {
            let answers = client.subscribe(inbox.clone()).await.map_err(|_| AskError::Unavailable)?;
            let asked = client.publish_with_reply(subject.to_owned(), inbox.clone(), Bytes::new()).await;
            asked.map_err(|_| AskError::Unavailable)?;
            // Where nobody listens the server says so, in a message with a status.
            let said =
                answers.filter(|message| ready(message.status.is_none())).map(|message| message.payload);
            let in_time = said.take_until(tokio::time::sleep(within)).take(most);
            Ok(in_time.collect().await)
        };
        self.on_this_link(gathered).await.unwrap_or(Err(AskError::Unavailable))
    }

    /// Waits until the server has seen whatever was sent to it before, subscriptions above all: it reads in order, and what it is sent last comes back from it. A flush
    /// of the client only writes to the socket.
    pub(super) async fn round_trip(&self) -> Result<(), AskError> {
        let client = self.client();
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.map_err(|_| AskError::Unavailable)?;
        client.publish(inbox, Bytes::new()).await.map_err(|_| AskError::Unavailable)?;
        let back = tokio::time::timeout(self.request_timeout(), echo.next()).await;
        back.ok().flatten().map(drop).ok_or(AskError::Unavailable)
    }

    async fn exchange(
        &self,
        subject: &str,
        question: Bytes,
        within: Duration,
        again: Option<Duration>,
    ) -> Result<Bytes, AskError> {
        let exchange = exchange(self, subject, question, again);
        match tokio::time::timeout(within, self.on_this_link(exchange)).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(AskError::Unavailable),
            Err(_) => Err(AskError::Timeout { subject: subject.to_owned(), within_ms: within.as_millis() }),
        }
    }
}

async fn exchange(
    bus: &Bus,
    subject: &str,
    question: Bytes,
    mut again: Option<Duration>,
) -> Result<Bytes, AskError> {
    let client = bus.client();
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await.map_err(|_| AskError::Unavailable)?;
    let begun = AtomicBool::new(false);
    let mut collected = std::pin::pin!(collect(answers, subject, &begun));
    loop {
        let (to, reply_to) = (subject.to_owned(), inbox.clone());
        let asked = client.publish_with_reply_and_headers(to, reply_to, headers(), question.clone()).await;
        asked.map_err(|_| AskError::Unavailable)?;
        let silence = tokio::time::sleep(again.unwrap_or(Duration::MAX));
        tokio::select! {
            answer = &mut collected => return answer,
            () = silence => again = again.map(|wait| wait * 2),
        }
        if begun.load(Ordering::Relaxed) {
            return collected.await;
        }
    }
}

fn headers() -> HeaderMap {
    let context = trace::current();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, codec::MSGPACK);
    headers.insert(ACCEPT, codec::MSGPACK);
    for (name, value) in [(TRACEPARENT, context.traceparent), (TRACESTATE, context.tracestate)] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    headers
}

/// The first whole answer; `begun` says when its first part is there.
async fn collect(mut answers: Subscriber, subject: &str, begun: &AtomicBool) -> Result<Bytes, AskError> {
    let unreadable =
        |reason: &str| AskError::Unreadable { subject: subject.to_owned(), reason: reason.to_owned() };
    let mut assembly = Assembly::default();
    while let Some(message) = answers.next().await {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(AskError::NoResponder { subject: subject.to_owned() });
        }
        begun.store(true, Ordering::Relaxed);
        let headers = Headers::new(message.headers);
        if let Some(refusal) = refusal(&headers) {
            return Err(AskError::Refused(refusal));
        }
        if let Some(whole) = assembly.add(headers.get(PART), message.payload).map_err(unreadable)? {
            return Ok(whole);
        }
    }
    Err(AskError::Unavailable)
}

fn refusal(headers: &Headers) -> Option<Refusal> {
    let status = headers.get(NATS_SERVICE_ERROR_CODE)?.parse().unwrap_or(500);
    Some(Refusal::new(status, headers.get(NATS_SERVICE_ERROR).unwrap_or("refused")))
}
