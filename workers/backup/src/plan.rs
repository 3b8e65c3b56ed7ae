//! What a restore will do, decided before it does anything. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keelson_schemas::backup::{
    CollectionEntry, CollectionKind, Component, DatabaseManifest, OpTime, Restore, RestoreWindow,
};

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
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub struct Plan<'a> {
    /// Collections and time series first, then the views on them.
    pub items: Vec<Item<'a>>,
    /// The files of users and roles; none unless everything is restored.
    pub authz: Vec<&'a CollectionEntry>,
    /// What is dropped first: all that is in the way.
    pub drops: Vec<(String, String)>,
}

/// What a restore does to a deployment in which there are these collections; `made` are those that the oplog makes.
///
/// # Errors
/// All that speaks against it.
pub fn plan<'a>(
    manifest: &'a DatabaseManifest,
    selection: &Selection,
    drop: bool,
    existing: &BTreeSet<(String, String)>,
    made: &BTreeSet<(String, String)>,
) -> Result<Plan<'a>, Vec<String>> {
    let (own, others): (Vec<_>, Vec<_>) = manifest.collections.iter().partition(|entry| is_own(entry));
    let names: Vec<String> = others.iter().map(|entry| entry.namespace()).collect();
    let mut errors = selection.unmatched(names.iter().map(String::as_str));
    let mut items: Vec<Item<'_>> = others.iter().filter_map(|entry| item(entry, selection)).collect();
    errors.extend(items.iter().filter_map(|item| bad_name(&item.database, &item.collection)));
    errors.extend(meeting(&items));
    let later = made.iter().filter_map(|(database, collection)| selection.target(database, collection));
    let all = items.iter().map(|item| (item.database.clone(), item.collection.clone())).chain(later);
    let drops: BTreeSet<(String, String)> = all.filter(|name| existing.contains(name)).collect();
    if !drop {
        errors.extend(in_the_way(&drops));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    items.sort_by_key(|item| item.entry.kind == CollectionKind::View);
    let authz =
        own.into_iter().filter(|entry| AUTHZ.contains(&entry.collection.as_str()) && entry.documents > 0);
    let authz = authz.filter(|_| selection.is_everything()).collect();
    Ok(Plan { items, authz, drops: drops.into_iter().collect() })
}

/// The last second of the oplog that is replayed to come to a moment.
///
/// # Errors
/// When the backup does not reach it.
pub fn until(point: Timestamp, window: Option<RestoreWindow>) -> Result<u32, String> {
    let Some(window) = window else {
        return Err("pointInTime: the backup is of a server without an oplog, and has no moments".to_owned());
    };
    let wanted = u32::try_from(point.as_second()).unwrap_or(0);
    if (window.from.seconds..=window.to.seconds).contains(&wanted) {
        return Ok(wanted);
    }
    let moment = |at: OpTime| Timestamp::from_second(i64::from(at.seconds)).unwrap_or_default();
    Err(format!(
        "pointInTime: the backup reaches from {} to {}, and {point} is not in between",
        moment(window.from),
        moment(window.to)
    ))
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

/// What of a backup is restored; `has_place` says whether there is one for files.
///
/// # Errors
/// When something is asked for that the backup does not have.
pub fn components(command: &Restore, held: &[Component], has_place: bool) -> Result<Vec<Component>, String> {
    if let Some(missing) = command.components.iter().find(|component| !held.contains(component)) {
        return Err(format!("components: the backup has no {}", missing.name()));
    }
    if !command.components.is_empty() {
        return Ok(command.components.clone());
    }
    let has_database = held.contains(&Component::Database);
    let some = !command.namespaces.is_empty() || !command.rename.is_empty();
    let only_database = has_database && (some || command.point_in_time.is_some() || !has_place);
    Ok(held.iter().copied().filter(|component| !only_database || *component == Component::Database).collect())
}

fn is_own(entry: &CollectionEntry) -> bool {
    entry.database == "admin" && (AUTHZ.contains(&entry.collection.as_str()) || entry.collection == VERSION)
}

fn item<'a>(entry: &'a CollectionEntry, selection: &Selection) -> Option<Item<'a>> {
    let (database, collection) = selection.target(&entry.database, &entry.collection)?;
    Some(Item { entry, database, collection })
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

fn in_the_way(drops: &BTreeSet<(String, String)>) -> Option<String> {
    let (database, collection) = drops.first()?;
    let more = match drops.len() {
        1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    Some(format!(
        "the target has {database}.{collection}{more} already: rename what is restored, restore elsewhere, or say \"drop\": true and confirm it"
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
        let all = plan(&manifest, &Selection::default(), false, &existing(&[]), &existing(&[])).unwrap();
        let names: Vec<_> = all.items.iter().map(|item| item.collection.as_str()).collect();
        assert_eq!(names, ["videos", "a_view"]);
        assert_eq!(all.authz.len(), 1);
        let some =
            plan(&manifest, &selection(&["click.*"], &[]), false, &existing(&[]), &existing(&[])).unwrap();
        assert_eq!((some.items.len(), some.authz.len()), (2, 0));
    }

    #[test]
    fn nothing_is_overwritten_that_was_not_said_to_be() {
        let manifest = small();
        let there = existing(&["click.videos", "click.other"]);
        let refused = plan(&manifest, &Selection::default(), false, &there, &existing(&[])).unwrap_err();
        assert!(refused[0].contains("click.videos already"), "{refused:?}");
        let dropped = plan(&manifest, &Selection::default(), true, &there, &existing(&[])).unwrap();
        assert_eq!(dropped.drops, [("click".to_owned(), "videos".to_owned())]);
        let made = existing(&["click.other"]);
        let elsewhere = selection(&[], &[("click.videos", "click.films")]);
        let refused = plan(&manifest, &elsewhere, false, &there, &made).unwrap_err();
        assert!(refused[0].contains("click.other already"), "the oplog would write into it: {refused:?}");
        assert!(
            plan(&manifest, &selection(&[], &[("click.*", "new.*")]), false, &there, &existing(&[])).is_ok()
        );
        assert!(
            plan(
                &manifest,
                &selection(&[], &[("click.a_view", "click.other")]),
                false,
                &there,
                &existing(&[])
            )
            .is_err()
        );
    }

    #[test]
    fn two_collections_cannot_become_one() {
        let manifest = small();
        let refused = plan(
            &manifest,
            &selection(&[], &[("click.a_view", "click.videos")]),
            true,
            &existing(&[]),
            &existing(&[]),
        );
        assert!(refused.unwrap_err()[0].contains("would both become click.videos"));
    }

    #[test]
    fn a_moment_has_to_be_within_the_window() {
        let at = |seconds| OpTime { seconds, increment: 3, term: 1 };
        let window = Some(RestoreWindow { from: at(100), to: at(200) });
        let reaches = |second| until(Timestamp::from_second(second).unwrap(), window);
        for (second, expected) in
            [(99, None), (100, Some(100)), (150, Some(150)), (200, Some(200)), (201, None), (-5, None)]
        {
            assert_eq!(reaches(second).ok(), expected, "{second}");
        }
        assert!(reaches(99).unwrap_err().contains("1970-01-01T00:01:40Z"));
        assert!(until(Timestamp::UNIX_EPOCH, None).is_err());
    }

    #[test]
    fn what_is_restored_is_what_there_is_a_place_for() {
        use Component::{Config, Database, Files};
        let all = [Database, Files, Config];
        let restore = Restore::default();
        let named = Restore { namespaces: vec!["a.*".into()], ..Restore::default() };
        let past = Restore { point_in_time: Some(Timestamp::UNIX_EPOCH), ..Restore::default() };
        let asked = Restore { components: vec![Files], ..past.clone() };
        for (command, held, has_place, expected) in [
            (&restore, &all[..], true, Ok(all.to_vec())),
            (&restore, &all[..], false, Ok(vec![Database])),
            (&restore, &all[1..], false, Ok(vec![Files, Config])),
            (&named, &all[..], true, Ok(vec![Database])),
            (&past, &all[..], true, Ok(vec![Database])),
            (&asked, &all[..], true, Ok(vec![Files])),
            (&asked, &all[..1], true, Err("components: the backup has no files".to_owned())),
        ] {
            assert_eq!(components(command, held, has_place), expected, "{command:?}");
        }
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
