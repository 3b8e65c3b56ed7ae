//! `keelson services watch`: looks again and again, and says what is another thing now.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use keelson_schemas::services::Services;

use super::{all, whose};
use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say};

/// `keelson services watch`
#[derive(Debug, Args)]
pub struct Watch {
    /// How often to look, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,
    #[command(flatten)]
    client: ClientArgs,
}

impl Watch {
    /// Until it is interrupted. A look that fails is said once, and tried again.
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let every = Duration::try_from_secs_f64(self.every)?.max(Duration::from_millis(100));
        let mut before = lines(&all(&client).await?);
        before.iter().for_each(|(what, is)| say_now(what, is));
        let mut failing = false;
        loop {
            tokio::time::sleep(every).await;
            match all(&client).await {
                Ok(services) => {
                    let now = lines(&services);
                    changes(&before, &now).iter().for_each(|(what, is)| say_now(what, is));
                    (before, failing) = (now, false);
                }
                Err(error) if !failing => {
                    complain(&format!("{error:#}"));
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }
}

fn say_now(what: &str, is: &str) {
    say(&format!("{} {what} {is}", Timestamp::now().strftime("%H:%M:%S")));
}

/// Everything that can change, and what it is.
fn lines(services: &Services) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for service in &services.services {
        let name = service.name.as_str();
        lines.insert(name.to_owned(), format!("is {}", service.health.name()));
        lines.insert(whose(name, None), format!("is {}", service.breaker.state.name()));
        for instance in &service.instances {
            let why = instance.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            lines
                .insert(format!("{name} at {}", instance.url), format!("is {}{why}", instance.health.name()));
            let breaker = whose(name, Some(&instance.url));
            lines.insert(breaker, format!("is {}", instance.breaker.state.name()));
        }
    }
    lines
}

fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let changed = now.iter().filter(|(what, is)| before.get(*what) != Some(is));
    let gone = before.keys().filter(|what| !now.contains_key(*what));
    let gone = gone.map(|what| (what.clone(), "is gone".to_owned()));
    changed.map(|(what, is)| (what.clone(), is.clone())).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn what_is_another_thing_now_is_said_once() {
        let before = lines(&Services::example());
        assert_eq!(before["content"], "is degraded");
        assert!(changes(&before, &before).is_empty());
        let mut services = Services::example();
        services.services[0].breaker.state = keelson_schemas::services::BreakerState::Closed;
        let closed = lines(&services);
        assert_eq!(
            changes(&before, &closed),
            [("the breaker of content".to_owned(), "is closed".to_owned())]
        );
        let gone = changes(&closed, &lines(&Services::default()));
        assert!(gone.iter().all(|(_, is)| is == "is gone") && gone.len() == closed.len());
    }
}
