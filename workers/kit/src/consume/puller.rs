//! Asking a durable consumer for exactly as many messages as there is room for.
//!
//! The library's pull stream asks for more than half as much again in advance; such messages would wait here while their
//! acknowledgement falls due, and be delivered a second time beside the first.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures::StreamExt;
use keelson_bus_config::ConsumerSpec;
use serde_json::json;
use tokio::time::Instant;

use super::ack;
use super::attend::Arrival;
use crate::bus::{ApiError, Bus, Link};
use crate::incoming::{Headers, Position, Stored};

/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// The server says this often that a request stands; after two silences it does not.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The library's error codes for what is not there.
const CONSUMER_NOT_FOUND: u64 = 10014;

/// A subscription to a durable consumer: good until the first trouble.
pub(super) struct Puller {
    bus: Bus,
    link: Link,
    inbox: String,
    next_subject: String,
    messages: Subscriber,
    /// Messages asked for that have neither come nor been given up by the server.
    outstanding: usize,
    silent_since: Instant,
}

impl Puller {
    /// Opens the consumer, making it first if it is not there.
    pub(super) async fn open(bus: &Bus, spec: &ConsumerSpec) -> Result<Self, String> {
        bus.connected().await;
        let link = *bus.link().borrow();
        ensure(bus, spec).await.map_err(|error| error.to_string())?;
        let inbox = bus.client().new_inbox();
        let messages = bus.client().subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let next_subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", spec.stream, spec.name);
        let (bus, silent_since) = (bus.clone(), Instant::now());
        Ok(Self { bus, link, inbox, next_subject, messages, outstanding: 0, silent_since })
    }

    /// The link it was opened on.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// Sees to it that `room` messages are asked for.
    pub(super) async fn ask_for(&mut self, room: usize) -> Result<(), String> {
        let more = room.saturating_sub(self.outstanding);
        if more == 0 {
            return Ok(());
        }
        let request = json!({
            "batch": more,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let sent = self.bus.client().publish_with_reply(
            self.next_subject.clone(),
            self.inbox.clone(),
            request.to_string().into(),
        );
        sent.await.map_err(|error| error.to_string())?;
        if self.outstanding == 0 {
            self.silent_since = Instant::now();
        }
        self.outstanding += more;
        Ok(())
    }

    /// The next message; an error means that this subscription is not to be trusted any more. Waits for ever when nothing is
    /// asked for. May be dropped at any await point.
    pub(super) async fn next(&mut self) -> Result<Arrival, String> {
        loop {
            if self.outstanding == 0 {
                return std::future::pending().await;
            }
            let message = tokio::time::timeout_at(self.silent_since + 2 * HEARTBEAT, self.messages.next())
                .await
                .map_err(|_| "the server sent no heartbeat".to_owned())?
                .ok_or("the subscription ended")?;
            self.silent_since = Instant::now();
            match message.status {
                None => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    return arrival(message);
                }
                Some(status) => self.told(status, &message)?,
            }
            if self.outstanding == 0 {
                self.ask_for(1).await?;
            }
        }
    }

    /// Gives back at once what has arrived and will not be handled any more.
    pub(super) async fn hand_back(mut self, bus: &Bus) {
        let _ = self.messages.unsubscribe().await;
        while let Some(message) = self.messages.next().await {
            if let (None, Some(reply)) = (message.status, message.reply) {
                ack::hand_back(bus, reply.as_str()).await;
            }
        }
    }

    fn told(&mut self, status: StatusCode, message: &Message) -> Result<(), String> {
        let said = message.description.as_deref().unwrap_or_default();
        if status == StatusCode::IDLE_HEARTBEAT {
            return Ok(());
        }
        let given_up = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        match given_up.and_then(|count| count.as_str().parse::<usize>().ok()) {
            Some(count) => {
                self.outstanding = self.outstanding.saturating_sub(count);
                Ok(())
            }
            None => Err(format!("the server said {status} {said}")),
        }
    }
}

async fn ensure(bus: &Bus, spec: &ConsumerSpec) -> Result<(), ApiError> {
    let info = format!("CONSUMER.INFO.{}.{}", spec.stream, spec.name);
    match bus.api::<_, serde_json::Value>(&info, &json!({})).await {
        Ok(_) => return Ok(()),
        Err(ApiError::NotFound { code: CONSUMER_NOT_FOUND, .. }) => {}
        Err(error) => return Err(error),
    }
    // With the filter in the subject, so that the server can be told to let nobody but its worker make it, and for nothing else.
    let filter = match spec.filter_subjects.as_slice() {
        [one] => format!(".{one}"),
        _ => String::new(),
    };
    let create = format!("CONSUMER.CREATE.{}.{}{filter}", spec.stream, spec.name);
    let config = crate::bus_admin::consumer_config(spec);
    let request = json!({"stream_name": spec.stream, "config": config, "action": "create"});
    bus.api::<_, serde_json::Value>(&create, &request).await.map(drop)
}

fn arrival(message: Message) -> Result<Arrival, String> {
    let reply = message.reply.ok_or("a delivery without a reply subject")?;
    let position = Position::read(&reply).ok_or("a delivery without a position")?;
    let stored = Stored {
        sequence: position.sequence,
        time_ms: position.stored_ms(),
        headers: Headers::new(message.headers),
        payload: message.payload,
        subject: message.subject,
    };
    Ok(Arrival { message: stored, position, reply: reply.to_string() })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
