//! One consumer of a reader: good until the first trouble.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull};
use futures::{Stream, StreamExt};
use serde::Deserialize;

use super::{FollowError, FollowOptions, OpenError, Progress, Start};
use crate::bus::{ApiError, Bus, Link};
use crate::incoming::{Headers, Position, Stored};
use crate::publish::fresh_id;
use crate::stream::StreamInfo;

/// The server says every second that it is alive; after two it is not.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// The server forgets the consumer of a reader that asks for nothing for this long.
const FORGET_AFTER: Duration = Duration::from_secs(15);

/// Why a subscription is no longer to be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the connection was lost")]
    OtherLink,
    #[error("delivery {got} came where delivery {expected} was due")]
    Gap { expected: u64, got: u64 },
    #[error("{0}")]
    Library(String),
}

/// Deliveries of one consumer, in order.
pub(crate) struct Subscription {
    messages: pull::Stream,
    /// The consumer.
    name: String,
    order: Order,
    /// Messages behind the last one handed out.
    pub(crate) pending: u64,
    /// The link it was opened on.
    pub(crate) link: Link,
    pub(crate) stream_created_ms: i64,
}

impl Subscription {
    pub(crate) async fn open(
        bus: &Bus,
        options: &FollowOptions,
        progress: Progress,
    ) -> Result<Self, OpenError> {
        let link = *bus.link().borrow();
        let info = bus.stream_info(&options.stream).await.map_err(OpenError::Passing)?;
        check_same(&info, options, progress).map_err(OpenError::Final)?;
        let config = consumer(options, progress);
        let creating = bus.jetstream().create_consumer_on_stream(config, &options.stream);
        let consumer = match bus.on_this_link(creating).await {
            None => return Err(passing("disconnected")),
            Some(created) => created.map_err(|error| refused(&error, options))?,
        };
        let pending = consumer.cached_info().num_pending;
        let pulling = consumer
            .stream()
            .max_messages_per_batch(options.max_messages)
            .max_bytes_per_batch(options.max_bytes.max(bus.max_payload()))
            .heartbeat(HEARTBEAT)
            .expires(EXPIRES)
            .messages();
        let messages = pulling.await.map_err(|error| passing(&error.to_string()))?;
        let name = consumer.cached_info().name.clone();
        Ok(Self {
            messages,
            name,
            order: Order::default(),
            pending,
            link,
            stream_created_ms: info.created_ms,
        })
    }

    /// Asks how many messages are behind the last one handed out: what was known of it does not hold when some were removed from the stream.
    pub(crate) async fn recount(&mut self, bus: &Bus, stream: &str) -> Result<(), ApiError> {
        let asked = format!("CONSUMER.INFO.{stream}.{}", self.name);
        let info: InfoResponse = bus.api(&asked, &serde_json::json!({})).await?;
        // What is delivered and not handed out is on its way.
        self.pending = info.num_pending + info.delivered.consumer_seq.saturating_sub(self.order.delivered);
        Ok(())
    }

    fn accept(&mut self, message: async_nats::jetstream::Message) -> Result<Stored, Trouble> {
        let message = message.message;
        let position = message.reply.as_ref().and_then(|reply| Position::read(reply));
        let position = position.ok_or_else(|| Trouble::Library("a delivery without a position".into()))?;
        self.order.check(position.consumer_sequence)?;
        self.pending = position.pending;
        Ok(Stored {
            sequence: position.sequence,
            time_ms: position.stored_ms(),
            headers: Headers::new(message.headers),
            payload: message.payload,
            subject: message.subject,
        })
    }
}

#[derive(Deserialize)]
struct InfoResponse {
    num_pending: u64,
    delivered: DeliveredResponse,
}

#[derive(Deserialize)]
struct DeliveredResponse {
    consumer_seq: u64,
}

/// The deliveries of a consumer are numbered from 1, without gaps: a number left out is a message lost on its way.
#[derive(Debug, Default)]
struct Order {
    delivered: u64,
}

impl Order {
    fn check(&mut self, got: u64) -> Result<(), Trouble> {
        let expected = self.delivered + 1;
        if got != expected {
            return Err(Trouble::Gap { expected, got });
        }
        self.delivered = got;
        Ok(())
    }
}

impl Stream for Subscription {
    type Item = Result<Stored, Trouble>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_next_unpin(cx).map(|delivery| {
            Some(match delivery {
                Some(Ok(message)) => self.accept(message),
                Some(Err(error)) => Err(Trouble::Library(error.to_string())),
                None => Err(Trouble::Library("the subscription ended".into())),
            })
        })
    }
}

impl Subscription {
    pub(crate) async fn message(&mut self) -> Result<Stored, Trouble> {
        let next = self.next().await;
        next.unwrap_or_else(|| Err(Trouble::Library("the subscription ended".into())))
    }
}

fn consumer(options: &FollowOptions, progress: Progress) -> pull::Config {
    // The server takes one filter or a list of them, not both.
    let all = std::iter::once(&options.filter).chain(&options.and).cloned().collect();
    let (filter_subject, filter_subjects) =
        if options.and.is_empty() { (options.filter.clone(), Vec::new()) } else { (String::new(), all) };
    pull::Config {
        name: Some(format!("follow-{}", fresh_id())),
        deliver_policy: deliver_policy(options.start, progress),
        ack_policy: AckPolicy::None,
        filter_subject,
        filter_subjects,
        replay_policy: ReplayPolicy::Instant,
        inactive_threshold: FORGET_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

fn deliver_policy(start: Start, progress: Progress) -> DeliverPolicy {
    match (progress.read, start) {
        (Some(read), _) if read > 0 => DeliverPolicy::ByStartSequence { start_sequence: read + 1 },
        (None, Start::Since(unix_ms)) => since(unix_ms),
        (None, Start::LastPerSubject) => DeliverPolicy::LastPerSubject,
        _ => DeliverPolicy::All,
    }
}

fn since(unix_ms: u64) -> DeliverPolicy {
    match async_nats::datetime::from_nanos(i128::from(unix_ms) * 1_000_000) {
        Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
        // Past the year 9999, which no message is from.
        Err(_) => DeliverPolicy::New,
    }
}

fn check_same(info: &StreamInfo, options: &FollowOptions, progress: Progress) -> Result<(), FollowError> {
    let read = progress.read.unwrap_or_default();
    let remade = progress.stream_created_ms.is_some_and(|created| created != info.created_ms);
    let reason = match (remade, info.last_sequence < read) {
        (true, _) => "it was made anew".to_owned(),
        (false, true) => format!("it ends at {}", info.last_sequence),
        (false, false) => return Ok(()),
    };
    Err(FollowError::Replaced { stream: options.stream.clone(), read, reason })
}

fn passing(reason: &str) -> OpenError {
    OpenError::Passing(ApiError::Unavailable(reason.to_owned()))
}

fn refused(error: &async_nats::jetstream::stream::ConsumerError, options: &FollowOptions) -> OpenError {
    use async_nats::jetstream::stream::ConsumerErrorKind::{InvalidConsumerType, InvalidName, JetStream};
    let refuses = match error.kind() {
        JetStream(said) => said.code() == 400,
        InvalidConsumerType | InvalidName => true,
        _ => false,
    };
    if !refuses {
        return passing(&error.to_string());
    }
    OpenError::Final(FollowError::Refused { stream: options.stream.clone(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_lost_or_repeated_are_noticed() {
        for (numbers, fine) in
            [(&[1, 2, 3][..], true), (&[2], false), (&[1, 3], false), (&[1, 1], false), (&[1, 2, 1], false)]
        {
            let mut order = Order::default();
            let checked: Result<Vec<()>, Trouble> =
                numbers.iter().map(|number| order.check(*number)).collect();
            assert_eq!(checked.is_ok(), fine, "{numbers:?}");
        }
    }

    #[test]
    fn a_stream_that_lost_its_end_or_was_made_anew_is_another_one() {
        let info = |created_ms, last_sequence| StreamInfo {
            created_ms,
            first_sequence: 1,
            last_sequence,
            messages: 0,
            bytes: 0,
        };
        let options = FollowOptions::new("S", ">", Start::After(0));
        let read = |read, stream_created_ms| Progress { read, stream_created_ms };
        let cases = [
            (read(Some(0), None), info(1, 0), true),
            (read(Some(7), None), info(1, 7), true),
            (read(Some(7), None), info(1, 6), false),
            (read(Some(7), Some(1)), info(1, 9), true),
            (read(Some(7), Some(1)), info(2, 9), false),
            (read(None, Some(1)), info(1, 0), true),
        ];
        for (progress, info, same) in cases {
            assert_eq!(check_same(&info, &options, progress).is_ok(), same, "{progress:?} {info:?}");
        }
    }
}
