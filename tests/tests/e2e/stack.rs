//! What compose/ says of the world around Keelson, held against the code as far as that can be done without a container engine.

mod compose;
mod dashboards;

use std::path::{Path, PathBuf};
use std::process::Command;

use keelson_tests::binary;
use serde_json::Value;

/// A file of compose/.
fn file(name: &str) -> PathBuf {
    binary::repository().join("compose").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(&file(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a program says, which must end well.
fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
