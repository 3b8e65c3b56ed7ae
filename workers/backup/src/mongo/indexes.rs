//! The indexes that are to be built at the end of a restore: those in the metadata, changed as the oplog says. Pure.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

use crate::layout;

/// By namespace as it is restored: `(database, collection)`.
#[derive(Debug, Default, PartialEq)]
pub struct Indexes(BTreeMap<(String, String), Vec<Document>>);

/// A namespace as it is restored.
pub type Name<'a> = (&'a str, &'a str);

impl Indexes {
    /// Adds one; one of the same name is replaced. That on `_id` comes with its collection.
    pub fn add(&mut self, of: Name<'_>, mut index: Document) {
        let name = index.get_str("name").unwrap_or_default().to_owned();
        if name == "_id_" || index.get_bool("clustered").unwrap_or(false) {
            return;
        }
        index.remove("ns");
        let indexes = self.0.entry((of.0.to_owned(), of.1.to_owned())).or_default();
        indexes.retain(|other| other.get_str("name").unwrap_or_default() != name);
        indexes.push(index);
    }

    /// Drops one.
    pub fn remove(&mut self, of: Name<'_>, name: &str) {
        for of in both(of) {
            if let Some(indexes) = self.0.get_mut(&of) {
                indexes.retain(|index| index.get_str("name").unwrap_or_default() != name);
            }
        }
    }

    /// Its collection was dropped.
    pub fn forget(&mut self, of: Name<'_>) {
        for of in both(of) {
            self.0.remove(&of);
        }
    }

    /// `collMod` of an index: which one is told by its name or its key, the rest is what becomes different.
    pub fn modify(&mut self, of: Name<'_>, change: &Document) {
        let named = |index: &&mut Document| match (change.get("name"), change.get("keyPattern")) {
            (Some(name), _) => index.get("name") == Some(name),
            (None, key) => key.is_some() && index.get("key") == key,
        };
        let indexes = self.0.get_mut(&(of.0.to_owned(), of.1.to_owned())).into_iter().flatten();
        for index in indexes.filter(named) {
            for (key, value) in change.iter().filter(|(key, _)| *key != "name" && *key != "keyPattern") {
                match (key.as_str(), value) {
                    ("hidden" | "prepareUnique", Bson::Boolean(false)) => _ = index.remove(key),
                    _ => _ = index.insert(key, value.clone()),
                }
            }
        }
    }

    /// The commands that build them, each with its database.
    pub fn commands(&self) -> Vec<(&str, Document)> {
        let some = self.0.iter().filter(|(_, indexes)| !indexes.is_empty());
        some.map(|((database, collection), indexes)| {
            let command =
                doc! { "createIndexes": collection, "indexes": indexes, "writeConcern": { "w": "majority" } };
            (database.as_str(), command)
        })
        .collect()
    }

    /// All of them, by namespace.
    #[must_use]
    pub fn listed(&self) -> &BTreeMap<(String, String), Vec<Document>> {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().map(|indexes| indexes.len() as u64).sum()
    }
}

/// The indexes of a time series are listed under its own name, and those that the oplog tells of under that of its buckets.
fn both((database, collection): Name<'_>) -> [(String, String); 2] {
    let series = collection.strip_prefix(layout::BUCKETS).unwrap_or(collection);
    [collection, series].map(|collection| (database.to_owned(), collection.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Name<'static> = ("a", "b");

    fn index(name: &str) -> Document {
        doc! { "v": 2, "key": { name: 1 }, "name": name, "ns": "a.b" }
    }

    fn names(indexes: &Indexes) -> Vec<String> {
        let commands = indexes
            .commands()
            .into_iter()
            .flat_map(|(_, command)| command.get_array("indexes").unwrap().clone());
        commands.map(|index| index.as_document().unwrap().get_str("name").unwrap().to_owned()).collect()
    }

    #[test]
    fn indexes_come_and_go_as_the_oplog_says() {
        let mut indexes = Indexes::default();
        for name in ["_id_", "x", "y", "x"] {
            indexes.add(OF, index(name));
        }
        indexes.add(OF, doc! { "key": { "_id": 1 }, "name": "mine", "clustered": true });
        assert_eq!(names(&indexes), ["y", "x"]);
        indexes.remove(OF, "y");
        indexes.remove(("a", "other"), "x");
        assert_eq!((names(&indexes), indexes.count()), (vec!["x".to_owned()], 1));
        indexes.forget(OF);
        assert_eq!(indexes.commands().len(), 0);
    }

    #[test]
    fn an_index_is_changed_by_its_name_or_its_key() {
        let mut indexes = Indexes::default();
        indexes.add(OF, index("x"));
        indexes.modify(OF, &doc! { "name": "x", "expireAfterSeconds": 5, "hidden": true });
        indexes.modify(OF, &doc! { "keyPattern": { "x": 1 }, "hidden": false });
        indexes.modify(OF, &doc! { "name": "y", "expireAfterSeconds": 6 });
        let (database, command) = indexes.commands().remove(0);
        let expected = doc! { "v": 2, "key": { "x": 1 }, "name": "x", "expireAfterSeconds": 5 };
        assert_eq!((database, command.get_array("indexes").unwrap()), ("a", &vec![expected.into()]));
    }
}
