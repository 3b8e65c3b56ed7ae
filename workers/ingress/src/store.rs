//! Telemetry onto the bus: one batch, one message, stored before anybody is told so.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use keelson_kit::bus::Bus;
use keelson_kit::fault;
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_schemas::subject;
use keelson_schemas::telemetry::Batch;

use crate::problem::{Kind, Problem};

pub use keelson_kit::publish::fresh_id;

/// How long a part is tried, under its one id, while the bus is away or full: most interruptions are over by then.
const WITHIN: Duration = Duration::from_secs(2);
/// Parts of one request that are published at a time.
const AT_ONCE: usize = 16;

/// A batch and the id that makes it count once.
#[derive(Debug)]
pub struct Part {
    /// What was measured.
    pub batch: Batch,
    /// The message's id.
    pub id: String,
}

/// Stores one part; an empty one needs no storing.
///
/// # Errors
/// 503 when the bus is away or full, 413 when it takes no message so large.
pub async fn store(bus: &Bus, part: Part) -> Result<(), Problem> {
    if part.batch.is_empty() {
        return Ok(());
    }
    let subject = subject::tel(subject::partition_of(&part.batch.service));
    let outgoing = Outgoing::of(subject, part.id, &part.batch).map_err(PublishError::from)?;
    bus.publish_within(&outgoing, WITHIN).await?;
    fault::point("telemetry.stored");
    Ok(())
}

/// Stores all parts of a request. After an error some may be stored; the same request again has the same ids and stores the rest.
///
/// # Errors
/// As [`store`].
pub async fn store_all(bus: &Bus, parts: Vec<Part>) -> Result<(), Problem> {
    let stored = stream::iter(parts).map(|part| store(bus, part)).buffer_unordered(AT_ONCE);
    stored.try_for_each(|()| std::future::ready(Ok(()))).await
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let (kind, advice) = match error {
            PublishError::Unavailable(_) => (Kind::BusUnavailable, "send the same request again"),
            PublishError::Full(_) => {
                (Kind::BusUnavailable, "the workers must catch up first: send it again later")
            }
            PublishError::TooLarge(_) => (Kind::TooLarge, "send it in parts"),
            PublishError::WrongLastSequence { .. } | PublishError::Rejected(_) => {
                tracing::error!(error = %error, "the bus refused a message of the ingress");
                (Kind::Internal, "Keelson's log says more")
            }
        };
        Self::new(kind, format!("{error}: {advice}"))
    }
}
