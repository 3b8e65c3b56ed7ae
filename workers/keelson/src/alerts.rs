//! `keelson alerts`: what is wrong, and who is told of it.

use clap::{Args, Subcommand};
use keelson_schemas::alerting::{Alert, AlertState, Delivery, Group, Groups, Labels};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, ClientArgs, path_below};
use crate::global::Global;
use crate::output::{Exit, say, say_table, show};
use crate::time::timestamp;
use crate::watch;

const PATH: &str = "/api/monitoring/alerts";

const EXAMPLES: &str = "\
Examples:
  keelson alerts
  keelson alerts list --state firing --json
  keelson alerts end 9f3c5a7d1e2b4c6d  what fires although nothing will ever be heard of it again
  keelson alerts groups                who is told together, and what waits to be delivered";

/// `keelson alerts`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Alerts {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List alerts that fire, that are pending, and that resolved lately
    List(List),
    /// Take alerts for over, of which nothing will ever be heard again
    End(EndArgs),
    /// List the groups in which alerts are notified, and how their deliveries fare
    Groups(GroupsArgs),
}

/// `keelson alerts list`
#[derive(Debug, Args)]
struct List {
    /// Only those in this state: firing, pending, resolved.
    #[arg(long, value_name = "STATE", value_parser = ["firing", "pending", "resolved"])]
    state: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson alerts end`
#[derive(Debug, Args)]
struct EndArgs {
    /// Their fingerprints, as `keelson alerts --json` shows them. One whose condition holds fires again.
    #[arg(required = true, value_name = "FINGERPRINT")]
    fingerprints: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson alerts groups`
#[derive(Debug, Args)]
struct GroupsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    as_of: String,
    as_of_ms: u64,
    alerts: Vec<Shown>,
}

/// An alert as the API shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    alert: Alert,
    starts_at: Option<String>,
    ends_at: Option<String>,
    updated_at_ms: u64,
    receivers: Vec<String>,
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
    flapping: bool,
}

impl Alerts {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self.command {
            None => self.list.run(global).await,
            Some(Command::List(list)) => list.run(global).await,
            Some(Command::End(end)) => end.run(global).await,
            Some(Command::Groups(groups)) => groups.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let mut page: Page = Client::new(&self.client, global)?.get(PATH, &[]).await?;
        if let Some(state) = &self.state {
            page.alerts.retain(|shown| name(shown.alert.state) == *state);
        }
        show(self.json, &page, tell)
    }
}

impl EndArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        for fingerprint in self.fingerprints {
            let path = path_below(PATH, &fingerprint);
            let ended = watch::obeyed(&client, Method::DELETE, &path, &json!({}), |_| Ok(())).await?;
            watch::outcome(ended)?;
        }
        Ok(Exit::Done)
    }
}

impl GroupsArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let groups: Groups = Client::new(&self.client, global)?.get(&format!("{PATH}/groups"), &[]).await?;
        show(self.json, &groups, tell_groups)
    }
}

fn tell(page: &Page) {
    if page.alerts.is_empty() {
        return say("there are no alerts");
    }
    let columns = ["state", "since", "alert", "value", "summary", "told"];
    say_table(columns, page.alerts.iter().map(row));
}

fn row(shown: &Shown) -> [String; 6] {
    let Alert { state, labels, annotations, value, active_at_ms, starts_at_ms, ends_at_ms, .. } =
        &shown.alert;
    let since = match state {
        AlertState::Resolved => ends_at_ms.or(*starts_at_ms),
        _ => *starts_at_ms,
    };
    [
        name(*state),
        timestamp(since.unwrap_or(*active_at_ms)).to_string(),
        words(labels),
        value.map(|value| format!("{value:.4}")).unwrap_or_default(),
        annotations.get("summary").cloned().unwrap_or_default(),
        told(shown),
    ]
}

/// Who is told, or why nobody is.
fn told(shown: &Shown) -> String {
    let held = [
        (!shown.silenced_by.is_empty(), "nobody: silenced"),
        (!shown.inhibited_by.is_empty(), "nobody: inhibited"),
        (shown.flapping, "nobody: goes up and down"),
    ];
    let held = held.into_iter().find_map(|(is_held, why)| is_held.then_some(why));
    held.map_or_else(|| shown.receivers.join(", "), ToOwned::to_owned)
}

/// Labels as `HighErrorRate{service_name="content"}`.
pub fn words(labels: &Labels) -> String {
    let others: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != "alertname")
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{}{{{}}}", labels.get("alertname").map_or("", String::as_str), others.join(","))
}

/// A state in the words of the API.
pub fn name(state: AlertState) -> String {
    format!("{state:?}").to_lowercase()
}

fn tell_groups(groups: &Groups) {
    if groups.groups.is_empty() {
        return say("there are no groups");
    }
    let columns = ["receiver", "group", "alerts", "by", "delivered", "waiting", "error"];
    say_table(columns, groups.groups.iter().flat_map(rows_of_group));
}

fn rows_of_group(group: &Group) -> impl Iterator<Item = [String; 7]> {
    group.deliveries.iter().map(|delivery| row_of_delivery(group, delivery))
}

fn row_of_delivery(group: &Group, delivery: &Delivery) -> [String; 7] {
    [
        group.receiver.clone(),
        words(&group.labels),
        group.fingerprints.len().to_string(),
        delivery.integration.clone(),
        delivery.delivered_at_ms.map(|ms| timestamp(ms).to_string()).unwrap_or_default(),
        delivery.waiting.to_string(),
        delivery.error.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use keelson_schemas::alerting::AlertView;
    use keelson_schemas::message::Message;

    use super::*;

    fn shown(change: impl FnOnce(&mut Shown)) -> Shown {
        let AlertView { alert, updated_at_ms, .. } =
            keelson_schemas::alerting::Alerts::example().alerts.remove(0);
        let mut shown = Shown {
            alert,
            starts_at: None,
            ends_at: None,
            updated_at_ms,
            receivers: vec!["ops".into(), "pager".into()],
            silenced_by: Vec::new(),
            inhibited_by: Vec::new(),
            flapping: false,
        };
        change(&mut shown);
        shown
    }

    #[test]
    fn a_row_says_who_is_told_or_why_nobody_is() {
        assert_eq!(told(&shown(|_| ())), "ops, pager");
        assert_eq!(told(&shown(|shown| shown.silenced_by.push("x".into()))), "nobody: silenced");
        assert_eq!(told(&shown(|shown| shown.inhibited_by.push("x".into()))), "nobody: inhibited");
        assert_eq!(told(&shown(|shown| shown.flapping = true)), "nobody: goes up and down");
    }

    #[test]
    fn a_row_shows_since_when_it_is_so() {
        let since = |state| row(&shown(|shown| shown.alert.state = state))[1].clone();
        assert_eq!(since(AlertState::Firing), "2025-11-24T16:00:00.5Z");
        assert_eq!(since(AlertState::Resolved), "2025-11-24T16:01:30Z");
        let pending =
            shown(|shown| (shown.alert.state, shown.alert.starts_at_ms) = (AlertState::Pending, None));
        assert_eq!(row(&pending)[1], "2025-11-24T16:00:00.5Z");
        assert_eq!(row(&pending)[2], "HighErrorRate{service_name=\"content\",severity=\"critical\"}");
    }
}
