//! What there is in a deployment: its collections with their options, and their indexes.

use anyhow::Context;
use bson::{Bson, Document, RawDocument, doc};
use futures::StreamExt;
use keelson_schemas::backup::CollectionKind;
use mongodb::error::ErrorKind;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::Deployment;
use crate::layout;
use crate::metadata::{self, Metadata};

/// The collection is gone.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// A collection, a view or a time series.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its database.
    pub database: String,
    /// Its name in it.
    pub collection: String,
    /// What it is.
    pub kind: CollectionKind,
    options: Document,
    uuid: String,
}

impl Source {
    /// A collection without options.
    #[must_use]
    pub fn empty(database: &str, collection: &str) -> Self {
        Self {
            database: database.to_owned(),
            collection: collection.to_owned(),
            kind: CollectionKind::Collection,
            options: Document::new(),
            uuid: String::new(),
        }
    }

    /// The collection that holds its documents.
    #[must_use]
    pub fn stored_in(&self) -> String {
        layout::stored_in(&self.collection, self.kind)
    }
}

/// Everything that is dumped, in the order of the names.
///
/// # Errors
/// When the deployment cannot be asked.
pub async fn sources(deployment: &Deployment) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for database in deployment.databases().await? {
        let all = collections(deployment, &database).await?;
        sources
            .extend(all.into_iter().filter(|source| layout::has_collection(&database, &source.collection)));
    }
    sources.sort_by(|a, b| (&a.database, &a.collection).cmp(&(&b.database, &b.collection)));
    Ok(sources)
}

/// Every collection of a database, those of the system included.
///
/// # Errors
/// When the deployment cannot be asked.
pub async fn collections(deployment: &Deployment, database: &str) -> anyhow::Result<Vec<Source>> {
    let listed = async {
        documents(deployment.database(database).list_collections().filter(doc! {}).batch().await?).await
    };
    let listed = listed.await.with_context(|| format!("list the collections of {database}"))?;
    listed.into_iter().map(|document| source(database, document)).collect()
}

/// The options and indexes of a collection; none when it is gone.
///
/// # Errors
/// When the deployment cannot be asked.
pub async fn metadata(deployment: &Deployment, source: &Source) -> anyhow::Result<Option<Metadata>> {
    let indexes = match source.kind {
        CollectionKind::View => Some(Vec::new()),
        CollectionKind::Collection | CollectionKind::Timeseries => indexes(deployment, source).await?,
    };
    Ok(indexes.map(|indexes| Metadata {
        collection: source.collection.clone(),
        kind: source.kind,
        options: source.options.clone(),
        indexes,
        uuid: source.uuid.clone(),
    }))
}

async fn indexes(deployment: &Deployment, source: &Source) -> anyhow::Result<Option<Vec<Document>>> {
    let collection = deployment.database(&source.database).collection::<Document>(&source.collection);
    match collection.list_indexes().batch().await {
        Ok(cursor) => documents(cursor).await.map(Some),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
    .with_context(|| format!("list the indexes of {}.{}", source.database, source.collection))
}

fn is_gone(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == NAMESPACE_NOT_FOUND)
}

async fn documents(mut cursor: RawBatchCursor) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    while let Some(batch) = cursor.next().await {
        for value in batch?.doc_slices()? {
            let document: &RawDocument = value?.as_document().context("an entry is no document")?;
            documents.push(document.try_into()?);
        }
    }
    Ok(documents)
}

fn source(database: &str, listed: Document) -> anyhow::Result<Source> {
    let name = listed.get_str("name").with_context(|| format!("a collection of {database} has no name"))?;
    let options = listed.get_document("options").cloned().unwrap_or_default();
    let uuid = match listed.get_document("info").ok().and_then(|info| info.get("uuid")) {
        Some(Bson::Binary(uuid)) => uuid.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => String::new(),
    };
    Ok(Source {
        database: database.to_owned(),
        collection: name.to_owned(),
        kind: metadata::kind(listed.get_str("type").unwrap_or_default(), &options),
        options,
        uuid,
    })
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;

    use super::*;

    #[test]
    fn what_is_listed_becomes_a_source() {
        let uuid = bson::Binary { subtype: BinarySubtype::Uuid, bytes: (0..16).collect() };
        let listed = doc! { "name": "t", "type": "timeseries", "options": { "timeseries": { "timeField": "at" } }, "info": { "uuid": uuid } };
        let source = source("click", listed).unwrap();
        assert_eq!(
            (source.kind, source.uuid.as_str()),
            (CollectionKind::Timeseries, "000102030405060708090a0b0c0d0e0f")
        );
        assert!(super::source("click", doc! {}).is_err());
    }
}
