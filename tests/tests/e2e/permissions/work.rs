//! Every role at its real work as its own user, and people and applications beside it: the server refuses nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use keelson_schemas::codec;
use keelson_tests::alerting::{SHORT_RULE, alerts_when, is, short_rule};
use keelson_tests::binary;
use keelson_tests::client::{Client, now_ms};
use keelson_tests::fakes::{Fake, cloudfront, varnish};
use keelson_tests::keelson::READY_WITHIN;
use keelson_tests::ledger::{Sample, Series};
use keelson_tests::mongod::Mongod;
use keelson_tests::nats::NatsServer;
use keelson_tests::place::Place;
use keelson_tests::process::Process;
use keelson_tests::webhook::Webhook;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const ROLES: [&str; 9] =
    ["steward", "metrics", "metrics", "alerting", "cdn", "backup", "services", "audit", "ingress"];

/// Signs the audit trail: bytes in base64.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Each role a process, and a user, of its own.
struct Secured {
    nats: NatsServer,
    place: Place,
    processes: Vec<Process>,
}

impl Secured {
    async fn start(place: Place) -> Self {
        let nats = NatsServer::start_secured().await;
        let mut all = Self { nats, place, processes: Vec::new() };
        all.keelson("admin", &["bus", "apply"]);
        for (number, role) in ROLES.into_iter().enumerate() {
            let mut command = all.command(role, &["run", role]);
            command.env("KEELSON_DATA_DIR", all.place.path().join(format!("{role}-{number}")));
            all.processes.push(Process::spawn(role, command));
        }
        all.client().ready(READY_WITHIN).await;
        all.client().scrape(READY_WITHIN).await;
        all
    }

    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.command(binary::keelson());
        command.args(arguments).envs(self.nats.environment(user));
        command
    }

    /// Runs a command of Keelson as a user; its output when it succeeds.
    fn keelson(&self, user: &str, arguments: &[&str]) -> String {
        let output = self.command(user, arguments).output().expect("keelson runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn client(&self) -> Client {
        Client::new(self.place.url())
    }

    async fn letters(&self) -> usize {
        let (_, page) = self.client().get("/api/dead-letters").await;
        page["letters"].as_array().map_or(0, Vec::len)
    }

    /// Everybody ends in good order; what the server and the roles said of refusals.
    async fn refusals(mut self) -> Vec<String> {
        for process in &mut self.processes {
            if process.ended().is_none() {
                process.terminate(PATIENCE).await;
            }
        }
        let roles = self.processes.iter().map(Process::output).collect::<Vec<_>>().join("\n");
        let said = format!("{}\n{roles}", self.nats.process().output());
        let refused = |line: &&str| line.contains("Violation") || line.contains("the bus refuses");
        said.lines().filter(refused).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_does_its_work_as_its_own_user_and_nothing_is_refused() {
    let (edge, webhook, database) = (varnish::start().await, Webhook::start().await, Mongod::start().await);
    let paid = cloudfront::start().await;
    database.pymongo("fill");
    let section = format!(
        "{}[audit]\nkey = \"{KEY}\"\nseal_every = \"1s\"\n[cdn]\nproviders = [\"varnish\", \"cloudfront\"]\ndomain = \"edge.example\"\nrebound = \"0s\"\n[cdn.verify]\nenabled = false\n[cdn.varnish]\nurls = [\"{}\"]\n",
        short_rule(&webhook),
        edge.url()
    );
    let place = Place::new().configured(&section).env("MONGODB_URI", database.uri());
    let place =
        place.env("CLOUDFRONT_DISTRIBUTION_ID", cloudfront::DISTRIBUTION).env("AWS_ENDPOINT_URL", paid.url());
    let place = place.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
    let place = place.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    let mut all = Secured::start(place).await;

    alerts_and_silences(&all).await;
    purges(&all, [&edge, &paid]).await;
    backups(&all).await;
    services(&all).await;
    dead_letters(&all).await;
    takeover(&mut all).await;
    people(&all).await;

    let refusals = all.refusals().await;
    assert!(refusals.is_empty(), "{}", refusals.join("\n"));
}

async fn alerts_and_silences(all: &Secured) {
    let bad = |n: u64| Sample {
        ts: now_ms() - n,
        series: Series { service: "content".into(), method: "GET".into(), route: "/".into(), status: 500 },
        duration_us: Some(1_000),
    };
    all.client().send("bad", "content", &(0..50).map(bad).collect::<Vec<_>>()).await;
    let fires = |alerts: &[Value]| alerts.iter().any(|alert| is(alert, SHORT_RULE, "content", "firing"));
    alerts_when(&all.client(), "firing", fires).await;
    let matcher = format!("alertname={SHORT_RULE}");
    let silence =
        all.keelson("ingress", &["silences", "add", &matcher, "--duration", "1h", "--comment", "known"]);
    all.keelson("ingress", &["silences", "list"]);
    let id = silence.split_whitespace().next().expect("an id");
    all.keelson("ingress", &["silences", "expire", id]);
    all.keelson("ingress", &["alerts", "groups"]);
    all.keelson("ingress", &["rules", "reload"]);
    all.keelson("ingress", &["rules", "test", "--since", "10m"]);
}

async fn purges(all: &Secured, [edge, paid]: [&Fake; 2]) {
    let mut application = all.nats.wire("application").await;
    application.subscribe("_INBOX_application.>").await.expect("its own");
    let changed =
        json!({"asset": "video:42", "urls": ["https://edge.example/42"], "tags": ["video:42"]}).to_string();
    let sent =
        application.publish("keelson.evt.content.changed", "_INBOX_application.1", changed.as_bytes()).await;
    sent.expect("an application may");
    application.receives(|ack| ack.windows(6).any(|window| window == b"EVENTS")).await;
    all.keelson("ingress", &["cdn", "purge", "--tag", "user:7", "--provider", "varnish"]);
    all.keelson("ingress", &["cdn", "status"]);
    // A consumer that is lost is made again by its own worker.
    let mut admin = all.nats.wire("admin").await;
    admin.publish("$JS.API.CONSUMER.DELETE.COMMANDS.cdn", "", b"").await.expect("the admin may");
    all.keelson("ingress", &["cdn", "purge", "--tag", "user:8", "--provider", "varnish"]);
    let deadline = Instant::now() + PATIENCE;
    for (at, item) in [(edge, "video:42"), (edge, "user:7"), (edge, "user:8"), (paid, "/42")] {
        while !at.kept().calls.iter().any(|call| call.items.iter().any(|named| named == item)) {
            assert!(Instant::now() < deadline, "{item} was not purged");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn backups(all: &Secured) {
    let first: Value =
        serde_json::from_str(&all.keelson("ingress", &["backups", "create", "--json"])).expect("JSON");
    all.keelson("ingress", &["backups", "create", "--incremental"]);
    all.keelson("ingress", &["backups", "list"]);
    all.keelson("ingress", &["backups", "show", "latest"]);
    all.keelson(
        "ingress",
        &["backups", "restore", "latest", "--only", "click.videos", "--rename", "click.videos=again.videos"],
    );
    let first = first["id"].as_str().expect("an id");
    all.keelson("ingress", &["backups", "hold", first]);
    all.keelson("ingress", &["backups", "hold", first, "--release"]);
    all.keelson("ingress", &["backups", "delete", first]);
    all.keelson("ingress", &["backups", "automate", "--schedule", "* * * * * *", "--enable"]);
    let deadline = Instant::now() + PATIENCE;
    while !all.keelson("ingress", &["backups", "list", "--json"]).contains("\"schedule\"") {
        assert!(Instant::now() < deadline, "no backup was made by itself");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    all.keelson("ingress", &["backups", "automate", "--disable"]);
}

/// Keelson itself is the service.
async fn services(all: &Secured) {
    let url = all.place.url();
    all.keelson(
        "ingress",
        &["services", "register", "itself", &url, "--health", "/healthz", "--allow", "GET /*"],
    );
    let deadline = Instant::now() + PATIENCE;
    while all.client().get("/api/microservices/itself/status").await.1["health"] != "up" {
        assert!(Instant::now() < deadline, "the service was not found to be up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let call = json!({"method": "GET", "path": "/healthz"});
    let (status, answer) = all.client().post("/api/microservices/itself/call", &call).await;
    assert_eq!((status.as_u16(), &answer["status"]), (200, &json!(200)), "{answer}");
    let beat =
        all.client().request(reqwest::Method::POST, "/api/microservices/itself/heartbeat").send().await;
    assert_eq!(beat.expect("an answer").status().as_u16(), 204);
    all.keelson("ingress", &["services", "trip", "itself"]);
    all.keelson("ingress", &["services", "reset", "itself"]);
    all.keelson("ingress", &["services", "deregister", "itself"]);
}

/// What makes no sense to a worker becomes a dead letter, of each stream that has a reader; one is tried again.
async fn dead_letters(all: &Secured) {
    let mut application = all.nats.wire("application").await;
    for subject in ["keelson.tel.4", "keelson.evt.content.changed"] {
        application.publish(subject, "", b"\xc1garbage").await.expect("an application may");
    }
    let mut operator = all.nats.wire("operator").await;
    for subject in [
        "keelson.cmd.alerting.silence",
        "keelson.cmd.backup.backup",
        "keelson.cmd.cdn.purge",
        "keelson.cmd.services.register",
        "keelson.cmd.steward.redrive",
    ] {
        operator.publish(subject, "", b"\xc1garbage").await.expect("an operator may");
    }
    let deadline = Instant::now() + PATIENCE;
    while all.letters().await < 7 {
        assert!(Instant::now() < deadline, "{} dead letters", all.letters().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for letter in ["1", "2", "3"] {
        all.keelson("ingress", &["dead-letters", "redrive", letter]);
    }
}

async fn takeover(all: &mut Secured) {
    all.processes[1].kill();
    let deadline = Instant::now() + PATIENCE;
    while all.client().try_scrape().await.is_err() {
        assert!(Instant::now() < deadline, "the partitions of a dead replica were not taken over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn people(all: &Secured) {
    let mut operator = all.nats.wire("operator").await;
    operator.subscribe("_INBOX_operator.>").await.expect("his own");
    operator.publish("$SRV.PING", "_INBOX_operator.1", b"").await.expect("he may");
    for worker in [
        "keelson-metrics",
        "keelson-alerting",
        "keelson-cdn",
        "keelson-backup",
        "keelson-services",
        "keelson-audit",
    ] {
        operator.receives(|body| String::from_utf8_lossy(body).contains(worker)).await;
    }
    operator.publish("keelson.qry.alerting.rules", "_INBOX_operator.2", b"").await.expect("he may");
    operator.receives(|body| String::from_utf8_lossy(body).contains(SHORT_RULE)).await;
    all.keelson("operator", &["bus", "plan"]);
    operator.publish("keelson.qry.audit.status", "_INBOX_operator.3", b"").await.expect("he may");
    operator.receives(|body| String::from_utf8_lossy(body).contains("\"signed\":true")).await;
    let verified = all.keelson("operator", &["audit", "verify"]);
    assert!(verified.contains("everything is as it was sealed"), "{verified}");

    let mut auditor = all.nats.wire("auditor").await;
    auditor.subscribe("_INBOX_auditor.>").await.expect("his own");
    let batch = json!({"seq": 1, "batch": 1000}).to_string();
    auditor
        .publish("JS.KEELSON.API.DIRECT.GET.AUDIT", "_INBOX_auditor.1", batch.as_bytes())
        .await
        .expect("he may");
    for subject in ["keelson.cmd.cdn.purge", "keelson.evt.content.changed", "keelson.evt.alerting.fired"] {
        let found = auditor
            .receives(|body| String::from_utf8_lossy(body).contains(&format!("Nats-Subject: {subject}\r")))
            .await;
        assert!(!found.is_empty());
    }
}

/// The server writes its answers to whatever subject a client names, and asks nobody whether that client may publish there. From accounts of their own,
/// applications and auditors reach nothing that way.
#[tokio::test]
async fn an_answer_of_the_server_cannot_be_sent_where_its_asker_may_not_publish() {
    let nats = NatsServer::start_secured().await;
    let place = Place::new();
    let applied =
        place.command(binary::keelson()).args(["bus", "apply"]).envs(nats.environment("admin")).status();
    assert!(applied.expect("keelson runs").success());
    let (mut application, mut auditor) = (nats.wire("application").await, nats.wire("auditor").await);
    let changed = json!({"tags": ["a"], "urls": []}).to_string();
    for target in ["keelson.cmd.cdn.purge", "$KV.leases.metrics.partition.0", "keelson.slice.0"] {
        application.publish("keelson.evt.content.changed", target, changed.as_bytes()).await.expect("it may");
        for question in ["JS.KEELSON.API.DIRECT.GET.AUDIT", "JS.KEELSON.API.STREAM.INFO.AUDIT"] {
            let body: &[u8] = if question.contains("DIRECT") { br#"{"seq":1}"# } else { b"" };
            auditor.publish(question, target, body).await.expect("he may");
        }
    }
    let mut admin = nats.wire("admin").await;
    admin.subscribe("_INBOX_admin.>").await.expect("his own");
    // The events are there, so the answers were written.
    let deadline = Instant::now() + PATIENCE;
    while messages(&mut admin, "EVENTS").await < 3 {
        assert!(Instant::now() < deadline, "the events are not there");
    }
    for stream in ["COMMANDS", "KV_leases", "SLICES"] {
        assert_eq!(messages(&mut admin, stream).await, 0, "{stream}");
    }
}

async fn messages(admin: &mut keelson_tests::wire::Wire, stream: &str) -> u64 {
    admin.publish(&format!("$JS.API.STREAM.INFO.{stream}"), "_INBOX_admin.1", b"").await.expect("he may");
    let info = admin.receives(|_| true).await;
    let info: Value = codec::decode(Some(codec::JSON), info.trim_ascii_end()).expect("JSON");
    info["state"]["messages"].as_u64().expect("a count")
}
