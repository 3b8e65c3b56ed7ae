//! The yardstick: prom-client, which counts in the memory of the application and keeps nothing.

use std::process::Command;

use keelson_tests::binary::repository;

const SAMPLES: &str = "3000000";

/// Samples that it observes in a second.
pub fn samples_per_second() -> f64 {
    let modules = repository().join(".tools/node/node_modules");
    assert!(modules.is_dir(), "prom-client is missing: compose/tools/setup tests");
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules)
        .arg(repository().join("tests/foreign/prom-client.js"))
        .args([SAMPLES, "1"]);
    let output = node.output().expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.trim().parse().unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}
