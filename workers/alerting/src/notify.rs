//! Who is told of which alert, when, and in what order; and that it happens once.

pub mod config;
mod span;
