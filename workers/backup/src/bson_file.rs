//! Files of BSON documents one after the other, as mongodump writes them: written with their digests, read with a bound.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use bson::{RawDocument, RawDocumentBuf};
use keelson_schemas::backup::FileEntry;
use md5::Md5;
use sha2::{Digest, Sha256};

/// The largest document that there can be: 16 MiB, and what the oplog puts around it.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024 + 16 * 1024;
/// The shortest one: its length and its end.
const MIN_DOCUMENT_BYTES: usize = 5;
const BUFFER_BYTES: usize = 1024 * 1024;

/// A file that is being written.
pub struct Writer {
    path: String,
    file: BufWriter<File>,
    sha256: Sha256,
    md5: Md5,
    bytes: u64,
    documents: u64,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub file: FileEntry,
    /// How many documents it has.
    pub documents: u64,
    /// MD5 over them, hex.
    pub md5: String,
}

impl Writer {
    /// Makes the file `path` under `root`, which is not there yet.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(root: &Path, path: &str) -> anyhow::Result<Self> {
        let whole = root.join(path);
        if let Some(folder) = whole.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let file = File::create_new(&whole).with_context(|| format!("make {}", whole.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            sha256: Sha256::new(),
            md5: Md5::new(),
            bytes: 0,
            documents: 0,
        })
    }

    /// Goes on with a file where it ended: what was written after that is cut off.
    ///
    /// # Errors
    /// When it is not the file that was left.
    pub fn go_on(root: &Path, left: &FileEntry, documents: u64) -> anyhow::Result<Self> {
        let whole = root.join(&left.path);
        let open = || format!("open {}", whole.display());
        let mut file = File::options().read(true).write(true).open(&whole).with_context(open)?;
        file.set_len(left.bytes).with_context(open)?;
        let mut sha256 = Sha256::new();
        std::io::copy(&mut file, &mut sha256).with_context(|| format!("read {}", left.path))?;
        if hex(&sha256.clone().finalize()) != left.sha256 {
            bail!("{} is not what the last backup left", left.path);
        }
        Ok(Self {
            path: left.path.clone(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            sha256,
            // Nobody asks for that of a file that grows.
            md5: Md5::new(),
            bytes: left.bytes,
            documents,
        })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// When it cannot be written, such as on a full disk.
    pub fn push(&mut self, document: &RawDocument) -> anyhow::Result<()> {
        let bytes = document.as_bytes();
        self.file.write_all(bytes).with_context(|| format!("write {}", self.path))?;
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.bytes += bytes.len() as u64;
        self.documents += 1;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When what is left cannot be written.
    pub fn finish(mut self) -> anyhow::Result<Written> {
        self.file.flush().with_context(|| format!("write {}", self.path))?;
        let sha256 = hex(&self.sha256.finalize());
        let file = FileEntry { path: self.path, bytes: self.bytes, sha256 };
        Ok(Written { file, documents: self.documents, md5: hex(&self.md5.finalize()) })
    }
}

/// Writes a small file whole.
///
/// # Errors
/// When it cannot be written.
pub fn write(root: &Path, path: &str, content: &[u8]) -> anyhow::Result<FileEntry> {
    let whole = root.join(path);
    if let Some(folder) = whole.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    std::fs::write(&whole, content).with_context(|| format!("write {}", whole.display()))?;
    Ok(FileEntry {
        path: path.to_owned(),
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
    })
}

/// Makes sure that a file is what its manifest says.
///
/// # Errors
/// When it is not, or cannot be read.
pub fn verify(root: &Path, expected: &FileEntry) -> anyhow::Result<()> {
    let whole = root.join(&expected.path);
    let mut file = File::open(&whole).with_context(|| format!("open {}", expected.path))?;
    let mut sha256 = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut sha256).with_context(|| format!("read {}", expected.path))?;
    if bytes != expected.bytes || hex(&sha256.finalize()) != expected.sha256 {
        bail!("{} is not what the manifest says: the backup is damaged", expected.path);
    }
    Ok(())
}

/// A file that is being read.
pub struct Reader {
    path: String,
    file: BufReader<File>,
    left: u64,
}

impl Reader {
    /// Opens the file `path` under `root`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(root: &Path, path: &str) -> anyhow::Result<Self> {
        let file = File::open(root.join(path)).with_context(|| format!("open {path}"))?;
        let left = file.metadata().with_context(|| format!("open {path}"))?.len();
        Ok(Self { path: path.to_owned(), file: BufReader::with_capacity(BUFFER_BYTES, file), left })
    }

    /// The next document; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read or holds no BSON.
    pub fn next_document(&mut self) -> anyhow::Result<Option<RawDocumentBuf>> {
        if self.left == 0 {
            return Ok(None);
        }
        let document = self.read().with_context(|| format!("read {}", self.path))?;
        self.left = self.left.saturating_sub(document.as_bytes().len() as u64);
        Ok(Some(document))
    }

    fn read(&mut self) -> anyhow::Result<RawDocumentBuf> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let bytes = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(MIN_DOCUMENT_BYTES..=MAX_DOCUMENT_BYTES).contains(&bytes) {
            bail!("a document in it has an impossible length");
        }
        let mut document = vec![0; bytes];
        document[..4].copy_from_slice(&length);
        self.fill(&mut document[4..])?;
        RawDocumentBuf::from_bytes(document).context("it holds no BSON")
    }

    fn fill(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => anyhow::anyhow!("it ends in the midst of a document"),
            _ => error.into(),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn written(root: &Path, count: i32) -> Written {
        let mut writer = Writer::create(root, "a/b.bson").unwrap();
        (0..count).for_each(|n| writer.push(&rawdoc! { "_id": n }).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_verified() {
        let root = tempfile::tempdir().unwrap();
        let written = written(root.path(), 3);
        assert_eq!((written.documents, written.file.bytes), (3, 42));
        verify(root.path(), &written.file).unwrap();
        let mut reader = Reader::open(root.path(), "a/b.bson").unwrap();
        for n in 0..3 {
            assert_eq!(reader.next_document().unwrap().unwrap().get_i32("_id").unwrap(), n);
        }
        assert!(reader.next_document().unwrap().is_none());
    }

    #[test]
    fn a_file_is_gone_on_with_where_it_ended() {
        let root = tempfile::tempdir().unwrap();
        let left = written(root.path(), 2).file;
        let mut longer = File::options().append(true).open(root.path().join("a/b.bson")).unwrap();
        longer.write_all(b"interrupted").unwrap();
        let mut writer = Writer::go_on(root.path(), &left, 2).unwrap();
        writer.push(&rawdoc! { "_id": 2 }).unwrap();
        let grown = writer.finish().unwrap();
        assert_eq!((grown.documents, grown.file.bytes), (3, 42));
        verify(root.path(), &grown.file).unwrap();
        let other = FileEntry { sha256: "00".repeat(32), ..left };
        assert!(Writer::go_on(root.path(), &other, 2).is_err());
    }

    #[test]
    fn a_file_that_was_touched_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let written = written(root.path(), 3);
        let path = root.path().join("a/b.bson");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(verify(root.path(), &written.file).unwrap_err().to_string().contains("damaged"));
        std::fs::write(&path, &bytes[..40]).unwrap();
        assert!(verify(root.path(), &written.file).is_err());
        let mut reader = Reader::open(root.path(), "a/b.bson").unwrap();
        reader.next_document().unwrap();
        reader.next_document().unwrap();
        assert!(format!("{:#}", reader.next_document().unwrap_err()).contains("midst"));
    }

    #[test]
    fn an_impossible_length_is_no_reason_to_take_memory() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), i32::MAX.to_le_bytes()).unwrap();
        let mut reader = Reader::open(root.path(), "x").unwrap();
        assert!(format!("{:#}", reader.next_document().unwrap_err()).contains("impossible length"));
    }
}
