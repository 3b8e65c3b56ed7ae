//! What an entry of the oplog means for a restore: operations that `applyOps` takes, commands, changes of indexes that are built later. Pure.

use std::collections::HashMap;

use anyhow::{Context, bail};
use bson::raw::cstr;
use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::indexes::Indexes;
use super::oplog;
use crate::layout;
use crate::selection::Selection;

/// Bytes of transactions that may be open at one time of the replay.
const MAX_OPEN_BYTES: usize = 128 * 1024 * 1024;

/// What is to be done at the target.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// An insert, update or delete; many of them go into one `applyOps`.
    Change(RawDocumentBuf),
    /// A command on a collection, by `applyOps` alone.
    Command(RawDocumentBuf),
    /// A command on a database that makes or drops a view or a time series; that it is there already, or gone already, is no error.
    Run(String, Document),
}

/// The state of a replay.
#[derive(Debug)]
pub struct Replay<'a> {
    selection: &'a Selection,
    /// The indexes as they are at this point.
    pub indexes: Indexes,
    /// Operations of transactions that have not ended, by session and number.
    open: HashMap<Vec<u8>, Vec<RawDocumentBuf>>,
    open_bytes: usize,
}

impl<'a> Replay<'a> {
    /// A replay that begins with these indexes.
    #[must_use]
    pub fn new(selection: &'a Selection, indexes: Indexes) -> Self {
        Self { selection, indexes, open: HashMap::new(), open_bytes: 0 }
    }

    /// What an entry means.
    ///
    /// # Errors
    /// When it is not known: then the restored state would not be that of the source.
    pub fn take(&mut self, entry: &RawDocument) -> anyhow::Result<Vec<Step>> {
        oplog::replayable(entry)?;
        let o = entry.get_document("o").context("it has no o")?;
        match (entry.get_str("op").context("it has no op")?, first_key(o)?) {
            ("n", _) => Ok(Vec::new()),
            ("c", "applyOps") => self.transaction(entry, o),
            ("c", "commitTransaction") => self.commit(entry),
            ("c", "abortTransaction") => {
                self.close(&transaction(entry)?);
                Ok(Vec::new())
            }
            _ => self.operation(entry),
        }
    }

    /// One operation, of an entry or of a transaction.
    fn operation(&mut self, operation: &RawDocument) -> anyhow::Result<Vec<Step>> {
        let namespace = operation.get_str("ns").context("it has no ns")?;
        let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
        if namespace.is_empty() || layout::is_of_one_deployment(database, collection) {
            return Ok(Vec::new());
        }
        let step = match operation.get_str("op").context("it has no op")? {
            "n" => None,
            "i" | "u" | "d" if collection == "system.views" => self.view(operation, database)?,
            "i" | "u" | "d" => self.change(operation, database, collection)?,
            "c" => self.command(operation, database)?,
            other => bail!("operation {other:?} is not known"),
        };
        Ok(step.into_iter().collect())
    }

    fn change(
        &self,
        operation: &RawDocument,
        database: &str,
        collection: &str,
    ) -> anyhow::Result<Option<Step>> {
        let Some(namespace) = self.target(database, collection) else { return Ok(None) };
        let mut change = RawDocumentBuf::new();
        change.append(cstr!("op"), operation.get_str("op")?);
        change.append(cstr!("ns"), namespace);
        change.append(cstr!("o"), operation.get_document("o")?);
        if let Some(o2) = operation.get("o2")?.and_then(|o2| o2.as_document()) {
            change.append(cstr!("o2"), o2);
        }
        Ok(Some(Step::Change(change)))
    }

    /// Views are entries of a collection of the system, which cannot be written where there are none yet: they are made by command.
    fn view(&self, operation: &RawDocument, database: &str) -> anyhow::Result<Option<Step>> {
        let key = if operation.get_str("op")? == "u" { "o2" } else { "o" };
        let named = operation.get_document(key)?.get_str("_id").context("a view has no name")?;
        let Some((_, view)) = named.split_once('.') else { bail!("{named:?} is no view") };
        let Some((database, view)) = self.selection.target(database, view) else { return Ok(None) };
        let mut definition: Document = operation.get_document("o")?.try_into()?;
        definition.remove("_id");
        match operation.get_str("op")? {
            "d" => Ok(Some(Step::Run(database, doc! { "drop": view }))),
            // A time series is made by the entry that creates its buckets.
            "i" if definition.get_str("viewOn").is_ok_and(|on| on.starts_with(layout::BUCKETS)) => Ok(None),
            "i" => Ok(Some(Step::Run(database, with("create", view, definition)))),
            _ if definition.contains_key("viewOn") => {
                Ok(Some(Step::Run(database, with("collMod", view, definition))))
            }
            _ => bail!("a change of the view {named:?} is not known"),
        }
    }

    fn command(&mut self, operation: &RawDocument, database: &str) -> anyhow::Result<Option<Step>> {
        let o: Document = operation.get_document("o")?.try_into()?;
        let command = o.keys().next().cloned().unwrap_or_default();
        // Each of its collections is dropped by an entry of its own before.
        if command == "dropDatabase" {
            return Ok(None);
        }
        let Ok(collection) = o.get_str(&command) else { bail!("{command:?} names no collection") };
        if layout::is_of_one_deployment(database, collection) {
            return Ok(None);
        }
        let Some((to_database, to_collection)) = self.selection.target(database, collection) else {
            return Ok(None);
        };
        let of = (to_database.as_str(), to_collection.as_str());
        match command.as_str() {
            "startIndexBuild" | "abortIndexBuild" => return Ok(None),
            "commitIndexBuild" => {
                for index in o.get_array("indexes").context("an index build has no indexes")? {
                    self.indexes.add(of, index.as_document().cloned().context("an index is no document")?);
                }
                return Ok(None);
            }
            "createIndexes" => {
                let index = o.iter().filter(|(key, _)| *key != "createIndexes");
                self.indexes.add(of, index.map(|(key, value)| (key.clone(), value.clone())).collect());
                return Ok(None);
            }
            "deleteIndex" | "deleteIndexes" | "dropIndex" | "dropIndexes" => {
                self.indexes.remove(of, o.get_str("index").context("it is not said which index")?);
                return Ok(None);
            }
            "collMod" => return self.modified(of, o),
            "drop" => self.indexes.forget(of),
            "create" if collection == "system.views" => return Ok(None),
            "create" if collection.starts_with(layout::BUCKETS) => return series(of, &o).map(Some),
            "create" | "convertToCapped" | "emptycapped" => {}
            other => bail!("the command {other:?} is not known"),
        }
        command_step(of, &command, o).map(Some)
    }

    /// A change of a collection, of one of its indexes, or of both.
    fn modified(&mut self, of: (&str, &str), mut o: Document) -> anyhow::Result<Option<Step>> {
        if let Some(change) = o.remove("index") {
            let change = change.as_document().context("a changed index is no document")?;
            self.indexes.modify(of, change);
        }
        if o.len() == 1 { Ok(None) } else { command_step(of, "collMod", o).map(Some) }
    }

    /// An entry with several operations: a transaction, or a part of one.
    fn transaction(&mut self, entry: &RawDocument, o: &RawDocument) -> anyhow::Result<Vec<Step>> {
        let mut operations = Vec::new();
        for operation in o.get_array("applyOps")? {
            operations.push(operation?.as_document().context("an operation is no document")?.to_owned());
        }
        let ends_later = o.get_bool("partialTxn").unwrap_or(false) || o.get_bool("prepare").unwrap_or(false);
        let known = entry.get("txnNumber")?.is_some();
        if ends_later {
            self.keep(transaction(entry)?, operations)?;
            return Ok(Vec::new());
        }
        let before = if known { self.close(&transaction(entry)?) } else { Vec::new() };
        self.all(before.into_iter().chain(operations))
    }

    fn commit(&mut self, entry: &RawDocument) -> anyhow::Result<Vec<Step>> {
        let operations = self.close(&transaction(entry)?);
        self.all(operations.into_iter())
    }

    fn all(&mut self, operations: impl Iterator<Item = RawDocumentBuf>) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for operation in operations {
            steps.extend(self.operation(&operation)?);
        }
        Ok(steps)
    }

    fn keep(&mut self, of: Vec<u8>, operations: Vec<RawDocumentBuf>) -> anyhow::Result<()> {
        self.open_bytes += operations.iter().map(bytes).sum::<usize>();
        if self.open_bytes > MAX_OPEN_BYTES {
            bail!("transactions of more than {} MiB are open at once", MAX_OPEN_BYTES / 1024 / 1024);
        }
        self.open.entry(of).or_default().extend(operations);
        Ok(())
    }

    fn close(&mut self, of: &[u8]) -> Vec<RawDocumentBuf> {
        let operations = self.open.remove(of).unwrap_or_default();
        self.open_bytes -= operations.iter().map(bytes).sum::<usize>();
        operations
    }

    fn target(&self, database: &str, collection: &str) -> Option<String> {
        let (database, collection) = self.selection.target(database, collection)?;
        Some(format!("{database}.{collection}"))
    }
}

/// The session and number of a transaction.
fn transaction(entry: &RawDocument) -> anyhow::Result<Vec<u8>> {
    let session = entry.get_document("lsid").context("a transaction has no session")?;
    let number =
        entry.get("txnNumber")?.and_then(|number| number.as_i64()).context("a transaction has no number")?;
    Ok([session.as_bytes(), &number.to_le_bytes()].concat())
}

fn first_key(document: &RawDocument) -> anyhow::Result<&str> {
    Ok(document.iter().next().transpose()?.map_or("", |(key, _)| key.as_str()))
}

fn bytes(document: &RawDocumentBuf) -> usize {
    document.as_bytes().len()
}

/// The command that makes a time series, from the entry that makes its buckets.
fn series((database, buckets): (&str, &str), o: &Document) -> anyhow::Result<Step> {
    let timeseries =
        o.get_document("timeseries").context("the buckets of a time series do not say of which kind")?;
    let name = buckets.trim_start_matches(layout::BUCKETS);
    let mut command = doc! { "create": name, "timeseries": timeseries.clone() };
    if let Some(after) = o.get("expireAfterSeconds") {
        command.insert("expireAfterSeconds", after.clone());
    }
    if let Some(collation) = o.get("collation") {
        command.insert("collation", collation.clone());
    }
    Ok(Step::Run(database.to_owned(), command))
}

fn command_step((database, collection): (&str, &str), command: &str, o: Document) -> anyhow::Result<Step> {
    let rest = o.into_iter().filter(|(key, _)| key != command).collect();
    let o = with(command, collection.to_owned(), rest);
    let step = doc! { "op": "c", "ns": format!("{database}.$cmd"), "o": o };
    Ok(Step::Command(RawDocumentBuf::try_from(&step)?))
}

fn with(command: &str, collection: String, rest: Document) -> Document {
    let mut document = doc! { command: collection };
    document.extend(rest.into_iter().filter(|(_, value)| *value != Bson::Null));
    document
}

#[cfg(test)]
mod tests;
