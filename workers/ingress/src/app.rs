//! What every handler is given. None of it is state of the platform: that lies with the workers and on the bus.

use std::sync::Arc;

use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::role::Context;
use keelson_kit::tasks::Tasks;

use crate::auth::Keys;
use crate::body::Budget;
use crate::config::Config;
use crate::rate::Rates;

/// Shared by all requests; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The way to the workers.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Tells when the process drains.
    pub tasks: Tasks,
    /// The memory for bodies.
    pub budget: Budget,
    /// The tokens.
    pub keys: Arc<Keys>,
    /// How many requests each principal may make.
    pub rates: Arc<Rates>,
    /// The bounds.
    pub config: Arc<Config>,
    /// Unix milliseconds at which the ingress started.
    pub started_at_ms: u64,
}

impl App {
    /// The app of a role's configuration and context.
    #[must_use]
    pub fn new(config: Config, ctx: Context) -> Self {
        let keys = Keys::new(ctx.core.auth.tokens.clone(), ctx.core.http.addr.ip().is_loopback());
        let rates = Rates::new(keys.principals(), config.max_requests_per_second);
        Self {
            started_at_ms: ctx.clock.now_ms(),
            bus: ctx.bus,
            clock: ctx.clock,
            tasks: ctx.tasks,
            budget: Budget::new(config.max_buffered_bytes, config.max_body_bytes),
            keys: Arc::new(keys),
            rates: Arc::new(rates),
            config: Arc::new(config),
        }
    }
}
