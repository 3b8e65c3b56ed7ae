//! Every message type against its golden fixture and its published schema. `UPDATE_FIXTURES=1` writes what is missing or has
//! changed; a fixture that is replaced is kept under the next number, since what was once written must decode for ever.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use keelson_schemas::codec::{JSON, MSGPACK};
use keelson_schemas::message::{ALL, MessageType};

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some()
}

#[test]
fn names_are_unique_and_versioned() {
    let mut names: Vec<_> = ALL.iter().map(|message| message.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two types share a name: {names:?}");
    for name in names {
        let (rest, version) = name.rsplit_once(".v").unwrap_or_else(|| panic!("{name} has no version"));
        assert!(rest.starts_with("keelson.") && version.parse::<u32>().is_ok(), "{name}");
    }
}

#[test]
fn stored_bytes_decode_to_the_example() {
    for message in ALL {
        let example = (message.example_json)().unwrap();
        let msgpack = golden(message, "msgpack", &(message.example_msgpack)().unwrap());
        let json = golden(message, "json", &pretty(&example));
        assert_eq!((message.decode_to_json)(Some(MSGPACK), &msgpack).unwrap(), example, "{}", message.name);
        assert_eq!((message.decode_to_json)(Some(JSON), &json).unwrap(), example, "{}", message.name);
    }
}

#[test]
fn everything_that_was_ever_written_decodes() {
    for path in files(&dir("fixtures")) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let message = ALL.iter().find(|message| file.starts_with(&format!("{}.", message.name)));
        let message =
            message.unwrap_or_else(|| panic!("{file} is the fixture of no message: types are not removed"));
        let decoded = (message.decode_to_json)(None, &fs::read(&path).unwrap());
        assert!(decoded.is_ok(), "{file}: {decoded:?}");
    }
}

#[test]
fn published_schemas_are_those_of_the_types() {
    for message in ALL {
        let path = dir("json").join(format!("{}.json", message.name));
        let schema = pretty(&(message.schema)().to_value());
        if updating() {
            fs::create_dir_all(dir("json")).unwrap();
            fs::write(&path, &schema).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_default();
        assert!(
            stored == schema,
            "{} differs from its type: UPDATE_FIXTURES=1 writes it anew",
            path.display()
        );
    }
}

/// The stored fixture, which must be what `current` is unless it is being updated.
fn golden(message: &MessageType, kind: &str, current: &[u8]) -> Vec<u8> {
    let path = dir("fixtures").join(format!("{}.{kind}", message.name));
    if updating() && fs::read(&path).ok().as_deref() != Some(current) {
        fs::create_dir_all(dir("fixtures")).unwrap();
        keep_former(message, kind, &path);
        fs::write(&path, current).unwrap();
    }
    fs::read(&path).unwrap_or_else(|_| panic!("{} is missing: UPDATE_FIXTURES=1 writes it", path.display()))
}

fn keep_former(message: &MessageType, kind: &str, path: &Path) {
    if !path.exists() {
        return;
    }
    let free =
        (1..).map(|n| dir("fixtures").join(format!("{}.{n}.{kind}", message.name))).find(|to| !to.exists());
    fs::rename(path, free.unwrap()).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn pretty(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap();
    bytes.push(b'\n');
    bytes
}
