//! A process of roles: connected to the bus, started, and run until a signal drains it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keelson_kit::bus::{Bus, BusOptions};
use keelson_kit::bus_admin::{self, Change, Permission};
use keelson_kit::clock::Clock;
use keelson_kit::config::{Config, ConfigSource, CoreConfig};
use keelson_kit::node::NodeId;
use keelson_kit::otel::Telemetry;
use keelson_kit::role::{AnyRole, Context};
use keelson_kit::tasks::{Drained, Tasks};
use tracing::warn;

use crate::output::Exit;
use crate::roles::ROLES;

/// Roles, and what they stand on.
pub struct Process {
    config: Config,
    context: Context,
    telemetry: Telemetry,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything finished what it held.
    Drained,
    /// The grace period was over, or a second signal came.
    CutOff,
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Drained => Self::Done,
            Ended::CutOff => Self::Failed,
        }
    }
}

impl Process {
    /// Connects to the bus and sees to it that everything is there that roles expect on it.
    ///
    /// # Errors
    /// When the bus cannot be reached, is too old, or refuses.
    pub async fn begin(mut config: Config, url: String, node: NodeId) -> anyhow::Result<Self> {
        settle_port(&mut config.core)?;
        let core = &config.core;
        let telemetry = Telemetry::init(core, &node)?;
        let clock = Clock::system();
        let bus = Bus::connect(bus_options(core, url, "keelson")).await?;
        prepare(&bus).await?;
        let tasks = Tasks::new(clock.clone());
        let source = ConfigSource::new(ROLES, config.inputs().clone());
        source.listen(&tasks)?;
        let context = Context { bus, tasks, clock, node, core: Arc::new(core.clone()), config: source };
        Ok(Self { config, context, telemetry })
    }

    /// Starts roles, one after another.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start(&self, roles: impl IntoIterator<Item = &'static dyn AnyRole>) -> anyhow::Result<()> {
        for role in roles {
            let context = Context { bus: self.context.bus.named(role.name()), ..self.context.clone() };
            role.launch(self.config.section(role.name()), context)
                .await
                .with_context(|| format!("the role {} cannot start", role.name()))?;
        }
        Ok(())
    }

    /// Where HTTP answers to someone on this machine.
    pub fn http_url(&self) -> String {
        let mut addr = self.context.core.http.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{addr}")
    }

    /// What the roles are supervised by.
    pub fn tasks(&self) -> &Tasks {
        &self.context.tasks
    }

    /// Runs until a signal, then drains within the grace period.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub async fn run(self) -> anyhow::Result<Ended> {
        let grace = self.config.core.shutdown_grace();
        let (bus, telemetry) = (self.context.bus, self.telemetry);
        let last = async move {
            bus.drain(grace).await;
            telemetry.shutdown().await;
        };
        Ok(match self.context.tasks.run_until_signal(grace, last).await? {
            Drained::Completely => Ended::Drained,
            Drained::CutOff(_) => Ended::CutOff,
        })
    }
}

/// Chooses the port where the choice was left to us, so that it can be told.
fn settle_port(core: &mut CoreConfig) -> anyhow::Result<()> {
    if core.http.addr.port() == 0 {
        core.http.addr = TcpListener::bind(core.http.addr)
            .and_then(|listener| listener.local_addr())
            .context("no port is free")?;
    }
    Ok(())
}

/// The bus as the configuration says, at this address.
pub fn bus_options(core: &CoreConfig, url: String, source: &str) -> BusOptions {
    let nats = &core.nats;
    BusOptions {
        user: nats.user.clone().zip(nats.password.as_ref().map(|password| password.expose().to_owned())),
        credentials_file: nats.credentials_file.clone(),
        inbox_prefix: nats.inbox_prefix.clone(),
        connect_timeout: Duration::from_millis(nats.connect_timeout_ms),
        request_timeout: Duration::from_millis(nats.request_timeout_ms),
        ..BusOptions::new(url, source)
    }
}

/// Creates what is missing on the bus. What differs is left as it is and said: to change it is an operator's decision.
async fn prepare(bus: &Bus) -> anyhow::Result<()> {
    let plan = bus_admin::apply(bus, Permission::CreateOnly).await.context("the bus cannot be prepared")?;
    if plan.items.iter().any(|item| matches!(item.change, Change::Update { .. } | Change::LosesData { .. })) {
        warn!("the bus differs from its configuration; see `keelson bus plan`");
    }
    Ok(())
}
