//! Consumes: `keelson.slice.*` and `keelson.evt.*.signals`, in order; commands to silence, to end an alert, to reload, backtest, notify.
//! Publishes: `keelson.evt.alerting.<pending|fired|resolved|cleared>`; notifications to receivers; answers `keelson.qry.alerting.*`.
//! Keeps: silences, and what each group of alerts was notified of.
//! On failure: the next evaluator goes on after the last transition, the next notifier after the last notification that was recorded.

pub mod backtest;
pub mod backtesting;
pub mod board;
pub mod checks;
pub mod config;
pub mod ends;
pub mod evaluate;
pub mod evaluator;
pub mod history;
pub mod inputs;
pub mod loaded;
pub mod notify;
pub mod receivers;
pub mod reload;
pub mod rule_tests;
pub mod rules;
pub mod signal;
pub mod silences;
mod worker;

pub use worker::Alerting;
