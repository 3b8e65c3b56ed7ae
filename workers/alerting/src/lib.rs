//! Consumes: `keelson.slice.*` and `keelson.evt.*.signals`, in order; commands to silence, reload, backtest, notify.
//! Publishes: `keelson.evt.alerting.<pending|fired|resolved|cleared>`; notifications to receivers; answers `keelson.qry.alerting.*`.
//! Keeps: silences, and what each group of alerts was notified of.
//! On failure: the next evaluator goes on after the last transition, the next notifier after the last notification that was recorded.

pub mod config;
mod worker;

pub use worker::Alerting;
