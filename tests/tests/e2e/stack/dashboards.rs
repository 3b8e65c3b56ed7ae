//! Every query of every panel, run by a real Prometheus that scrapes a running Keelson with the configuration and the rules that are shipped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keelson_tests::binary;
use keelson_tests::client::Client;
use keelson_tests::fakes::varnish;
use keelson_tests::keelson::{READY_WITHIN, run};
use keelson_tests::mongod::Mongod;
use keelson_tests::place::{Place, TOKEN};
use keelson_tests::process::Process;
use keelson_tests::prometheus::Prometheus;
use serde_json::Value;

use super::{file, read, yaml};

const PATIENCE: Duration = Duration::from_secs(60);
/// What needs readers at the edge, of which there are none here: its series are there, and a quantile of nothing is not a number.
const OF_NOTHING: &str = "keelson_cdn_time_to_fresh_seconds_bucket";

struct Board {
    name: String,
    json: Value,
}

fn boards() -> Vec<Board> {
    let files = std::fs::read_dir(file("grafana/dashboards")).expect("dashboards");
    let mut boards: Vec<Board> = files
        .map(|entry| entry.expect("an entry"))
        .map(|entry| Board {
            name: entry.file_name().to_string_lossy().into_owned(),
            json: serde_json::from_str(&read(&entry.path())).expect("JSON"),
        })
        .collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    boards
}

impl Board {
    fn panels(&self) -> &Vec<Value> {
        self.json["panels"].as_array().expect("panels")
    }

    /// Panel and query, with Grafana's own variables filled in.
    fn queries(&self) -> Vec<(String, String)> {
        let of = |panel: &Value| {
            let title = format!("{}: {}", self.name, panel["title"].as_str().expect("a title"));
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets
                .into_iter()
                .map(move |target| (title.clone(), filled(target["expr"].as_str().expect("a query"))))
        };
        self.panels().iter().flat_map(of).collect()
    }
}

fn filled(query: &str) -> String {
    query.replace("$__rate_interval", "15s").replace("$service", ".*")
}

#[test]
fn grafana_finds_every_source_and_every_dashboard() {
    let sources = yaml("grafana/provisioning/datasources/keelson.yaml");
    let known: BTreeSet<&str> = sources["datasources"]
        .as_array()
        .expect("sources")
        .iter()
        .filter_map(|source| source["uid"].as_str())
        .collect();
    let folder = &yaml("grafana/provisioning/dashboards/keelson.yaml")["providers"][0]["options"]["path"];
    let grafana = yaml("compose.yaml")["services"]["grafana"].clone();
    let mount = format!("./grafana/dashboards:{}:ro", folder.as_str().expect("a path"));
    assert!(
        grafana["volumes"].as_array().is_some_and(|mounts| mounts.contains(&mount.clone().into())),
        "{mount}"
    );
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        .as_str()
        .expect("a path")
        .to_owned();
    assert!(file("grafana/dashboards").join(home.rsplit('/').next().expect("a name")).is_file());
    let mut uids = BTreeSet::new();
    for board in boards() {
        assert!(uids.insert(board.json["uid"].as_str().expect("a uid").to_owned()), "{}", board.name);
        let mut ids = BTreeSet::new();
        for panel in board.panels() {
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{} {panel}", board.name);
            let uid = panel["datasource"]["uid"].as_str().expect("a source");
            assert!(known.contains(uid), "{}: {uid}", board.name);
        }
    }
    for wanted in ["overview", "red", "cdn", "backups", "services", "itself"] {
        assert!(uids.contains(&format!("keelson-{wanted}")), "{wanted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_panel_returns_data() {
    let (edge, database) = (varnish::start().await, Mongod::start().await);
    database.pymongo("fill");
    let section = format!(
        "[cdn]\nproviders = [\"varnish\"]\ndomain = \"edge.example\"\n[cdn.verify]\nenabled = false\n[cdn.varnish]\nurls = [\"{}\"]\n",
        edge.url()
    );
    let place = Place::new().configured(&section).env("MONGODB_URI", database.uri());
    let mut demo = place.command(binary::keelson());
    demo.args(["up", "--demo"]);
    let _demo = Process::spawn("keelson up --demo", demo);
    let client = Client::new(place.url());
    client.ready(READY_WITHIN).await;
    let prometheus =
        Prometheus::start_as_shipped(&configuration(&place), &read(&file("prometheus/rules.yml")));
    run(&place, &["backups", "create"]);
    run(&place, &["backups", "create", "--incremental"]);
    run(&place, &["services", "register", "itself", &place.url(), "--health", "/healthz"]);

    let queries: Vec<(String, String)> = boards().iter().flat_map(Board::queries).collect();
    assert!(queries.len() > 60, "{}", queries.len());
    let deadline = Instant::now() + PATIENCE;
    let mut missing = queries.clone();
    while !missing.is_empty() {
        let mut left = Vec::new();
        for (panel, query) in missing {
            if !has_data(&prometheus, &query).await {
                left.push((panel, query));
            }
        }
        assert!(Instant::now() < deadline, "no data: {left:#?}");
        missing = left;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("{} queries of {} dashboards have data", queries.len(), boards().len());
    names_are_exported(&client, &queries).await;
    rules_are_well(&prometheus).await;
}

/// What is shipped, for this Keelson, and in a hurry.
fn configuration(place: &Place) -> String {
    let shipped = read(&file("prometheus/prometheus.yml"));
    let said = shipped
        .replace("interval: 15s", "interval: 1s")
        .replace("credentials_file: /etc/keelson/prometheus-token", &format!("credentials: {TOKEN}"))
        .replace("ingress:8080", place.url().trim_start_matches("http://"));
    assert!(said.contains(TOKEN) && !said.contains("ingress"), "{said}");
    said
}

async fn has_data(prometheus: &Prometheus, query: &str) -> bool {
    let Some(answer) = prometheus.get("/api/v1/query", &[("query", query)]).await else { return false };
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let found = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let of_nothing = query.contains(OF_NOTHING);
    found.iter().any(|series| of_nothing || series["value"][1] != "NaN")
}

/// `or vector(0)` gives data for any name at all, so each name is looked for in the export.
async fn names_are_exported(client: &Client, queries: &[(String, String)]) {
    let page =
        client.request(reqwest::Method::GET, "/api/monitoring/prometheus").send().await.expect("a scrape");
    let page = page.text().await.expect("a page");
    for (panel, query) in queries {
        for name in names(query) {
            // An alert that does not fire has no series.
            let exported = name == "keelson_alert_firing"
                || page.contains(&format!("\n{name}{{"))
                || page.contains(&format!("\n{name} "));
            assert!(exported, "{panel}: {name} is not exported");
        }
    }
}

/// The metrics that a query names.
fn names(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let ours = ["keelson_", "http_server_", "db_client_operation", "system_"];
    let labels = ["system_filesystem_mountpoint"];
    words
        .filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)) && !labels.contains(word))
        .collect()
}

async fn rules_are_well(prometheus: &Prometheus) {
    let rules = prometheus.get("/api/v1/rules", &[]).await.expect("an answer");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() >= 6, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        if rule["type"] == "recording" {
            assert!(has_data(prometheus, rule["name"].as_str().expect("a name")).await, "{rule}");
        }
    }
}
