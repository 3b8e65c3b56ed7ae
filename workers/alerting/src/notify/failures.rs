//! Failures to tell somebody are something to be alerted about, too: the signal `notification_failures`.

use keelson_kit::publish::fresh_id;
use keelson_kit::role::Context;
use keelson_schemas::alerting::{Reading, Signals};
use keelson_schemas::subject;

/// So many failures to tell a receiver in one of its ways.
#[must_use]
pub fn reading(receiver: &str, integration: &str, count: u64, now_ms: u64) -> Reading {
    let labels = [("receiver", receiver), ("integration", integration)];
    Reading {
        signal: "notification_failures".to_owned(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        value: count as f64,
        ts: now_ms,
    }
}

/// Tells of failures. What cannot be told now is not told: the next failure will do.
pub fn publish(ctx: &Context, signals: Signals) {
    let bus = ctx.bus.clone();
    ctx.tasks.spawn_once("signals of the notifier", async move {
        bus.publish_message(subject::evt("notifier", "signals"), fresh_id(), &signals).await?;
        Ok(())
    });
}
