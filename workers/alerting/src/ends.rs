//! Ending an alert by hand: where nothing will ever be heard again of what it is about, an alert that is kept without data would fire for ever.

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_schemas::alerting::EndAlert;
use keelson_schemas::subject;
use tracing::info;

/// How long the evaluator may take to make it true.
const WITHIN: Duration = Duration::from_secs(5);

/// Obeys `keelson.cmd.alerting.end-alert`: the evaluator publishes the transition, as it does every other.
pub struct EndAlertHandler {
    bus: Bus,
}

impl EndAlertHandler {
    /// A handler that asks over this bus.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }
}

impl CommandHandler for EndAlertHandler {
    type Command = EndAlert;
    type Outcome = ();

    /// A second attempt does not end what fires again since: the first may have been obeyed though its answer was lost, and then there is none.
    async fn run(&self, command: EndAlert, attempt: &Attempt) -> Result<(), Failure> {
        let asked = self.bus.ask_owner(&subject::qry("alerting", "end"), &command, WITHIN).await;
        let was_there: bool = asked.map_err(Failure::retry)?;
        let (alert, by) = (&command.fingerprint, &attempt.requested_by);
        if was_there {
            info!(alert.fingerprint = alert, requested_by = by, "an alert was ended by hand");
        }
        if was_there || attempt.number > 1 {
            Ok(())
        } else {
            Err(Failure::decline(format!("no alert with the fingerprint {alert:?} is pending or fires")))
        }
    }
}
