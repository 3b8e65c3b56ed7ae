//! Applications that know nothing of Keelson: the OpenTelemetry SDKs of Node and Python with their default auto-instrumentation and their default
//! batch delay, exporting to /v1/traces. The counts match the requests that were made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keelson_tests::binary::repository;
use keelson_tests::keelson::{READY_WITHIN, Up};
use keelson_tests::place::TOKEN;
use keelson_tests::process::Process;

/// Requests of each kind.
const EACH: u64 = 25;
/// Five seconds is the SDKs' default batch delay.
const EXPORTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn node_is_counted() {
    is_counted("node", node(), "/videos/:id", 0).await;
}

#[tokio::test]
async fn python_is_counted_under_the_old_names() {
    is_counted("python-old", python(), "/videos/<int:video>", EACH).await;
}

#[tokio::test]
async fn python_is_counted_under_the_new_names() {
    let mut command = python();
    command.env("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database");
    is_counted("python-new", command, "/videos/<int:video>", EACH).await;
}

async fn is_counted(service: &str, command: Command, template: &str, queries: u64) {
    let up = Up::start().await;
    let application = Application::start(&up, service, command).await;
    make_requests(&application).await;

    let page = up.client().scrape_until(EXPORTED_WITHIN, |page| page.requests() >= 4 * EACH).await;
    let expected: BTreeMap<u16, u64> = [200, 201, 404, 500].map(|status| (status, EACH)).into();
    println!("{service}: {:?}", page.by_status(service));
    assert_eq!(page.by_status(service), expected);
    let of = |route: &str, status: &str| {
        let labels =
            [("service_name", service), ("http_route", route), ("http_response_status_code", status)];
        page.sum("http_server_requests_total", &labels) as u64
    };
    assert_eq!(of(template, "200"), EACH, "the template is the route, whatever its parameter");
    assert_eq!((of("/videos", "201"), of("/flaky", "500")), (EACH, EACH));
    let timed = page.sum("http_server_request_duration_seconds_count", &[("service_name", service)]);
    assert_eq!(timed as u64, 4 * EACH);
    let queried = page.sum("db_client_operation_duration_seconds_count", &[("service_name", service)]);
    assert_eq!(queried as u64, queries);
}

/// A server that an OpenTelemetry SDK watches, which exports to Keelson.
pub struct Application {
    _process: Process,
    port: String,
}

impl Application {
    /// Starts one and waits until it listens.
    pub async fn start(up: &Up, service: &str, mut command: Command) -> Self {
        command.env("OTEL_SERVICE_NAME", service);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", up.place().url());
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{TOKEN}"));
        command.env("OTEL_METRICS_EXPORTER", "none").env("OTEL_LOGS_EXPORTER", "none");
        let mut process = Process::spawn(service, command);
        let port = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
        let port = process.line(READY_WITHIN, port).await;
        Self { _process: process, port }
    }

    /// Where one of its paths is.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn make_requests(server: &Application) {
    let http = reqwest::Client::new();
    let get = async |path: String| http.get(server.url(&path)).send().await.expect("an answer").status();
    for i in 0..EACH {
        assert_eq!(get(format!("/videos/{i}")).await, 200);
        assert_eq!(get("/flaky".into()).await, 500);
        assert_eq!(get(format!("/nowhere/{i}")).await, 404);
        let posted = http.post(server.url("/videos")).send().await.expect("an answer");
        assert_eq!(posted.status(), 201);
    }
}

/// The server in JavaScript under Node's SDK.
pub fn node() -> Command {
    let mut command = Command::new("node");
    let modules = tool("node/node_modules");
    command
        .arg("--require")
        .arg(modules.join("@opentelemetry/auto-instrumentations-node/build/src/register.js"));
    command.arg(foreign("server.js")).env("NODE_PATH", modules);
    command
}

/// The server in Python under Python's SDK.
pub fn python() -> Command {
    let mut command = Command::new(tool("python/bin/opentelemetry-instrument"));
    command.arg(tool("python/bin/python")).arg(foreign("server.py"));
    command
}

pub fn foreign(file: &str) -> PathBuf {
    repository().join("tests/foreign").join(file)
}

pub fn tool(path: &str) -> PathBuf {
    let path = repository().join(".tools").join(path);
    assert!(path.exists(), "there is no {}: `compose/tools/setup tests` fetches it", path.display());
    path
}
