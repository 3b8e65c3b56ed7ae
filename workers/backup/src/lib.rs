//! Consumes: commands to back up, to restore, to rehearse a restore, to delete, to hold, and to do that by itself.
//! Publishes: `keelson.evt.backup.<completed|failed|restored|drilled|deleted|signals>`; answers `keelson.qry.backup.*`.
//! Keeps: backups in a restic repository, and what each one is in the bucket `backups`.
//! On failure: a backup in which anything failed is none; a killed one leaves nothing that says complete, and is made anew.

pub mod automate;
pub mod base;
pub mod bson_file;
pub mod checks;
pub mod commands;
pub mod config;
pub mod deleting;
pub mod drill;
pub mod files;
pub mod job;
pub mod layout;
pub mod metadata;
pub mod mongo;
pub mod plan;
pub mod restic;
pub mod restoring;
pub mod retention;
pub mod sanitise;
pub mod schedule;
pub mod scratch;
pub mod selection;
pub mod settings;
pub mod setup;
pub mod signals;
pub mod spool;
pub mod store;
mod storing;
mod telling;
mod worker;

pub use worker::Backups;
