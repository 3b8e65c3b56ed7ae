//! Files put back: fetched beside where they go, compared with the manifest, and only then moved into place.

use std::fs::{self, Metadata};
use std::os::unix::fs::symlink;
use std::path::{Component as Part, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use keelson_schemas::backup::{FileEntry, FilesManifest, Folder};

use crate::bson_file;
use crate::layout;
use crate::restic::Restic;

/// What of a folder is not there as it was.
#[derive(Debug, Default)]
pub struct Missing {
    /// As it was configured.
    pub name: String,
    /// Where it goes.
    root: PathBuf,
    /// Where it is in the snapshot.
    path: String,
    files: Vec<(FileEntry, PathBuf)>,
    links: Vec<(String, PathBuf)>,
    /// Things that are there and are different.
    pub in_the_way: Vec<PathBuf>,
}

/// Files that were fetched, and are as the manifest says; removed when dropped, unless they were put in place.
#[derive(Debug)]
pub struct Fetched {
    missing: Missing,
    staging: Staging,
}

#[derive(Debug)]
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.0.display(), %error, "what is no longer needed could not be removed");
        }
    }
}

/// Compares a backup with what is there: below `place`, or where it was.
///
/// # Errors
/// When what is there cannot be read, or the manifest names something outside its folders.
pub fn missing(manifest: &FilesManifest, place: Option<&Path>) -> anyhow::Result<Vec<Missing>> {
    manifest
        .folders
        .iter()
        .map(|folder| missing_of(folder, place).with_context(|| folder.name.clone()))
        .collect()
}

fn missing_of(folder: &Folder, place: Option<&Path>) -> anyhow::Result<Missing> {
    let root = match place {
        Some(place) => place.join(inside(folder.name.trim_start_matches('/'))?),
        None => PathBuf::from(&folder.path),
    };
    let path = super::in_snapshot(Path::new(&folder.path))?;
    let mut missing = Missing { name: folder.name.clone(), root, path, ..Missing::default() };
    for stored in &folder.files {
        let to = missing.root.join(inside(&stored.name)?);
        match look(&to)? {
            Some(found) if !is_same(&found, &to, &stored.file) => missing.in_the_way.push(to.clone()),
            Some(_) => continue,
            None => {}
        }
        missing.files.push((stored.file.clone(), to));
    }
    for link in &folder.links {
        let to = missing.root.join(inside(&link.name)?);
        match look(&to)? {
            Some(_) if fs::read_link(&to).is_ok_and(|target| target == Path::new(&link.target)) => continue,
            Some(_) => missing.in_the_way.push(to.clone()),
            None => {}
        }
        missing.links.push((link.target.clone(), to));
    }
    Ok(missing)
}

fn look(to: &Path) -> anyhow::Result<Option<Metadata>> {
    super::there(fs::symlink_metadata(to), to)
}

fn is_same(found: &Metadata, to: &Path, file: &FileEntry) -> bool {
    let expected = FileEntry { path: to.to_string_lossy().into_owned(), ..file.clone() };
    found.is_file() && found.len() == file.bytes && bson_file::verify(Path::new("/"), &expected).is_ok()
}

/// A name that stays where it is put.
fn inside(name: &str) -> anyhow::Result<&Path> {
    let path = Path::new(name);
    let is_inside = path.components().all(|part| matches!(part, Part::Normal(_)));
    ensure!(is_inside && !name.is_empty(), "{name:?} leads out of its folder");
    Ok(path)
}

impl Missing {
    /// Fetches what is missing, and compares it with the manifest.
    ///
    /// # Errors
    /// When it cannot be read or written, or is damaged.
    pub async fn fetch(self, restic: &Restic, snapshot: &str, id: &str) -> anyhow::Result<Fetched> {
        let there = self.root.ancestors().find(|folder| folder.is_dir());
        let there = there.with_context(|| format!("there is no place for {}", self.root.display()))?;
        let fetched =
            Fetched { staging: Staging(there.join(format!(".keelson-restore-{id}"))), missing: self };
        fs::create_dir_all(&fetched.staging.0)
            .with_context(|| format!("make {}", fetched.staging.0.display()))?;
        let copied = |(file, _): &(FileEntry, PathBuf)| file.path.starts_with(layout::COPIED);
        let parts = [
            fetched.missing.files.iter().any(|file| !copied(file)).then_some(fetched.missing.path.as_str()),
            fetched.missing.files.iter().any(copied).then_some(layout::COPIED),
        ];
        for part in parts.into_iter().flatten() {
            restic.restore(snapshot, part, &fetched.staging.0).await?;
        }
        tokio::task::spawn_blocking(move || {
            let staged = &fetched.staging.0;
            fetched.missing.files.iter().try_for_each(|(file, _)| bson_file::verify(staged, file))?;
            Ok(fetched)
        })
        .await
        .context("it crashed")?
    }
}

impl Fetched {
    /// Moves everything into place; how many files that were.
    ///
    /// # Errors
    /// When something cannot be moved.
    pub fn put(self) -> anyhow::Result<u64> {
        for (file, to) in &self.missing.files {
            make_room(to)?;
            fs::rename(self.staging.0.join(&file.path), to)
                .with_context(|| format!("make {}", to.display()))?;
        }
        for (target, to) in &self.missing.links {
            make_room(to)?;
            symlink(target, to).with_context(|| format!("make {}", to.display()))?;
        }
        Ok((self.missing.files.len() + self.missing.links.len()) as u64)
    }
}

/// Makes the folder of a file, and removes what has its name. A folder of that name is nobody's to remove.
fn make_room(to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().context("it has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    match look(to)? {
        Some(found) if found.is_dir() => bail!("{} is a folder: move it away", to.display()),
        Some(_) => fs::remove_file(to).with_context(|| format!("remove {}", to.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_put_outside_its_folder() {
        for (name, fine) in [
            ("a/b", true),
            ("a", true),
            ("../a", false),
            ("a/../../b", false),
            ("/etc/x", false),
            ("", false),
        ] {
            assert_eq!(inside(name).is_ok(), fine, "{name}");
        }
    }
}
