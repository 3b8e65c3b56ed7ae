//! Mail.

use anyhow::Context as _;
use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_schemas::alerting::{Alert, Notify};
use keelson_schemas::id;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes, MessageBuilder};
use lettre::transport::smtp;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::http::TIMEOUT;
use super::text::{labels, rfc3339, status, summary, title};
use crate::notify::config::Smtp;

/// Addresses that are written to through one mail server.
#[derive(Debug)]
pub struct Email {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
    external_url: String,
}

/// Whether a text is an address of mail.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(text: &str) -> Result<(), String> {
    text.parse::<Mailbox>().map(drop).map_err(|error| format!("{text:?} is no address of mail: {error}"))
}

/// Whether a text is an address of a mail server. It may hold a password and is not shown.
///
/// # Errors
/// What it should look like.
pub fn check_server(url: &Secret) -> Result<(), String> {
    let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose());
    let form = "must be smtps://user:password@host, or smtp://user:password@host:587?tls=required";
    server.map(drop).map_err(|_| form.to_owned())
}

impl Email {
    pub(super) fn new(smtp: &Smtp, to: &[String], external_url: &str) -> anyhow::Result<Self> {
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp.url.expose());
        let server = server.map_err(|_| anyhow::anyhow!("smtp.url is no address of a mail server"))?;
        let to: Result<Vec<Mailbox>, _> = to.iter().map(|address| address.parse()).collect();
        Ok(Self {
            server: server.timeout(Some(TIMEOUT)).build(),
            from: smtp.from.parse().context("smtp.from is no address of mail")?,
            to: to.context("email_to is no address of mail")?.into_iter().collect(),
            external_url: external_url.to_owned(),
        })
    }

    pub(super) async fn send(&self, notify: &Notify) -> Result<(), Failure> {
        let message = self
            .message(notify)
            .map_err(|error| Failure::reject(format!("no mail can be made of it: {error}")))?;
        self.server.send(message).await.map(drop).map_err(|error| failure(&error))
    }

    /// The id of the message follows from the notification's key, and so is the same in every try; that of the group makes its mails one thread.
    fn message(&self, notify: &Notify) -> Result<Message, lettre::error::Error> {
        let thread = format!("<{}@keelson>", id::derive("thread", &[&notify.receiver, &notify.group_key]));
        let addressed = |builder: MessageBuilder| self.to.iter().cloned().fold(builder, MessageBuilder::to);
        addressed(Message::builder().from(self.from.clone()))
            .subject(title(notify))
            .message_id(Some(format!("<{}@keelson>", notify.key)))
            .in_reply_to(thread.clone())
            .references(thread)
            .header(ContentType::TEXT_PLAIN)
            .body(text(notify, &self.external_url))
    }
}

fn failure(error: &smtp::Error) -> Failure {
    let said = format!("the mail server: {error}");
    if error.is_permanent() { Failure::reject(said) } else { Failure::retry(said) }
}

fn text(notify: &Notify, external_url: &str) -> String {
    let mut paragraphs: Vec<String> = notify.alerts.iter().map(paragraph).collect();
    if notify.more > 0 {
        paragraphs.push(format!("… and {} more that fire.", notify.more));
    }
    paragraphs.push(format!("{external_url}/api/monitoring/alerts"));
    paragraphs.join("\n\n")
}

fn paragraph(alert: &Alert) -> String {
    let times = [
        ("since", alert.starts_at_ms),
        ("until", alert.ends_at_ms.filter(|_| status(alert.state) == "resolved")),
    ];
    let times = times.into_iter().filter_map(|(name, ms)| Some(format!("{name} {}", rfc3339(ms?))));
    let others =
        ["description", "runbook_url"].iter().filter_map(|name| alert.annotations.get(*name).cloned());
    let mut lines = vec![format!("{}: {}", status(alert.state), summary(alert)), labels(alert)];
    lines.extend(times.chain(others.filter(|text| !text.is_empty())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message as _;

    use super::*;

    fn email() -> Email {
        let smtp = Smtp { url: "smtp://127.0.0.1:1".to_owned().into(), from: "keelson@example.com".into() };
        Email::new(&smtp, &["Ada <ada@example.com>".into(), "bob@example.com".into()], "http://keelson")
            .unwrap()
    }

    #[tokio::test]
    async fn a_mail_says_what_happened_under_an_id_of_its_own() {
        let notify = Notify::example();
        let mail = String::from_utf8(email().message(&notify).unwrap().formatted()).unwrap();
        for expected in [
            "To: Ada <ada@example.com>, bob@example.com",
            "Subject: [FIRING:4] HighErrorRate",
            "Message-ID: <9d2f7c1e5a7d3a9f6b2f4a1c0e8d1122@keelson>",
            "References: <",
            "service_name=3Dcontent",
            "since 2025-11-24T16:00:00.5Z",
        ] {
            assert!(mail.contains(expected), "{expected}: {mail}");
        }
    }

    #[tokio::test]
    async fn a_mail_server_that_is_away_may_come_back() {
        assert!(matches!(email().send(&Notify::example()).await, Err(Failure::Retry { .. })));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        let smtp = |url: &str, from: &str| Smtp { url: url.to_owned().into(), from: from.into() };
        let error = Email::new(&smtp("nonsense://user:hunter2@host", "a@b.c"), &[], "").unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        assert!(Email::new(&smtp("smtp://host", "nobody"), &[], "").is_err());
    }
}
