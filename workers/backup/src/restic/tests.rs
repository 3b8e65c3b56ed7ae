//! Against the restic of this machine.

use std::fs;

use super::*;

fn restic(root: &Path) -> Restic {
    Restic {
        program: "restic".into(),
        repository: root.join("repository").to_string_lossy().into_owned(),
        password: Password::Text(Secret::from("correct".to_owned())),
        cache: None,
        env: std::env::var_os("PATH").map(|path| ("PATH".into(), path)).into_iter().collect(),
    }
}

fn files(root: &Path) {
    fs::create_dir_all(root.join("dump/a")).unwrap();
    fs::write(root.join("dump/a/b.bson"), "documents").unwrap();
    fs::write(root.join("manifest.json"), "{}").unwrap();
}

async fn stored(restic: &Restic, root: &Path) -> Stored {
    restic.ensure().await.unwrap();
    restic.store(root, &["dump", "manifest.json"], "b1", |_| {}).await.unwrap()
}

#[tokio::test]
async fn what_is_stored_is_a_backup_once_it_is_committed() {
    let root = tempfile::tempdir().unwrap();
    let restic = restic(root.path());
    files(root.path());
    assert!(Version::parse(&restic.version().await.unwrap()).unwrap() >= OLDEST);
    let stored = stored(&restic, root.path()).await;
    assert_eq!((stored.total_files_processed, stored.total_bytes_processed), (2, 11));
    assert_eq!(restic.snapshots().await.unwrap(), []);

    let snapshot = restic.commit(&stored.snapshot_id, "b1").await.unwrap();
    let [only] = restic.snapshots().await.unwrap().try_into().unwrap();
    assert_eq!((&only.id, only.backup()), (&snapshot, Some("b1")));
    restic.tidy().await.unwrap();
    assert_eq!(restic.read(&snapshot, "manifest.json").await.unwrap(), b"{}");
    restic.restore(&snapshot, "dump", &root.path().join("out")).await.unwrap();
    assert_eq!(fs::read(root.path().join("out/dump/a/b.bson")).unwrap(), b"documents");
    assert!(!root.path().join("out/manifest.json").exists());

    restic.forget([snapshot.as_str()].into_iter()).await.unwrap();
    assert_eq!(restic.snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn what_was_never_finished_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let restic = restic(root.path());
    files(root.path());
    stored(&restic, root.path()).await;
    assert_eq!(restic.snapshots_tagged(UNFINISHED).await.unwrap().len(), 1);
    restic.tidy().await.unwrap();
    assert_eq!(restic.snapshots_tagged(UNFINISHED).await.unwrap(), []);
}

#[tokio::test]
async fn what_goes_wrong_is_said_in_words() {
    let root = tempfile::tempdir().unwrap();
    let good = restic(root.path());
    files(root.path());
    assert!(matches!(good.snapshots().await, Err(ResticError::NoRepository(_))));
    stored(&good, root.path()).await;

    let other = Restic { password: Password::Text(Secret::from("wrong".to_owned())), ..good.clone() };
    let refused = other.ensure().await.unwrap_err();
    assert!(matches!(refused, ResticError::WrongPassword), "{refused}");
    let missing = Restic { program: "/nowhere/restic".into(), ..good.clone() };
    let refused = missing.version().await.unwrap_err().to_string();
    assert!(refused.contains("install restic") && refused.contains("/nowhere/restic"), "{refused}");
    let refused = good.read("latest", "nothing").await.unwrap_err().to_string();
    assert!(refused.contains("nothing"), "{refused}");

    fs::remove_file(root.path().join("repository/config")).unwrap();
    let refused = good.ensure().await.unwrap_err();
    assert!(
        matches!(refused, ResticError::NoRepository(_)),
        "a damaged repository is not made anew: {refused}"
    );
}

#[test]
fn what_is_shown_of_a_repository_has_no_secret() {
    let place = |repository: &str| {
        let restic = Restic { repository: repository.to_owned(), ..restic(Path::new("/")) };
        (restic.place(), restic.folder().is_some())
    };
    for (repository, shown, local) in [
        ("/srv/backups", "/srv/backups", true),
        ("backups", "backups", true),
        ("local:/srv/backups", "/srv/backups", true),
        ("s3:http://host:1/bucket", "s3:http://host:1/bucket", false),
        ("rest:https://ada:hunter2@host/", "rest:…@host/", false),
        ("sftp:ada@host:/srv", "sftp:…@host:/srv", false),
    ] {
        assert_eq!(place(repository), (shown.to_owned(), local), "{repository}");
    }
}

#[test]
fn lines_of_any_version_are_read() {
    use output::{Line, line};
    let status =
        r#"{"message_type":"status","percent_done":0.5,"total_files":1,"total_bytes":6,"bytes_done":3}"#;
    assert_eq!(line(status), Some(Line::Status(Status { bytes_done: 3, total_bytes: 6 })));
    assert_eq!(line(r#"{"message_type":"verbose_status","action":"new"}"#), Some(Line::Other));
    assert_eq!(line("created new cache"), None);
    let mut complaints = output::Complaints::default();
    complaints.take(
        r#"{"message_type":"error","error":{"message":"open a: denied"},"during":"archival","item":"a"}"#,
    );
    complaints.take("Fatal: no");
    assert_eq!(complaints.words(), "a: open a: denied; Fatal: no");
    (0..100).for_each(|n| complaints.take(&n.to_string()));
    assert_eq!(complaints.words(), "95; 96; 97; 98; 99");
}
