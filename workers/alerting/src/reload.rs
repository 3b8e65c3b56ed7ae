//! Reading rules, routes and receivers again, on SIGHUP or by command. With any error in them, what runs stays.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::role::Context;
use keelson_schemas::alerting::{ReloadRules, Rules};
use keelson_schemas::subject;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info};

use crate::board::Standing;
use crate::loaded::Loaded;

/// How long the evaluator may take to read again.
const WITHIN: Duration = Duration::from_secs(5);

/// Reads again, and tells whoever watches. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    ctx: Context,
    loaded: watch::Sender<Arc<Loaded>>,
    errors: Arc<Mutex<Vec<String>>>,
}

/// How reading again went; the operation's result when there are no errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How many rules run.
    pub rules: usize,
    /// All that is wrong, a line each.
    pub errors: Vec<String>,
}

impl Reloader {
    /// Begins with what the process was started with.
    #[must_use]
    pub fn new(ctx: &Context, loaded: Loaded) -> Self {
        Self { ctx: ctx.clone(), loaded: watch::Sender::new(Arc::new(loaded)), errors: Arc::default() }
    }

    /// What was read last without an error, now and from now on.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<Arc<Loaded>> {
        self.loaded.subscribe()
    }

    /// Reads again at every SIGHUP.
    pub fn listen(&self) {
        let (this, mut hangups) = (self.clone(), self.ctx.config.hangups());
        self.ctx.tasks.spawn_once("reload of alerting", async move {
            loop {
                tokio::select! {
                    () = this.ctx.tasks.cancelled() => return Ok(()),
                    changed = hangups.changed() => changed?,
                }
                this.reload();
            }
        });
    }

    /// Reads again.
    pub fn reload(&self) -> Outcome {
        let errors = match Loaded::again(&self.ctx) {
            Ok(loaded) => {
                info!(rules = loaded.rules.rules().len(), "rules, routes and receivers were read again");
                self.loaded.send_replace(Arc::new(loaded));
                Vec::new()
            }
            Err(errors) => {
                error!(?errors, "rules, routes and receivers are wrong; what ran before runs on");
                errors
            }
        };
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&errors);
        Outcome { rules: self.loaded.borrow().rules.rules().len(), errors }
    }

    /// The answer about rules that stand like this.
    #[must_use]
    pub fn rules(&self, standing: Standing) -> Rules {
        let loaded = self.loaded.borrow();
        Rules {
            loaded_at_ms: loaded.at_ms,
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            evaluated_at_ms: standing.evaluated_at_ms,
            rules: standing.rules,
            receivers: loaded.receiver_names(),
            config: loaded.shown(),
        }
    }
}

/// Obeys `keelson.cmd.alerting.reload`: every replica reads again, and the evaluator's word counts.
pub struct ReloadHandler {
    bus: Bus,
}

impl ReloadHandler {
    /// A handler that asks over this bus.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }
}

impl CommandHandler for ReloadHandler {
    type Command = ReloadRules;
    type Outcome = Outcome;

    async fn run(&self, _: ReloadRules, _: &Attempt) -> Result<Outcome, Failure> {
        let outcome: Outcome = self
            .bus
            .ask_owner(&subject::qry("alerting", "reload"), &(), WITHIN)
            .await
            .map_err(Failure::retry)?;
        if outcome.errors.is_empty() { Ok(outcome) } else { Err(Failure::decline(outcome.errors.join("\n"))) }
    }
}
