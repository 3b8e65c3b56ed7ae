//! Backups over the command line, HTTP and the bus; restored by Keelson, and by restic and pymongo with nothing of Keelson.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keelson_tests::keelson::Up;
use keelson_tests::mongod::{self, Mongod, pymongo};
use keelson_tests::nats;
use keelson_tests::place::Place;
use reqwest::Method;
use serde_json::{Value, json};

const BACKUPS: &str = "/api/disaster-recovery/backups";
const MADE_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_database_is_backed_up_and_restored_by_the_command_line_and_without_keelson() {
    let (source, target, up) = deployment().await;
    source.pymongo("fill");
    let made: Value = serde_json::from_str(&up.command(&["backups", "create", "--json"])).expect("JSON");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["state"], "complete", "{made}");
    let listed = up.command(&["backups", "list"]);
    assert!(listed.contains(id) && listed.contains("complete"), "{listed}");

    let manifest: Value =
        serde_json::from_str(&up.command(&["backups", "show", "latest", "--json"])).expect("JSON");
    is_read_by_others(&up, &manifest);
    let beside = up.place().data().join(format!("backups/{id}.json"));
    let beside: Value = serde_json::from_slice(&std::fs::read(beside).expect("a manifest")).expect("JSON");
    assert_eq!(beside["database"], manifest["database"]);

    let restored = up.command(&["backups", "restore", "latest", "--target", "rehearsal"]);
    assert!(restored.contains(id) && restored.contains("rehearsal"), "{restored}");
    assert_eq!(target.pymongo("hash"), source.pymongo("hash"));

    let rehearsed = up.command(&["backups", "test"]);
    assert!(rehearsed.contains(id) && rehearsed.contains("all came back as it was"), "{rehearsed}");
    let listed = up.command(&["backups", "list"]);
    assert!(listed.contains("verified"), "{listed}");
}

/// restic gives back what the manifest says, and pymongo reads all of it.
fn is_read_by_others(up: &Up, manifest: &Value) {
    let (data, out) = (up.place().data(), up.place().path().join("out"));
    restic(&data, &["restore", "latest", "--tag", "keelson", "--target", &out.to_string_lossy()]);
    let found = pymongo("decode", &out.join("dump").to_string_lossy());
    assert_eq!(found["oplog is in order"], true, "{found}");
    let collections = manifest["database"]["collections"].as_array().expect("a list");
    assert!(collections.len() >= 3, "{manifest}");
    for collection in collections {
        if let Some(path) = collection["data"]["path"].as_str() {
            let file = &found[path.trim_start_matches("dump/")];
            assert_eq!(
                (&file["documents"], &file["md5"]),
                (&collection["documents"], &collection["md5"]),
                "{path}"
            );
        }
    }
    assert_eq!(found["click/with%2Fslash.bson"]["documents"], 1, "{found}");
    assert_eq!(found["click/videos.metadata.json"]["indexes"], json!(["_id_", "by_title"]), "{found}");
    restic(&data, &["check", "--read-data"]);
}

fn restic(data: &Path, arguments: &[&str]) {
    let mut restic = Command::new("restic");
    restic.arg("--no-cache").args(arguments).env("RESTIC_REPOSITORY", data.join("backups"));
    let output =
        restic.env("RESTIC_PASSWORD_FILE", data.join("backup-password")).output().expect("restic runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_database_is_backed_up_by_hand_on_the_bus_and_restored_over_http() {
    let (source, target, up) = deployment().await;
    source.pymongo("fill");
    let bus = nats::connect(&up.nats_url()).await;
    bus.publish("keelson.cmd.backup.backup", r#"{"type":"full","components":["database"]}"#.into())
        .await
        .expect("sent");
    bus.flush().await.expect("sent");
    let backup = complete(&up).await;
    assert_eq!(backup["requestedBy"], "unverified", "{backup}");

    let restore = json!({"backupId": "latest", "target": "rehearsal", "namespaces": ["click.*"], "rename": {"click.*": "again.*"}});
    let request =
        up.client().request(Method::POST, "/api/disaster-recovery/restore").header("prefer", "wait=25");
    let ended: Value = request.json(&restore).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["result"]["backupId"], backup["id"], "{ended}");
    assert_eq!(target.pymongo("hash"), json!({}), "it was restored under another name");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_is_accepted() {
    let (_source, _target, up) = deployment().await;
    page(&up).await;
    let restore = |body: Value| ("/api/disaster-recovery/restore", body);
    for ((path, body), status, names) in [
        (restore(json!({"backupId": "nothing"})), 404, "nothing"),
        (restore(json!({})), 422, "backupId"),
        (("/api/disaster-recovery/test", json!({"backupId": "nothing"})), 404, "nothing"),
        (restore(json!({"backupId": "latest", "colour": "red"})), 422, "colour"),
        (("/api/disaster-recovery/backup", json!({"type": "half"})), 422, "half"),
        (("/api/disaster-recovery/backup", json!({"components": ["memory"]})), 422, "memory"),
    ] {
        let answer = up.client().request(Method::POST, path).json(&body).send().await.expect("an answer");
        let (answered, said) = (answer.status(), answer.text().await.expect("a body"));
        assert_eq!(answered, status, "{body}: {said}");
        assert!(said.contains(names), "{body}: {said}");
    }
    let (status, _) = up.client().get("/api/disaster-recovery/backup/nothing").await;
    assert_eq!(status, 404);
    let nobody = reqwest::get(format!("{}{BACKUPS}", up.place().url())).await.expect("an answer");
    assert_eq!(nobody.status(), 401, "backups are for admins");
}

#[tokio::test]
async fn nothing_configured_is_said_and_everything_else_runs() {
    let up = Up::start().await;
    let page = page(&up).await;
    assert!(page["note"].as_str().is_some_and(|note| note.contains("MONGODB_URI")), "{page}");
    let request = up.client().request(Method::POST, "/api/disaster-recovery/backup").json(&json!({}));
    let answer = request.send().await.expect("an answer");
    let (status, said) = (answer.status(), answer.text().await.expect("a body"));
    assert!(status == 400 && said.contains("MONGODB_URI"), "{status} {said}");
}

async fn deployment() -> (Mongod, Mongod, Up) {
    let (source, target) = (Mongod::start().await, Mongod::start().await);
    let rehearsal = format!(
        "[backup]\nmongod = {:?}\n[[backup.targets]]\nname = \"rehearsal\"\nmongodb_uri = \"{}\"\n",
        mongod::program(),
        target.uri()
    );
    let place = Place::new().configured(&rehearsal).env("MONGODB_URI", source.uri());
    (source, target, Up::start_in(place).await)
}

/// The list, as soon as the worker answers.
async fn page(up: &Up) -> Value {
    let deadline = Instant::now() + MADE_WITHIN;
    loop {
        let (status, page) = up.client().get(BACKUPS).await;
        if status == 200 {
            return page;
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The one backup, once it is complete.
async fn complete(up: &Up) -> Value {
    let deadline = Instant::now() + MADE_WITHIN;
    loop {
        let page = page(up).await;
        if let Some(backup) = page["backups"].as_array().and_then(|backups| backups.first()) {
            assert_eq!(backup["state"], "complete", "{backup}");
            return backup.clone();
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
