//! A nats-server, an ingress on a free port, and a client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use keelson_ingress::Ingress;
use keelson_ingress::config::Config;
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::config::{CoreConfig, Scope, Token, TokenHash};
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::incoming::Stored;
use keelson_kit::node::NodeId;
use keelson_kit::role::{Context, Role};
use keelson_kit::tasks::Tasks;
use keelson_kit::testing::{NatsServer, free_port};
use keelson_schemas::telemetry::Batch;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

/// The tokens that the fixture knows, by their scopes.
pub const TOKENS: [(&str, Scope); 3] =
    [("t-admin", Scope::Admin), ("t-read", Scope::Read), ("t-telemetry", Scope::Telemetry)];

pub struct Fixture {
    pub server: NatsServer,
    pub bus: Bus,
    pub tasks: Tasks,
    pub client: Client,
    addr: SocketAddr,
    context: Context,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub async fn start_with(config: Config) -> Self {
        let server = NatsServer::start().await.expect("a nats-server");
        let bus = server.prepared_bus().await.expect("a bus");
        let clock = Clock::system();
        let tasks = Tasks::new(clock.clone());
        let mut core = CoreConfig::default();
        core.http.addr = free_addr();
        core.auth.tokens = TOKENS
            .map(|(secret, scope)| Token {
                id: secret.into(),
                sha256: TokenHash::of(secret),
                scopes: vec![scope],
                expires: None,
            })
            .into();
        let addr = core.http.addr;
        let node = NodeId::ephemeral();
        let core = Arc::new(core);
        let context = Context {
            bus: bus.clone(),
            clock,
            tasks: tasks.clone(),
            node,
            core,
            config: keelson_kit::config::ConfigSource::default(),
        };
        Ingress::start(config, context.clone()).await.expect("the ingress starts");
        Self { server, bus, tasks, client: Client::new(), addr, context }
    }

    /// What other roles are started with.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(self.url(path)).header("content-type", content_type).body(body)
    }

    pub fn post_json(&self, path: &str, body: &Value) -> RequestBuilder {
        self.post(path, "application/json", body.to_string())
    }

    /// Every batch on the telemetry stream, oldest first.
    pub async fn batches(&self) -> Vec<Batch> {
        let stored = self.stored("TELEMETRY").await;
        stored.iter().map(|message| message.decode().expect("a batch")).collect()
    }

    /// Every message of a stream.
    pub async fn stored(&self, stream: &str) -> Vec<Stored> {
        let count = self.bus.stream_info(stream).await.expect("a stream").messages;
        let mut follow = self.bus.follow(FollowOptions::new(stream, ">", Start::After(0)));
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.push(follow.next().await.expect("a message"));
        }
        messages
    }
}

/// The status, the headers wanted, and the JSON of an answer.
pub async fn problem(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/problem+json", "{status}");
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status);
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    (status, body)
}

pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn free_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port().expect("a port")).into()
}
