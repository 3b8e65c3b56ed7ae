//! What is logged, by every test of this executable.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use tracing_subscriber::filter::LevelFilter;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// From now on everything is kept that can be logged.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_ansi(false);
        log.with_writer(|| Kept).init();
    });
}

/// All of it so far.
pub fn kept() -> Vec<u8> {
    LOGGED.lock().unwrap().clone()
}

struct Kept;

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
