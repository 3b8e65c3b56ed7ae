//! A bus, an origin, a real Varnish in front of it, and CDN workers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use keelson_cdn::Cdn;
use keelson_kit::bus::Bus;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::publish::{Outgoing, fresh_id};
use keelson_kit::role::{Context, Role};
use keelson_kit::testing::{self, NatsServer, free_port};
use keelson_schemas::cdn::{CdnStatus, PurgeOutcome, PurgeOutcomes};
use keelson_schemas::operation::Operation;

pub const SOON: Duration = Duration::from_secs(15);
/// How long copies last, unless a test says otherwise.
pub const LASTS: Duration = Duration::from_secs(600);
/// The host that readers name.
pub const HOST: &str = "edge.example:6081";

/// An origin whose every path has a version, in the body and as its ETag.
#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    state: Arc<Content>,
}

#[derive(Default)]
struct Content {
    versions: Mutex<HashMap<String, u64>>,
    delay_ms: AtomicU64,
    max_age_s: AtomicU64,
    fetches: AtomicU64,
}

impl Origin {
    pub async fn start() -> Self {
        let state = Arc::new(Content { max_age_s: AtomicU64::new(LASTS.as_secs()), ..Content::default() });
        let router = Router::new().fallback(serve).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// The next version of a path.
    pub fn change(&self, path: &str) -> u64 {
        let mut versions = self.state.versions.lock().unwrap();
        let version = versions.entry(path.to_owned()).or_insert(1);
        *version += 1;
        *version
    }

    /// How long answers take after the content was read.
    pub fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// How long copies of what is served from now on last.
    pub fn max_age(&self, age: Duration) {
        self.state.max_age_s.store(age.as_secs(), Ordering::SeqCst);
    }

    pub fn fetches(&self) -> u64 {
        self.state.fetches.load(Ordering::SeqCst)
    }
}

async fn serve(State(state): State<Arc<Content>>, uri: Uri) -> Response {
    state.fetches.fetch_add(1, Ordering::SeqCst);
    let path = uri.path_and_query().unwrap().to_string();
    let version = *state.versions.lock().unwrap().entry(path.clone()).or_insert(1);
    let delay = state.delay_ms.load(Ordering::SeqCst);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let mut response = version.to_string().into_response();
    let headers = response.headers_mut();
    let mut set = |name, value: String| headers.insert(name, HeaderValue::from_str(&value).unwrap());
    set("etag", format!("\"{version}\""));
    set("cache-control", format!("max-age={}", state.max_age_s.load(Ordering::SeqCst)));
    set("surrogate-key", format!("page{} all", path.replace('/', ":")));
    response
}

/// A Varnish with the VCL that is shipped.
pub struct Varnish {
    child: Option<Child>,
    pub port: u16,
    dir: tempfile::TempDir,
    max_restarts: u32,
}

impl Varnish {
    /// With a VCL before the one that is shipped, and a limit of its own.
    async fn start(origin: &Origin, before: &str, max_restarts: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose/varnish/keelson.vcl");
        let vcl = format!(
            "vcl 4.1;\nbackend default {{ .host = \"{}\"; .port = \"{}\"; }}\n{before}\ninclude \"{}\";\n",
            origin.address.ip(),
            origin.address.port(),
            shipped.canonicalize().unwrap().display()
        );
        std::fs::write(dir.path().join("test.vcl"), vcl).unwrap();
        let mut varnish = Self { child: None, port: free_port().unwrap(), dir, max_restarts };
        varnish.resume().await;
        varnish
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// kill -9; its cache is gone with it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The child process of varnishd ends when its parent is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub async fn resume(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let started = Instant::now();
        // Daemons are not on everybody's PATH.
        let program =
            if Path::new("/usr/sbin/varnishd").exists() { "/usr/sbin/varnishd" } else { "varnishd" };
        let child = Command::new(program)
            .args(["-F", "-j", "none", "-s", "malloc,128m", "-a", &format!("127.0.0.1:{}", self.port)])
            .args(["-p", &format!("max_restarts={}", self.max_restarts)])
            .arg("-n")
            .arg(self.dir.path().join("work"))
            .arg("-f")
            .arg(self.dir.path().join("test.vcl"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("varnishd is needed: compose/tools/setup tests");
        self.child = Some(child);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(started.elapsed() < 2 * SOON, "varnishd does not come up: {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All of it.
pub struct Place {
    _server: NatsServer,
    pub bus: Bus,
    pub origin: Origin,
    pub varnish: Varnish,
    pub client: reqwest::Client,
}

impl Place {
    pub async fn new() -> Self {
        Self::behind("", 4).await
    }

    /// With a Varnish of which somebody has changed something.
    pub async fn behind(before: &str, max_restarts: u32) -> Self {
        let server = NatsServer::start().await.unwrap();
        let bus = server.prepared_bus().await.unwrap();
        let origin = Origin::start().await;
        let varnish = Varnish::start(&origin, before, max_restarts).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _server: server, bus, origin, varnish, client }
    }

    /// A worker with the least configuration, and more lines of its section.
    pub async fn worker(&self, more: &str) -> Worker {
        let text = format!(
            "providers = [\"varnish\"]\ndomain = \"{HOST}\"\norigin = \"http://{}\"\n{more}\n[varnish]\nurls = [\"{}\"]\n",
            self.origin.address,
            self.varnish.url()
        );
        let ctx = testing::context(&self.bus);
        Cdn::start(toml::from_str(&text).unwrap(), ctx.clone()).await.unwrap();
        Worker { ctx }
    }

    /// What a reader gets: the version, and whether the edge had it.
    pub async fn read(&self, path: &str) -> (u64, bool) {
        let answer = self
            .client
            .get(format!("{}{path}", self.varnish.url()))
            .header("host", HOST)
            .send()
            .await
            .unwrap();
        let hit = answer.headers()["x-cache"] == "HIT";
        (answer.text().await.unwrap().parse().unwrap(), hit)
    }

    pub async fn publish(&self, subject: &str, body: String) -> u64 {
        let mut outgoing = Outgoing::new(subject, fresh_id(), "test", body);
        outgoing.content_type = "application/json".into();
        self.bus.publish(&outgoing).await.unwrap().sequence
    }

    /// A new version of a path, and the event of it.
    pub async fn change(&self, path: &str) -> u64 {
        let version = self.origin.change(path);
        let body =
            format!(r#"{{"asset":"a","urls":["http://{HOST}{path}"],"version":{{"etag":"{version}"}}}}"#);
        self.publish("keelson.evt.content.changed", body).await;
        version
    }

    /// A command by hand, and how its operation ends.
    pub async fn command(&self, verb: &str, body: &str) -> Operation {
        let sequence = self.publish(&format!("keelson.cmd.cdn.{verb}"), body.to_owned()).await;
        let created = self.bus.stream_info("COMMANDS").await.unwrap().created_ms;
        let message = self.bus.message("COMMANDS", sequence).await.unwrap().unwrap();
        let id = message
            .headers
            .envelope()
            .id
            .unwrap_or_else(|| keelson_schemas::id::operation_by_hand(created, sequence));
        tokio::time::timeout(4 * SOON, async {
            self.bus.operations().watch(&id).finished().await.unwrap().unwrap()
        })
        .await
        .expect("the operation ends")
    }

    /// What became of purges, once it is so many.
    pub async fn outcomes(&self, count: usize) -> Vec<PurgeOutcome> {
        let mut inbox = self.bus.follow(FollowOptions::new("EVENTS", "keelson.evt.cdn.>", Start::After(0)));
        let mut found = Vec::new();
        let reading = async {
            while found.len() < count {
                let message = inbox.next().await.unwrap();
                if !message.subject().ends_with("requested") && !message.subject().ends_with("signals") {
                    found.extend(message.decode::<PurgeOutcomes>().unwrap().outcomes);
                }
            }
        };
        let waited = tokio::time::timeout(8 * SOON, reading).await;
        assert!(waited.is_ok(), "only {} of {count}: {:?}", found.len(), found.last());
        found
    }

    pub async fn status(&self) -> CdnStatus {
        self.bus.ask("keelson.qry.cdn.status", &(), SOON).await.unwrap()
    }
}

/// A worker.
pub struct Worker {
    pub ctx: Context,
}

impl Worker {
    pub async fn stop(self) {
        self.ctx.tasks.shutdown(SOON).await;
    }

    /// As if its process were killed.
    pub async fn cut_off(self) {
        self.ctx.tasks.shutdown(Duration::ZERO).await;
    }
}

/// Waits for what comes in the end.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < 2 * SOON, "it does not come: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
