//! compose.yaml and what it names: files, ports, users, environment.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use keelson_tests::binary;
use keelson_tests::nats::{password_variable, users};
use serde_json::Value;

use super::{file, passes, read, yaml};

/// What `compose/tools/secrets` makes, in a folder of the test.
struct Secrets(tempfile::TempDir);

impl Secrets {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        passes(Command::new(file("tools/secrets")).arg(dir.path()));
        Self(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let text = read(&self.path(".env"));
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

fn services() -> serde_json::Map<String, Value> {
    yaml("compose.yaml")["services"].as_object().expect("services").clone()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn environment(service: &Value) -> Vec<(&str, &str)> {
    let all = service["environment"].as_object().into_iter().flatten();
    all.map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect()
}

/// The services that run an image of ours, by what they run.
fn ours() -> Vec<(String, Value)> {
    services().into_iter().filter(|(_, service)| service["image"] == "keelson").collect()
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let secrets = Secrets::make();
    let volumes = yaml("compose.yaml")["volumes"].as_object().expect("volumes").clone();
    let mut seen = 0;
    for (name, service) in services() {
        for mount in words(&service["volumes"]) {
            let source = mount.split(':').next().expect("a source");
            let there = match source.strip_prefix("./secrets/") {
                Some(secret) => secrets.path("secrets").join(secret).is_file(),
                None if source.starts_with('.') => file(source).exists(),
                None => volumes.contains_key(source),
            };
            assert!(there, "{name}: {source} is not there");
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn everybody_who_is_named_is_there() {
    let services = services();
    let text = read(&file("compose.yaml"))
        + &read(&file("stack.toml"))
        + &read(&file("prometheus/prometheus.yml")).replace("targets: [\"", "http://")
        + &read(&file("grafana/provisioning/datasources/keelson.yaml"));
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let mut named = BTreeSet::new();
    for scheme in ["http://", "nats://", "mongodb://"] {
        for rest in code.split(scheme).skip(1) {
            let host = rest.split([':', '/', '"', ' ', ',']).next().expect("a host");
            named.insert(host.to_owned());
        }
    }
    for (_, service) in &services {
        let depends = &service["depends_on"];
        named.extend(words(depends).into_iter().map(str::to_owned));
        named.extend(depends.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    for here in ["127.0.0.1", "localhost"] {
        named.remove(here);
    }
    assert!(named.len() > 6, "{named:?}");
    for name in named {
        assert!(services.contains_key(&name), "{name} is no service");
    }
}

#[test]
fn every_secret_is_made_and_asked_for() {
    let made: BTreeSet<String> = Secrets::make().variables().into_iter().map(|(name, _)| name).collect();
    let text = read(&file("compose.yaml"));
    let asked = text.split("${").skip(1).filter_map(|rest| rest.split([':', '}']).next()).map(str::to_owned);
    assert_eq!(asked.collect::<BTreeSet<_>>(), made);
    let nats = &services()["nats"];
    let told: BTreeSet<String> = environment(nats).into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(told, users().iter().map(|user| password_variable(user)).collect());
}

#[test]
fn secrets_stay_as_they_were_made_and_are_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let secrets = Secrets::make();
    let before = (secrets.variables(), read(&secrets.path("secrets/admin-token")));
    passes(Command::new(file("tools/secrets")).arg(secrets.0.path()));
    assert_eq!((secrets.variables(), read(&secrets.path("secrets/admin-token"))), before);
    for private in [".env", "secrets/admin-token"] {
        let mode = std::fs::metadata(secrets.path(private)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private}");
    }
    let values: BTreeSet<String> = before.0.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(values.len(), before.0.len(), "no two are the same");
}

#[test]
fn every_role_has_a_container_and_is_its_own_user() {
    let listed = keelson_tests::keelson::run(&keelson_tests::place::Place::new(), &["roles", "--json"]);
    let roles: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    let mut run = BTreeSet::new();
    for (name, service) in ours() {
        let environment: std::collections::BTreeMap<_, _> = environment(&service).into_iter().collect();
        let user = match words(&service["command"])[..] {
            ["run", role] => {
                run.insert(role.to_owned());
                role.to_owned()
            }
            ["bus", "apply"] => "admin".to_owned(),
            ref other => panic!("{name} runs {other:?}"),
        };
        assert_eq!(environment["NATS_USER"], user, "{name}");
        assert_eq!(environment["NATS_PASSWORD"], format!("${{{}:?}}", password_variable(&user)), "{name}");
        assert_eq!(environment["NATS_INBOX_PREFIX"], format!("_INBOX_{user}"), "{name}");
    }
    let roles = roles.iter().filter_map(|role| role["name"].as_str()).map(str::to_owned);
    assert_eq!(run, roles.collect());
}

/// Keelson reads each container's environment and file, and finds every variable that it was given to be one of its own.
#[test]
fn keelson_takes_what_every_container_is_given() {
    let secrets = Secrets::make();
    let variables = secrets.variables();
    for (name, service) in ours() {
        let mut command = Command::new(binary::keelson());
        command.args(["config", "show", "--json"]).env_clear();
        for (variable, value) in environment(&service) {
            let value = variables
                .iter()
                .fold(value.to_owned(), |value, (of, is)| value.replace(&format!("${{{of}:?}}"), is));
            assert!(!value.contains('$'), "{name}: {variable}");
            command.env(variable, value);
        }
        command.env("KEELSON_CONFIG", secrets.path("secrets/keelson.toml"));
        let shown = passes(&mut command);
        for (variable, _) in environment(&service) {
            if variable != "KEELSON_CONFIG" {
                assert!(shown.contains(variable), "{name}: {variable} sets nothing:\n{shown}");
            }
        }
        for (_, password) in &variables {
            assert!(!shown.contains(password.as_str()), "{name} shows a password");
        }
    }
}

#[test]
fn ports_agree() {
    let all = services();
    let port_of = |service: &str, variable: &str| {
        let found = environment(&all[service]).into_iter().find(|(name, _)| *name == variable);
        let value = found.unwrap_or_else(|| panic!("{service} has no {variable}")).1;
        let digits = value.rsplit(':').next().expect("a port");
        digits.chars().take_while(char::is_ascii_digit).collect::<String>()
    };
    let published = |service: &str| {
        let ports = words(&all[service]["ports"]);
        assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{service}: {ports:?}");
        ports[0].rsplit(':').next().expect("a port").to_owned()
    };
    let http = port_of("ingress", "KEELSON_HTTP_ADDR");
    assert_eq!(published("ingress"), http);
    assert!(all["ingress"]["healthcheck"].to_string().contains(&format!(":{http}/readyz")));
    assert!(read(&file("Dockerfile")).contains(&format!("EXPOSE {http}\n")));
    let target = &yaml("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target, &format!("ingress:{http}"));
    let command = words(&all["nats"]["command"]).join(" ");
    assert_eq!(published("nats"), port_of("ingress", "NATS_URL"));
    assert!(command.contains(&format!("-p {} ", published("nats"))), "{command}");
    let varnish = words(&all["varnish"]["command"]).join(" ");
    assert!(varnish.ends_with(&format!(":{}", port_of("cdn", "VARNISH_URLS"))), "{varnish}");
    assert_eq!(published("varnish"), port_of("cdn", "CDN_DOMAIN"));
    assert_eq!(
        port_of("steward", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        "4317",
        "OTLP over gRPC, which is what Keelson speaks"
    );
    let sources = yaml("grafana/provisioning/datasources/keelson.yaml");
    for (service, source) in ["prometheus", "jaeger", "alertmanager"].into_iter().zip(0..) {
        assert_eq!(sources["datasources"][source]["url"], format!("http://{service}:{}", published(service)));
    }
}

#[test]
fn the_image_is_built_of_what_is_here_and_runs_as_nobody() {
    let text = read(&file("Dockerfile"));
    let build = &ours()[0].1["build"];
    assert!(
        file(build["context"].as_str().expect("a context"))
            .join(build["dockerfile"].as_str().expect("a file"))
            .is_file()
    );
    let manifest = read(&binary::repository().join("Cargo.toml"));
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version");
    let rust = rust.trim_end_matches('"');
    assert!(text.contains(&format!("FROM rust:{rust}-")), "the compiler is that of Cargo.toml");
    assert!(text.contains("restic") && text.contains("HEALTHCHECK"));
    let last = text.rsplit("\nFROM ").next().expect("a stage");
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.parse::<u32>().is_ok_and(|uid| uid > 0), "{user}");
    let ignored = read(&binary::repository().join(".dockerignore"));
    for private in ["compose/.env", "compose/secrets", ".keelson", "target"] {
        assert!(ignored.lines().any(|line| line == private), "{private} would be sent to the engine");
    }
}

#[test]
fn prometheus_alertmanager_and_varnish_take_their_files() {
    let secrets = Secrets::make();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = read(&file("prometheus/prometheus.yml"));
    let token = secrets.path("secrets/prometheus-token");
    let config = config.replace("/etc/keelson/prometheus-token", token.to_str().expect("a path"));
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("it can be written");
    std::fs::copy(file("prometheus/rules.yml"), dir.path().join("rules.yml")).expect("it can be copied");
    for config in [dir.path().join("prometheus.yml"), file("prometheus/local.yml")] {
        let said = passes(Command::new("promtool").args(["check", "config"]).arg(config));
        assert!(said.contains("rules found"), "{said}");
    }
    passes(Command::new("amtool").arg("check-config").arg(file("alertmanager.yml")));
    vcl(dir.path());
}

/// Varnish looks names up when it compiles, and `origin` is one in the stack alone.
fn vcl(dir: &Path) {
    let stack = read(&file("varnish/stack.vcl"));
    assert!(stack.contains("\"origin\""));
    std::fs::write(dir.join("stack.vcl"), stack.replace("\"origin\"", "\"127.0.0.1\""))
        .expect("it can be written");
    std::fs::copy(file("varnish/keelson.vcl"), dir.join("keelson.vcl")).expect("it can be copied");
    let work = dir.join("varnish");
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    passes(
        Command::new("varnishd")
            .env("PATH", path)
            .arg("-C")
            .arg("-n")
            .arg(work)
            .arg("-f")
            .arg(dir.join("stack.vcl")),
    );
}
