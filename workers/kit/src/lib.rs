//! keelson-kit

pub mod bus;
pub mod bus_admin;
pub mod clock;
pub mod config;
pub mod node;
pub mod publish;
pub mod retry;
pub mod role;
pub mod tasks;
pub mod trace;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
