//! A restore, in the order of the stock tools: collections, documents, views, users, the oplog, and the indexes at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use bson::raw::cstr;
use bson::{Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use futures::{StreamExt, TryStreamExt, stream};
use keelson_schemas::backup::{CollectionKind, OpTime, OplogEntry};
use mongodb::error::ErrorKind;

use super::dump::Meter;
use super::indexes::Indexes;
use super::insert::{self, Target};
use super::replay::{Replay, Step};
use super::{Deployment, authz, catalog, optime};
use crate::bson_file::Reader;
use crate::layout;
use crate::metadata::{self, Metadata};
use crate::plan::{Item, Plan};
use crate::selection::Selection;

/// Collections that are filled at once.
const AT_ONCE: usize = 4;
/// An `applyOps` is sent when it has so many bytes or operations: it becomes one entry of the target's oplog, which has 16 MB at most.
const APPLY_BYTES: usize = 4 * 1024 * 1024;
const APPLY_OPERATIONS: usize = 500;
/// What is there already, or not any more.
const NAMESPACE_NOT_FOUND: i32 = 26;
const NAMESPACE_EXISTS: i32 = 48;

/// What is restored, from where.
pub struct Restoring<'a> {
    /// Into this deployment.
    pub deployment: &'a Deployment,
    /// The folder that has `dump/`.
    pub root: &'a Path,
    /// What is asked for.
    pub selection: &'a Selection,
    /// The last second of the oplog that is replayed.
    pub until: Option<u32>,
    /// Counts what was done.
    pub meter: Meter,
}

/// What was restored.
#[derive(Debug, Default)]
pub struct Restored {
    /// Collections and views.
    pub collections: u64,
    /// Documents.
    pub documents: u64,
    /// Indexes.
    pub indexes: u64,
    /// Entries of the oplog.
    pub entries: u64,
    /// The last of them.
    pub to: Option<OpTime>,
}

/// A restore on its way: the documents are there.
#[derive(Debug)]
pub struct Filled {
    restored: Restored,
    indexes: Indexes,
}

/// The names of all collections of a deployment that are not the server's own.
///
/// # Errors
/// When it cannot be asked.
pub async fn existing(deployment: &Deployment) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut names = BTreeSet::new();
    for database in deployment.databases().await? {
        let all = catalog::collections(deployment, &database).await?;
        names.extend(all.into_iter().map(|source| (database.clone(), source.collection)));
    }
    Ok(names)
}

impl Restoring<'_> {
    /// Does what the plan says.
    ///
    /// # Errors
    /// When any of it cannot be done. What was done until then stays.
    pub async fn run(
        &self,
        plan: &Plan<'_>,
        oplog: Option<&OplogEntry>,
        drop: bool,
    ) -> anyhow::Result<Restored> {
        let filled = self.fill(plan, drop).await?;
        Ok(self.finish(filled, oplog).await?.0)
    }

    /// Puts everything there as it was dumped: before the oplog, and without indexes.
    ///
    /// # Errors
    /// When any of it cannot be done. What was done until then stays.
    pub async fn fill(&self, plan: &Plan<'_>, drop: bool) -> anyhow::Result<Filled> {
        let mut restored = Restored { collections: plan.items.len() as u64, ..Restored::default() };
        self.drop_all(plan).await?;
        let mut indexes = Indexes::default();
        let (views, collections): (Vec<_>, Vec<_>) =
            plan.items.iter().partition(|item| item.entry.kind == CollectionKind::View);
        let fills: Vec<_> = collections.into_iter().map(|item| self.collection(item)).collect();
        let filled = stream::iter(fills).buffer_unordered(AT_ONCE);
        for (item, metadata, documents) in filled.try_collect::<Vec<_>>().await? {
            restored.documents += documents;
            metadata
                .indexes
                .into_iter()
                .for_each(|index| indexes.add((&item.database, &item.collection), index));
        }
        for item in views {
            self.create(item).await?;
        }
        authz::merge(self.deployment, self.root, &plan.authz, drop).await?;
        Ok(Filled { restored, indexes })
    }

    /// Replays the oplog, and builds the indexes that there are then.
    ///
    /// # Errors
    /// When any of it cannot be done. What was done until then stays.
    pub async fn finish(
        &self,
        filled: Filled,
        oplog: Option<&OplogEntry>,
    ) -> anyhow::Result<(Restored, Indexes)> {
        let Filled { mut restored, mut indexes } = filled;
        if let Some(oplog) = oplog {
            let replayed = self.replay(oplog, indexes).await.context("the oplog")?;
            indexes = replayed.indexes;
            restored.entries = replayed.entries;
            restored.to = replayed.to;
        }
        restored.indexes = indexes.count();
        self.build(&indexes).await?;
        Ok((restored, indexes))
    }

    /// What the collections of a plan have to be like, by their metadata.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn expected(&self, plan: &Plan<'_>) -> anyhow::Result<BTreeMap<(String, String), Metadata>> {
        let of = |item: &Item<'_>| {
            let name = (item.database.clone(), item.collection.clone());
            Ok((name, self.metadata(&item.entry.metadata.path)?))
        };
        plan.items.iter().map(of).collect()
    }

    async fn drop_all(&self, plan: &Plan<'_>) -> anyhow::Result<()> {
        for (database, collection) in &plan.drops {
            self.tolerated(database, doc! { "drop": collection }).await?;
        }
        Ok(())
    }

    async fn collection<'a>(&self, item: &'a Item<'a>) -> anyhow::Result<(&'a Item<'a>, Metadata, u64)> {
        let metadata = self.create(item).await?;
        let stored_in = layout::stored_in(&item.collection, item.entry.kind);
        let target = Target {
            deployment: self.deployment,
            database: &item.database,
            collection: &stored_in,
            ordered: metadata.options.get_bool("capped").unwrap_or(false),
        };
        let documents = match &item.entry.data {
            Some(data) => insert::file(&target, self.root, &data.path, &self.meter).await,
            None => Ok(0),
        };
        let documents = documents.with_context(|| format!("{}.{}", item.database, item.collection))?;
        Ok((item, metadata, documents))
    }

    async fn create(&self, item: &Item<'_>) -> anyhow::Result<Metadata> {
        let what = || format!("{}.{}", item.database, item.collection);
        let metadata = self.metadata(&item.entry.metadata.path).with_context(what)?;
        let mut command = doc! { "create": &item.collection };
        command.extend(self.options(item, &metadata));
        self.deployment.ask(&item.database, command).await.with_context(what)?;
        Ok(metadata)
    }

    /// The options of a collection; a view looks at what it looks at under the name that this has now.
    fn options(&self, item: &Item<'_>, metadata: &Metadata) -> Document {
        let mut options = metadata.options.clone();
        options.remove("autoIndexId");
        if let Ok(on) = options.get_str("viewOn")
            && let Some((database, renamed)) = self.selection.target(&item.entry.database, on)
            && database == item.database
        {
            options.insert("viewOn", renamed);
        }
        options
    }

    fn metadata(&self, path: &str) -> anyhow::Result<Metadata> {
        let file = self.root.join(path);
        if std::fs::metadata(&file).with_context(|| format!("open {path}"))?.len() > metadata::MAX_BYTES {
            bail!("{path} is larger than metadata can be");
        }
        Metadata::from_json(&std::fs::read(&file).with_context(|| format!("read {path}"))?)
            .context(path.to_owned())
    }

    async fn replay(&self, oplog: &OplogEntry, indexes: Indexes) -> anyhow::Result<Replayed> {
        let mut reader = Reader::open(self.root, &oplog.file.path)?;
        let mut replay = Replay::new(self.selection, indexes);
        let (mut waiting, mut entries, mut to) = (Waiting::default(), 0, None);
        while let Some(entry) = reader.next_document()? {
            let at = optime(&entry)?;
            if self.until.is_some_and(|until| at.seconds > until) {
                break;
            }
            let steps = replay
                .take(&entry)
                .with_context(|| format!("the entry at {}:{}", at.seconds, at.increment))?;
            for step in steps {
                self.step(step, &mut waiting).await?;
            }
            entries += 1;
            to = Some(at);
        }
        self.apply(&mut waiting).await?;
        Ok(Replayed { indexes: replay.indexes, entries, to })
    }

    async fn step(&self, step: Step, waiting: &mut Waiting) -> anyhow::Result<()> {
        match step {
            Step::Change(change) => {
                waiting.push(change);
                if waiting.is_full() { self.apply(waiting).await } else { Ok(()) }
            }
            Step::Command(command) => {
                self.apply(waiting).await?;
                waiting.push(command);
                self.apply(waiting).await
            }
            Step::Run(database, command) => {
                self.apply(waiting).await?;
                self.tolerated(&database, command).await
            }
        }
    }

    async fn apply(&self, waiting: &mut Waiting) -> anyhow::Result<()> {
        if waiting.operations.is_empty() {
            return Ok(());
        }
        let mut list = RawArrayBuf::new();
        waiting.operations.drain(..).for_each(|operation| list.push(operation));
        waiting.bytes = 0;
        let mut command = rawdoc! {};
        command.append(cstr!("applyOps"), list);
        command.append(cstr!("bypassDocumentValidation"), true);
        command.append(cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let answer = self.deployment.write("admin", command).await.context("applyOps")?;
        let refused = answer
            .get_array("results")
            .is_ok_and(|results| results.iter().any(|done| done.as_bool() == Some(false)));
        if refused {
            bail!("applyOps did not take all operations");
        }
        Ok(())
    }

    /// Runs a command after which something is there, or not there, as it perhaps was before.
    async fn tolerated(&self, database: &str, command: Document) -> anyhow::Result<()> {
        let tolerated = if command.contains_key("create") { NAMESPACE_EXISTS } else { NAMESPACE_NOT_FOUND };
        match self.deployment.ask(database, command).await {
            Err(error) if code(&error) == Some(tolerated) => Ok(()),
            done => done.map(drop),
        }
    }

    async fn build(&self, indexes: &Indexes) -> anyhow::Result<()> {
        for (database, command) in indexes.commands() {
            let collection = command.get_str("createIndexes").unwrap_or_default().to_owned();
            let built = self.deployment.ask(database, command).await;
            built.with_context(|| format!("the indexes of {database}.{collection}"))?;
        }
        Ok(())
    }
}

struct Replayed {
    indexes: Indexes,
    entries: u64,
    to: Option<OpTime>,
}

/// Operations that were not sent yet.
#[derive(Default)]
struct Waiting {
    operations: Vec<RawDocumentBuf>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, operation: RawDocumentBuf) {
        self.bytes += operation.as_bytes().len();
        self.operations.push(operation);
    }

    fn is_full(&self) -> bool {
        self.bytes >= APPLY_BYTES || self.operations.len() >= APPLY_OPERATIONS
    }
}

fn code(error: &anyhow::Error) -> Option<i32> {
    match &*error.downcast_ref::<mongodb::error::Error>()?.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
