use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

fn document() -> Value {
    openapi()
}

/// Every operation as (`GET /path`, description).
fn operations() -> BTreeMap<String, Value> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths").clone();
    let of_path = |(path, item): (String, Value)| {
        let item = item.as_object().expect("an item").clone();
        item.into_iter()
            .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    };
    paths.into_iter().flat_map(of_path).collect()
}

#[test]
fn the_description_is_openapi_3_1_and_says_what_a_reader_needs() {
    assert!(document()["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for (name, operation) in operations() {
        assert!(operation["summary"].is_string(), "{name} has no summary");
        assert!(operation["security"].is_array(), "{name} does not say who may use it");
        assert!(operation["responses"]["429"].is_object(), "{name} does not say that it is bounded");
    }
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    let document = document();
    let mut unread = vec![&document];
    while let Some(value) = unread.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
        match value {
            Value::Object(members) => unread.extend(members.values()),
            Value::Array(items) => unread.extend(items),
            _ => {}
        }
    }
}

/// Existing tools rely on these paths; the file also shows a reviewer what a change does to the API. `UPDATE_FIXTURES=1 cargo test
/// -p keelson-ingress` writes it anew.
#[test]
fn the_checked_in_description_is_that_of_the_handlers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let made = format!("{:#}\n", openapi());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &made).expect("writes");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == made, "openapi.json is not what the handlers say: UPDATE_FIXTURES=1 writes it anew");
}

#[test]
fn what_was_promised_is_there() {
    let promised = [
        ("GET /healthz", vec![]),
        ("GET /readyz", vec![]),
        ("GET /api/openapi.json", vec![]),
        ("POST /api/telemetry", vec!["telemetry"]),
        ("POST /v1/traces", vec!["telemetry"]),
        ("GET /api/cdn/status", vec!["read"]),
        ("POST /api/cdn/purge", vec!["admin"]),
        ("GET /api/cdn/url", vec![]),
        ("POST /api/cdn/cache", vec!["admin"]),
        ("GET /api/microservices/health", vec!["read"]),
        ("GET /api/microservices/status", vec!["read"]),
        ("POST /api/microservices/register", vec!["admin"]),
        ("DELETE /api/microservices/{serviceName}", vec!["admin"]),
        ("GET /api/microservices/{serviceName}/status", vec!["read"]),
        ("POST /api/microservices/{serviceName}/heartbeat", vec!["admin"]),
        ("POST /api/microservices/{serviceName}/call", vec!["admin"]),
        ("POST /api/microservices/{serviceName}/trip", vec!["admin"]),
        ("POST /api/microservices/{serviceName}/reset", vec!["admin"]),
        ("GET /api/monitoring/metrics", vec!["admin"]),
        ("GET /api/monitoring/prometheus", vec!["read"]),
        ("GET /api/monitoring/alerts", vec!["admin"]),
        ("DELETE /api/monitoring/alerts/{fingerprint}", vec!["admin"]),
        ("GET /api/monitoring/alerts/groups", vec!["admin"]),
        ("GET /api/monitoring/rules", vec!["admin"]),
        ("POST /api/monitoring/rules/reload", vec!["admin"]),
        ("POST /api/monitoring/rules/backtest", vec!["admin"]),
        ("GET /api/monitoring/silences", vec!["read"]),
        ("POST /api/monitoring/silences", vec!["admin"]),
        ("DELETE /api/monitoring/silences/{id}", vec!["admin"]),
        ("GET /api/v2/status", vec!["read"]),
        ("GET /api/v2/receivers", vec!["read"]),
        ("GET /api/v2/alerts", vec!["read"]),
        ("GET /api/v2/alerts/groups", vec!["read"]),
        ("GET /api/v2/silences", vec!["read"]),
        ("POST /api/v2/silences", vec!["admin"]),
        ("GET /api/v2/silence/{silenceID}", vec!["read"]),
        ("DELETE /api/v2/silence/{silenceID}", vec!["admin"]),
        ("POST /api/disaster-recovery/backup", vec!["admin"]),
        ("GET /api/disaster-recovery/backups", vec!["admin"]),
        ("GET /api/disaster-recovery/backup/{backupId}", vec!["admin"]),
        ("POST /api/disaster-recovery/restore", vec!["admin"]),
        ("DELETE /api/disaster-recovery/backup/{backupId}", vec!["admin"]),
        ("GET /api/operations", vec!["read"]),
        ("GET /api/operations/{id}", vec!["read"]),
        ("GET /api/operations/{id}/events", vec!["read"]),
        ("GET /api/dead-letters", vec!["admin"]),
        ("GET /api/dead-letters/{sequence}", vec!["admin"]),
        ("POST /api/dead-letters/{sequence}/redrive", vec!["admin"]),
    ];
    let operations = operations();
    for (name, scopes) in promised {
        let operation = operations.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        let asked: Vec<_> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one["bearer"].as_array())
            .flatten()
            .collect();
        assert_eq!(asked, scopes, "{name}");
    }
}
