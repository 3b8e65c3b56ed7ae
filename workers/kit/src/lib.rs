//! keelson-kit

pub mod clock;
pub mod config;
pub mod node;
pub mod role;
pub mod tasks;
