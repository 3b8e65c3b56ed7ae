//! Where mongodump puts what, so that mongorestore finds it: names of files, and which namespaces there are none for.
//!
//! Sources: `url.PathEscape` of Go, by which mongodump names files, and mongodump's own rules (mongo-tools 100: `prepare.go`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keelson_schemas::backup::CollectionKind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::{Digest, Sha1};

/// The folder of the dump in a snapshot.
pub const DUMP: &str = "dump";
/// The oplog, in it.
pub const OPLOG: &str = "dump/oplog.bson";
/// The manifest, beside it.
pub const MANIFEST: &str = "manifest.json";
/// The folder of the configuration, beside it.
pub const CONFIG: &str = "config";
/// The folder of files that changed while they were backed up, beside it.
pub const COPIED: &str = "copied";
/// What a folder of files cannot be below, for it is in a snapshot already.
pub const TAKEN: [&str; 4] = [DUMP, MANIFEST, CONFIG, COPIED];
/// A time series is kept in a collection of this name followed by its own.
pub const BUCKETS: &str = "system.buckets.";

/// What Go's `url.PathEscape` escapes.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b':')
    .remove(b'=')
    .remove(b'@');
/// An escaped name may be so long: with `.metadata.json.gz` it still fits the 255 bytes of a file name.
const LONGEST: usize = 238;
/// A longer one is cut here; `%24` and 27 characters of its hash follow.
const CUT_AT: usize = 208;

/// The file of a collection's documents, from the root of the snapshot; none of a view.
#[must_use]
pub fn data(database: &str, collection: &str, kind: CollectionKind) -> Option<String> {
    let stem = match kind {
        CollectionKind::View => return None,
        CollectionKind::Collection => stem(collection),
        CollectionKind::Timeseries => stem(&format!("{BUCKETS}{collection}")),
    };
    Some(format!("{DUMP}/{database}/{stem}.bson"))
}

/// The collection that holds the documents of another.
#[must_use]
pub fn stored_in(collection: &str, kind: CollectionKind) -> String {
    match kind {
        CollectionKind::Timeseries => format!("{BUCKETS}{collection}"),
        CollectionKind::Collection | CollectionKind::View => collection.to_owned(),
    }
}

/// The file of a collection's options and indexes, from the root of the snapshot.
#[must_use]
pub fn metadata(database: &str, collection: &str) -> String {
    format!("{DUMP}/{database}/{}.metadata.json", stem(collection))
}

/// Whether a database is dumped.
#[must_use]
pub fn has_database(name: &str) -> bool {
    !matches!(name, "local" | "config")
}

/// Whether a collection is of its deployment alone, and of no use to any other: each makes its own keys to sign times with, soon after it starts.
#[must_use]
pub fn is_of_one_deployment(database: &str, collection: &str) -> bool {
    !has_database(database) || (database, collection) == ("admin", "system.keys")
}

/// Whether a collection is dumped.
#[must_use]
pub fn has_collection(database: &str, collection: &str) -> bool {
    let system = match database {
        "admin" => is_of_one_deployment(database, collection),
        _ => collection.starts_with("system.") && collection != "system.js",
    };
    !system && (!collection.contains('$') || collection.contains(".oplog.$"))
}

fn stem(collection: &str) -> String {
    let escaped = utf8_percent_encode(collection, ESCAPED).to_string();
    if escaped.len() <= LONGEST {
        return escaped;
    }
    let hash = URL_SAFE_NO_PAD.encode(Sha1::digest(collection));
    // It is ASCII, so that it can be cut anywhere.
    format!("{}%24{hash}", &escaped[..CUT_AT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_mongodump_does() {
        // The right side is what Go's url.PathEscape gives.
        let cases = [
            ("videos", "videos"),
            ("a/b", "a%2Fb"),
            ("a b", "a%20b"),
            ("100%", "100%25"),
            ("ümläut", "%C3%BCml%C3%A4ut"),
            ("$&+:=@", "$&+:=@"),
            (",;?", "%2C%3B%3F"),
            ("a!b*c'd(e)", "a%21b%2Ac%27d%28e%29"),
            ("-_.~", "-_.~"),
            ("[x]{y}|\\^`\"<>#", "%5Bx%5D%7By%7D%7C%5C%5E%60%22%3C%3E%23"),
        ];
        for (name, expected) in cases {
            assert_eq!(stem(name), expected, "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_carries_its_hash() {
        assert_eq!(stem(&"a".repeat(238)), "a".repeat(238));
        let long = stem(&"a".repeat(239));
        assert_eq!(long.len(), 238);
        // base64url of sha1, as `printf 'a%.0s' {1..239} | openssl sha1 -binary | basenc --base64url` gives it.
        assert_eq!(long, format!("{}%24{}", "a".repeat(208), "_cMIV897lX9H69gojV5ddCb0Q5Q"));
    }

    #[test]
    fn files_lie_where_mongorestore_looks_for_them() {
        use CollectionKind::{Collection, Timeseries, View};
        let cases = [
            (Collection, Some("dump/click/a%2Fb.bson")),
            (Timeseries, Some("dump/click/system.buckets.a%2Fb.bson")),
            (View, None),
        ];
        for (kind, expected) in cases {
            assert_eq!(data("click", "a/b", kind).as_deref(), expected);
        }
        assert_eq!(metadata("click", "a/b"), "dump/click/a%2Fb.metadata.json");
    }

    #[test]
    fn what_mongodump_skips_is_skipped() {
        let cases = [
            ("click", "videos", true),
            ("click", "system.js", true),
            ("click", "system.views", false),
            ("click", "system.buckets.t", false),
            ("click", "system.profile", false),
            ("click", "systematic", true),
            ("click", "a$b", false),
            ("admin", "system.users", true),
            ("admin", "system.roles", true),
            ("admin", "system.version", true),
            ("admin", "system.keys", false),
        ];
        for (database, collection, dumped) in cases {
            assert_eq!(has_collection(database, collection), dumped, "{database}.{collection}");
        }
        let databases = ["click", "admin", "local", "config"].map(has_database);
        assert_eq!(databases, [true, true, false, false]);
    }
}
