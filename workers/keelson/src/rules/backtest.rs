//! Rules against the past: asked for, watched, and what came of it.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keelson_schemas::alerting::{Backtest, BacktestReport, Firing};
use keelson_schemas::operation::Operation;
use reqwest::Method;

use crate::alerts::words;
use crate::client::Client;
use crate::output::{say, say_table};
use crate::time::{span, timestamp};
use crate::watch;

/// Lets a running Keelson evaluate the rules, and shows how far it is.
///
/// # Errors
/// When Keelson cannot be reached or refuses.
pub async fn run(client: &Client, command: &Backtest) -> anyhow::Result<BacktestReport> {
    let bar = bar();
    let seen = |operation: &Operation| {
        advance(&bar, operation);
        Ok(())
    };
    let ended = watch::obeyed(client, Method::POST, "/api/monitoring/rules/backtest", command, seen).await;
    bar.finish_and_clear();
    Ok(serde_json::from_value(watch::outcome(ended?)?)?)
}

fn bar() -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} {msg}  {eta} left");
    ProgressBar::with_draw_target(Some(0), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn advance(bar: &ProgressBar, operation: &Operation) {
    let Some(progress) = &operation.progress else { return };
    bar.set_length(progress.total.unwrap_or(progress.done));
    bar.set_position(progress.done);
    bar.set_message(progress.note.clone().unwrap_or_default());
}

/// What would have fired, as a table and a line below it.
pub fn tell(report: &BacktestReport) {
    if !report.firings.is_empty() {
        say_table(["fired", "for", "alert", "value", "summary"], report.firings.iter().map(row));
        say("");
    }
    say(&summary(report));
}

fn row(firing: &Firing) -> [String; 5] {
    [
        timestamp(firing.starts_at_ms).to_string(),
        firing.ends_at_ms.map_or_else(|| "to the end".to_owned(), |end| span(firing.starts_at_ms, end)),
        words(&firing.labels),
        firing.value.map(|value| format!("{value:.4}")).unwrap_or_default(),
        firing.summary.clone(),
    ]
}

fn summary(report: &BacktestReport) -> String {
    let time = match (report.from, report.to) {
        (Some(from), Some(to)) => {
            format!(" from {} to {}", timestamp(from * 1_000), timestamp(to * 1_000))
        }
        _ => String::new(),
    };
    let fired = match report.firings.len() as u64 + report.more {
        0 => "nothing would have fired".to_owned(),
        1 => "one alert would have fired".to_owned(),
        n => format!("alerts would have fired {n} times"),
    };
    let shown =
        if report.more > 0 { format!("; {} of them are not shown", report.more) } else { String::new() };
    let left_out = match report.left_out.as_slice() {
        [] => String::new(),
        names => format!("; left out, because no slice tells of what they look at: {}", names.join(", ")),
    };
    format!("{fired}{shown} ({} samples in {} slices{time}){left_out}", report.samples, report.slices)
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn a_report_is_told_in_a_line() {
        let report = BacktestReport::example();
        assert_eq!(
            summary(&report),
            "alerts would have fired 3 times; 2 of them are not shown (10000 samples in 41 slices from 2025-11-24T15:43:20Z to 2025-11-24T16:01:40Z); left out, because no slice tells of what they look at: KeelsonDeadLetters"
        );
        let once = BacktestReport { more: 0, ..report };
        assert!(summary(&once).starts_with("one alert would have fired ("));
        assert_eq!(summary(&BacktestReport::default()), "nothing would have fired (0 samples in 0 slices)");
    }

    #[test]
    fn a_firing_that_has_no_end_is_said_so() {
        let firing = BacktestReport::example().firings.remove(0);
        assert_eq!(row(&firing)[1], "1m 29s");
        assert_eq!(row(&Firing { ends_at_ms: None, ..firing })[1], "to the end");
    }
}
