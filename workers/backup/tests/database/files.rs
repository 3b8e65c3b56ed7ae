//! Files and configuration: all of the files come back, and no secret is in any snapshot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_backup::config::BackupConfig;
use keelson_backup::store;
use keelson_kit::config::{ConfigSource, Inputs};
use keelson_schemas::backup::{Backup, BackupState, BackupSummary, Component, Manifest, Restore};
use keelson_schemas::operation::State;

use crate::fixture::Worker;
use crate::log;
use crate::trouble::in_place_of_restic;

const FILES: Backup = Backup { kind: keelson_schemas::backup::BackupKind::Full, components: Vec::new() };

/// Secrets of twenty forms, each under a name that does not give it away, or in a place where harmless things are expected.
const CANARIES: [(&str, &str, &str); 23] = [
    ("DB_PASSWORD", "canary-hunter2", "canary-hunter2"),
    ("MONGODB_URI", "mongodb://ada:canaryMongo@a.example:27017/?replicaSet=rs0", "canaryMongo"),
    ("NATS_URL", "nats://canaryNatsToken@127.0.0.1:4222", "canaryNatsToken"),
    ("CONTENT_SERVICE_URL", "https://svc:canary%40Pass@content.example/v1", "canary%40Pass"),
    ("VIDEO_SERVICE_URL", "https://video.example/?token=canaryQuery", "canaryQuery"),
    ("AWS_REGION", "AKIAIOSFODNN7CANARY1", "AKIAIOSFODNN7CANARY1"),
    ("SOMETHING", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYCANARYKEY", "CYCANARYKEY"),
    ("CLICK_THEME", "ghp_CanaryCanaryCanaryCanaryCanary01", "ghp_Canary"),
    ("CLICK_MODE", "xoxb-1234-canary-5678", "xoxb-1234-canary"),
    ("CLICK_HOOK", "https://hooks.slack.com/services/T0/B0/canaryhook", "canaryhook"),
    ("CLICK_PAY", "sk_live_canary4eC39HqLyjWDarjtT1", "sk_live_canary"),
    ("CLICK_MAPS", "AIzaSyCanaryCanaryCanaryCanaryCanary12", "AIzaSyCanary"),
    ("CLICK_MAIL", "SG.canaryCanary123.canaryCanary456", "SG.canary"),
    ("CLICK_JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.canarysignature", "canarysignature"),
    ("TLS_CERT", "-----BEGIN PRIVATE KEY-----\nMIICanaryPem\n-----END PRIVATE KEY-----", "MIICanaryPem"),
    ("CLICK_PEM", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaCanary\n", "b3BlbnNzaCanary"),
    ("CLICK_RANDOM", "c4n4ry9f8e7d6c5b4a3210fedcba98", "c4n4ry9f8e7d"),
    ("CLICK_HEADER", "Bearer canarybearertoken", "canarybearertoken"),
    ("CLICK_DSN", "Server=db;User=sa;Password=canaryDsn;", "canaryDsn"),
    ("CLICK_SEED", "SUACANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARYAB", "SUACANARY"),
    ("CLICK_HASH", "$2b$12$canaryhashcanaryhashcanaryhash", "canaryhash"),
    ("ANALYTICS_SERVICE_URL", "https://svc:canary/Slash@analytics.example/", "canary/Slash"),
    ("OTP_PIN", "730184073018", "730184073018"),
];

struct Place(tempfile::TempDir);

impl Place {
    /// With a folder of files, and a place to restore into.
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("keelson-files-").tempdir().unwrap());
        fs::create_dir_all(place.at("uploads/2026 [x]")).unwrap();
        fs::create_dir_all(place.at("elsewhere")).unwrap();
        for n in 0..20 {
            let name = format!("uploads/2026 [x]/{n}.mp4");
            fs::write(place.at(&name), format!("video {n}").repeat(1_000 + n)).unwrap();
        }
        fs::write(place.at("uploads/empty"), "").unwrap();
        std::os::unix::fs::symlink("2026 [x]/0.mp4", place.at("uploads/newest")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn configure(&self, config: &mut BackupConfig) {
        config.mongodb_uri = None;
        config.files = Some(vec![self.at("uploads")]);
        config.harmless = vec!["CLICK_*".into()];
        config.targets[0].files = Some(self.at("elsewhere"));
    }

    async fn worker(&self) -> Worker {
        Worker::without_database(ConfigSource::default(), |config| self.configure(config)).await
    }
}

async fn made(worker: &Worker) -> BackupSummary {
    let operation = worker.asked(&FILES).await;
    assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
    serde_json::from_value(operation.result.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_twenty_forms_are_in_no_snapshot_no_manifest_and_no_log() {
    log::keep();
    let place = Place::new();
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let lines = CANARIES.map(|(name, value, _)| format!("{name}='{value}'\n")).concat();
    let unquoted = "-----BEGIN PRIVATE KEY-----\ncanaryTail=\ncanaryTail==\n-----END PRIVATE KEY-----\n";
    let env = format!(
        "# canary-hunter2\nNODE_ENV=production # canary-hunter2\n{lines}UNQUOTED={unquoted}{unquoted}CLICK_BASE64=MIIC\ncanaryTail==\nLANG='C\nX=canaryTail\n"
    );
    fs::write(place.at(".env"), env).unwrap();
    let keys =
        CANARIES.map(|(name, value, _)| format!("{} = {}\n", name.to_lowercase(), quoted(value))).concat();
    let known = CANARIES
        .map(|(_, value, _)| format!("[[rules]]\nsummary = {}\nname = {}\n", quoted(value), quoted(value)));
    // What an operator may write anywhere; the first one is no secret by its form, and under no harmless name.
    let toml = format!("# canary-hunter2\n[alerting]\n{keys}{}", known[1..22].concat());
    fs::write(place.at("keelson.toml"), toml).unwrap();
    let env = CANARIES.map(|(name, value, _)| (name.to_owned(), value.to_owned()));
    let source = ConfigSource::new(
        &[],
        Inputs { file: Some(place.at("keelson.toml")), env: env.into(), flags: Vec::new() },
    );
    let worker = Worker::without_database(source, |config| {
        place.configure(config);
        config.env_files = vec![place.at(".env")];
    })
    .await;
    let backup = made(&worker).await;

    let out = place.at("out");
    restic(&worker, &["restore", backup.snapshot.as_deref().unwrap(), "--target", out.to_str().unwrap()]);
    let mut told = all_files(&out);
    told.extend(
        all_files(&worker.data.path().join("backups"))
            .into_iter()
            .filter(|(path, _)| path.ends_with(".json")),
    );
    let listed = restic(&worker, &["cat", "snapshot", backup.snapshot.as_deref().unwrap()]);
    told.push(("snapshot".into(), listed));
    for bucket in ["operations", store::BUCKET] {
        let entries = worker.bus.kv(bucket).list(">", 1_000).await.unwrap();
        assert!(!entries.is_empty(), "{bucket}");
        told.extend(
            entries.into_iter().map(|(key, entry)| (format!("{bucket} {key}"), entry.value.to_vec())),
        );
    }
    let log = log::kept();
    assert!(String::from_utf8_lossy(&log).contains("a backup is complete"));
    told.push(("the log".into(), log));
    assert!(told.iter().any(|(path, _)| path.ends_with("config/keelson.toml")));
    for (path, bytes) in &told {
        let text = String::from_utf8_lossy(bytes);
        for canary in CANARIES.map(|(_, _, canary)| canary).into_iter().chain(["canaryTail", "correct horse"])
        {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary} is told in {path}");
        }
    }
    let manifest: Manifest = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    for source in manifest.config.unwrap().sources {
        let names = source.redacted.len();
        assert!(names >= CANARIES.len() - 1, "{} redacted {names}", source.source);
    }
    let env = fs::read_to_string(out.join("config/1-.env")).unwrap();
    assert!(
        env.contains("NODE_ENV=\"production\"") && env.contains("mongodb://<redacted>@a.example"),
        "{env}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_back_elsewhere_and_where_they_were() {
    let place = Place::new();
    let worker = place.worker().await;
    let backup = made(&worker).await;
    let states: Vec<_> =
        backup.components.iter().map(|report| (report.component, report.state, report.files)).collect();
    assert_eq!(states[0], (Component::Config, BackupState::Complete, 1));
    assert_eq!(states[1], (Component::Files, BackupState::Complete, 21));

    let elsewhere =
        Restore { backup_id: backup.id.clone(), target: Some("rehearsal".into()), ..Restore::default() };
    let report = worker.restore(&elsewhere).await;
    assert_eq!(report.files, 23, "21 files, a link, the environment");
    let uploads = place.at("uploads");
    let restored = place.at("elsewhere").join(uploads.strip_prefix("/").unwrap());
    assert_eq!(contents(&restored), contents(&uploads));
    assert!(place.at("elsewhere").join(&backup.id).join("config/environment.env").exists());

    let in_place =
        Restore { backup_id: backup.id.clone(), components: vec![Component::Files], ..Restore::default() };
    assert_eq!(worker.restore(&in_place).await.files, 0, "all of it is there");
    let before = contents(&uploads);
    fs::remove_file(place.at("uploads/2026 [x]/3.mp4")).unwrap();
    fs::remove_file(place.at("uploads/newest")).unwrap();
    fs::write(place.at("uploads/2026 [x]/4.mp4"), "another").unwrap();
    fs::write(place.at("uploads/mine"), "new").unwrap();
    let (state, why) = worker.refused(&in_place).await;
    assert!(state == State::Rejected && why.contains("4.mp4 is there and is different"), "{state:?} {why}");
    assert!(!place.at("uploads/2026 [x]/3.mp4").exists(), "something was changed");
    let confirmed = Restore { drop: true, confirm: Some(backup.id.clone()), ..in_place };
    assert_eq!(worker.restore(&confirmed).await.files, 3);
    assert_eq!(fs::read(place.at("uploads/mine")).unwrap(), b"new");
    fs::remove_file(place.at("uploads/mine")).unwrap();
    assert_eq!(contents(&uploads), before);
    let left: Vec<_> =
        all_files(place.0.path()).into_iter().filter(|(path, _)| path.contains(".keelson-restore")).collect();
    assert!(left.is_empty(), "{left:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_all_the_time_are_backed_up_as_they_were_at_one_moment() {
    let place = Place::new();
    let worker = place.worker().await;
    let (stop, root) = (Arc::new(AtomicBool::new(false)), place.at("uploads"));
    let writing = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut upload = fs::File::create(root.join("upload")).unwrap();
            for n in 0.. {
                std::io::Write::write_all(&mut upload, &[7; 10_000]).unwrap();
                fs::write(root.join(format!("passing-{}", n % 50)), format!("{n}")).unwrap();
                let _ = fs::remove_file(root.join(format!("passing-{}", (n + 25) % 50)));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        })
    };
    let operation = worker.asked(&FILES).await;
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
    let backup: BackupSummary = serde_json::from_value(operation.result.unwrap()).unwrap();
    let manifest = store::manifest(&worker.restic(), &backup).await.unwrap();
    let [folder] = manifest.files.unwrap().folders.try_into().unwrap();
    let upload = folder.files.iter().find(|stored| stored.name == "upload").unwrap();
    assert!(upload.file.path.starts_with("copied/"), "it did not change meanwhile: {upload:?}");
    // Whatever is restored is compared with the manifest.
    let elsewhere =
        Restore { backup_id: backup.id.clone(), target: Some("rehearsal".into()), ..Restore::default() };
    worker.restore(&elsewhere).await;
    let restored = place.at("elsewhere").join(place.at("uploads/upload").strip_prefix("/").unwrap());
    assert_eq!(fs::metadata(restored).unwrap().len(), upload.file.bytes);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_between_being_seen_and_being_stored_is_stored_as_it_was_seen() {
    let (place, scripts) = (Place::new(), tempfile::tempdir().unwrap());
    let file = place.at("uploads/2026 [x]/7.mp4");
    let script = format!(
        r#"case "$*" in *backup*) if [ ! -e {mark} ]; then touch {mark}; printf x | dd of='{file}' conv=notrunc 2>/dev/null; fi ;; esac
exec "$restic" "$@""#,
        mark = scripts.path().join("mark").display(),
        file = file.display()
    );
    let program = in_place_of_restic(scripts.path(), &script);
    let worker = Worker::without_database(ConfigSource::default(), |config| {
        place.configure(config);
        config.restic = program;
    })
    .await;
    let backup = made(&worker).await;
    let elsewhere =
        Restore { backup_id: backup.id.clone(), target: Some("rehearsal".into()), ..Restore::default() };
    worker.restore(&elsewhere).await;
    let uploads = place.at("uploads");
    let restored = place.at("elsewhere").join(uploads.strip_prefix("/").unwrap());
    assert_eq!(contents(&restored), contents(&uploads));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_configured_and_not_there_fails_the_backup() {
    let place = Place::new();
    let missing = |change: fn(&Place, &mut BackupConfig)| {
        let place = &place;
        Worker::without_database(ConfigSource::default(), move |config| {
            place.configure(config);
            change(place, config);
        })
    };
    for (worker, says) in [
        (missing(|place, config| config.env_files = vec![place.at("nothing.env")]).await, "nothing.env"),
        (missing(|place, config| config.files = Some(vec![place.at("nothing")])).await, "nothing"),
        (
            missing(|place, config| config.files = Some(vec![place.at("uploads"), place.at("")])).await,
            "within each other",
        ),
    ] {
        let (state, why) = worker.refused(&FILES).await;
        assert!(state == State::Failed && why.contains(says), "{says}: {state:?} {why}");
        let [failed] = store::list(&worker.bus).await.unwrap().try_into().unwrap();
        assert_eq!((failed.state, failed.snapshot), (BackupState::Failed, None));
        worker.stop().await;
    }
}

/// Every file and link below a folder, with its bytes or where it points.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = all_files(folder);
    all.iter_mut()
        .for_each(|(path, _)| *path = path.strip_prefix(folder.to_str().unwrap()).unwrap().to_owned());
    all.sort();
    all
}

fn all_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(all_files(&path));
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
            found.push((path.to_str().unwrap().to_owned(), target));
        } else {
            found.push((path.to_str().unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
    found
}

/// What stock restic says.
fn restic(worker: &Worker, arguments: &[&str]) -> Vec<u8> {
    let done = Command::new("restic")
        .args(["--no-cache", "--no-lock"])
        .args(arguments)
        .env("RESTIC_REPOSITORY", worker.data.path().join("backups"))
        .env("RESTIC_PASSWORD", "correct horse")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
