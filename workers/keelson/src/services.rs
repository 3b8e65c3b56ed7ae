//! `keelson services`: what is registered, how it fares, and its breakers.

mod watch;

use clap::{Args, Subcommand, ValueEnum};
use keelson_schemas::services::{
    Check, Deregister, Force, Health, InstanceStatus, Register, Registered, ServiceStatus, Services, Trip,
    Urls,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, ClientArgs, path_below};
use crate::global::Global;
use crate::output::{Exit, say, say_table, show};
use crate::watch::{obeyed, outcome};

const PATH: &str = "/api/microservices";

const EXAMPLES: &str = "\
Examples:
  keelson services list
  keelson services register content http://10.0.0.7:5002 http://10.0.0.8:5002 --allow 'GET /v1/*'
  keelson services register search http://10.0.0.9:7700 --health /up --lease 30s
  keelson services deregister search
  keelson services trip content --reason 'the vendor works on it'
  keelson services reset content
  keelson services watch";

/// `keelson services`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Show what is registered, and how it fares
    List(List),
    /// Register a service with all its instances, or renew its lease
    #[command(after_help = EXAMPLES)]
    Register(RegisterArgs),
    /// Take services out of the registry
    Deregister(DeregisterArgs),
    /// Force a breaker open (or closed) everywhere, until it is reset
    Trip(TripArgs),
    /// Close a breaker, and leave it to itself again
    Reset(ResetArgs),
    /// Say what changes, as it does
    Watch(watch::Watch),
}

/// `keelson services list`
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson services register`
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// 1 to 63 letters, digits, - and _.
    name: String,
    /// Its instances: http://, https://, tcp://host:port or nats://subject.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// The path that says whether an instance is well [default: /health]
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// What may be called: 'GET /v1/*'. Nothing is, unless it is named.
    #[arg(long = "allow", value_name = "RULE")]
    allow: Vec<String>,
    /// How often each instance is checked [default: as configured, 5s]
    #[arg(long, value_name = "TIME")]
    interval: Option<String>,
    /// How long it may take to answer [default: as configured, 2s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// A status that is well [default: 200 to 299]
    #[arg(long = "status", value_name = "STATUS")]
    status: Vec<u16>,
    /// What the body has to contain.
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Deregister it when it is not registered again, and no heartbeat comes, within this time: 30s [default: never]
    #[arg(long, value_name = "TIME")]
    lease: Option<String>,
    /// Put it in the place of what is registered under its name.
    #[arg(long)]
    replace: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson services deregister`
#[derive(Debug, Args)]
pub struct DeregisterArgs {
    /// Which.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson services trip`
#[derive(Debug, Args)]
pub struct TripArgs {
    /// Which service.
    name: String,
    /// Only the breaker of this instance.
    #[arg(long, value_name = "URL")]
    instance: Option<String>,
    /// What the breaker is forced to be.
    #[arg(long, value_enum, default_value_t = To::Open)]
    to: To,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// Nothing is let through.
    Open,
    /// Everything is let through.
    Closed,
}

/// `keelson services reset`
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Which service.
    name: String,
    /// Only the breaker of this instance.
    #[arg(long, value_name = "URL")]
    instance: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(global).await,
            Self::Register(register) => register.run(global).await,
            Self::Deregister(deregister) => deregister.run(global).await,
            Self::Trip(trip) => trip.run(global).await,
            Self::Reset(reset) => reset.run(global).await,
            Self::Watch(watch) => watch.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let services = all(&Client::new(&self.client, global)?).await?;
        show(self.json, &services, tell)
    }
}

impl RegisterArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let register = Register {
            name: self.name,
            url: Urls::Several(self.urls),
            health: self.health,
            allow: self.allow,
            check: Check {
                interval: self.interval,
                timeout: self.timeout,
                status: self.status,
                body: self.body,
            },
            lease: self.lease,
            replace: self.replace,
        };
        let registered: Registered =
            command(&client, Method::POST, &format!("{PATH}/register"), &register).await?;
        show(self.json, &registered, |registered| {
            let how = if registered.changed { "registered" } else { "registered already" };
            say(&format!("{} {how}: {}", registered.service.name, registered.service.instances.join(", ")));
        })
    }
}

impl DeregisterArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        for name in &self.names {
            let gone: Deregister =
                command(&client, Method::DELETE, &path_below(PATH, name), &json!({})).await?;
            say(&format!("{} deregistered", gone.name));
        }
        Ok(Exit::Done)
    }
}

impl TripArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let to = match self.to {
            To::Open => Force::Open,
            To::Closed => Force::Closed,
        };
        let body = json!({"instance": self.instance, "to": to, "reason": self.reason});
        let path = format!("{}/trip", path_below(PATH, &self.name));
        let trip: Trip = command(&client, Method::POST, &path, &body).await?;
        say(&format!(
            "{} is forced {} until it is reset",
            whose(&trip.name, trip.instance.as_deref()),
            name(trip.to)
        ));
        Ok(Exit::Done)
    }
}

impl ResetArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let path = format!("{}/reset", path_below(PATH, &self.name));
        let _: Value = command(&client, Method::POST, &path, &json!({"instance": self.instance})).await?;
        say(&format!("{} is closed, and left to itself", whose(&self.name, self.instance.as_deref())));
        Ok(Exit::Done)
    }
}

/// Asks for a command, and for what it gave.
async fn command<R: for<'de> Deserialize<'de>>(
    client: &Client,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> anyhow::Result<R> {
    let ended = obeyed(client, method, path, body, |_| Ok(())).await?;
    Ok(serde_json::from_value(outcome(ended)?)?)
}

async fn all(client: &Client) -> anyhow::Result<Services> {
    Ok(client.get(&format!("{PATH}/status"), &[]).await?)
}

const fn name(force: Force) -> &'static str {
    match force {
        Force::Open => "open",
        Force::Closed => "closed",
    }
}

fn whose(service: &str, instance: Option<&str>) -> String {
    match instance {
        Some(url) => format!("the breaker of {service} at {url}"),
        None => format!("the breaker of {service}"),
    }
}

fn tell(services: &Services) {
    if services.services.is_empty() {
        return say("nothing is registered; `keelson services register NAME URL…` registers a service");
    }
    let rows = services
        .services
        .iter()
        .flat_map(|service| service.instances.iter().map(move |instance| row(service, instance)));
    say_table(["service", "instance", "health", "breaker", "latency", "hour", "day", "month", "why"], rows);
}

fn row(service: &ServiceStatus, instance: &InstanceStatus) -> [String; 9] {
    let share =
        |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.2} %", share * 100.0));
    let breaker = match (service.breaker.state, instance.breaker.state) {
        (of_service, of_instance) if of_service == of_instance => of_service.name().to_owned(),
        (of_service, of_instance) => format!("{}, here {}", of_service.name(), of_instance.name()),
    };
    let why = instance.reason.clone().filter(|_| instance.health != Health::Up);
    [
        service.name.clone(),
        instance.url.clone(),
        instance.health.name().to_owned(),
        breaker,
        instance.latency_ms.map_or_else(String::new, |ms| format!("{ms:.1} ms")),
        share(instance.uptime.hour),
        share(instance.uptime.day),
        share(instance.uptime.month),
        why.or_else(|| service.breaker.reason.clone()).unwrap_or_default(),
    ]
}
