//! Which backups there are: the bucket `backups`, and a readable manifest beside a repository that is a folder. The repository itself is the truth: what is
//! missing here is read from there.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use keelson_kit::bus::Bus;
use keelson_kit::kv::{Entry, KvError};
use keelson_schemas::backup::{BackupState, BackupSummary, DrillReport, Manifest};
use keelson_schemas::codec;
use tracing::{info, warn};

use crate::layout;
use crate::restic::Restic;

/// The bucket.
pub const BUCKET: &str = "backups";
/// What is read of it.
const MOST: usize = 100_000;
/// The last rehearsal, in it.
const LAST_DRILL: &str = "drill.last";
/// Stands for the newest backup that is complete.
pub const LATEST: &str = "latest";

/// All backups, the newest first.
///
/// # Errors
/// The bus is away.
pub async fn list(bus: &Bus) -> Result<Vec<BackupSummary>, KvError> {
    let entries = bus.kv(BUCKET).list("backup.*", MOST).await?;
    let read = |(_, entry): (String, Entry<Bytes>)| codec::decode(None, &entry.value).ok();
    let mut backups: Vec<BackupSummary> = entries.into_iter().filter_map(read).collect();
    backups.sort_by(|a, b| b.started_at.cmp(&a.started_at).then_with(|| a.id.cmp(&b.id)));
    Ok(backups)
}

/// A backup by its id, or `latest`.
///
/// # Errors
/// The bus is away.
pub async fn find(bus: &Bus, id: &str) -> Result<Option<BackupSummary>, KvError> {
    if id == LATEST {
        let all = list(bus).await?;
        return Ok(all.into_iter().find(|backup| backup.state == BackupState::Complete));
    }
    if !is_id(id) {
        return Ok(None);
    }
    Ok(bus.kv(BUCKET).get(&key(id)).await?.map(|entry| entry.value))
}

/// Notes a backup, whatever became of it.
///
/// # Errors
/// The bus is away or refuses.
pub async fn keep(bus: &Bus, backup: &BackupSummary) -> Result<(), KvError> {
    bus.kv(BUCKET).put(&key(&backup.id), backup).await.map(drop)
}

/// Notes what came of a rehearsal, and of which backup it is known that it can be restored.
///
/// # Errors
/// The bus is away or refuses.
pub async fn keep_drill(bus: &Bus, report: &DrillReport) -> Result<(), KvError> {
    bus.kv(BUCKET).put(LAST_DRILL, report).await?;
    match find(bus, &report.backup_id).await? {
        Some(backup) if report.passed => {
            keep(bus, &BackupSummary { verified_at: Some(report.finished_at), ..backup }).await
        }
        _ => Ok(()),
    }
}

/// What came of the last rehearsal.
///
/// # Errors
/// The bus is away.
pub async fn last_drill(bus: &Bus) -> Result<Option<DrillReport>, KvError> {
    Ok(bus.kv(BUCKET).get(LAST_DRILL).await?.map(|entry| entry.value))
}

/// Forgets a backup, and removes the manifest beside a repository that is a folder.
///
/// # Errors
/// The bus is away, or the manifest cannot be removed.
pub async fn forget(bus: &Bus, folder: Option<&Path>, backup: &BackupSummary) -> anyhow::Result<()> {
    if let Some(folder) = folder {
        let manifest = folder.join(format!("{}.json", backup.id));
        match std::fs::remove_file(&manifest) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", manifest.display()));
            }
            _ => {}
        }
    }
    Ok(bus.kv(BUCKET).delete(&key(&backup.id), None).await?)
}

/// Writes a manifest beside a repository that is a folder, for people. One that is there is whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_beside(folder: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let name = format!("{}.json", manifest.backup.id);
    let (whole, part) = (folder.join(&name), folder.join(format!(".{name}.part")));
    std::fs::write(&part, serde_json::to_vec_pretty(manifest)?)
        .with_context(|| format!("write {}", part.display()))?;
    std::fs::rename(&part, &whole).with_context(|| format!("write {}", whole.display()))
}

/// The manifest of a backup, out of the repository.
///
/// # Errors
/// When it cannot be read.
pub async fn manifest(restic: &Restic, backup: &BackupSummary) -> anyhow::Result<Manifest> {
    let snapshot = backup
        .snapshot
        .as_deref()
        .with_context(|| format!("backup {} is not in the repository", backup.id))?;
    let bytes = restic.read(snapshot, layout::MANIFEST).await?;
    let manifest: Manifest = serde_json::from_slice(&bytes).context("its manifest cannot be read")?;
    anyhow::ensure!(manifest.backup.id == backup.id, "its manifest is that of backup {}", manifest.backup.id);
    Ok(Manifest { backup: backup.clone(), ..manifest })
}

/// Notes what is in the repository and not known here, as after the loss of the bus.
///
/// # Errors
/// When either cannot be read.
pub async fn import(bus: &Bus, restic: &Restic) -> anyhow::Result<()> {
    for snapshot in restic.snapshots().await? {
        let Some(id) = snapshot.backup().filter(|id| is_id(id)) else { continue };
        let known = find(bus, id).await?;
        if known.is_some_and(|known| known.state == BackupState::Complete) {
            continue;
        }
        let bytes = restic.read(&snapshot.id, layout::MANIFEST).await?;
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(Manifest { mut backup, .. }) if backup.id == id => {
                backup.snapshot = Some(snapshot.id.clone());
                keep(bus, &backup).await?;
                info!(backup.id = id, "a backup was found in the repository");
            }
            _ => {
                warn!(backup.id = id, snapshot = %snapshot.id, "a snapshot has no manifest of its own and is passed over")
            }
        }
    }
    Ok(())
}

fn key(id: &str) -> String {
    format!("backup.{id}")
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn what_could_name_something_else_is_no_id() {
        for (id, fine) in [
            ("5f0c9a3be1d24786", true),
            ("a-b", true),
            ("", false),
            ("a.b", false),
            (">", false),
            ("../x", false),
        ] {
            assert_eq!(is_id(id), fine, "{id}");
        }
    }

    #[test]
    fn a_manifest_beside_the_repository_is_whole_and_readable() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest::example();
        write_beside(folder.path(), &manifest).unwrap();
        let files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [folder.path().join(format!("{}.json", manifest.backup.id))]);
        let read: Manifest = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
        assert_eq!(read, manifest);
    }
}
