//! A receiver of notifications, as an incident tool is one: it keeps each POST with its Idempotency-Key and its time, and can be told to refuse, to
//! lose its answer, to hang, or to be down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::now_ms;

/// What it does with the next POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes it and says so.
    Take,
    /// Does not take it, and answers with this status.
    Refuse(u16),
    /// Takes it and answers with this status, as when an answer is lost on the way: the same notification has to come again under the same key.
    Lose(u16),
    /// Does not take it and never answers.
    Hang,
}

/// One POST.
#[derive(Clone, Debug)]
pub struct Post {
    /// When it had arrived whole.
    pub at: Instant,
    /// The same in Unix milliseconds.
    pub at_ms: u64,
    /// Its Idempotency-Key; empty without one.
    pub key: String,
    /// Its Authorization.
    pub authorization: Option<String>,
    /// Whether it was taken.
    pub taken: bool,
    /// Its body; null when that is no JSON.
    pub body: Value,
}

/// An alert as a notification tells of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// `firing` or `resolved`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its fingerprint.
    pub fingerprint: String,
    /// RFC 3339.
    pub starts_at: String,
    /// RFC 3339; the year 1 while it fires.
    pub ends_at: String,
}

/// The receiver; it ends with the test.
pub struct Webhook {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

struct Kept {
    posts: Vec<Post>,
    manner: Box<dyn FnMut() -> Manner + Send>,
    /// The keys of what was taken, each with its body.
    taken: BTreeMap<String, Value>,
    /// By status, name and service: how many notifications said it, those that came again under their key counted once.
    said: BTreeMap<[String; 3], usize>,
    /// Keys under which something else came than before.
    changed: BTreeSet<String>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            posts: Vec::new(),
            manner: Box::new(|| Manner::Take),
            taken: BTreeMap::new(),
            said: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl Kept {
    fn keep(&mut self, post: Post) {
        match self.taken.get(&post.key).filter(|_| !post.key.is_empty()) {
            _ if !post.taken => {}
            None => self.count(&post),
            Some(before) if before["alerts"] != post.body["alerts"] => {
                self.changed.insert(post.key.clone());
            }
            Some(_) => {}
        }
        self.posts.push(post);
    }

    fn count(&mut self, post: &Post) {
        self.taken.insert(post.key.clone(), post.body.clone());
        for told in post.alerts() {
            let said = [told.status.clone(), told.label("alertname"), told.label("service_name")];
            *self.said.entry(said).or_default() += 1;
        }
    }
}

impl Told {
    /// A label; empty without it.
    pub fn label(&self, name: &str) -> String {
        self.labels.get(name).cloned().unwrap_or_default()
    }
}

impl Webhook {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let kept = Kept::default();
        let address = listener.local_addr().expect("an address");
        let mut webhook = Self { address, kept: Arc::new(Mutex::new(kept)), server: None };
        webhook.serve(listener);
        webhook
    }

    /// What `webhook_url` is to be.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// How it behaves from now on.
    pub fn behave(&self, manner: Manner) {
        self.behave_by(move || manner);
    }

    /// The same, decided anew for each POST.
    pub fn behave_by(&self, manner: impl FnMut() -> Manner + Send + 'static) {
        self.kept().manner = Box::new(manner);
    }

    /// Stops to listen, and lets go of every connection.
    pub async fn go_down(&mut self) {
        if let Some((down, server)) = self.server.take() {
            down.send_replace(true);
            server.await.expect("the receiver serves");
        }
    }

    /// Listens again, where it did.
    pub async fn come_up(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        self.serve(listener);
    }

    /// Everything that arrived, in order.
    pub fn posts(&self) -> Vec<Post> {
        self.kept().posts.clone()
    }

    /// What a receiver that knows each key once has taken, in the order in which it first came.
    pub fn deduplicated(&self) -> Vec<Post> {
        let mut seen = BTreeSet::new();
        let new = |post: &Post| post.taken && (post.key.is_empty() || seen.insert(post.key.clone()));
        self.posts().into_iter().filter(new).collect()
    }

    /// What it was told, by all that it has taken: each alert of each notification.
    pub fn told(&self) -> Vec<Told> {
        self.deduplicated().iter().flat_map(Post::alerts).collect()
    }

    /// How many notifications that it has taken, each with a key of its own, said that this alert of this service has this status.
    pub fn times(&self, status: &str, alertname: &str, service: &str) -> usize {
        let said = [status, alertname, service].map(str::to_owned);
        self.kept().said.get(&said).copied().unwrap_or(0)
    }

    /// Keys under which it was told one thing first and then another.
    pub fn changed_keys(&self) -> Vec<String> {
        self.kept().changed.iter().cloned().collect()
    }

    /// Waits until `find` finds what it looks for among all that arrived; fails the test with the list when it does not.
    pub async fn wait<T>(&self, what: &str, patience: Duration, find: impl Fn(&[Post]) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            let posts = self.posts();
            if let Some(found) = find(&posts) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what} after {patience:?} among:\n{}", table(&posts));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it is told that this alert of this service has this status; the POST that says so.
    pub async fn told_of(&self, status: &str, alertname: &str, service: &str, patience: Duration) -> Post {
        let what = format!("{status} {alertname} of {service}");
        let says = |post: &&Post| post.taken && post.says(status, alertname, service);
        self.wait(&what, patience, |posts| posts.iter().find(says).cloned()).await
    }

    /// Fails the test when the payload of anything that arrived is not as Alertmanager documents it, or has no key.
    pub fn assert_payloads(&self) {
        for post in self.posts() {
            let wrong = post.wrong();
            assert!(wrong.is_empty(), "{wrong:?} in {:#}", post.body);
        }
    }

    fn serve(&mut self, listener: TcpListener) {
        let (down, mut told) = watch::channel(false);
        let receiver = Receiver { kept: self.kept.clone(), down: told.clone() };
        let app = Router::new().fallback(receive).with_state(receiver);
        let is_down = async move {
            let _ = told.wait_for(|down| *down).await;
        };
        let server = tokio::spawn(async move {
            axum::serve(listener, app).with_graceful_shutdown(is_down).await.expect("the receiver serves");
        });
        self.server = Some((down, server));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("posts")
    }
}

impl Post {
    /// Its alerts.
    pub fn alerts(&self) -> Vec<Told> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |alert: &Value| Told {
            status: text(&alert["status"]),
            labels: serde_json::from_value(alert["labels"].clone()).unwrap_or_default(),
            fingerprint: text(&alert["fingerprint"]),
            starts_at: text(&alert["startsAt"]),
            ends_at: text(&alert["endsAt"]),
        };
        self.body["alerts"].as_array().into_iter().flatten().map(told).collect()
    }

    /// Whether it tells that this alert of this service has this status.
    pub fn says(&self, status: &str, alertname: &str, service: &str) -> bool {
        self.alerts().iter().any(|told| {
            told.status == status
                && told.label("alertname") == alertname
                && told.label("service_name") == service
        })
    }

    /// What is not as Alertmanager documents it (webhook payload version 4), and whether there is no key.
    fn wrong(&self) -> Vec<String> {
        let texts = ["version", "groupKey", "status", "receiver", "externalURL"];
        let objects = ["groupLabels", "commonLabels", "commonAnnotations"];
        let of_alert = ["status", "startsAt", "endsAt", "generatorURL", "fingerprint"];
        let mut wrong = Vec::new();
        wrong.extend(self.key.is_empty().then(|| "no Idempotency-Key".to_owned()));
        wrong.extend((self.body["version"] != "4").then(|| "the version is not 4".to_owned()));
        wrong.extend((!self.body["truncatedAlerts"].is_u64()).then(|| "no truncatedAlerts".to_owned()));
        wrong.extend(self.alerts().is_empty().then(|| "no alerts".to_owned()));
        wrong.extend(
            texts.iter().filter(|name| !self.body[**name].is_string()).map(|name| format!("no {name}")),
        );
        wrong.extend(
            objects.iter().filter(|name| !self.body[**name].is_object()).map(|name| format!("no {name}")),
        );
        for alert in self.body["alerts"].as_array().into_iter().flatten() {
            let missing = of_alert.iter().filter(|name| !alert[**name].is_string());
            wrong.extend(missing.map(|name| format!("an alert without {name}")));
            let odd = ["labels", "annotations"].into_iter().filter(|name| !alert[*name].is_object());
            wrong.extend(odd.map(|name| format!("an alert without {name}")));
        }
        let firing = self.alerts().iter().any(|told| told.status == "firing");
        let status = if firing { "firing" } else { "resolved" };
        wrong.extend((self.body["status"] != status).then(|| format!("the status is not {status}")));
        wrong
    }
}

/// One line a POST, for people.
pub fn table(posts: &[Post]) -> String {
    let alert = |told: &Told| {
        let named: Vec<_> = told.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {{{}}}", told.status, named.join(", "))
    };
    let line = |post: &Post| {
        let alerts: Vec<_> = post.alerts().iter().map(alert).collect();
        let taken = if post.taken { "taken" } else { "not taken" };
        format!("{} | {} | {taken} | {}", post.at_ms, post.key, alerts.join("; "))
    };
    posts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Clone)]
struct Receiver {
    kept: Arc<Mutex<Kept>>,
    down: watch::Receiver<bool>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let manner = receiver.keep(&headers, &body);
    let status = match manner {
        Manner::Take => 200,
        Manner::Refuse(status) | Manner::Lose(status) => status,
        Manner::Hang => {
            let mut down = receiver.down;
            let _ = down.wait_for(|down| *down).await;
            503
        }
    };
    StatusCode::from_u16(status).expect("a status")
}

impl Receiver {
    fn keep(&self, headers: &HeaderMap, body: &str) -> Manner {
        let header = |name: &str| headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let mut kept = self.kept.lock().expect("posts");
        let manner = (kept.manner)();
        kept.keep(Post {
            at: Instant::now(),
            at_ms: now_ms(),
            key: header("idempotency-key").unwrap_or_default(),
            authorization: header("authorization"),
            taken: matches!(manner, Manner::Take | Manner::Lose(_)),
            body: serde_json::from_str(body).unwrap_or_default(),
        });
        manner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn post(webhook: &Webhook, key: &str) -> Result<u16, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().expect("a client");
        let body = r#"{"alerts":[{"status":"firing","labels":{"alertname":"A","service_name":"web"}}]}"#;
        let answer = http.post(webhook.url()).header("idempotency-key", key).body(body).send().await;
        answer.map(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn it_takes_refuses_loses_hangs_and_goes_down_as_it_is_told() {
        let mut webhook = Webhook::start().await;
        assert_eq!(post(&webhook, "a").await.expect("an answer"), 200);
        webhook.behave(Manner::Refuse(400));
        assert_eq!(post(&webhook, "b").await.expect("an answer"), 400);
        webhook.behave(Manner::Lose(500));
        assert_eq!(post(&webhook, "c").await.expect("an answer"), 500);
        webhook.behave(Manner::Hang);
        assert!(post(&webhook, "d").await.expect_err("no answer").is_timeout());
        webhook.go_down().await;
        assert!(post(&webhook, "e").await.expect_err("nobody there").is_connect());
        webhook.come_up().await;
        webhook.behave(Manner::Take);
        assert_eq!(post(&webhook, "c").await.expect("an answer"), 200);

        let keys = |posts: Vec<Post>| posts.into_iter().map(|post| post.key).collect::<Vec<_>>();
        assert_eq!(keys(webhook.posts()), ["a", "b", "c", "d", "c"]);
        assert_eq!(keys(webhook.deduplicated()), ["a", "c"], "c came twice and is one");
        assert_eq!((webhook.told().len(), webhook.times("firing", "A", "web")), (2, 2));
        assert!(webhook.changed_keys().is_empty());
        assert_eq!(webhook.told_of("firing", "A", "web", PATIENCE).await.key, "a");
        assert!(!webhook.posts()[0].wrong().is_empty(), "the payload lacks nearly everything");
    }
}
