//! Transitions as they are read from the bus.

use keelson_kit::dead_letter;
use keelson_kit::incoming::Stored;
use keelson_kit::publish::PublishError;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Transition;
use keelson_schemas::envelope::TRACEPARENT;
use tracing::warn;

use super::dispatch::Dispatch;
use super::size;
use crate::history::STREAM;

/// The name under which what is no transition is dead-lettered.
const CONSUMER: &str = "alerting-notifier";

/// The transition that a message is, within bounds; one that is none is dead-lettered, and so may be passed over.
///
/// # Errors
/// It is not known to be dead-lettered.
pub async fn read(ctx: &Context, message: &Stored) -> Result<Option<Transition>, PublishError> {
    let error = match message.decode().map(bounded) {
        Ok(Some(transition)) => return Ok(Some(transition)),
        Ok(None) => "its alert is too large".to_owned(),
        Err(error) => error.to_string(),
    };
    warn!(subject = message.subject(), sequence = message.sequence, %error, "this is no transition; it is dead-lettered and passed over");
    dead_letter::bury_message(&ctx.bus, STREAM, CONSUMER, message, &error, 1).await?;
    Ok(None)
}

fn bounded(transition: Transition) -> Option<Transition> {
    Some(Transition { alert: size::bounded(transition.alert)?, ..transition })
}

/// Takes in what was read of a message.
pub fn take(dispatch: &mut Dispatch, message: &Stored, transition: Option<&Transition>, now_ms: u64) {
    match transition {
        Some(transition) => {
            dispatch.apply(message.sequence, transition, message.headers.get(TRACEPARENT), now_ms);
        }
        None => dispatch.pass_over(message.sequence),
    }
}
