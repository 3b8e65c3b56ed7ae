//! `keelson bus plan` and `keelson bus apply`: how a running bus differs from bus-config, and making it so.
//!
//! Applying is idempotent and careful: it creates what is missing and changes what can be changed without loss. What
//! would lose data is left alone, everything else included, until that is allowed by name. What bus-config does not
//! know is shown and never touched.

mod diff;
mod server;

use std::fmt;

use keelson_bus_config::BusConfig;
use serde::Serialize;

pub(crate) use self::diff::consumer_config;
use self::diff::{Wanted, change};
use crate::bus::{ApiError, Bus};

/// How a running bus differs from bus-config.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Everything that bus-config asks for, in the order in which it is applied, then what it does not know.
    pub items: Vec<Item>,
}

/// One stream, bucket or consumer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// Which of the three.
    pub kind: Kind,
    /// Its name; a consumer's is `STREAM/name`.
    pub name: String,
    /// What has to happen.
    #[serde(flatten)]
    pub change: Change,
}

/// What a plan is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A stream.
    Stream,
    /// A key-value bucket.
    Bucket,
    /// A durable consumer.
    Consumer,
}

/// What has to happen to one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Nothing.
    Same,
    /// It does not exist.
    Create,
    /// Some of its fields differ.
    Update {
        /// Which.
        fields: Vec<Field>,
    },
    /// Some of its fields differ, and making them as wanted forgets something.
    LosesData {
        /// Which.
        fields: Vec<Field>,
        /// What would be lost.
        losses: Vec<String>,
        /// Whether the server cannot change it, so that it is deleted and made anew.
        replace: bool,
    },
    /// bus-config does not know it; it stays.
    Unknown,
}

/// A field that differs, as the server's API names it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value on the bus.
    pub now: serde_json::Value,
    /// Its value in bus-config.
    pub wanted: serde_json::Value,
}

/// What `apply` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Create what is missing and touch nothing else: what a role does when it starts on an empty bus.
    CreateOnly,
    /// Also change what can be changed without loss.
    KeepData,
    /// Also what loses data.
    AllowDataLoss,
}

/// Why a plan was not made or not applied.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// What is wanted does not parse.
    #[error(transparent)]
    BadData(#[from] keelson_bus_config::BadData),
    /// The bus refused or did not answer.
    #[error("{what}: {error}")]
    Bus {
        /// What was asked of it.
        what: String,
        /// Its answer.
        error: ApiError,
    },
    /// Something would be lost and that was not allowed; nothing at all was changed.
    #[error("this would lose data, nothing was changed (allow it with --allow-data-loss):\n{0}")]
    WouldLoseData(Plan),
}

/// Compares the bus with bus-config.
///
/// # Errors
/// When the bus does not answer.
pub async fn plan(bus: &Bus) -> Result<Plan, AdminError> {
    plan_for(bus, &BusConfig::load()?).await
}

/// Makes the bus as bus-config wants it, as far as `permission` goes, and returns the plan that it followed.
///
/// # Errors
/// When something would be lost that `permission` protects, or the bus refuses or does not answer; applying again
/// goes on where it stopped.
pub async fn apply(bus: &Bus, permission: Permission) -> Result<Plan, AdminError> {
    apply_config(bus, &BusConfig::load()?, permission).await
}

pub(crate) async fn plan_for(bus: &Bus, config: &BusConfig) -> Result<Plan, AdminError> {
    let wanted = diff::wanted(config);
    let now = bus.timestamp();
    let mut items = Vec::with_capacity(wanted.len());
    for wanted in &wanted {
        let running = server::running(bus, wanted).await?;
        items.push(wanted.item(change(wanted, running.as_ref(), now)));
    }
    items.extend(server::unknown(bus, &wanted).await?);
    Ok(Plan { items })
}

pub(crate) async fn apply_config(
    bus: &Bus,
    config: &BusConfig,
    permission: Permission,
) -> Result<Plan, AdminError> {
    let plan = plan_for(bus, config).await?;
    if permission == Permission::KeepData && plan.loses_data() {
        return Err(AdminError::WouldLoseData(plan.only_losses()));
    }
    for (wanted, item) in diff::wanted(config).iter().zip(&plan.items) {
        execute(bus, wanted, &item.change, permission).await?;
    }
    Ok(plan)
}

async fn execute(
    bus: &Bus,
    wanted: &Wanted,
    change: &Change,
    permission: Permission,
) -> Result<(), AdminError> {
    match change {
        Change::Same | Change::Unknown => Ok(()),
        Change::Create => server::create(bus, wanted).await,
        _ if permission == Permission::CreateOnly => Ok(()),
        Change::Update { .. } | Change::LosesData { replace: false, .. } => server::update(bus, wanted).await,
        Change::LosesData { replace: true, .. } => {
            server::delete(bus, wanted).await?;
            server::create(bus, wanted).await
        }
    }
}

impl Plan {
    /// Whether the bus is as bus-config wants it.
    pub fn is_done(&self) -> bool {
        self.items.iter().all(|item| matches!(item.change, Change::Same | Change::Unknown))
    }

    /// Whether following it would lose data.
    pub fn loses_data(&self) -> bool {
        self.items.iter().any(|item| matches!(item.change, Change::LosesData { .. }))
    }

    fn only_losses(self) -> Self {
        let loses = |item: &Item| matches!(item.change, Change::LosesData { .. });
        Self { items: self.items.into_iter().filter(loses).collect() }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.iter().try_for_each(|item| item.fmt(f))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, fields, losses) = match &self.change {
            Change::Same => (" ", &[][..], &[][..]),
            Change::Create => ("+", &[][..], &[][..]),
            Change::Update { fields } => ("~", fields.as_slice(), &[][..]),
            Change::LosesData { fields, losses, .. } => ("!", fields.as_slice(), losses.as_slice()),
            Change::Unknown => ("?", &[][..], &[][..]),
        };
        writeln!(f, "{sign} {} {}{}", self.kind, self.name, self.change.note())?;
        for Field { name, now, wanted } in fields {
            writeln!(f, "      {name}: {now} -> {wanted}")?;
        }
        losses.iter().try_for_each(|loss| writeln!(f, "      loses: {loss}"))
    }
}

impl Change {
    fn note(&self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Create => " (to be created)",
            Self::Update { .. } => " (to be changed)",
            Self::LosesData { replace: false, .. } => " (to be changed, which loses data)",
            Self::LosesData { replace: true, .. } => " (to be deleted and made anew, which loses data)",
            Self::Unknown => " (not in bus-config, stays as it is)",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Bucket => "bucket",
            Self::Consumer => "consumer",
        })
    }
}

#[cfg(test)]
mod tests;
