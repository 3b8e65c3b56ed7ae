//! Crash points and switched-off safeguards for the crash tests. Without the feature `fault-injection`, as in every production
//! build, each call here is nothing.
//!
//! `KEELSON_FAULTS=slice.published:3,checkpoint.head:1` kills the process with SIGKILL at the third hit of one point and at the
//! first of another. `KEELSON_FAULT_LOG=FILE` gets a line with the name for every hit, before it takes effect.
//! `KEELSON_SABOTAGE=dedup,fencing,replay` switches safeguards off, so that the tests can be seen to need them.

#[cfg(feature = "fault-injection")]
pub use armed::{disabled, point};

/// A moment between two durable steps, at which a test may kill the process.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Whether a test has switched the safeguard `name` off.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub const fn disabled(_name: &str) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
mod armed {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    static FAULTS: LazyLock<HashMap<String, u64>> =
        LazyLock::new(|| parse(&std::env::var("KEELSON_FAULTS").unwrap_or_default()));
    static SABOTAGE: LazyLock<Vec<String>> = LazyLock::new(|| {
        let named = std::env::var("KEELSON_SABOTAGE").unwrap_or_default();
        named.split(',').map(|name| name.trim().to_owned()).collect()
    });
    static HITS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

    /// A moment between two durable steps, at which a test may kill the process.
    pub fn point(name: &str) {
        log(name);
        let mut hits = HITS.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = hits.entry(name.to_owned()).or_default();
        *hit += 1;
        if FAULTS.get(name) == Some(hit) {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    /// Whether a test has switched the safeguard `name` off.
    pub fn disabled(name: &str) -> bool {
        SABOTAGE.iter().any(|disabled| disabled == name)
    }

    fn parse(faults: &str) -> HashMap<String, u64> {
        let pairs = faults.split(',').filter_map(|fault| fault.trim().rsplit_once(':'));
        pairs.filter_map(|(name, hit)| Some((name.to_owned(), hit.parse().ok()?))).collect()
    }

    /// One short write to a file opened for appending, so that lines of several processes do not mix.
    fn log(name: &str) {
        let Some(path) = std::env::var_os("KEELSON_FAULT_LOG") else { return };
        if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path) {
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn faults_are_read_and_nonsense_is_passed_over() {
            let faults = parse("slice.published:3, checkpoint.head:1,x,y:z");
            assert_eq!(faults.len(), 2);
            assert_eq!((faults["slice.published"], faults["checkpoint.head"]), (3, 1));
        }
    }
}
