//! Services over HTTP, the command line and the bus, as Keelson is shipped: known by the environment, registered, checked, called, broken, recovered; and
//! after kill -9 of everything as they were.

mod traced;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use keelson_tests::keelson::Up;
use keelson_tests::nats;
use keelson_tests::place::{Place, free_port};
use keelson_tests::seed::{rng, seed};
use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/microservices";
const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: &str =
    "[services.check]\ninterval = \"300ms\"\n[services.breaker]\nfailures = 5\nopen_for = \"2s\"\n";
/// Rounds of kill -9.
const ROUNDS: usize = 6;

/// A service that answers with the status that it is told to, but to its checks.
#[derive(Clone)]
struct Content {
    address: SocketAddr,
    says: Arc<AtomicU16>,
    calls: Arc<AtomicU64>,
    /// The trace context of each call.
    traced: Arc<Mutex<Vec<String>>>,
}

impl Content {
    async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let content =
            Self { address, says: Arc::new(200.into()), calls: Arc::default(), traced: Arc::default() };
        let router = Router::new().fallback(answer).with_state(content.clone());
        let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
        tokio::spawn(async move { axum::serve(listener, router).await });
        content
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn say(&self, status: u16) {
        self.says.store(status, Ordering::SeqCst);
    }
}

async fn answer(State(content): State<Content>, request: Request) -> (StatusCode, String) {
    if request.uri().path() == "/health" {
        return (StatusCode::OK, "ok".to_owned());
    }
    content.calls.fetch_add(1, Ordering::SeqCst);
    let traceparent =
        request.headers().get("traceparent").map(|value| value.to_str().expect("ASCII").to_owned());
    content.traced.lock().expect("traces").extend(traceparent);
    let status = StatusCode::from_u16(content.says.load(Ordering::SeqCst)).expect("a status");
    (status, request.uri().path().to_owned())
}

async fn post(up: &Up, path: &str, body: &Value) -> (u16, Option<String>, Value) {
    let request = up.client().request(Method::POST, &format!("{PATH}{path}")).header("prefer", "wait=20");
    let answer = request.json(body).send().await.expect("an answer");
    let retry_after =
        answer.headers().get("retry-after").map(|wait| wait.to_str().expect("ASCII").to_owned());
    (answer.status().as_u16(), retry_after, answer.json().await.unwrap_or_default())
}

async fn call(up: &Up, name: &str) -> (u16, Option<String>, Value) {
    post(up, &format!("/{name}/call"), &json!({"method": "GET", "path": "/v1/videos", "timeout_ms": 5000}))
        .await
}

async fn status(up: &Up, name: &str) -> Value {
    up.client().get(&format!("{PATH}/{name}/status")).await.1
}

async fn until(up: &Up, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = status(up, name).await;
        if is_so(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn services_of_the_environment_are_checked_and_called() {
    let (one, other) = (Content::start().await, Content::start().await);
    let urls = format!("{},{}", one.url(), other.url());
    let up = Up::start_in(Place::new().configured(QUICK).env("CONTENT_SERVICE_URL", urls)).await;
    let now = until(&up, "content", |status| status["health"] == "up").await;
    assert_eq!(now["instances"].as_array().map(Vec::len), Some(2), "{now}");
    assert_eq!(now["breaker"]["state"], "closed", "{now}");
    assert_eq!((&now["breaker"]["failures"], &now["breaker"]["opensUntil"]), (&json!(0), &Value::Null));
    let (answered, _, reply) = call(&up, "content").await;
    assert_eq!(
        (answered, &reply["status"], &reply["body"]),
        (200, &json!(200), &json!("/v1/videos")),
        "{reply}"
    );
    let (_, health) = up.client().get(&format!("{PATH}/health")).await;
    assert_eq!((&health["health"], &health["services"][0]["up"]), (&json!("up"), &json!(2)), "{health}");
    let (_, all) = up.client().get(&format!("{PATH}/status")).await;
    assert_eq!(all["services"][0]["name"], "content", "{all}");
    assert!(up.command(&["services", "list"]).contains(&one.url()));
    let (answered, _, problem) =
        post(&up, "/content/call", &json!({"method": "POST", "path": "/v1/videos"})).await;
    assert_eq!(answered, 403, "{problem}");
    let nobody = reqwest::Client::new().post(format!("{}{PATH}/content/call", up.place().url()));
    assert_eq!(nobody.send().await.expect("an answer").status(), 401, "calls are for admins");
}

#[tokio::test]
async fn five_failures_open_the_breaker_and_it_recovers_by_itself() {
    let content = Content::start().await;
    let up = Up::start_in(Place::new().configured(QUICK)).await;
    let register =
        json!({"name": "content", "url": content.url(), "health": "/health", "allow": ["GET /v1/*"]});
    let (answered, _, operation) = post(&up, "/register", &register).await;
    assert_eq!((answered, &operation["state"]), (200, &json!("succeeded")), "{operation}");
    content.say(500);
    for _ in 0..5 {
        let (answered, _, reply) = call(&up, "content").await;
        assert_eq!((answered, &reply["status"]), (200, &json!(500)), "{reply}");
    }
    let (answered, retry_after, problem) = call(&up, "content").await;
    assert_eq!((answered, &problem["type"]), (503, &json!("urn:keelson:problem:breaker-open")), "{problem}");
    assert!(matches!(retry_after.as_deref(), Some("1" | "2")), "{retry_after:?}");
    let now = status(&up, "content").await;
    assert_eq!((&now["breaker"]["state"], &now["breaker"]["failures"]), (&json!("open"), &json!(5)), "{now}");
    assert!(now["breaker"]["opensUntil"].is_string(), "{now}");
    assert_eq!(content.calls.load(Ordering::SeqCst), 5);
    content.say(200);
    until(&up, "content", |status| status["breaker"]["state"] == "closed").await;
    assert_eq!(call(&up, "content").await.0, 200);
}

#[tokio::test]
async fn the_command_line_and_the_bus_register_trip_reset_and_deregister() {
    let content = Content::start().await;
    let up = Up::start_in(Place::new().configured(QUICK)).await;
    up.command(&["services", "register", "content", &content.url(), "--allow", "GET /v1/*"]);
    assert!(
        up.command(&["services", "register", "content", &content.url(), "--allow", "GET /v1/*"])
            .contains("already")
    );
    up.command(&["services", "trip", "content", "--reason", "by hand"]);
    assert_eq!(call(&up, "content").await.0, 503);
    assert!(up.command(&["services", "list"]).contains("open"));
    up.command(&["services", "reset", "content"]);
    assert_eq!(call(&up, "content").await.0, 200);
    let bus = nats::connect(&up.nats_url()).await;
    bus.publish("keelson.cmd.services.trip", r#"{"name":"content"}"#.into()).await.expect("sent");
    bus.flush().await.expect("sent");
    until(&up, "content", |status| status["breaker"]["state"] == "open").await;
    let asked =
        bus.request("keelson.qry.services.call", r#"{"service":"content","path":"/v1/a"}"#.into()).await;
    let answer: Value = serde_json::from_slice(&asked.expect("an answer").payload).expect("JSON");
    assert_eq!(answer["refused"]["because"], "breaker-open", "{answer}");
    up.command(&["services", "deregister", "content"]);
    let (gone, problem) = up.client().get(&format!("{PATH}/content/status")).await;
    assert_eq!(gone, 404, "{problem}");
}

#[tokio::test]
async fn a_command_that_is_done_is_the_same_one_when_it_is_asked_for_again_under_its_key() {
    let content = Content::start().await;
    let up = Up::start().await;
    up.command(&["services", "register", "content", &content.url()]);
    let deregister = async |key: &str| {
        let request = up.client().request(Method::DELETE, &format!("{PATH}/content"));
        let answer = request.header("idempotency-key", key).header("prefer", "wait=20").send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON")["id"].clone())
    };
    let first = deregister("once").await;
    assert_eq!(first.0, 200);
    assert_eq!(deregister("once").await, first, "there is no such service any more, and yet it is no 404");
    assert_eq!(deregister("twice").await.0, 404);
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let content = Content::start().await;
    let up = Up::start_in(Place::new().configured(QUICK)).await;
    let good = json!({"name": "content", "url": content.url(), "allow": ["GET /v1/*"]});
    assert_eq!(post(&up, "/register", &good).await.0, 200);
    let name = "a".repeat(300);
    for (body, names) in [
        (json!({}), "name"),
        (json!({"name": "a"}), "url"),
        (json!({"name": name, "url": content.url()}), "name"),
        (json!({"name": "a", "url": "ftp://127.0.0.1"}), "ftp"),
        (json!({"name": "a", "url": 7}), "url"),
        (json!({"name": "a", "url": "http://169.254.169.254/"}), "169.254.169.254"),
        (json!({"name": "a", "url": "http://2852039166/"}), "2852039166"),
        (json!({"name": "a", "url": "http://0251.0376.0251.0376/"}), "0251"),
        (json!({"name": "a", "url": "http://[::ffff:169.254.169.254]/"}), "ffff"),
        (json!({"name": "content", "url": "http://127.0.0.1:1"}), "content"),
        (json!({"name": "a", "url": content.url(), "allow": ["FETCH /"]}), "allow"),
        (json!({"name": "a", "url": content.url(), "colour": "red"}), "colour"),
    ] {
        let (answered, _, problem) = post(&up, "/register", &body).await;
        assert_eq!(answered, 422, "{body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|said| said.contains(names)), "{body}: {problem}");
    }
    for (body, expected, names) in [
        (json!({"method": "DELETE", "path": "/v1/a"}), 403, "DELETE"),
        (json!({"method": "GET", "path": "/admin"}), 403, "/admin"),
        (json!({"method": "GET", "path": "http://evil.example/"}), 422, "path"),
        (json!({"path": "/v1/a", "body": "a".repeat(1_100_000)}), 413, "body"),
        (json!({"path": "/v1/a", "timeout_ms": "soon"}), 422, "timeout_ms"),
        (json!({"path": "/v1/a", "colour": "red"}), 422, "colour"),
    ] {
        let (answered, _, problem) = post(&up, "/content/call", &body).await;
        assert_eq!(answered, expected, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|said| said.contains(names)), "{problem}");
    }
    assert_eq!(call(&up, "nobody").await.0, 404);
    assert_eq!(content.calls.load(Ordering::SeqCst), 0);
}

/// Rounds of kill -9 of Keelson and, at its own moments, of the nats-server under it: what was said to be registered is, and what was forced stays so.
#[tokio::test]
async fn no_registration_and_no_breaker_is_lost_by_kill_9() {
    let mut chance = rng(seed(), 5);
    let content = Content::start().await;
    let mut up = Up::start_in(Place::new().configured(QUICK)).await;
    let (mut registered, mut tripped) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let busy_until = Instant::now() + Duration::from_millis(chance.random_range(200..1_500));
        while Instant::now() < busy_until {
            let name = format!("service-{}", registered.len());
            let (answered, _, operation) =
                post(&up, "/register", &json!({"name": name, "url": content.url(), "allow": ["GET /*"]}))
                    .await;
            if answered == 200 && operation["state"] == "succeeded" {
                registered.push(name.clone());
                if chance.random_bool(0.3) {
                    let (answered, _, operation) = post(&up, &format!("/{name}/trip"), &json!({})).await;
                    assert_eq!((answered, &operation["state"]), (200, &json!("succeeded")), "{operation}");
                    tripped.push(name);
                }
            }
        }
        // A registration that is under way when everything dies may be made or not.
        let under_way = format!("service-{}", registered.len());
        let client = up.client();
        let body = json!({"name": under_way, "url": content.url(), "allow": ["GET /*"]});
        let last = tokio::spawn(async move {
            let request =
                client.request(Method::POST, &format!("{PATH}/register")).header("prefer", "wait=20");
            let _ = request.json(&body).send().await;
        });
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..20))).await;
        if round % 2 == 0
            && let Some(server) = up.nats_server()
        {
            let _ = nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL);
        }
        up.process().kill();
        let _ = last.await;
        up.restart().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (answered, all) = up.client().get(&format!("{PATH}/status")).await;
            if answered == 200 {
                let known = |name: &String| {
                    let services = all["services"].as_array().expect("a list");
                    services.iter().find(|service| service["name"] == **name).cloned()
                };
                let lost: Vec<_> = registered.iter().filter(|name| known(name).is_none()).collect();
                assert!(lost.is_empty(), "round {round}: lost {lost:?}");
                for name in &tripped {
                    let service = known(name).expect("it is there");
                    assert_eq!(service["breaker"]["state"], "open", "round {round}: {service}");
                }
                if let Some(service) = known(&under_way) {
                    assert_eq!(service["name"], under_way);
                    registered.push(under_way);
                }
                break;
            }
            assert!(Instant::now() < deadline, "{all}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(
        registered.len() >= ROUNDS && !tripped.is_empty(),
        "{} registered, {} tripped",
        registered.len(),
        tripped.len()
    );
}
