//! Saying what has changed. Every replica sees each change in the bucket where it is kept, and says it under an id that follows from it: the first
//! one is heard, the others are duplicates. So a change is said even if whoever made it died the moment it was made.

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::failure::Failure;
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_kit::role::Context;
use keelson_schemas::message::Message;
use keelson_schemas::subject;
use tokio::sync::mpsc;
use tracing::{error, warn};

/// Changes that wait to be said; past it whoever sees more waits.
const MOST_WAITING: usize = 4_096;
/// How long one is tried before that is logged; it is tried for as long as it takes.
const WITHIN: Duration = Duration::from_secs(10);
/// What is older when this process first sees it has been said. Half of the time for which the stream knows ids.
pub const FRESH_MS: u64 = 300_000;

/// Says what has changed, in order. Cheap to clone.
#[derive(Clone)]
pub struct Announcer {
    bus: Bus,
    waiting: mpsc::Sender<Outgoing>,
}

impl Announcer {
    /// Says things until the process ends.
    #[must_use]
    pub fn spawn(ctx: &Context) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Outgoing>(MOST_WAITING);
        let (bus, tasks) = (ctx.bus.clone(), ctx.tasks.clone());
        ctx.tasks.spawn_once("announcer of services", async move {
            loop {
                let outgoing = tokio::select! {
                    biased;
                    outgoing = waiting.recv() => outgoing,
                    () = tasks.cancelled() => None,
                };
                let Some(outgoing) = outgoing else { return Ok(()) };
                tokio::select! {
                    () = say(&bus, &outgoing) => {}
                    () = tasks.cancelled() => return Ok(()),
                }
            }
        });
        Self { bus: ctx.bus.clone(), waiting: sender }
    }

    /// Says a fact, some time soon.
    pub async fn say<M: Message>(&self, fact: &str, id: String, message: &M) {
        match Outgoing::of(subject::evt("services", fact), id, message) {
            // It is gone only when the process ends.
            Ok(outgoing) => drop(self.waiting.send(outgoing).await),
            Err(error) => error!(%error, fact, "a change of a service cannot be written"),
        }
    }

    /// Says a fact that can be seen nowhere afterwards: it is said when this returns.
    ///
    /// # Errors
    /// When it could not be.
    pub async fn said<M: Message>(&self, fact: &str, id: String, message: &M) -> Result<(), Failure> {
        let outgoing = Outgoing::of(subject::evt("services", fact), id, message).map_err(Failure::reject)?;
        self.bus.publish_within(&outgoing, WITHIN).await?;
        Ok(())
    }
}

async fn say(bus: &Bus, outgoing: &Outgoing) {
    loop {
        match bus.publish_within(outgoing, WITHIN).await {
            Ok(_) => return,
            Err(error) if PublishError::may_pass(&error) => {
                warn!(subject = outgoing.subject, %error, "a change of a service cannot be said yet");
            }
            Err(error) => {
                error!(subject = outgoing.subject, %error, "a change of a service cannot be said");
                return;
            }
        }
    }
}
