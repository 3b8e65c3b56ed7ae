//! What a restore will do, decided before it does anything. Pure.

use std::collections::{BTreeMap, BTreeSet};

use keelson_schemas::backup::{CollectionEntry, CollectionKind, DatabaseManifest, Restore};

use crate::selection::{Selection, bad_name};

/// Collections of `admin` that hold users and roles: they are merged, not restored.
const AUTHZ: [&str; 2] = ["system.users", "system.roles"];
/// What the server itself writes about its version.
const VERSION: &str = "system.version";

/// A collection, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<'a> {
    /// In the backup.
    pub entry: &'a CollectionEntry,
    /// The database that it is restored into.
    pub database: String,
    /// Its name there.
    pub collection: String,
    /// Whether one of this name is dropped first.
    pub drop: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub struct Plan<'a> {
    /// Collections and time series first, then the views on them.
    pub items: Vec<Item<'a>>,
    /// The files of users and roles; none unless everything is restored.
    pub authz: Vec<&'a CollectionEntry>,
}

/// What a restore does to a deployment in which there are these collections.
///
/// # Errors
/// All that speaks against it.
pub fn plan<'a>(
    manifest: &'a DatabaseManifest,
    selection: &Selection,
    drop: bool,
    existing: &BTreeSet<(String, String)>,
) -> Result<Plan<'a>, Vec<String>> {
    let (own, others): (Vec<_>, Vec<_>) = manifest.collections.iter().partition(|entry| is_own(entry));
    let names: Vec<String> = others.iter().map(|entry| entry.namespace()).collect();
    let mut errors = selection.unmatched(names.iter().map(String::as_str));
    let mut items: Vec<Item<'_>> =
        others.iter().filter_map(|entry| item(entry, selection, existing)).collect();
    errors.extend(items.iter().filter_map(|item| bad_name(&item.database, &item.collection)));
    errors.extend(meeting(&items));
    if !drop {
        errors.extend(in_the_way(&items));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    items.sort_by_key(|item| item.entry.kind == CollectionKind::View);
    let authz =
        own.into_iter().filter(|entry| AUTHZ.contains(&entry.collection.as_str()) && entry.documents > 0);
    Ok(Plan { items, authz: authz.filter(|_| selection.is_everything()).collect() })
}

/// What is wrong with a command whatever the backup holds.
///
/// # Errors
/// All of it.
pub fn check(command: &Restore, backup: &str) -> Result<Selection, Vec<String>> {
    let selection = Selection::parse(&command.namespaces, &command.rename);
    let unconfirmed = command.drop && command.confirm.as_deref() != Some(backup);
    let unconfirmed = unconfirmed.then(|| {
        format!("drop: collections of the target would be dropped; say \"confirm\": {backup:?} to have it so")
    });
    match (selection, unconfirmed) {
        (Ok(selection), None) => Ok(selection),
        (selection, unconfirmed) => Err(selection.err().into_iter().flatten().chain(unconfirmed).collect()),
    }
}

fn is_own(entry: &CollectionEntry) -> bool {
    entry.database == "admin" && (AUTHZ.contains(&entry.collection.as_str()) || entry.collection == VERSION)
}

fn item<'a>(
    entry: &'a CollectionEntry,
    selection: &Selection,
    existing: &BTreeSet<(String, String)>,
) -> Option<Item<'a>> {
    let target = selection.target(&entry.database, &entry.collection)?;
    let drop = existing.contains(&target);
    let (database, collection) = target;
    Some(Item { entry, database, collection, drop })
}

fn meeting(items: &[Item<'_>]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut errors = Vec::new();
    for item in items {
        if let Some(other) = seen.insert((&item.database, &item.collection), item.entry.namespace()) {
            let target = format!("{}.{}", item.database, item.collection);
            errors.push(format!("rename: {other} and {} would both become {target}", item.entry.namespace()));
        }
    }
    errors
}

fn in_the_way(items: &[Item<'_>]) -> Option<String> {
    let mut names =
        items.iter().filter(|item| item.drop).map(|item| format!("{}.{}", item.database, item.collection));
    let first = names.next()?;
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "the target has {first}{more} already: rename what is restored, restore elsewhere, or say \"drop\": true and confirm it"
    ))
}

#[cfg(test)]
mod tests {
    use keelson_schemas::backup::{Manifest, Topology};
    use keelson_schemas::message::Message;

    use super::*;

    fn manifest(entries: &[(&str, &str, CollectionKind)]) -> DatabaseManifest {
        let example = Manifest::example().database.unwrap().collections.remove(0);
        let entry = |(database, collection, kind): &(&str, &str, CollectionKind)| CollectionEntry {
            database: (*database).to_owned(),
            collection: (*collection).to_owned(),
            kind: *kind,
            ..example.clone()
        };
        DatabaseManifest {
            topology: Topology::Standalone,
            server: String::new(),
            oplog: None,
            collections: entries.iter().map(entry).collect(),
        }
    }

    fn small() -> DatabaseManifest {
        use CollectionKind::{Collection, View};
        manifest(&[
            ("admin", "system.users", Collection),
            ("admin", "system.version", Collection),
            ("click", "a_view", View),
            ("click", "videos", Collection),
        ])
    }

    fn selection(only: &[&str], rename: &[(&str, &str)]) -> Selection {
        let rename = rename.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        Selection::parse(&only.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &rename).unwrap()
    }

    fn existing(names: &[&str]) -> BTreeSet<(String, String)> {
        let split = names.iter().map(|name| name.split_once('.').unwrap());
        split.map(|(database, collection)| (database.to_owned(), collection.to_owned())).collect()
    }

    #[test]
    fn views_come_last_and_users_only_with_everything() {
        let manifest = small();
        let all = plan(&manifest, &Selection::default(), false, &existing(&[])).unwrap();
        let names: Vec<_> = all.items.iter().map(|item| item.collection.as_str()).collect();
        assert_eq!(names, ["videos", "a_view"]);
        assert_eq!(all.authz.len(), 1);
        let some = plan(&manifest, &selection(&["click.*"], &[]), false, &existing(&[])).unwrap();
        assert_eq!((some.items.len(), some.authz.len()), (2, 0));
    }

    #[test]
    fn nothing_is_overwritten_that_was_not_said_to_be() {
        let manifest = small();
        let there = existing(&["click.videos", "click.other"]);
        let refused = plan(&manifest, &Selection::default(), false, &there).unwrap_err();
        assert!(refused[0].contains("click.videos already"), "{refused:?}");
        let dropped = plan(&manifest, &Selection::default(), true, &there).unwrap();
        let drops: Vec<_> = dropped.items.iter().map(|item| item.drop).collect();
        assert_eq!(drops, [true, false]);
        assert!(plan(&manifest, &selection(&[], &[("click.*", "new.*")]), false, &there).is_ok());
        assert!(plan(&manifest, &selection(&[], &[("click.a_view", "click.other")]), false, &there).is_err());
    }

    #[test]
    fn two_collections_cannot_become_one() {
        let manifest = small();
        let refused =
            plan(&manifest, &selection(&[], &[("click.a_view", "click.videos")]), true, &existing(&[]));
        assert!(refused.unwrap_err()[0].contains("would both become click.videos"));
    }

    #[test]
    fn dropping_has_to_be_confirmed_with_the_id() {
        let restore = |drop, confirm: Option<&str>| Restore {
            drop,
            confirm: confirm.map(str::to_owned),
            ..Restore::default()
        };
        assert!(check(&restore(false, None), "b1").is_ok());
        assert!(check(&restore(true, Some("b1")), "b1").is_ok());
        for confirm in [None, Some("yes"), Some("")] {
            assert!(check(&restore(true, confirm), "b1").unwrap_err()[0].contains("\"b1\""));
        }
    }
}
