//! The catalogue against what was published of it: `asyncapi.json` and the README. `UPDATE_FIXTURES=1` writes both anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keelson_schemas::channels::{ELSEWHERE, all, asyncapi, table};
use keelson_schemas::message::ALL;
use serde_json::Value;

const BEGIN: &str = "<!-- catalogue: UPDATE_FIXTURES=1 cargo test -p keelson-schemas -->\n";
const END: &str = "\n<!-- end of catalogue -->";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn kept(name: &str, made: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(path(name), made).unwrap();
    }
    let kept = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(kept == made, "{name} is not what the types say: UPDATE_FIXTURES=1 writes it anew");
}

#[test]
fn every_message_has_its_place_and_no_place_is_named_twice() {
    let channels = all();
    let said = channels.iter().flat_map(|channel| [channel.message, channel.reply]).flatten();
    let places: BTreeSet<&str> = said.chain(ELSEWHERE.iter().map(|(name, _)| *name)).collect();
    let types: BTreeSet<&str> = ALL.iter().map(|message| message.name).collect();
    assert_eq!(places, types);
    let addresses: BTreeSet<&str> = channels.iter().map(|channel| channel.address.as_str()).collect();
    assert_eq!(addresses.len(), channels.len());
}

#[test]
fn asyncapi_is_that_of_the_types() {
    kept("asyncapi.json", &format!("{:#}\n", asyncapi()));
}

#[test]
fn every_reference_of_asyncapi_leads_somewhere() {
    let document = asyncapi();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > ALL.len());
    for reference in references {
        match reference.strip_prefix('#') {
            Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
            None => assert!(path(&reference).is_file(), "{reference}"),
        }
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn the_readme_has_the_catalogue() {
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("where the catalogue begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    kept("README.md", &format!("{before}{BEGIN}{}{END}{after}", table()));
}
