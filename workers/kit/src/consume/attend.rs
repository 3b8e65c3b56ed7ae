//! One message, from its arrival to the acknowledgement.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use keelson_bus_config::ConsumerSpec;
use tracing::{Instrument, Span, debug, error, info_span, warn};

use super::attempts::{AttemptLog, Attempts};
use super::verdict::{self, Burial, Verdict};
use super::{ConsumeOptions, Delivery, Handler, ack};
use crate::bus::Bus;
use crate::dead_letter;
use crate::failure::Failure;
use crate::incoming::{Position, Stored};
use crate::retry::Schedule;
use crate::tasks::panic_message;
use crate::trace;

/// When the record of attempts cannot be read or a dead letter cannot be stored: soon again, the bus is the cause.
const BUS_TROUBLE: Duration = Duration::from_secs(2);
/// How long an acknowledgement is tried; unheard, the message comes again and its handler finds its effect done.
const ACK_WITHIN: Duration = Duration::from_secs(10);

/// A message as it was delivered.
pub(super) struct Arrival {
    pub(super) message: Stored,
    pub(super) position: Position,
    /// Where its acknowledgement goes.
    pub(super) reply: String,
}

/// Takes messages of one consumer through its handler.
pub(super) struct Attendant<H> {
    bus: Bus,
    spec: ConsumerSpec,
    options: ConsumeOptions,
    attempts: AttemptLog,
    handler: Arc<H>,
}

impl<H: Handler> Attendant<H> {
    pub(super) fn new(bus: &Bus, spec: &ConsumerSpec, options: ConsumeOptions, handler: Arc<H>) -> Self {
        let attempts = AttemptLog::new(bus, spec);
        Self { bus: bus.clone(), spec: spec.clone(), options, attempts, handler }
    }

    pub(super) async fn attend(&self, arrival: Arrival) {
        let span = self.span(&arrival);
        let attended = AssertUnwindSafe(self.settle(&arrival)).catch_unwind();
        if let Err(panic) = attended.instrument(span).await {
            error!(consumer = %self.spec.name, sequence = arrival.message.sequence, panic = panic_message(&*panic), "handling a message panicked outside its handler");
        }
    }

    async fn settle(&self, arrival: &Arrival) {
        let Arrival { message, position, reply } = arrival;
        let attempts = match self.attempts.begin(message, position).await {
            Ok(attempts) => attempts,
            Err(error) => {
                debug!(consumer = %self.spec.name, error = %error, "a message waits until its attempts can be read");
                return self.again(arrival, BUS_TROUBLE).await;
            }
        };
        let delivery = self.delivery(arrival, attempts);
        let verdict = match verdict::before(attempts) {
            Some(burial) => Verdict::Bury(burial),
            None => self.try_once(&delivery, arrival, attempts).await,
        };
        match verdict {
            Verdict::Done => {
                self.confirm("acknowledged", || ack::ack(&self.bus, reply)).await;
                self.attempts.forget(message, position).await;
            }
            Verdict::Again(wait) => self.again(arrival, wait).await,
            Verdict::Bury(burial) => self.bury(&delivery, arrival, &burial).await,
        }
    }

    async fn try_once(&self, delivery: &Delivery, arrival: &Arrival, attempts: Attempts) -> Verdict {
        let result = self.handle(delivery, &arrival.reply).await;
        let verdict = verdict::after(&result, attempts, &self.options);
        if let (Err(failure), Verdict::Again(wait)) = (&result, &verdict) {
            Span::current().record("otel.status_code", "ERROR");
            warn!(consumer = %self.spec.name, sequence = arrival.message.sequence, attempt = attempts.begun, retry.after_ms = %wait.as_millis(), reason = %failure, "a message failed and will be tried again");
            if let Err(error) = self.attempts.failed(&arrival.message, &arrival.position).await {
                warn!(consumer = %self.spec.name, error = %error, "a failure could not be noted; it will count as a crash");
            }
        }
        verdict
    }

    /// Runs the handler, telling the server meanwhile that it runs. A panic is a failure like any other.
    async fn handle(&self, delivery: &Delivery, reply: &str) -> Result<(), Failure> {
        let limit = self.options.time_limit;
        let handled =
            AssertUnwindSafe(tokio::time::timeout(limit, self.handler.handle(delivery))).catch_unwind();
        let mut handled = std::pin::pin!(handled);
        let every = self.spec.ack_wait() / 3;
        loop {
            let ended = tokio::select! {
                biased;
                ended = &mut handled => ended,
                () = tokio::time::sleep(every) => {
                    ack::in_progress(&self.bus, reply).await;
                    continue;
                }
            };
            return match ended {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(Failure::retry(format!("it took longer than {limit:?}"))),
                Err(panic) => {
                    Err(Failure::retry(format!("the handler panicked: {}", panic_message(&*panic))))
                }
            };
        }
    }

    async fn bury(&self, delivery: &Delivery, arrival: &Arrival, burial: &Burial) {
        Span::current().record("otel.status_code", "ERROR");
        error!(consumer = %self.spec.name, subject = delivery.message.subject(), sequence = delivery.message.sequence, attempt = delivery.attempt, reason = %burial.reason, "a message is given up and becomes a dead letter");
        if let Err(reason) = self.bury_durably(delivery, burial).await {
            warn!(consumer = %self.spec.name, sequence = delivery.message.sequence, reason = %reason, "a dead letter could not be stored; its message will come again");
            // Not a failure of the message: were it counted, burying would be tried only so often.
            let _ = self.attempts.failed(&arrival.message, &arrival.position).await;
            return self.again(arrival, BUS_TROUBLE).await;
        }
        self.confirm("terminated", || ack::term(&self.bus, &arrival.reply)).await;
        self.attempts.forget(&arrival.message, &arrival.position).await;
    }

    async fn bury_durably(&self, delivery: &Delivery, burial: &Burial) -> Result<(), Failure> {
        dead_letter::bury(&self.bus, delivery, &burial.reason).await?;
        let told = AssertUnwindSafe(self.handler.buried(delivery, burial)).catch_unwind().await;
        told.unwrap_or_else(|panic| Err(Failure::retry(panic_message(&*panic))))
    }

    async fn again(&self, arrival: &Arrival, wait: Duration) {
        if let Err(reason) = ack::nak(&self.bus, &arrival.reply, wait).await {
            debug!(consumer = %self.spec.name, reason, "a message could not be put off; it comes again by itself");
        }
    }

    async fn confirm<F: Future<Output = Result<(), String>>>(&self, what: &str, send: impl FnMut() -> F) {
        let sent = crate::retry::retry(Schedule::NEAR, ACK_WITHIN, |_| true, send).await;
        if let Err(reason) = sent {
            warn!(consumer = %self.spec.name, reason, "a message could not be {what}; it will come again");
        }
    }

    fn delivery(&self, arrival: &Arrival, attempts: Attempts) -> Delivery {
        Delivery {
            stream: self.spec.stream.clone(),
            consumer: self.spec.name.clone(),
            attempt: attempts.begun,
            message: arrival.message.clone(),
            stored_ns: arrival.position.stored_ns,
        }
    }

    fn span(&self, arrival: &Arrival) -> Span {
        let subject = arrival.message.subject();
        let span = info_span!(
            "process",
            otel.name = format!("process {subject}"),
            otel.kind = "consumer",
            otel.status_code = tracing::field::Empty,
            operation.id = tracing::field::Empty,
            messaging.system = "nats",
            messaging.destination.name = subject,
            messaging.consumer.group.name = self.spec.name,
            messaging.message.id = arrival.message.headers.message_id(),
            messaging.nats.delivered = arrival.position.delivered,
        );
        trace::continue_from(&span, &arrival.message.headers.envelope().trace);
        span
    }
}
