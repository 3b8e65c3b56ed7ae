//! Commands that take long, with a bar in the terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keelson_schemas::operation::Operation;
use reqwest::Method;
use serde::Serialize;

use crate::client::Client;
use crate::watch;

/// Asks for a command and follows it to its end, showing how many bytes are done.
///
/// # Errors
/// When Keelson cannot be reached or refuses.
pub async fn obeyed(
    client: &Client,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> anyhow::Result<Operation> {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    let seen = |operation: &Operation| {
        advance(&bar, operation);
        Ok(())
    };
    let ended = watch::obeyed(client, method, path, body, seen).await;
    bar.finish_and_clear();
    ended
}

fn advance(bar: &ProgressBar, operation: &Operation) {
    let Some(progress) = &operation.progress else { return };
    let template = match progress.total {
        Some(total) => {
            bar.set_length(total);
            "{msg:8} {bar:32} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        None => "{msg:8} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_position(progress.done);
    bar.set_message(progress.note.clone().unwrap_or_default());
}
