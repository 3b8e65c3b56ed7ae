//! Who this process is to the other processes of the pipeline.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

/// The name under which a process holds leases.
///
/// A node that was [claimed](NodeId::claim) from a data directory has the same name after a restart, and while it
/// lives nobody else has it; so what its predecessor held is surely free and may be taken at once.
#[derive(Clone, Debug)]
pub struct NodeId {
    name: Arc<str>,
    /// Keeps the file lock of a claimed node for as long as anyone holds the name.
    _lock: Option<Arc<File>>,
}

impl NodeId {
    /// A fresh name that no other process ever had.
    pub fn ephemeral() -> Self {
        Self { name: Uuid::new_v4().simple().to_string().into(), _lock: None }
    }

    /// The name kept in `data_dir/node-id`, made on first use, with an exclusive lock on that file.
    ///
    /// # Errors
    /// `WouldBlock` when another process works in this directory; otherwise what the file system says.
    pub fn claim(data_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(data_dir)?;
        let path = data_dir.join("node-id");
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.try_lock().map_err(|error| in_use(error, data_dir))?;
        let mut name = String::new();
        file.read_to_string(&mut name)?;
        if name.trim().is_empty() {
            name = Uuid::new_v4().simple().to_string();
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
        }
        Ok(Self { name: name.trim().into(), _lock: Some(Arc::new(file)) })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn in_use(error: fs::TryLockError, data_dir: &Path) -> io::Error {
    match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            format!(
                "another keelson works in {}; give this one its own KEELSON_DATA_DIR",
                data_dir.display()
            ),
        ),
        fs::TryLockError::Error(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_name_is_exclusive_and_outlives_its_process() -> io::Result<()> {
        let dir = std::env::temp_dir().join(format!("keelson-node-{}", Uuid::new_v4()));
        let first = NodeId::claim(&dir)?;
        assert!(matches!(NodeId::claim(&dir), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
        let name = first.to_string();
        drop(first);
        assert_eq!(NodeId::claim(&dir)?.as_str(), name);
        fs::remove_dir_all(dir)
    }
}
