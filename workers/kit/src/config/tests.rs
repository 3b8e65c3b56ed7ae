use std::fs;

use serde::{Deserialize, Serialize};

use super::*;
use crate::role::{Context, Role};

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct SampleConfig {
    threshold_ms: u64,
    enabled: bool,
    hosts: Vec<String>,
    api_key: Option<Secret>,
    limits: Limits,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    series: u32,
}

struct Sample;

impl Role for Sample {
    const NAME: &'static str = "sample";
    const SUMMARY: &'static str = "A role for tests";
    type Config = SampleConfig;

    fn env() -> &'static [(&'static str, &'static str)] {
        &[
            ("SAMPLE_HOSTS", "hosts"),
            ("SAMPLE_KEY", "api_key"),
            ("SAMPLE_ON", "enabled"),
            ("SAMPLE_MS", "threshold_ms"),
        ]
    }

    fn validate(config: &SampleConfig) -> Vec<ConfigError> {
        let absurd = config.threshold_ms > 1_000_000;
        absurd.then(|| ConfigError::new("threshold_ms", "must be at most 1000000")).into_iter().collect()
    }

    async fn start(_: SampleConfig, _: Context) -> anyhow::Result<()> {
        Ok(())
    }
}

const ROLES: &[&dyn AnyRole] = &[&Sample];

fn load(toml: &str, env: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Config, ConfigErrors> {
    let path = std::env::temp_dir().join(format!("keelson-{}.toml", uuid::Uuid::new_v4()));
    fs::write(&path, toml).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let flag = |(name, key, value): &(&str, &str, &str)| Flag {
        name: (*name).into(),
        key: (*key).into(),
        value: (*value).into(),
    };
    let inputs = Inputs {
        file: Some(path.clone()),
        env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        flags: flags.iter().map(flag).collect(),
    };
    let loaded = Config::load(ROLES, &inputs);
    let _ = fs::remove_file(path);
    loaded
}

fn errors(toml: &str, env: &[(&str, &str)]) -> Vec<String> {
    let Err(ConfigErrors(errors)) = load(toml, env, &[]) else { return Vec::new() };
    errors.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect()
}

fn setting(config: &Config, key: &str) -> String {
    let found = config.settings().iter().find(|setting| setting.key == key);
    found.map_or("absent".into(), |setting| format!("{} from {}", setting.value, short(&setting.origin)))
}

fn short(origin: &Origin) -> String {
    match origin {
        Origin::File(_) => "file".into(),
        other => other.to_string(),
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = load("", &[], &[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(setting(&config, "http.addr"), "\"127.0.0.1:8080\" from default");
    assert_eq!(setting(&config, "sample.limits.series"), "0 from default");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let toml = "data_dir = 'a'\n[http]\naddr = '127.0.0.1:1'\n[sample]\nthreshold_ms = 1";
    let env = [("KEELSON_HTTP_ADDR", "127.0.0.1:2"), ("SAMPLE_MS", "2"), ("SAMPLE_ON", "true")];
    let config = load(toml, &env, &[("--http-addr", "http.addr", "127.0.0.1:3")])
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(setting(&config, "data_dir"), "\"a\" from file");
    assert_eq!(setting(&config, "sample.threshold_ms"), "2 from SAMPLE_MS");
    assert_eq!(setting(&config, "sample.enabled"), "true from SAMPLE_ON");
    assert_eq!(setting(&config, "http.addr"), "\"127.0.0.1:3\" from --http-addr");
}

#[test]
fn a_text_becomes_the_type_of_its_key() {
    let env = [("SAMPLE_HOSTS", "a:1, b:2"), ("SAMPLE_KEY", "12345")];
    let config = load("", &env, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let hosts = config.section("sample")["hosts"].to_string();
    assert_eq!(hosts, r#"["a:1", "b:2"]"#);
    assert_eq!(setting(&config, "sample.api_key"), format!("\"{REDACTED}\" from SAMPLE_KEY"));
}

#[test]
fn all_errors_are_reported_together_each_naming_its_key() {
    let toml = r#"
        data_dir = 7
        colour = "red"
        [http]
        addr = "nowhere"
        [sample]
        threshold_ms = -1
        treshold_ms = 2
        api_key = 987654
        [sample.limits]
        series = "many"
        depth = 3
        [elsewhere]
        a = 1
        [[auth.tokens]]
        id = "ok"
        sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
        scopes = ["read"]
        [[auth.tokens]]
        id = "bad"
        sha256 = "12"
        scopes = ["read"]
        [[auth.tokens]]
        sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
        scopes = ["everything"]
    "#;
    let found = errors(toml, &[("SAMPLE_MS", "soon"), ("NATS_URL", "nats://ok:4222")]);
    for key in [
        "data_dir",
        "colour",
        "http.addr",
        "sample.threshold_ms",
        "sample.treshold_ms",
        "sample.api_key",
        "sample.limits.series",
        "sample.limits.depth",
        "elsewhere.a",
        "auth.tokens[1].sha256",
        "auth.tokens[2]",
    ] {
        assert!(found.iter().any(|error| error.starts_with(key)), "{key} is missing from {found:#?}");
    }
    let of_threshold = found.iter().filter(|error| error.starts_with("sample.threshold_ms")).count();
    assert_eq!((found.len(), of_threshold), (12, 2), "{found:#?}");
    assert!(!found.join("").contains("987654"), "a secret shows in {found:#?}");
}

#[test]
fn a_rule_of_the_role_names_the_whole_key_and_its_origin() {
    let Err(ConfigErrors(errors)) = load("", &[("SAMPLE_MS", "2000000")], &[]) else {
        panic!("a threshold of 2000000 was accepted")
    };
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(error.to_string(), "sample.threshold_ms: must be at most 1000000 (from SAMPLE_MS)");
}

#[test]
fn listening_to_the_world_needs_tokens() {
    let found = errors("[http]\naddr = '0.0.0.0:80'", &[]);
    assert!(matches!(found.as_slice(), [error] if error.starts_with("http.addr")), "{found:?}");
}

#[test]
fn a_file_that_was_named_must_exist() {
    let inputs = Inputs { file: Some("/nowhere/keelson.toml".into()), ..Inputs::default() };
    assert!(matches!(Config::load(ROLES, &inputs), Err(ConfigErrors(errors)) if errors.len() == 1));
}

#[test]
fn what_is_wrong_is_told_without_what_may_be_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keelson.toml");
    for (text, says) in [
        ("[http]\n\n[nats]\npassword = \"hunter2\n", "line 4"),
        ("nats = \"nats://me:hunter2@bus\"\n", "expected"),
        ("[http]\naddr = \"hunter2\", expected x\"\n", "line 2"),
    ] {
        fs::write(&file, text).unwrap();
        let inputs = Inputs { file: Some(file.clone()), ..Inputs::default() };
        let said = Config::load(&[], &inputs).unwrap_err().to_string();
        assert!(said.contains(says) && !said.contains("hunter2"), "{said}");
    }
}
