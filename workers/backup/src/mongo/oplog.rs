//! The oplog over a span of time, copied to a file, where it is whole and can be replayed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, bail};
use bson::{RawDocument, doc};
use futures::StreamExt;
use keelson_schemas::backup::{OpTime, OplogEntry};
use mongodb::Collection;
use mongodb::options::{CollectionOptions, ReadConcern};

use super::{Deployment, Standing, optime, timestamp};
use crate::bson_file::Writer;
use crate::layout;

/// Where the oplog has to be copied from so that a dump that begins now becomes consistent: from what is committed, or from the first entry of
/// the oldest transaction that is open. None without an oplog.
///
/// # Errors
/// When the deployment cannot be asked.
pub async fn start(deployment: &Deployment, standing: &Standing) -> anyhow::Result<Option<OpTime>> {
    let Some(committed) = standing.committed else { return Ok(None) };
    let open = oldest_transaction(deployment).await.context("look for open transactions")?;
    Ok(Some(open.map_or(committed, |open| open.min(committed))))
}

/// The entries of a span, and what they say about collections.
#[derive(Debug)]
pub struct Copied {
    /// The file.
    pub entry: OplogEntry,
    /// Collections that are changed in it, are not known, and are not made in it either: they went before they were dumped.
    pub gone: BTreeSet<String>,
}

/// Copies the entries from `start` to `end`, both included; `known` are the namespaces that were dumped.
///
/// # Errors
/// When one of them is not there (any more): then there is a gap. When something in between cannot be replayed by mongorestore.
pub async fn copy(
    deployment: &Deployment,
    root: &Path,
    (start, end): (OpTime, OpTime),
    known: HashSet<String>,
) -> anyhow::Result<Copied> {
    let oplog = deployment.collection("local", "oplog.rs");
    let span = doc! { "ts": { "$gte": timestamp(start), "$lte": timestamp(end) } };
    let mut cursor = oplog.find(span).batch().await?;
    let mut writer = Writer::create(root, layout::OPLOG)?;
    let (mut span, mut namespaces) = (Span::new(start), Namespaces { known, gone: BTreeSet::new() });
    while let Some(batch) = cursor.next().await {
        for value in batch?.doc_slices()? {
            let entry = value?.as_document().context("the server sent something else than documents")?;
            let before_the_dump = span.last.is_none();
            span.take(entry)?;
            namespaces.take(entry)?;
            // What happened before the dump is in it, and needs no replaying where it cannot be.
            let needed = !before_the_dump || replayable(entry).is_ok();
            if needed && !is_of_one_deployment(entry) {
                writer.push(entry)?;
            }
        }
    }
    let written = writer.finish()?;
    let last = span.end(end)?;
    let entry =
        OplogEntry { file: written.file, first: start, consistent: last, last, entries: written.documents };
    Ok(Copied { entry, gone: namespaces.gone })
}

/// Why the oplog cannot be added to.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// What is needed is not there any more, or cannot be replayed: everything has to be read anew.
    #[error("{0}")]
    Gap(String),
    /// It could not be read or written.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Adds the entries after those in a file, up to `end`. The last one that was copied has to be there still, in the same term: then nothing is missing in between.
///
/// # Errors
/// See [`ExtendError`]. What was added until then is to be cut off.
pub async fn extend(
    deployment: &Deployment,
    root: &Path,
    left: &OplogEntry,
    end: OpTime,
) -> Result<OplogEntry, ExtendError> {
    let oplog = deployment.collection("local", "oplog.rs");
    let filter = doc! { "ts": { "$gte": timestamp(left.last), "$lte": timestamp(end) } };
    let mut cursor = oplog.find(filter).batch().await.map_err(anyhow::Error::from)?;
    let mut writer = Writer::go_on(root, &left.file, left.entries)?;
    let mut span = Span { start: left.last, ..Span::new(left.first) };
    while let Some(batch) = cursor.next().await {
        let batch = batch.map_err(anyhow::Error::from)?;
        for value in batch.doc_slices().map_err(anyhow::Error::from)? {
            let value = value.map_err(anyhow::Error::from)?;
            let entry = value.as_document().context("the server sent something else than documents")?;
            let copied = span.last.is_none();
            span.take(entry).map_err(|error| ExtendError::Gap(format!("{error:#}")))?;
            if !copied && !is_of_one_deployment(entry) {
                writer.push(entry)?;
            }
        }
    }
    let last = span.end(end).map_err(|error| ExtendError::Gap(format!("{error:#}")))?;
    let written = writer.finish()?;
    Ok(OplogEntry { file: written.file, last, entries: written.documents, ..left.clone() })
}

/// Whether an entry is about the deployment itself. It is left out: mongorestore would send most of these to a server that refuses them or has its own.
fn is_of_one_deployment(entry: &RawDocument) -> bool {
    let Some((database, mut collection)) = entry.get_str("ns").ok().and_then(|ns| ns.split_once('.')) else {
        return false;
    };
    if collection == "$cmd" {
        let command = entry.get_document("o").ok().and_then(|o| o.iter().next()?.ok());
        collection = command.and_then(|(_, about)| about.as_str()).unwrap_or_default();
    }
    layout::is_of_one_deployment(database, collection)
}

async fn oldest_transaction(deployment: &Deployment) -> anyhow::Result<Option<OpTime>> {
    // Local: a transaction is open before a majority knows of it.
    let options = CollectionOptions::builder().read_concern(ReadConcern::local()).build();
    let transactions: Collection<bson::RawDocumentBuf> =
        deployment.database("config").collection_with_options("transactions", options);
    let open = doc! { "state": { "$in": ["prepared", "inProgress"] } };
    let Some(oldest) = transactions.find_one(open).sort(doc! { "startOpTime": 1 }).await? else {
        return Ok(None);
    };
    let began =
        oldest.get_document("startOpTime").context("an open transaction does not say when it began")?;
    optime(began).map(Some)
}

/// Which collections there are while a span is replayed.
#[derive(Debug)]
struct Namespaces {
    known: HashSet<String>,
    gone: BTreeSet<String>,
}

impl Namespaces {
    fn take(&mut self, entry: &RawDocument) -> anyhow::Result<()> {
        let namespace = entry.get_str("ns").unwrap_or_default();
        let Some((database, collection)) = namespace.split_once('.') else { return Ok(()) };
        let Ok(o) = entry.get_document("o") else { return Ok(()) };
        match entry.get_str("op") {
            Ok("c") => {
                if let Ok(made) = o.get_str("create") {
                    self.known.insert(format!("{database}.{made}"));
                }
                for operation in o.get_array("applyOps").into_iter().flatten() {
                    self.take(operation?.as_document().context("an operation is no document")?)?;
                }
            }
            Ok("i" | "u") if layout::has_database(database) && !self.known.contains(namespace) => {
                if collection.starts_with(layout::BUCKETS) {
                    bail!("the time series {namespace} went while the dump was made: make the backup again");
                }
                if layout::has_collection(database, collection) && database != "admin" {
                    self.gone.insert(namespace.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What has been seen of a span of the oplog: that it begins and ends where it should, and that all in between can be replayed.
#[derive(Debug)]
struct Span {
    /// Where it has to begin.
    start: OpTime,
    /// From where on entries are there, in this span or in one before it.
    known_from: OpTime,
    last: Option<OpTime>,
}

impl Span {
    fn new(start: OpTime) -> Self {
        Self { start, known_from: start, last: None }
    }

    fn take(&mut self, entry: &RawDocument) -> anyhow::Result<()> {
        let at = optime(entry)?;
        match self.last {
            None if at != self.start => bail!(
                "it begins at {} where it should begin at {}: the oplog is too short, or entries were rolled back",
                words(at),
                words(self.start)
            ),
            Some(last) if (at.seconds, at.increment) <= (last.seconds, last.increment) => {
                bail!("{} comes after {}", words(at), words(last))
            }
            Some(_) => replayable(entry).with_context(|| format!("at {}", words(at)))?,
            None => {}
        }
        self.last = Some(at);
        self.check_transaction(entry)
    }

    /// A transaction of several entries is replayed at its last one, and so all of them have to be there.
    fn check_transaction(&self, entry: &RawDocument) -> anyhow::Result<()> {
        let in_transaction =
            entry.get("txnNumber")?.is_some() && entry.get_str("op").is_ok_and(|op| op == "c");
        let Some(before) = entry.get("prevOpTime")?.and_then(|before| before.as_document()) else {
            return Ok(());
        };
        let before = optime(before)?;
        if in_transaction
            && before.seconds > 0
            && (before.seconds, before.increment) < (self.known_from.seconds, self.known_from.increment)
        {
            bail!("a transaction ended while the dump began: make the backup again");
        }
        Ok(())
    }

    fn end(self, end: OpTime) -> anyhow::Result<OpTime> {
        match self.last {
            Some(last) if last == end => Ok(last),
            Some(last) => bail!("it ends at {} where it should end at {}", words(last), words(end)),
            None => bail!("it has no entry from {} on: the oplog is too short", words(self.start)),
        }
    }
}

/// The collections that an entry makes, added to `made`.
///
/// # Errors
/// When it cannot be read.
pub fn note_made(entry: &RawDocument, made: &mut BTreeSet<(String, String)>) -> anyhow::Result<()> {
    let namespace = entry.get_str("ns").unwrap_or_default();
    let (Some((database, collection)), Ok(o)) = (namespace.split_once('.'), entry.get_document("o")) else {
        return Ok(());
    };
    match entry.get_str("op") {
        Ok("c") => {
            if let Ok(name) = o.get_str("create") {
                made.insert((
                    database.to_owned(),
                    name.strip_prefix(layout::BUCKETS).unwrap_or(name).to_owned(),
                ));
            }
            for operation in o.get_array("applyOps").into_iter().flatten() {
                note_made(operation?.as_document().context("an operation is no document")?, made)?;
            }
        }
        Ok("i") if collection == "system.views" => {
            let view = o.get_str("_id").ok().and_then(|id| id.split_once('.'));
            made.extend(view.map(|(_, view)| (database.to_owned(), view.to_owned())));
        }
        _ => {}
    }
    Ok(())
}

/// Whether mongorestore can replay an entry. What it cannot, mongodump refuses to dump.
///
/// # Errors
/// Why not.
pub fn replayable(entry: &RawDocument) -> anyhow::Result<()> {
    if entry.get_str("ns").is_ok_and(|ns| ns == "admin.system.version") {
        bail!("admin.system.version was changed, as an upgrade does: make the backup again");
    }
    let Ok(o) = entry.get_document("o") else { return Ok(()) };
    for command in ["renameCollection", "importCollection"] {
        if entry.get_str("op").is_ok_and(|op| op == "c") && o.get(command)?.is_some() {
            bail!("{command} cannot be replayed by mongorestore: make the backup again");
        }
    }
    Ok(())
}

fn words(at: OpTime) -> String {
    format!("{}:{} (term {})", at.seconds, at.increment, at.term)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, Timestamp, rawdoc};

    use super::*;

    fn at(seconds: u32) -> OpTime {
        OpTime { seconds, increment: 1, term: 2 }
    }

    fn entry(seconds: u32, term: i64) -> RawDocumentBuf {
        rawdoc! { "op": "i", "ns": "a.b", "ts": Timestamp { time: seconds, increment: 1 }, "t": term, "o": { "_id": 1 } }
    }

    fn taken(entries: &[RawDocumentBuf], end: u32) -> Result<OpTime, String> {
        let mut span = Span::new(at(5));
        entries
            .iter()
            .try_for_each(|entry| span.take(entry))
            .and_then(|()| span.end(at(end)))
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_span_begins_and_ends_exactly_where_it_should() {
        assert_eq!(taken(&[entry(5, 2)], 5), Ok(at(5)));
        assert_eq!(taken(&[entry(5, 2), entry(6, 2)], 6), Ok(at(6)));
        let cases = [
            (vec![], 5, "no entry"),
            (vec![entry(6, 2)], 6, "begins at 6:1"),
            (vec![entry(5, 1)], 5, "rolled back"),
            (vec![entry(5, 2)], 6, "ends at 5:1"),
            (vec![entry(5, 2), entry(6, 3)], 6, "term 3"),
            (vec![entry(5, 2), entry(5, 2)], 5, "comes after"),
        ];
        for (entries, end, says) in cases {
            let refused = taken(&entries, end).unwrap_err();
            assert!(refused.contains(says), "{says}: {refused}");
        }
    }

    #[test]
    fn a_collection_that_went_before_it_was_dumped_is_named() {
        let mut namespaces = Namespaces { known: ["a.here".to_owned()].into(), gone: BTreeSet::new() };
        let change = |op: &str, namespace: &str| rawdoc! { "op": op, "ns": namespace, "o": { "_id": 1 } };
        let made = rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "create": "made" } };
        let inner = rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [change("i", "a.inner")] } };
        let entries = [
            change("i", "a.here"),
            made,
            change("u", "a.made"),
            change("u", "a.gone"),
            change("d", "a.only_deleted"),
            change("i", "a.system.views"),
            change("i", "config.transactions"),
            inner,
        ];
        entries.iter().for_each(|entry| namespaces.take(entry).unwrap());
        assert_eq!(namespaces.gone, BTreeSet::from(["a.gone".to_owned(), "a.inner".to_owned()]));
        assert!(namespaces.take(&change("i", "a.system.buckets.t")).is_err());
    }

    #[test]
    fn what_is_of_one_deployment_is_known() {
        let change = |namespace: &str| rawdoc! { "op": "i", "ns": namespace, "o": { "_id": 1 } };
        let create = |database: &str, name: &str| rawdoc! { "op": "c", "ns": format!("{database}.$cmd"), "o": { "create": name } };
        for (entry, own) in [
            (change("admin.system.keys"), true),
            (create("admin", "system.keys"), true),
            (change("config.transactions"), true),
            (create("config", "transactions"), true),
            (change("admin.system.users"), false),
            (change("a.system.keys"), false),
            (create("a", "b"), false),
            (rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [] } }, false),
            (rawdoc! { "op": "n", "ns": "", "o": {} }, false),
        ] {
            assert_eq!(is_of_one_deployment(&entry), own, "{entry:?}");
        }
    }

    #[test]
    fn what_an_entry_makes_is_noted() {
        let mut made = BTreeSet::new();
        let create = |name: &str| rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "create": name } };
        for entry in [
            create("b"),
            create("system.buckets.t"),
            rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [create("inner")] } },
            rawdoc! { "op": "i", "ns": "a.system.views", "o": { "_id": "a.v" } },
            rawdoc! { "op": "i", "ns": "a.other", "o": { "_id": "a.no" } },
        ] {
            note_made(&entry, &mut made).unwrap();
        }
        let names: Vec<&str> = made.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["b", "inner", "t", "v"]);
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let command = |o: RawDocumentBuf| rawdoc! { "op": "c", "ns": "a.$cmd", "o": o };
        replayable(&command(rawdoc! { "create": "renameCollection" })).unwrap();
        replayable(&rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 1, "renameCollection": 1 } }).unwrap();
        for refused in [
            command(rawdoc! { "renameCollection": "a.b", "to": "a.c" }),
            command(rawdoc! { "importCollection": "a.b" }),
            rawdoc! { "op": "u", "ns": "admin.system.version", "o": {} },
        ] {
            assert!(replayable(&refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_transaction_that_began_before_the_span_is_seen() {
        let of = |before: u32| {
            rawdoc! { "op": "c", "ns": "admin.$cmd", "ts": Timestamp { time: 5, increment: 1 }, "t": 2_i64, "txnNumber": 1_i64,
            "prevOpTime": { "ts": Timestamp { time: before, increment: 1 }, "t": 2_i64 }, "o": { "applyOps": [] } }
        };
        assert!(taken(&[of(4)], 5).unwrap_err().contains("transaction"));
        assert!(taken(&[of(0)], 5).is_ok());
    }
}
