//! The worker against a real bus and real servers that do as they are told.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod breaking;
mod calling;
mod checking;
mod copies;
mod fixture;
