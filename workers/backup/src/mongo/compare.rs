//! What came back, compared with what was backed up: the documents with the dump, options and indexes with the metadata, and what the server itself says.
//!
//! Documents come back in another order than they are dumped in, and a dump is not in the order in which `dbHash` goes: what is compared is a
//! sum over a hash of each document, which has no order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use bson::{Document, RawDocument, RawDocumentBuf, doc};
use futures::StreamExt;
use keelson_schemas::backup::{CollectionEntry, CollectionKind};
use tokio::task::spawn_blocking;

use super::Deployment;
use super::catalog::{self, Source};
use super::indexes::Indexes;
use crate::bson_file::Reader;
use crate::layout;
use crate::metadata::Metadata;

/// Says what is different, in words.
pub type Differences = Vec<String>;
/// `database`, `collection`.
pub type Name = (String, String);

/// Documents, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    documents: u64,
    sum: [u64; 4],
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, document: &RawDocument) {
        let hash = blake3::hash(document.as_bytes());
        for (sum, part) in self.sum.iter_mut().zip(hash.as_bytes().as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*part));
        }
        self.documents += 1;
    }

    /// What is different about what came back. Pure.
    #[must_use]
    pub fn difference(self, name: &str, back: Self) -> Option<String> {
        if self.documents != back.documents {
            return Some(format!(
                "{name}: {} documents were backed up, and {} came back",
                self.documents, back.documents
            ));
        }
        (self != back).then(|| format!("{name}: its documents came back otherwise than they were"))
    }
}

/// What is different about the documents of a collection before anything is replayed on them.
///
/// # Errors
/// When either cannot be read.
pub async fn documents(
    deployment: &Deployment,
    root: &Path,
    entry: &CollectionEntry,
) -> anyhow::Result<Option<String>> {
    let Some(data) = &entry.data else { return Ok(None) };
    let (root, path) = (root.to_owned(), data.path.clone());
    let dumped = spawn_blocking(move || in_file(&root, &path)).await.context("it crashed")??;
    let stored_in = layout::stored_in(&entry.collection, entry.kind);
    let back = in_collection(deployment, &entry.database, &stored_in);
    Ok(dumped.difference(&entry.namespace(), back.await.with_context(|| entry.namespace())?))
}

fn in_file(root: &Path, path: &str) -> anyhow::Result<Tally> {
    let (mut tally, mut reader) = (Tally::default(), Reader::open(root, path)?);
    while let Some(document) = reader.next_document()? {
        tally.add(&document);
    }
    Ok(tally)
}

async fn in_collection(deployment: &Deployment, database: &str, name: &str) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut cursor = deployment.collection(database, name).find(doc! {}).batch().await?;
    while let Some(batch) = cursor.next().await {
        for value in batch?.doc_slices()? {
            tally.add(value?.as_document().context("the server sent something else than documents")?);
        }
    }
    Ok(tally)
}

/// What the oplog does to collections as such, not to their documents: afterwards they are not as their metadata say.
///
/// # Errors
/// When an entry cannot be read.
pub fn note_changed(entry: &RawDocument, changed: &mut BTreeSet<Name>) -> anyhow::Result<()> {
    let (Some((database, collection)), Ok(o)) =
        (entry.get_str("ns").unwrap_or_default().split_once('.'), entry.get_document("o"))
    else {
        return Ok(());
    };
    if collection == "system.views" {
        // Which one it was is in the entry or in the one before it.
        changed.insert((database.to_owned(), String::new()));
    }
    if entry.get_str("op").is_ok_and(|op| op == "c")
        && let Some(Ok((command, value))) = o.iter().next()
    {
        let of = value.as_str().unwrap_or_default();
        if !of.is_empty() || command == "dropDatabase" {
            changed.insert((database.to_owned(), of.strip_prefix(layout::BUCKETS).unwrap_or(of).to_owned()));
        }
        for operation in o.get_array("applyOps").into_iter().flatten() {
            note_changed(operation?.as_document().context("an operation is no document")?, changed)?;
        }
    }
    Ok(())
}

/// What is different about options and indexes, and what the server finds wrong, after all is restored.
///
/// `expected` are the metadata of the dump, `changed` the collections of which the oplog has changed more than documents, an empty name being
/// all of a database.
///
/// # Errors
/// When the server cannot be asked.
pub async fn structure(
    deployment: &Deployment,
    expected: &BTreeMap<Name, Metadata>,
    indexes: &Indexes,
    changed: &BTreeSet<Name>,
) -> anyhow::Result<Differences> {
    let mut back = BTreeMap::new();
    let mut differences = Vec::new();
    for source in catalog::sources(deployment).await? {
        differences.extend(validated(deployment, &source).await?);
        if let Some(metadata) = catalog::metadata(deployment, &source).await? {
            back.insert((source.database, source.collection), metadata);
        }
    }
    differences.extend(compared(expected, indexes.listed(), &back, changed));
    Ok(differences)
}

/// What the server itself finds wrong with a collection and its indexes.
async fn validated(deployment: &Deployment, source: &Source) -> anyhow::Result<Option<String>> {
    if source.kind == CollectionKind::View {
        return Ok(None);
    }
    let answer = deployment.ask(&source.database, doc! { "validate": source.stored_in() }).await?;
    let valid = answer.get_bool("valid").unwrap_or(false);
    let errors = answer.get_array("errors").map(|errors| format!("{errors:?}")).unwrap_or_default();
    Ok((!valid).then(|| format!("{}.{}: it is not valid: {errors}", source.database, source.collection)))
}

/// Pure.
fn compared(
    expected: &BTreeMap<Name, Metadata>,
    indexes: &BTreeMap<Name, Vec<Document>>,
    back: &BTreeMap<Name, Metadata>,
    changed: &BTreeSet<Name>,
) -> Differences {
    let mut differences = Vec::new();
    for ((database, collection), metadata) in expected {
        let name = (database.clone(), collection.clone());
        let is_changed = changed.contains(&name) || changed.contains(&(database.clone(), String::new()));
        match back.get(&name) {
            _ if is_changed => {}
            None => differences.push(format!("{database}.{collection}: it did not come back")),
            Some(back) if bytes(&options(&back.options)) != bytes(&options(&metadata.options)) => {
                differences
                    .push(format!("{database}.{collection}: its options came back otherwise than they were"));
            }
            Some(_) => {}
        }
    }
    for ((database, collection), expected) in indexes {
        let series = collection.strip_prefix(layout::BUCKETS).unwrap_or(collection);
        let back = back.get(&(database.clone(), series.to_owned()));
        let back: Vec<Document> = back.iter().flat_map(|back| &back.indexes).map(plain).collect();
        let back: Vec<Vec<u8>> = back.iter().map(bytes).collect();
        let missing = expected.iter().map(plain).filter(|index| !back.contains(&bytes(index)));
        let say = |index: Document| {
            let named = index.get_str("name").unwrap_or_default().to_owned();
            format!("{database}.{series}: the index {named} did not come back as it was")
        };
        // Those of buckets are listed under other keys.
        differences.extend(missing.filter(|_| series == collection).map(say));
    }
    differences
}

fn options(options: &Document) -> Document {
    let mut options = options.clone();
    options.remove("autoIndexId");
    sorted(options)
}

/// Without what a server adds of itself.
fn plain(index: &Document) -> Document {
    let mut index = index.clone();
    for added in ["ns", "v", "background"] {
        index.remove(added);
    }
    let key = index.remove("key");
    let mut index = sorted(index);
    index.extend(key.map(|key| ("key".to_owned(), key)));
    index
}

/// The order of what is within means something, which two documents that are equal may not have in common.
fn bytes(document: &Document) -> Vec<u8> {
    let in_words = |_| format!("{document:?}").into_bytes();
    RawDocumentBuf::try_from(document).map_or_else(in_words, RawDocumentBuf::into_bytes)
}

fn sorted(document: Document) -> Document {
    document.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn tally(ids: &[i32]) -> Tally {
        let mut tally = Tally::default();
        ids.iter().for_each(|id| tally.add(&rawdoc! { "_id": *id }));
        tally
    }

    #[test]
    fn the_order_of_documents_is_no_difference_and_everything_else_is() {
        assert_eq!(tally(&[1, 2, 3]).difference("a.b", tally(&[3, 1, 2])), None);
        let fewer = tally(&[1, 2, 3]).difference("a.b", tally(&[1, 2])).unwrap();
        assert_eq!(fewer, "a.b: 3 documents were backed up, and 2 came back");
        for other in [[1, 2, 4], [1, 1, 3], [2, 2, 2]] {
            assert!(tally(&[1, 2, 3]).difference("a.b", tally(&other)).unwrap().contains("otherwise"));
        }
    }

    fn metadata(size: i32, index: Document) -> BTreeMap<Name, Metadata> {
        let options = doc! { "capped": true, "size": size };
        let metadata = Metadata { options, indexes: vec![index], ..Metadata::default() };
        [(("a".to_owned(), "b".to_owned()), metadata)].into()
    }

    #[test]
    fn options_and_indexes_that_came_back_otherwise_are_named() {
        let index = doc! { "v": 2, "key": { "x": 1, "y": -1 }, "name": "xy", "unique": true };
        let indexes = BTreeMap::from([(("a".to_owned(), "b".to_owned()), vec![index.clone()])]);
        let expected = metadata(100, index.clone());
        let check = |back: &BTreeMap<Name, Metadata>, changed: &[(&str, &str)]| {
            let changed = changed.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            compared(&expected, &indexes, back, &changed)
        };
        let same = doc! { "unique": true, "v": 1, "name": "xy", "key": { "x": 1, "y": -1 }, "ns": "a.b" };
        assert_eq!(check(&metadata(100, same), &[]), [""; 0]);
        let turned = doc! { "v": 2, "key": { "y": -1, "x": 1 }, "name": "xy", "unique": true };
        for other in [turned, doc! { "v": 2, "key": { "x": 1, "y": -1 }, "name": "xy" }] {
            assert_eq!(check(&metadata(100, other), &[]), ["a.b: the index xy did not come back as it was"]);
        }
        let options = ["a.b: its options came back otherwise than they were"];
        assert_eq!(check(&metadata(101, index.clone()), &[("a", "c")]), options);
        assert_eq!(check(&metadata(101, index.clone()), &[("a", "b")]), [""; 0]);
        assert_eq!(check(&metadata(101, index), &[("a", "")]), [""; 0]);
        assert_eq!(check(&BTreeMap::new(), &[]).len(), 2);
    }

    #[test]
    fn what_the_oplog_changes_beside_documents_is_noted() {
        let mut changed = BTreeSet::new();
        for entry in [
            rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 1 } },
            rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "collMod": "c" } },
            rawdoc! { "op": "c", "ns": "x.$cmd", "o": { "applyOps": [{ "op": "c", "ns": "a.$cmd", "o": { "create": "system.buckets.d" } }] } },
            rawdoc! { "op": "c", "ns": "gone.$cmd", "o": { "dropDatabase": 1 } },
        ] {
            note_changed(&entry, &mut changed).unwrap();
        }
        let names: Vec<String> = changed.iter().map(|(a, b)| format!("{a}.{b}")).collect();
        assert_eq!(names, ["a.c", "a.d", "gone."]);
    }
}
