//! Documents into a collection: whole files of them, in batches, several at a time.

use std::path::Path;

use anyhow::{Context, bail};
use bson::raw::cstr;
use bson::spec::ElementType;
use bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::Deployment;
use super::dump::Meter;
use crate::bson_file::Reader;

/// A batch is cut when it has so many bytes or documents.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const BATCH_DOCUMENTS: usize = 10_000;
/// Batches that wait to be sent.
const BATCHES_WAITING: usize = 2;
/// Batches of one collection that are on their way at once.
const AT_ONCE: usize = 3;

/// Where documents go.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// The database.
    pub database: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// Whether their order has to stay, as in a capped collection.
    pub ordered: bool,
}

#[derive(Debug, Default)]
struct Batch {
    documents: Vec<RawDocumentBuf>,
    bytes: usize,
}

/// Inserts every document of a file; how many there were.
///
/// # Errors
/// When any of them cannot be inserted.
pub async fn file(target: &Target<'_>, root: &Path, path: &str, meter: &Meter) -> anyhow::Result<u64> {
    let mut reader = Reader::open(root, path)?;
    let (batches, waiting) = mpsc::channel(BATCHES_WAITING);
    let reading = spawn_blocking(move || -> anyhow::Result<()> {
        let mut batch = Batch::default();
        while let Some(document) = reader.next_document()? {
            batch.bytes += document.as_bytes().len();
            batch.documents.push(document);
            if batch.is_full() && batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
        }
        if !batch.documents.is_empty() {
            // Nobody takes it only after an error, which is told where it happened.
            let _ = batches.blocking_send(batch);
        }
        Ok(())
    });
    let at_once = if target.ordered { 1 } else { AT_ONCE };
    let inserted = ReceiverStream::new(waiting)
        .map(|batch| target.insert(batch, meter))
        .buffer_unordered(at_once)
        .try_fold(0, |sum, count| async move { Ok(sum + count) })
        .await;
    reading.await.context("the reader crashed")??;
    inserted
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.documents.len() >= BATCH_DOCUMENTS
    }
}

impl Target<'_> {
    async fn insert(&self, batch: Batch, meter: &Meter) -> anyhow::Result<u64> {
        let (special, plain): (Vec<_>, Vec<_>) =
            batch.documents.into_iter().partition(|document| has_empty_timestamp(document));
        let count = (special.len() + plain.len()) as u64;
        if !plain.is_empty() {
            self.insert_plain(&plain).await?;
        }
        for document in special {
            self.insert_special(&document).await?;
        }
        meter.add(batch.bytes as u64);
        Ok(count)
    }

    async fn insert_plain(&self, documents: &[RawDocumentBuf]) -> anyhow::Result<()> {
        let mut list = RawArrayBuf::new();
        documents.iter().for_each(|document| list.push(document.as_ref()));
        let mut command = rawdoc! { "insert": self.collection };
        command.append(cstr!("documents"), list);
        command.append(cstr!("ordered"), self.ordered);
        command.append(cstr!("bypassDocumentValidation"), true);
        command.append(cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let answer = self.deployment.write(self.database, command).await?;
        let expected = i32::try_from(documents.len()).unwrap_or(i32::MAX);
        match answer.get_i32("n") {
            Ok(n) if n == expected => Ok(()),
            _ => bail!("{expected} documents were sent, and not all were inserted"),
        }
    }

    /// An insert would fill an empty timestamp in with the time of now; a pipeline does not.
    async fn insert_special(&self, document: &RawDocument) -> anyhow::Result<()> {
        let document: Document = document.try_into()?;
        let id = document.get("_id").cloned().context("a document has no _id")?;
        let update = doc! {
            "update": self.collection,
            "updates": [{ "q": { "_id": { "$eq": id } }, "u": [{ "$replaceWith": { "$literal": document } }], "upsert": true }],
            "bypassDocumentValidation": true,
            "writeConcern": { "w": "majority" },
        };
        self.deployment.write(self.database, RawDocumentBuf::try_from(&update)?).await.map(drop)
    }
}

fn has_empty_timestamp(document: &RawDocument) -> bool {
    document.iter_elements().flatten().any(|element| {
        element.element_type() == ElementType::Timestamp
            && element
                .value()
                .ok()
                .and_then(|value| value.as_timestamp())
                .is_some_and(|at| at.time == 0 && at.increment == 0)
    })
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;

    #[test]
    fn an_empty_timestamp_is_seen_at_the_top_only() {
        let empty = Timestamp { time: 0, increment: 0 };
        assert!(has_empty_timestamp(&rawdoc! { "_id": 1, "at": empty }));
        assert!(!has_empty_timestamp(&rawdoc! { "_id": 1, "at": Timestamp { time: 0, increment: 1 } }));
        assert!(!has_empty_timestamp(&rawdoc! { "_id": 1, "in": { "at": empty } }));
    }
}
