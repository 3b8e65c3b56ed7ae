//! What the alerting worker says and is asked: alerts and their transitions, silences, commands, answers.
//!
//! The vocabulary is Alertmanager's: an alert is a set of labels (`alertname` among them) with annotations, it fires and resolves, is silenced or
//! inhibited, belongs to groups that are notified to receivers.

mod alert;
mod answers;
mod commands;
mod signal;
mod silence;

pub use alert::{Alert, AlertState, Transition, fingerprint};
pub use answers::{AlertView, Alerts, Delivery, Group, Groups, Rule, Rules, Silences};
pub use commands::{
    Backtest, BacktestReport, EndAlert, ExpireSilence, Firing, Notify, ReloadRules, SetSilence, TimeAxis,
};
pub use signal::{Reading, Signals};
pub use silence::{Matcher, MatcherSyntax, Silence};

/// Labels or annotations, in the order of their names.
pub type Labels = std::collections::BTreeMap<String, String>;
