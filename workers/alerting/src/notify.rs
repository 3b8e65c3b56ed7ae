//! Who is told of which alert, when, and in what order; and that it happens once.
//!
//! `dispatch` decides, over `alerts` (what fires), `group` and `lane` (who was told what of it), `route`, `inhibit` and the silences; `notifier` runs it: `recover` reads
//! back what is kept, `outbox` writes groups, `courier` delivers what is written, `keeper` remembers how far that has come, `feed` keeps Alertmanagers informed.

pub mod alerts;
pub mod commands;
pub mod config;
mod courier;
pub mod desk;
pub mod dispatch;
mod failures;
mod feed;
pub mod group;
pub mod inhibit;
mod intake;
mod keeper;
pub mod lane;
pub mod notifier;
mod outbox;
mod recover;
pub mod route;
#[cfg(test)]
mod simulation;
pub mod size;
#[cfg(test)]
mod testing;
