//! How many messages wait for each durable consumer.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_bus_config::BusConfig;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Reading;

use super::labels;

/// How often they are asked.
const EVERY: Duration = Duration::from_secs(5);

/// Asks all consumers once every while.
pub(super) struct Lags {
    ctx: Context,
    /// Stream and consumer.
    consumers: Vec<(String, String)>,
    due: Instant,
    asking: Option<BoxFuture<'static, Vec<Reading>>>,
}

impl Lags {
    pub fn of(ctx: &Context) -> anyhow::Result<Self> {
        let all = BusConfig::load()?.consumers.into_iter();
        let consumers = all.map(|consumer| (consumer.stream, consumer.name)).collect();
        Ok(Self { consumers, due: ctx.clock.now(), ctx: ctx.clone(), asking: None })
    }

    /// The next readings. May be dropped at any await point: what was begun goes on when it is called again.
    pub async fn next(&mut self) -> Vec<Reading> {
        let (ctx, consumers, due) = (&self.ctx, &self.consumers, self.due);
        let asking = self.asking.get_or_insert_with(|| ask(ctx.clone(), consumers.clone(), due).boxed());
        let readings = asking.await;
        self.asking = None;
        self.due = self.ctx.clock.now() + EVERY;
        readings
    }
}

/// Who cannot be asked now is asked the next time.
async fn ask(ctx: Context, consumers: Vec<(String, String)>, due: Instant) -> Vec<Reading> {
    ctx.clock.sleep_until(due).await;
    let mut readings = Vec::new();
    for (stream, consumer) in &consumers {
        if let Ok(pending) = ctx.bus.consumer_pending(stream, consumer).await {
            let (signal, labels) = ("consumer_lag".to_owned(), labels(stream, consumer));
            readings.push(Reading { signal, labels, value: pending as f64, ts: ctx.clock.now_ms() });
        }
    }
    readings
}
