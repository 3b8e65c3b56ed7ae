//! `<collection>.metadata.json`: options and indexes of a collection as canonical extended JSON, as mongodump writes and mongorestore reads it.

use anyhow::{Context, anyhow};
use bson::{Bson, Document, doc};
use keelson_schemas::backup::CollectionKind;

/// The largest such file that is read: a collection has at most 64 indexes.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What is known of a collection beside its documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Its name, which its file's name may have cut.
    pub collection: String,
    /// What it is.
    pub kind: CollectionKind,
    /// As `create` takes them.
    pub options: Document,
    /// As `listIndexes` gives them.
    pub indexes: Vec<Document>,
    /// In hex, without dashes; empty where there is none.
    pub uuid: String,
}

impl Metadata {
    /// The file's text. The order of fields is kept: in the key of an index it means something.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let mut document = doc! {};
        if !self.options.is_empty() {
            document.insert("options", self.options.clone());
        }
        document.insert("indexes", self.indexes.clone());
        if !self.uuid.is_empty() {
            document.insert("uuid", self.uuid.clone());
        }
        document.insert("collectionName", self.collection.clone());
        document.insert("type", name(self.kind));
        Ok(serde_json::to_vec(&Bson::Document(document).into_canonical_extjson())?)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> anyhow::Result<Self> {
        let json: serde_json::Value = serde_json::from_slice(json).context("it is no JSON")?;
        let Bson::Document(mut document) = Bson::try_from(json).context("it is no extended JSON")? else {
            return Err(anyhow!("it is no JSON object"));
        };
        let options = document.remove("options").unwrap_or_else(|| doc! {}.into());
        let Bson::Document(options) = options else { return Err(anyhow!("its options are no object")) };
        let indexes = document.get_array("indexes").context("it has no list of indexes")?;
        let documents = indexes.iter().map(|index| index.as_document().cloned());
        Ok(Self {
            collection: document.get_str("collectionName").context("it has no collectionName")?.to_owned(),
            kind: kind(document.get_str("type").unwrap_or_default(), &options),
            indexes: documents.collect::<Option<_>>().context("an index in it is no object")?,
            uuid: document.get_str("uuid").unwrap_or_default().to_owned(),
            options,
        })
    }
}

/// What a collection is, by the word of `listCollections` and its options.
#[must_use]
pub fn kind(word: &str, options: &Document) -> CollectionKind {
    match word {
        "view" => CollectionKind::View,
        "timeseries" => CollectionKind::Timeseries,
        _ if options.contains_key("viewOn") => CollectionKind::View,
        _ if options.contains_key("timeseries") => CollectionKind::Timeseries,
        _ => CollectionKind::Collection,
    }
}

fn name(kind: CollectionKind) -> &'static str {
    match kind {
        CollectionKind::Collection => "collection",
        CollectionKind::View => "view",
        CollectionKind::Timeseries => "timeseries",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Metadata {
        Metadata {
            collection: "videos".into(),
            kind: CollectionKind::Collection,
            options: doc! { "capped": true, "size": 4096_i64, "max": 3.0 },
            indexes: vec![
                doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
                doc! { "v": 2, "key": { "z": 1, "a": -1, "m": "2dsphere" }, "name": "z_1_a_-1", "expireAfterSeconds": 5_i64 },
            ],
            uuid: "00112233445566778899aabbccddeeff".into(),
        }
    }

    #[test]
    fn types_and_the_order_of_fields_survive() {
        let written = example().to_json().unwrap();
        let text = String::from_utf8(written.clone()).unwrap();
        assert!(text.contains(r#""size":{"$numberLong":"4096"}"#), "{text}");
        assert!(
            text.contains(r#""key":{"z":{"$numberInt":"1"},"a":{"$numberInt":"-1"},"m":"2dsphere"}"#),
            "{text}"
        );
        assert_eq!(Metadata::from_json(&written).unwrap(), example());
    }

    #[test]
    fn what_a_collection_is_shows_in_its_options_too() {
        let cases = [
            ("", doc! {}, CollectionKind::Collection),
            ("", doc! {"viewOn": "a"}, CollectionKind::View),
            ("", doc! {"timeseries": {}}, CollectionKind::Timeseries),
            ("timeseries", doc! {}, CollectionKind::Timeseries),
        ];
        for (word, options, expected) in cases {
            assert_eq!(kind(word, &options), expected, "{word} {options}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (json, says) in [
            ("", "no JSON"),
            ("[]", "no JSON object"),
            ("{}", "no list of indexes"),
            (r#"{"indexes":[1],"collectionName":"a"}"#, "no object"),
        ] {
            let error = Metadata::from_json(json.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{json}: {error:#}");
        }
    }
}
