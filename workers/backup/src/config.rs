//! The section `[backup]` of keelson.toml.

use std::collections::BTreeSet;
use std::path::PathBuf;

use keelson_kit::config::{ConfigError, Secret, Span};
use serde::{Deserialize, Serialize};

/// What is backed up, and where to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupConfig {
    /// The database that is backed up. MONGODB_URI; none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_uri: Option<Secret>,
    /// Where backups are kept, as restic names it. RESTIC_REPOSITORY; `backups` in the data directory
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Secret>,
    /// What they are encrypted with. RESTIC_PASSWORD; `backup-password` in the data directory, made once
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file that has the password. RESTIC_PASSWORD_FILE; none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The restic executable, 0.14 or newer. That on the PATH
    pub restic: PathBuf,
    /// Where dumps are made before they are stored, and put before they are restored: as much room as the database takes as BSON.
    /// `backup` in the data directory
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// How old a full backup becomes before an incremental one is made a full one. 7 days
    pub full_every: Span,
    /// Folders of files that are backed up; those that are named here have to be there. `uploads/video`, `uploads/music` and `uploads/images`, as far as they are there
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PathBuf>>,
    /// Environment files, such as an application's `.env`, that are backed up without their secrets. none
    pub env_files: Vec<PathBuf>,
    /// Names of variables whose values are no secrets, beside those that Keelson knows; `*` for anything. none
    pub harmless: Vec<String>,
    /// Collections that are read at once; each takes some 80 MB of memory. 4
    pub collections_at_once: usize,
    /// The mongod executable, of the version that is backed up, in which restores are rehearsed. That on the PATH
    pub mongod: PathBuf,
    /// Other deployments that can be restored into. none
    pub targets: Vec<Target>,
}

/// A deployment that can be restored into.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What restores call it.
    pub name: String,
    /// Where it is.
    pub mongodb_uri: Secret,
    /// The folder under which files and configuration are restored; none: then only databases are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<PathBuf>,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            mongodb_uri: None,
            repository: None,
            password: None,
            password_file: None,
            restic: "restic".into(),
            spool: None,
            full_every: Span::seconds(7 * 24 * 3600),
            files: None,
            env_files: Vec::new(),
            harmless: Vec::new(),
            collections_at_once: 4,
            mongod: "mongod".into(),
            targets: Vec::new(),
        }
    }
}

impl BackupConfig {
    /// Variables that set a key, because existing deployments and restic itself have them.
    pub(crate) const ENV: &[(&str, &str)] = &[
        ("MONGODB_URI", "mongodb_uri"),
        ("RESTIC_REPOSITORY", "repository"),
        ("RESTIC_PASSWORD", "password"),
        ("RESTIC_PASSWORD_FILE", "password_file"),
    ];

    /// What types cannot say.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if !(1..=4).contains(&self.collections_at_once) {
            errors.push(ConfigError::new(
                "collections_at_once",
                "must be 1 to 4: more would take too much memory",
            ));
        }
        if self.password.is_some() && self.password_file.is_some() {
            errors.push(ConfigError::new("password_file", "the password is set as well: set one of them"));
        }
        let mut names = BTreeSet::new();
        for (index, target) in self.targets.iter().enumerate() {
            if target.name.is_empty() || !names.insert(&target.name) {
                let key = format!("targets[{index}].name");
                errors.push(ConfigError::new(key, "must be a name that no other target has"));
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_named() {
        assert_eq!(BackupConfig::default().errors(), []);
        let target = |name: &str| Target {
            name: name.into(),
            mongodb_uri: Secret::from("mongodb://a".to_owned()),
            files: None,
        };
        let wrong = BackupConfig {
            collections_at_once: 5,
            password: Some(Secret::from("a".to_owned())),
            password_file: Some("b".into()),
            targets: vec![target("a"), target("a"), target("")],
            ..BackupConfig::default()
        };
        let keys: Vec<String> = wrong.errors().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["collections_at_once", "password_file", "targets[1].name", "targets[2].name"]);
    }
}
