//! A dump: every collection as it is when it is read, and the oplog over the time that takes, so that replaying it makes them agree.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use bson::doc;
use futures::{StreamExt, TryStreamExt, stream};
use keelson_schemas::backup::{CollectionEntry, DatabaseManifest, FileEntry, OpTime};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::catalog::{self, Source};
use super::{Deployment, Standing, oplog};
use crate::bson_file::{self, Writer, Written};
use crate::layout;
use crate::metadata::Metadata;

/// Batches of a cursor (16 MB each) that wait to be written, beside the one that is.
const BATCHES_WAITING: usize = 1;

/// How a dump is made.
#[derive(Debug, Clone)]
pub struct Dump {
    /// Where `dump/` is made.
    pub root: PathBuf,
    /// Collections that are read at once. Each takes some 80 MB of memory.
    pub at_once: usize,
    /// Counts what was read.
    pub meter: Meter,
}

/// How much was done so far; shared with whoever tells of it.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// And so many more.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Dump {
    /// Dumps a deployment.
    ///
    /// # Errors
    /// When any part of it cannot be read or written: then nothing of it is a backup.
    pub async fn run(&self, deployment: &Deployment) -> anyhow::Result<DatabaseManifest> {
        let before = deployment.standing().await?;
        let start = oplog::start(deployment, &before).await?;
        let sources = catalog::sources(deployment).await?;
        let reads: Vec<_> = sources.iter().map(|source| self.collection(deployment, source)).collect();
        let entries: Vec<_> = stream::iter(reads).buffer_unordered(self.at_once).try_collect().await?;
        let mut collections: Vec<CollectionEntry> = entries.into_iter().flatten().collect();
        let mut oplog = None;
        if let Some(start) = start {
            let end = self.end(deployment, &before).await?;
            let known = collections.iter().map(stored_in).collect();
            let copied =
                oplog::copy(deployment, &self.root, (start, end), known).await.context("the oplog")?;
            for namespace in &copied.gone {
                collections.push(self.empty(namespace)?);
            }
            oplog = Some(copied.entry);
        }
        collections.sort_by(|a, b| (&a.database, &a.collection).cmp(&(&b.database, &b.collection)));
        Ok(DatabaseManifest { topology: before.topology, server: before.version, oplog, collections })
    }

    /// What was committed once everything is read. It covers all that was read only if nobody else became primary meanwhile.
    async fn end(&self, deployment: &Deployment, before: &Standing) -> anyhow::Result<OpTime> {
        let after = deployment.standing().await?;
        let (Some(began), Some(ended)) = (before.committed, after.committed) else {
            bail!("the deployment lost its oplog while it was dumped");
        };
        let same = before.election == after.election && before.topology == after.topology;
        if began.term != ended.term || !same {
            bail!("another member became primary while the dump was made");
        }
        Ok(ended)
    }

    /// A collection that went before it was dumped, and that the oplog still changes before it drops it: it has to be there for that.
    fn empty(&self, namespace: &str) -> anyhow::Result<CollectionEntry> {
        let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
        let source = Source::empty(database, collection);
        let path = layout::data(database, collection, source.kind).context("it has documents")?;
        let written = Writer::create(&self.root, &path)?.finish()?;
        let metadata =
            Metadata { collection: collection.to_owned(), kind: source.kind, ..Metadata::default() };
        let metadata =
            bson_file::write(&self.root, &layout::metadata(database, collection), &metadata.to_json()?)?;
        Ok(entry(&source, Some(written), metadata))
    }

    /// None when the collection is gone: then the oplog knows of it.
    async fn collection(
        &self,
        deployment: &Deployment,
        source: &Source,
    ) -> anyhow::Result<Option<CollectionEntry>> {
        let (database, collection) = (source.database.as_str(), source.collection.as_str());
        let dumped = async {
            let Some(metadata) = catalog::metadata(deployment, source).await? else {
                return anyhow::Ok(None);
            };
            let written = match layout::data(database, collection, source.kind) {
                Some(path) => Some(self.documents(deployment, source, path).await?),
                None => None,
            };
            let metadata =
                bson_file::write(&self.root, &layout::metadata(database, collection), &metadata.to_json()?)?;
            Ok(Some(entry(source, written, metadata)))
        };
        dumped.await.with_context(|| format!("{database}.{collection}"))
    }

    async fn documents(
        &self,
        deployment: &Deployment,
        source: &Source,
        path: String,
    ) -> anyhow::Result<Written> {
        let name = source.stored_in();
        let cursor = deployment.collection(&source.database, &name).find(doc! {}).batch().await?;
        to_file(cursor, &self.root, path, self.meter.clone()).await
    }
}

/// Reads a cursor to its end, into a file. The next batch is asked for while one is written.
async fn to_file(
    mut cursor: RawBatchCursor,
    root: &Path,
    path: String,
    meter: Meter,
) -> anyhow::Result<Written> {
    let mut writer = Writer::create(root, &path)?;
    let (batches, mut waiting) = mpsc::channel::<RawBatch>(BATCHES_WAITING);
    let writing = spawn_blocking(move || {
        while let Some(batch) = waiting.blocking_recv() {
            for value in batch.doc_slices()? {
                let document =
                    value?.as_document().context("the server sent something else than documents")?;
                writer.push(document)?;
                meter.add(document.as_bytes().len() as u64);
            }
        }
        writer.finish()
    });
    let read = async {
        while let Some(batch) = cursor.next().await {
            // Nobody takes it any more: the writer says why.
            if batches.send(batch?).await.is_err() {
                break;
            }
        }
        Ok::<_, mongodb::error::Error>(())
    };
    let read = read.await;
    drop(batches);
    let written = writing.await.context("the writer crashed")?;
    read?;
    written
}

/// The namespace that the oplog calls a collection by.
fn stored_in(entry: &CollectionEntry) -> String {
    format!("{}.{}", entry.database, layout::stored_in(&entry.collection, entry.kind))
}

fn entry(source: &Source, written: Option<Written>, metadata: FileEntry) -> CollectionEntry {
    let (data, documents, md5) = match written {
        Some(written) => (Some(written.file), written.documents, Some(written.md5)),
        None => (None, 0, None),
    };
    CollectionEntry {
        database: source.database.clone(),
        collection: source.collection.clone(),
        kind: source.kind,
        data,
        metadata,
        documents,
        md5,
    }
}
