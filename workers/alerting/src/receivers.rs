//! The ways of telling somebody, a file each. Each says of a failure whether it may pass; none tries again by itself.

pub mod alertmanager;
mod email;
pub mod http;
mod pagerduty;
mod slack;
mod text;
mod veil;
mod webhook;

use std::collections::BTreeMap;

use keelson_kit::failure::Failure;
use keelson_schemas::alerting::Notify;

use crate::notify::config::{self, NotifyConfig, Receiver};
use email::Email;
pub use email::{check_address as check_mail_address, check_server as check_mail_server};
use http::Http;
pub use http::is_token;
use pagerduty::PagerDuty;
use slack::Slack;
use webhook::Webhook;

/// All receivers of a configuration, ready to be told.
#[derive(Debug)]
pub struct Receivers(BTreeMap<String, BTreeMap<&'static str, Way>>);

#[derive(Debug)]
enum Way {
    Webhook(Webhook),
    Slack(Slack),
    PagerDuty(PagerDuty),
    Email(Box<Email>),
}

impl Receivers {
    /// Those of a configuration without errors.
    ///
    /// # Errors
    /// What shows only when a client is made: an address of a mail server that is none.
    pub fn of(config: &NotifyConfig) -> anyhow::Result<Self> {
        let http = Http::new()?;
        let ways = |receiver: &Receiver| anyhow::Ok((receiver.name.clone(), ways(receiver, config, &http)?));
        Ok(Self(config.receivers.iter().map(ways).collect::<Result<_, _>>()?))
    }

    /// Tells a receiver, once.
    ///
    /// # Errors
    /// [`Failure::Retry`] when it may succeed later, [`Failure::Reject`] when not.
    pub async fn send(&self, notify: &Notify) -> Result<(), Failure> {
        let unknown = || Failure::reject(format!("no receiver is named {:?}", notify.receiver));
        let ways = self.0.get(&notify.receiver).ok_or_else(unknown)?;
        let no_way =
            || Failure::reject(format!("{:?} is not told by {}", notify.receiver, notify.integration));
        match ways.get(notify.integration.as_str()).ok_or_else(no_way)? {
            Way::Webhook(webhook) => webhook.send(notify).await,
            Way::Slack(slack) => slack.send(notify).await,
            Way::PagerDuty(pagerduty) => pagerduty.send(notify).await,
            Way::Email(email) => email.send(notify).await,
        }
    }
}

fn ways(
    receiver: &Receiver,
    config: &NotifyConfig,
    http: &Http,
) -> anyhow::Result<BTreeMap<&'static str, Way>> {
    let external_url = config.external_url.as_str();
    let mut ways = BTreeMap::new();
    if let Some(url) = &receiver.webhook_url {
        let webhook = Webhook::new(http.clone(), url.clone(), receiver.webhook_token.clone(), external_url);
        ways.insert(config::WEBHOOK, Way::Webhook(webhook));
    }
    if let Some(url) = &receiver.slack_webhook_url {
        ways.insert(config::SLACK, Way::Slack(Slack::new(http.clone(), url.clone(), external_url)));
    }
    if let Some(key) = &receiver.pagerduty_routing_key {
        let pagerduty =
            PagerDuty::new(http.clone(), receiver.pagerduty_url.as_deref(), key.clone(), external_url);
        ways.insert(config::PAGERDUTY, Way::PagerDuty(pagerduty));
    }
    if let (false, Some(smtp)) = (receiver.email_to.is_empty(), &config.smtp) {
        let email = Email::new(smtp, &receiver.email_to, external_url)?;
        ways.insert(config::EMAIL, Way::Email(Box::new(email)));
    }
    Ok(ways)
}
