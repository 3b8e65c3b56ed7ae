//! What the worker works with, made of its configuration: the source, the targets, the repository, the folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use keelson_kit::role::Context;
use keelson_schemas::backup::Component;

use crate::config::BackupConfig;
use crate::layout;
use crate::mongo::Deployment;
use crate::restic::{Password, Restic};
use crate::sanitise::Sanitiser;
use crate::settings::Sources;

/// Variables that restic and what it stores with understand. It is told of no others: this process has secrets that are none of its business.
const PASSED_ON: [&str; 18] = [
    "AWS_",
    "AZURE_",
    "B2_",
    "GOMAXPROCS",
    "GOOGLE_",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "OS_",
    "PATH",
    "RCLONE_",
    "RESTIC_",
    "SSH_",
    "SSL_CERT_",
    "ST_",
    "TMPDIR",
    "XDG_CACHE_HOME",
];
/// Folders that are backed up where they are there, unless others are configured.
const USUAL_FOLDERS: [&str; 3] = ["uploads/video", "uploads/music", "uploads/images"];
/// What this process tells restic itself.
const OWN: [&str; 2] = ["RESTIC_PASSWORD", "RESTIC_REPOSITORY"];

/// What the worker works with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration.
    pub config: BackupConfig,
    /// An absolute path: restic runs in other folders.
    data_dir: PathBuf,
    /// keelson.toml, which need not be there.
    file: PathBuf,
    /// What this process was started with.
    environment: BTreeMap<String, String>,
}

impl Setup {
    /// Of a configuration.
    ///
    /// # Errors
    /// When the data directory cannot be named.
    pub fn new(config: BackupConfig, ctx: &Context) -> anyhow::Result<Self> {
        let environment = ctx.config.environment().clone();
        Ok(Self { config, data_dir: absolute(&ctx.core.data_dir)?, file: ctx.config.file(), environment })
    }

    /// What is backed up when nothing else is said.
    #[must_use]
    pub fn configured(&self) -> Vec<Component> {
        let database = self.config.mongodb_uri.is_some().then_some(Component::Database);
        let files = self.folders().map_or(true, |folders| !folders.is_empty()).then_some(Component::Files);
        database.into_iter().chain(files).chain([Component::Config]).collect()
    }

    /// The folders whose files are backed up, by the names that they are configured by.
    ///
    /// # Errors
    /// When one that is configured is not there, or has something of this worker's in it.
    pub fn folders(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let usual =
            || USUAL_FOLDERS.map(PathBuf::from).into_iter().filter(|folder| folder.is_dir()).collect();
        let configured: Vec<PathBuf> = self.config.files.clone().unwrap_or_else(usual);
        let own =
            [&self.data_dir, &self.spool()?].map(|own| own.canonicalize().unwrap_or_else(|_| own.clone()));
        let mut folders: Vec<(String, PathBuf)> = Vec::new();
        for folder in configured {
            let name = folder.display().to_string();
            let path = folder.canonicalize().with_context(|| format!("backup.files: {name}"))?;
            ensure!(path.is_dir(), "backup.files: {name} is no folder");
            let mixed = |other: &Path| path.starts_with(other) || other.starts_with(&path);
            ensure!(
                !own.iter().any(|own| mixed(own)),
                "backup.files: {name} and what Keelson keeps itself are within each other"
            );
            ensure!(
                !folders.iter().any(|(_, other)| mixed(other)),
                "backup.files: {name} and another one are within each other"
            );
            let taken = layout::TAKEN.iter().any(|taken| path.starts_with(Path::new("/").join(taken)));
            ensure!(!taken, "backup.files: {name} would be mistaken for another part of the backup");
            folders.push((name, path));
        }
        Ok(folders)
    }

    /// Where configuration is read, and what may be told of it.
    ///
    /// # Errors
    /// When the key of fingerprints cannot be read or made.
    pub fn settings(&self) -> anyhow::Result<(Sources, Sanitiser)> {
        let file = self.data_dir.join("backup-fingerprint-key");
        make_password(&file).with_context(|| format!("make {}", file.display()))?;
        let key = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let sources = Sources {
            environment: self.environment.clone(),
            file: self.file.clone(),
            env_files: self.config.env_files.clone(),
        };
        Ok((sources, Sanitiser::new(&self.config.harmless, *blake3::hash(&key).as_bytes())))
    }

    /// The folder under which files of a restore go; none for where they were.
    ///
    /// # Errors
    /// When there is no such target, or it has no place for files.
    pub fn place(&self, name: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.config.targets.iter().find(|target| target.name == name);
        let place = found.and_then(|target| target.files.as_ref());
        let place = place.with_context(|| format!("target: {name:?} has no place for files and configuration: set `files` in its [[backup.targets]]"))?;
        absolute(place).map(Some)
    }

    /// Where restored configuration goes when no target has a place for it.
    #[must_use]
    pub fn restored_settings(&self) -> PathBuf {
        self.data_dir.join("restored")
    }

    /// The database that is backed up.
    ///
    /// # Errors
    /// When none is configured, or its address is none.
    pub async fn source(&self) -> anyhow::Result<Deployment> {
        let none =
            "not configured: set MONGODB_URI (backup.mongodb_uri) to the database that is to be backed up";
        let uri = self.config.mongodb_uri.as_ref().ok_or_else(|| anyhow!(none))?;
        Deployment::new(uri).await
    }

    /// The deployment of this name; without one, the source.
    ///
    /// # Errors
    /// When there is none of this name, or its address is none.
    pub async fn target(&self, name: Option<&str>) -> anyhow::Result<Deployment> {
        let Some(name) = name else { return self.source().await };
        let found = self.config.targets.iter().find(|target| target.name == name);
        let Some(found) = found else {
            let known: Vec<&str> = self.config.targets.iter().map(|target| target.name.as_str()).collect();
            bail!("target: there is no {name:?} among [[backup.targets]], only {}", list(&known));
        };
        Deployment::new(&found.mongodb_uri).await
    }

    /// The repository. A password is made for one that was never made before.
    ///
    /// # Errors
    /// When its password cannot be found.
    pub fn restic(&self) -> anyhow::Result<Restic> {
        let mut restic = Restic {
            program: self.config.restic.clone(),
            repository: self.repository()?,
            password: Password::File(self.data_dir.join("backup-password")),
            cache: None,
            env: std::env::vars_os().filter(|(name, _)| is_passed_on(name)).collect(),
        };
        if restic.folder().is_none() {
            restic.cache = Some(self.spool()?.join("cache"));
        }
        restic.password = match (&self.config.password, &self.config.password_file) {
            (Some(password), _) => Password::Text(password.clone()),
            (None, Some(file)) => Password::File(absolute(file)?),
            (None, None) => self.own_password(&restic)?,
        };
        Ok(restic)
    }

    /// Where dumps are made and restores are put.
    ///
    /// # Errors
    /// When it cannot be named.
    pub fn spool(&self) -> anyhow::Result<PathBuf> {
        match &self.config.spool {
            Some(spool) => absolute(spool),
            None => Ok(self.data_dir.join("backup")),
        }
    }

    fn repository(&self) -> anyhow::Result<String> {
        let Some(named) = &self.config.repository else {
            return Ok(self.data_dir.join("backups").to_string_lossy().into_owned());
        };
        let named = named.expose();
        let local = named.strip_prefix("local:").unwrap_or(named);
        if local.contains(':') {
            return Ok(named.to_owned());
        }
        Ok(absolute(Path::new(local))?.to_string_lossy().into_owned())
    }

    fn own_password(&self, restic: &Restic) -> anyhow::Result<Password> {
        let file = self.data_dir.join("backup-password");
        if !file.exists() {
            if !restic.may_be_made() {
                bail!(
                    "the repository {} was made with a password that is not here: set RESTIC_PASSWORD or RESTIC_PASSWORD_FILE",
                    restic.place()
                );
            }
            make_password(&file).with_context(|| format!("make {}", file.display()))?;
            tracing::warn!(
                file = %file.display(),
                "a password for backups was made: KEEP A COPY OF IT ELSEWHERE; without it no backup can ever be read again"
            );
        }
        Ok(Password::File(file))
    }
}

/// 256 random bits, in a file for this user alone. Who comes second finds it there.
fn make_password(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let password: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            made.write_all(password.as_bytes())?;
            made.sync_all()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let upper = name.to_ascii_uppercase();
    PASSED_ON.iter().any(|known| upper == *known || (known.ends_with('_') && upper.starts_with(known)))
        && !OWN.iter().any(|own| name.starts_with(own))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restic_is_told_what_concerns_it_and_no_more() {
        for (name, told) in [
            ("PATH", true),
            ("AWS_SECRET_ACCESS_KEY", true),
            ("RESTIC_COMPRESSION", true),
            ("https_proxy", true),
            ("RESTIC_PASSWORD", false),
            ("RESTIC_PASSWORD_COMMAND", false),
            ("RESTIC_REPOSITORY_FILE", false),
            ("MONGODB_URI", false),
            ("KEELSON_TOKEN", false),
            ("PATHOLOGY", false),
            ("CLOUDFLARE_API_KEY", false),
        ] {
            assert_eq!(is_passed_on(OsStr::new(name)), told, "{name}");
        }
    }

    #[test]
    fn a_password_is_made_once_and_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a/backup-password");
        make_password(&file).unwrap();
        let made = std::fs::read_to_string(&file).unwrap();
        make_password(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
        assert_eq!(made.len(), 64);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
