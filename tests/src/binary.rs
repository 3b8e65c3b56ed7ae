//! The executables that are tested, built by Cargo when they are not fresh.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// `keelson`, as it is shipped.
pub fn keelson() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("keelson", &[]))
}

/// The same with fault points that KEELSON_FAULTS arms, and with switches (KEELSON_SABOTAGE) that turn single safeguards off.
pub fn under_test() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("keelson-under-test", &["--features", "keelson-tests/under-test"]))
}

/// A nats-server: KEELSON_NATS_SERVER, else the one that `make tools` fetched.
pub fn nats_server() -> PathBuf {
    let named = std::env::var_os("KEELSON_NATS_SERVER").map(PathBuf::from);
    let path = named.unwrap_or_else(|| repository().join(".tools/nats-server"));
    assert!(path.is_file(), "there is no {}: `make tools` fetches a nats-server", path.display());
    path
}

/// The whole workspace is named, so that Cargo chooses the same features of third-party crates as for the build of the tests.
fn build(bin: &str, more: &[&str]) -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    let profile = exe.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    let profile = profile.expect("the test lies in target/<profile>");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What Cargo tells this test about its own package would make build scripts that look at it (ring's) run again, and everything above them.
    let about_this_test = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about_this_test)) {
        cargo.env_remove(name);
    }
    cargo.current_dir(repository()).args(["build", "--quiet", "--workspace", "--bin", bin]).args(more);
    cargo.arg("--target-dir").arg(profile.parent().expect("target"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "{bin} cannot be built");
    profile.join(bin)
}
