//! The dump that is kept in the spool after a full backup, so that the next backup needs to add no more than the oplog since.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use keelson_schemas::backup::{BackupKind, DatabaseManifest};
use serde::{Deserialize, Serialize};

use crate::mongo::Standing;

/// Its description, beside the dump and not in any backup.
const FILE: &str = "base.json";

/// What lies in the spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// Under which boot of the machine it was written: what a crash of the machine left need not be what was written.
    pub boot: String,
    /// The full backup that it was made for.
    pub backup: String,
    /// When that began.
    pub made_at: Timestamp,
    /// The dump, with the oplog as it was added to so far.
    pub database: DatabaseManifest,
}

/// What a backup becomes.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// The oplog is added to what lies there.
    Extend(Box<Base>),
    /// Everything is read anew; why, if less was asked for.
    Anew(Option<String>),
}

/// What a backup becomes that is asked for now.
#[must_use]
pub fn decide(
    asked: BackupKind,
    base: Result<Base, String>,
    standing: &Standing,
    now: Timestamp,
    full_every: Duration,
) -> Decision {
    let base = match (asked, base) {
        (BackupKind::Full, _) => return Decision::Anew(None),
        (BackupKind::Incremental, Err(reason)) => return Decision::Anew(Some(reason)),
        (BackupKind::Incremental, Ok(base)) => base,
    };
    let reason = if standing.committed.is_none() || base.database.oplog.is_none() {
        "a server without an oplog is read anew each time"
    } else if standing.topology != base.database.topology {
        "it is another replica set than before"
    } else if now.duration_since(base.made_at).unsigned_abs() >= full_every {
        "the last full backup is as old as backup.full_every allows"
    } else {
        return Decision::Extend(Box::new(base));
    };
    Decision::Anew(Some(reason.to_owned()))
}

impl Base {
    /// Reads the description of what lies in a folder, if it lies there as described.
    ///
    /// # Errors
    /// Why it is of no use, in words.
    pub fn read(root: &Path, boot: &str) -> Result<Self, String> {
        let none = "there is no full backup here that could be added to";
        let json = fs::read(root.join(FILE)).map_err(|_| none.to_owned())?;
        let base: Self = serde_json::from_slice(&json).map_err(|_| none.to_owned())?;
        if base.boot != boot {
            return Err("the machine was restarted since the last backup".to_owned());
        }
        let grown = base.database.oplog.as_ref().map(|oplog| oplog.file.path.as_str());
        for file in base.database.files() {
            let length = fs::metadata(root.join(&file.path)).map(|metadata| metadata.len()).unwrap_or(0);
            // What an interrupted backup added to the oplog is cut off again.
            let fits = length == file.bytes || (Some(file.path.as_str()) == grown && length > file.bytes);
            if !fits {
                return Err(format!("{} is not what the last backup left", file.path));
            }
        }
        Ok(base)
    }

    /// Describes what lies in a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        let (whole, part) = (root.join(FILE), root.join("base.part"));
        fs::write(&part, serde_json::to_vec(self)?).with_context(|| format!("write {}", part.display()))?;
        fs::rename(&part, &whole).with_context(|| format!("write {}", whole.display()))
    }
}

/// The present boot of this machine; one of its own where that is not known, so that nothing is ever added to.
#[must_use]
pub fn boot() -> String {
    let known = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    known.map_or_else(|_| format!("{:032x}", rand::random::<u128>()), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use keelson_schemas::backup::{Manifest, OpTime, Topology};
    use keelson_schemas::message::Message;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_764_086_400, 0);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn base() -> Base {
        Base {
            boot: "b1".into(),
            backup: "f1".into(),
            made_at: Timestamp::constant(1_764_000_000, 0),
            database: Manifest::example().database.unwrap(),
        }
    }

    fn standing() -> Standing {
        Standing {
            topology: Topology::ReplicaSet { name: "rs0".into() },
            committed: Some(OpTime::default()),
            election: None,
            version: String::new(),
        }
    }

    fn reason(decision: Decision) -> String {
        match decision {
            Decision::Anew(reason) => reason.unwrap_or_default(),
            Decision::Extend(_) => "extend".to_owned(),
        }
    }

    #[test]
    fn the_oplog_is_added_only_to_what_it_belongs_to() {
        use BackupKind::{Full, Incremental};
        let other = Standing { topology: Topology::ReplicaSet { name: "rs1".into() }, ..standing() };
        let alone = Standing { topology: Topology::Standalone, committed: None, ..standing() };
        let old = Base { made_at: Timestamp::constant(1_763_481_600, 0), ..base() };
        let cases = [
            (Incremental, Ok(base()), standing(), "extend"),
            (Full, Ok(base()), standing(), ""),
            (Incremental, Err("there is none".to_owned()), standing(), "there is none"),
            (Incremental, Ok(base()), other, "another replica set"),
            (Incremental, Ok(base()), alone, "without an oplog"),
            (Incremental, Ok(old), standing(), "full_every"),
        ];
        for (asked, base, standing, says) in cases {
            let reason = reason(decide(asked, base, &standing, NOW, WEEK));
            assert!(reason.contains(says) && reason.is_empty() == says.is_empty(), "{says}: {reason}");
        }
    }

    #[test]
    fn a_base_is_used_only_as_it_was_left() {
        let root = tempfile::tempdir().unwrap();
        let base = base();
        let put = |path: &str, bytes: u64| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        };
        base.database.files().for_each(|file| put(&file.path, file.bytes));
        assert!(Base::read(root.path(), "b1").unwrap_err().contains("no full backup"));
        base.write(root.path()).unwrap();
        assert_eq!(Base::read(root.path(), "b1"), Ok(base));
        assert!(Base::read(root.path(), "b2").unwrap_err().contains("restarted"));
        put("dump/oplog.bson", 5_000);
        assert!(Base::read(root.path(), "b1").is_ok(), "an interrupted backup adds to the oplog");
        put("dump/oplog.bson", 4_000);
        assert!(Base::read(root.path(), "b1").unwrap_err().contains("oplog.bson"));
        put("dump/oplog.bson", 4_096);
        put("dump/click/videos%2Fraw.bson", 640_001);
        assert!(Base::read(root.path(), "b1").unwrap_err().contains("videos"));
    }
}
