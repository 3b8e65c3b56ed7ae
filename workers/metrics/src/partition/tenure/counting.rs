//! How a tenure counts: each message is added to the delta, or dead-lettered when it cannot be.

use anyhow::Context as _;
use keelson_kit::incoming::Stored;
use keelson_kit::{dead_letter, fault, trace};
use keelson_schemas::envelope::{CONTENT_TYPE, TRACEPARENT};
use keelson_schemas::limits::OVERFLOW;
use keelson_schemas::telemetry::Batch;
use tracing::{Instrument, Span, info_span, warn};

use super::{STREAM, Tenure};
use crate::{intake, suspicion};

/// The name under which telemetry that cannot be counted is dead-lettered.
const CONSUMER: &str = "metrics";
/// Messages that are counted before anything else is looked at.
const AT_ONCE: usize = 256;

impl Tenure<'_> {
    /// Counts a message and those that have arrived behind it, until something else is due.
    pub(super) async fn take_all(&mut self, first: Stored) -> anyhow::Result<()> {
        self.take(first).await?;
        for _ in 1..AT_ONCE {
            if self.delta.is_full() || self.is_careful(self.counted) {
                break;
            }
            match self.inbox.ready() {
                Some(Ok(message)) => self.take(message).await?,
                // An error shows again when the next message is asked for.
                Some(Err(_)) | None => break,
            }
        }
        Ok(())
    }

    pub(super) fn is_careful(&self, sequence: u64) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.is_careful(sequence))
    }

    async fn take(&mut self, message: Stored) -> anyhow::Result<()> {
        let sequence = message.sequence;
        let kept = suspicion::Kept::of(&self.owner.ctx.bus, self.owner.partition);
        let suspicion = match self.suspicion.take() {
            Some(suspicion) => suspicion,
            None => kept.begin(self.committed, self.stored).await?,
        };
        if suspicion.convicts(sequence) {
            self.reject(&message, "counting it crashed the worker three times", suspicion::CRASHES).await?;
            self.suspicion = Some(suspicion);
        } else if suspicion.is_careful(sequence) {
            let marked = kept.put(suspicion.mark(sequence)).await?;
            let counted = self.count(message).await;
            // An error is no crash: only what ends the process leaves the mark.
            self.suspicion = Some(kept.put(marked.clear()).await?);
            counted?;
        } else {
            self.suspicion = Some(suspicion);
            self.count(message).await?;
        }
        self.counted = sequence;
        self.since.get_or_insert_with(|| self.owner.ctx.clock.now());
        Ok(())
    }

    async fn count(&mut self, message: Stored) -> anyhow::Result<()> {
        let span = processing(&message);
        self.to_commit.note(&span);
        fault::point("telemetry.counting");
        let content_type = message.headers.get(CONTENT_TYPE);
        let partition = self.owner.partition;
        match intake::read(content_type, &message.payload, partition, message.time_ms) {
            Ok(batch) => self.add(batch, message.time_ms).instrument(span).await,
            Err(reason) => self.reject(&message, &reason, 1).instrument(span).await,
        }
    }

    async fn add(&mut self, batch: Batch, arrival_ms: u64) -> anyhow::Result<()> {
        let owner = self.owner;
        let is_known =
            self.delta.knows(&batch.service) || owner.state.totals(|totals| totals.knows(&batch.service));
        let admitted =
            is_known || owner.services.admit(&batch.service).await.context("admitting a service")?;
        let service = if admitted { batch.service.clone() } else { OVERFLOW.to_owned() };
        let bounds = owner.config.bounds();
        owner.state.totals(|totals| self.delta.add(totals, &bounds, &service, batch, arrival_ms));
        Ok(())
    }

    /// Dead-letters a message; only then is it passed over.
    async fn reject(&mut self, message: &Stored, reason: &str, attempts: u32) -> anyhow::Result<()> {
        warn!(partition = %self.owner.partition, sequence = message.sequence, reason, "telemetry cannot be counted and is dead-lettered");
        let bus = &self.owner.ctx.bus;
        dead_letter::bury_message(bus, STREAM, CONSUMER, message, reason, attempts)
            .await
            .context("dead-lettering")?;
        fault::point("telemetry.dead-lettered");
        self.rejected += 1;
        Ok(())
    }
}

/// The span of a message's processing, if its sender is traced.
fn processing(message: &Stored) -> Span {
    if message.headers.get(TRACEPARENT).is_none() {
        return Span::none();
    }
    let sender = message.headers.envelope().trace;
    let span = info_span!(parent: None, "process telemetry", otel.name = format!("process {}", message.subject()), otel.kind = "consumer", messaging.system = "nats", messaging.operation.name = "process", messaging.destination.name = message.subject(), messaging.message.id = message.headers.message_id());
    trace::continue_from(&span, &sender);
    span
}
