//! A bus, services that do as they are told, and workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keelson_kit::bus::Bus;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::operations::Submission;
use keelson_kit::publish::fresh_id;
use keelson_kit::query::AskError;
use keelson_kit::role::{Context, Role};
use keelson_kit::testing::{self, NatsServer, free_port};
use keelson_schemas::message::{Command, Message};
use keelson_schemas::operation::{Operation, State};
use keelson_schemas::services::{Call, CallAnswer, FindService, Register, ServiceStatus, Urls};
use keelson_schemas::subject;
use keelson_services::Services;
use keelson_services::config::ServicesConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const SOON: Duration = Duration::from_secs(20);

/// How a service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// 200, with what was asked.
    Well,
    /// 200 after a while.
    Slow(Duration),
    /// This status, except to checks.
    Fails(u16),
    /// This status, to checks as well.
    Ill(u16),
    /// No HTTP.
    Garbage,
    /// Half of what it announces.
    Half,
    /// Takes the request and says nothing.
    Never,
    /// Sends whoever asks elsewhere.
    Elsewhere,
    /// More than anybody takes.
    Endless,
}

/// A service on a port of its own.
pub struct Service {
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    pub seen: Arc<Seen>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub struct Seen {
    pub checks: AtomicU64,
    pub calls: AtomicU64,
    pub last: Mutex<String>,
    /// How often each value of the header `x-call` came.
    pub each: Mutex<HashMap<String, u64>>,
}

impl Service {
    pub async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let mut service =
            Self { address, manner: Arc::new(Mutex::new(Manner::Well)), seen: Arc::default(), serving: None };
        service.resume().await;
        service
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn calls(&self) -> u64 {
        self.seen.calls.load(Ordering::SeqCst)
    }

    pub fn checks(&self) -> u64 {
        self.seen.checks.load(Ordering::SeqCst)
    }

    /// Its port is closed, with all connections.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    pub async fn resume(&mut self) {
        self.kill().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (manner, seen) = (self.manner.clone(), self.seen.clone());
        self.serving = Some(tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, manner.clone(), seen.clone()));
                while open.try_join_next().is_some() {}
            }
        }));
    }
}

async fn serve(mut stream: TcpStream, manner: Arc<Mutex<Manner>>, seen: Arc<Seen>) {
    let mut read = Vec::new();
    loop {
        let Some(request) = request(&mut stream, &mut read).await else { return };
        let is_check = request.starts_with("GET /health");
        let counted = if is_check { &seen.checks } else { &seen.calls };
        counted.fetch_add(1, Ordering::SeqCst);
        if !is_check {
            let mut each = seen.each.lock().unwrap();
            if let Some(id) = header(&request, "x-call") {
                *each.entry(id.to_owned()).or_default() += 1;
            }
            *seen.last.lock().unwrap() = request.clone();
        }
        let manner = *manner.lock().unwrap();
        let whole = |status: u16, more: &str, body: &str| {
            format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
        };
        let answer = match manner {
            Manner::Slow(wait) => {
                tokio::time::sleep(wait).await;
                whole(200, "", "slow")
            }
            Manner::Fails(_) if is_check => whole(200, "", "ok"),
            Manner::Fails(status) | Manner::Ill(status) => whole(status, "", "no"),
            Manner::Well => whole(200, "content-type: application/json\r\n", "{\"well\":true}"),
            Manner::Garbage => "\u{1}\u{2}SSH-2.0-nonsense\r\n\r\n".to_owned(),
            Manner::Half => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf".to_owned(),
            Manner::Never => std::future::pending().await,
            Manner::Elsewhere => whole(302, "location: http://169.254.169.254/latest/meta-data/\r\n", ""),
            Manner::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'a'; 65_536]).await.is_ok() {}
                return;
            }
        };
        let written = stream.write_all(answer.as_bytes()).await;
        if written.is_err() || matches!(manner, Manner::Garbage | Manner::Half) {
            return;
        }
    }
}

/// Head and body of the next request.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length: usize = header(&text, "content-length").map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                read.drain(..end + 4 + length);
                return Some(text);
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let lines = request.lines().skip(1).take_while(|line| !line.is_empty());
    let mut headers = lines.filter_map(|line| line.split_once(": "));
    headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The bus with some workers on it.
pub struct Fleet {
    pub nats: NatsServer,
    pub bus: Bus,
    workers: Vec<Context>,
}

impl Fleet {
    /// With one worker of this configuration, in TOML.
    pub async fn start(config: &str) -> Self {
        let nats = NatsServer::start().await.unwrap();
        let bus = nats.prepared_bus().await.unwrap();
        let mut fleet = Self { nats, bus, workers: Vec::new() };
        fleet.join(config).await;
        fleet
    }

    /// One worker more; its place.
    pub async fn join(&mut self, config: &str) -> usize {
        let config: ServicesConfig = toml::from_str(config).unwrap();
        let ctx = testing::context(&self.nats.bus().await.unwrap());
        Services::start(config, ctx.clone()).await.unwrap();
        self.workers.push(ctx);
        self.workers.len() - 1
    }

    /// A worker goes, in good order.
    pub async fn leave(&mut self, place: usize) {
        self.workers.remove(place).tasks.shutdown(Duration::from_secs(5)).await;
    }

    pub async fn obeyed<C: Command>(&self, command: &C) -> Operation {
        let submission = Submission::of(fresh_id(), command, "tester".to_owned()).unwrap();
        let operation = self.bus.operations().submit(&submission).await.unwrap();
        let ended = within(SOON, || async {
            let now = self.bus.operations().get(&operation.id).await.ok()??;
            now.state.is_final().then_some(now)
        });
        ended.await.expect("it ends")
    }

    pub async fn register(&self, register: Register) {
        let ended = self.obeyed(&register).await;
        assert_eq!(ended.state, State::Succeeded, "{:?}", ended.error);
    }

    pub async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        noun: &str,
        question: &Q,
    ) -> Result<A, AskError> {
        let subject = subject::qry("services", noun);
        let began = Instant::now();
        loop {
            match self.bus.ask(&subject, question, Duration::from_secs(30)).await {
                // A worker that has just come may not be known to the server yet.
                Err(AskError::NoResponder { .. }) if began.elapsed() < Duration::from_secs(2) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answered => return answered,
            }
        }
    }

    pub async fn status(&self, name: &str) -> ServiceStatus {
        self.ask("status", &FindService { name: name.to_owned() }).await.unwrap()
    }

    pub async fn call(&self, call: &Call) -> CallAnswer {
        self.ask("call", call).await.unwrap()
    }

    /// Waits until a service is as it should be.
    pub async fn until(&self, name: &str, is_so: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        let found = within(SOON, || async {
            let status = self.status(name).await;
            is_so(&status).then_some(status)
        });
        match found.await {
            Some(status) => status,
            None => panic!("{:?}", self.status(name).await),
        }
    }

    /// All events of a type so far.
    pub async fn events<M: Message>(&self, facts: &[&str]) -> Vec<M> {
        let filter = subject::evt("services", "*");
        let mut follow = self.bus.follow(FollowOptions::new("EVENTS", filter, Start::After(0)));
        let mut events = Vec::new();
        while let Some(message) = follow.next_if_any().await.unwrap() {
            if facts.iter().any(|fact| message.subject() == subject::evt("services", fact)) {
                events.push(message.decode().unwrap());
            }
        }
        events
    }
}

/// What something comes to, if it does in time.
pub async fn within<T, Fut: Future<Output = Option<T>>>(
    limit: Duration,
    mut look: impl FnMut() -> Fut,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn service(name: &str, services: &[&Service]) -> Register {
    Register {
        name: name.to_owned(),
        url: Urls::Several(services.iter().map(|service| service.url()).collect()),
        allow: vec!["* /*".to_owned()],
        ..Register::default()
    }
}

pub fn get(service: &str, path: &str) -> Call {
    Call { service: service.to_owned(), path: path.to_owned(), timeout_ms: Some(2_000), ..Call::default() }
}

pub fn post(service: &str, path: &str) -> Call {
    Call { method: "POST".to_owned(), body: Some(Value::from("x")), ..get(service, path) }
}
