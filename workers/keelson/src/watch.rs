//! Commands, as whoever gave them sees them: asked for, and followed to their end.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use keelson_schemas::operation::{Operation, State};
use reqwest::Method;
use serde::Serialize;

use crate::client::{CallError, Client};
use crate::output::complain;

/// How often a watch that broke off is taken up again before it is given up.
const MAX_REJOINS: u32 = 20;
/// How long the ingress is asked to wait for the end of a command: most are over by then.
const WAIT_S: u64 = 5;

/// Asks for a command and follows it to its end; `seen` is told of every state on the way, the last one included. Asked for by a person, each
/// time anew: the same again is a second wish.
///
/// # Errors
/// When Keelson cannot be reached or refuses, or the connection breaks off for good.
pub async fn obeyed(
    client: &Client,
    method: Method,
    path: &str,
    body: &impl Serialize,
    seen: impl FnMut(&Operation) -> anyhow::Result<()>,
) -> anyhow::Result<Operation> {
    let key = format!("cli-{:032x}", rand::random::<u128>());
    let accepted = client.command(method, path, &key, WAIT_S, serde_json::to_vec(body)?).await?;
    to_its_end(client, &accepted.id, seen).await
}

/// What a command gave.
///
/// # Errors
/// When it did not succeed: why.
pub fn outcome(operation: Operation) -> anyhow::Result<serde_json::Value> {
    let Operation { id, state, result, error, .. } = operation;
    match (state, error) {
        (State::Succeeded, _) => Ok(result.unwrap_or_default()),
        (_, Some(error)) => bail!("{error}"),
        (state, None) => bail!("it ended {}; see `keelson operations show {id}`", name(state)),
    }
}

/// A state in the words of the API.
pub fn name(state: State) -> String {
    format!("{state:?}").to_lowercase()
}

/// Follows an operation to its end. A stream that breaks off is taken up again: it begins with the state as it is.
///
/// # Errors
/// When Keelson refuses, or the connection breaks off for good.
pub async fn to_its_end(
    client: &Client,
    id: &str,
    seen: impl FnMut(&Operation) -> anyhow::Result<()>,
) -> anyhow::Result<Operation> {
    let mut watch = Watch { client, id, last: None, seen };
    for _ in 0..MAX_REJOINS {
        match watch.follow().await {
            Ok(Some(operation)) => return Ok(operation),
            Ok(None) => {}
            Err(error) => match error.downcast::<CallError>()? {
                CallError::Later { why, .. } => complain(&why),
                refused => return Err(refused.into()),
            },
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bail!(
        "the connection broke off {MAX_REJOINS} times; the operation itself goes on: see `keelson operations show {id}`"
    )
}

struct Watch<'a, F> {
    client: &'a Client,
    id: &'a str,
    last: Option<Operation>,
    seen: F,
}

impl<F: FnMut(&Operation) -> anyhow::Result<()>> Watch<'_, F> {
    /// The final state, or none when the stream ended before it.
    async fn follow(&mut self) -> anyhow::Result<Option<Operation>> {
        let path = format!("/api/operations/{}/events", self.id);
        let mut stream = self.client.events(&path).await?.bytes_stream();
        let mut unread = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            unread.extend_from_slice(&bytes);
            while let Some(operation) = next_event(&mut unread) {
                if self.last.as_ref() != Some(&operation) {
                    (self.seen)(&operation)?;
                }
                if operation.state.is_final() {
                    return Ok(Some(operation));
                }
                self.last = Some(operation);
            }
        }
        Ok(None)
    }
}

/// Takes the next whole event off the bytes read so far; events that carry no operation, such as comments, are passed over.
fn next_event(unread: &mut Vec<u8>) -> Option<Operation> {
    loop {
        let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
        let event: Vec<u8> = unread.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&event);
        let data: String =
            text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        if let Ok(operation) = serde_json::from_str(&data).context("no operation") {
            return Some(operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;
    use keelson_schemas::operation::OperationRecord;

    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let operation = OperationRecord::example().operation;
        let text =
            format!(": hello\n\nevent: state\ndata: {}\n\n", serde_json::to_string(&operation).unwrap());
        for cut in 0..text.len() {
            let mut unread = text.as_bytes()[..cut].to_vec();
            let early = next_event(&mut unread);
            assert_eq!(early, None);
            unread.extend(&text.as_bytes()[cut..]);
            assert_eq!(next_event(&mut unread).as_ref(), Some(&operation));
            assert!(unread.is_empty());
        }
    }
}
