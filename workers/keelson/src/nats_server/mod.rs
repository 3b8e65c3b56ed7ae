//! The private nats-server of `keelson up`: found, started, watched, and stopped last.

mod child;
mod leash;
mod locate;

pub use child::{NatsServer, Settings};
pub use leash::Leash;
pub use locate::locate;
