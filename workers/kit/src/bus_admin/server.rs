//! What is asked of the server, through its JSON API, so that fields are compared as the server has them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::diff::{Running, Wanted};
use super::{AdminError, Change, Item, Kind};
use crate::bus::{ApiError, Bus};

/// What runs under the name of `wanted`.
pub(super) async fn running(bus: &Bus, wanted: &Wanted) -> Result<Option<Running>, AdminError> {
    match ask(bus, &wanted.subject("INFO"), &json!({})).await {
        Ok(running) => Ok(Some(running)),
        Err(AdminError::Bus { error: ApiError::NotFound { .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn create(bus: &Bus, wanted: &Wanted) -> Result<(), AdminError> {
    let config = Value::Object(wanted.config.clone());
    change(bus, wanted, "CREATE", config).await
}

pub(super) async fn update(bus: &Bus, wanted: &Wanted) -> Result<(), AdminError> {
    let Some(running) = running(bus, wanted).await? else { return create(bus, wanted).await };
    let verb = if wanted.consumer.is_some() { "CREATE" } else { "UPDATE" };
    change(bus, wanted, verb, Value::Object(wanted.over(&running))).await
}

pub(super) async fn delete(bus: &Bus, wanted: &Wanted) -> Result<(), AdminError> {
    let _: Value = ask(bus, &wanted.subject("DELETE"), &json!({})).await?;
    Ok(())
}

async fn change(bus: &Bus, wanted: &Wanted, verb: &str, config: Value) -> Result<(), AdminError> {
    let request = match wanted.consumer {
        Some(_) => json!({ "stream_name": wanted.stream, "config": config }),
        None => config,
    };
    let _: Value = ask(bus, &wanted.subject(verb), &request).await?;
    Ok(())
}

impl Wanted {
    fn subject(&self, verb: &str) -> String {
        match &self.consumer {
            Some(consumer) => format!("CONSUMER.{verb}.{}.{consumer}", self.stream),
            None => format!("STREAM.{verb}.{}", self.stream),
        }
    }
}

/// Streams, buckets and durable consumers that nobody asked for.
pub(super) async fn unknown(bus: &Bus, wanted: &[Wanted]) -> Result<Vec<Item>, AdminError> {
    let mut unknown = Vec::new();
    for stream in stream_names(bus).await? {
        if !wanted.iter().any(|wanted| wanted.consumer.is_none() && wanted.stream == stream) {
            unknown.push(stray_stream(&stream));
        }
    }
    for stream in wanted.iter().filter(|wanted| wanted.kind == Kind::Stream).map(|wanted| &wanted.stream) {
        for durable in durables(bus, stream).await? {
            let ours =
                |wanted: &Wanted| wanted.stream == *stream && wanted.consumer.as_ref() == Some(&durable);
            if !wanted.iter().any(ours) {
                let name = format!("{stream}/{durable}");
                unknown.push(Item { kind: Kind::Consumer, name, change: Change::Unknown });
            }
        }
    }
    Ok(unknown)
}

fn stray_stream(stream: &str) -> Item {
    let (kind, name) = match stream.strip_prefix("KV_") {
        Some(bucket) => (Kind::Bucket, bucket),
        None => (Kind::Stream, stream),
    };
    Item { kind, name: name.to_owned(), change: Change::Unknown }
}

async fn stream_names(bus: &Bus) -> Result<Vec<String>, AdminError> {
    #[derive(Deserialize)]
    struct Page {
        total: usize,
        streams: Option<Vec<String>>,
    }
    let mut names = Vec::new();
    loop {
        let page: Page = ask(bus, "STREAM.NAMES", &json!({ "offset": names.len() })).await?;
        let found = page.streams.unwrap_or_default();
        let last = found.is_empty();
        names.extend(found);
        if last || names.len() >= page.total {
            return Ok(names);
        }
    }
}

/// The durable consumers of a stream; those without a durable name belong to readers that come and go.
async fn durables(bus: &Bus, stream: &str) -> Result<Vec<String>, AdminError> {
    #[derive(Deserialize)]
    struct Page {
        total: usize,
        consumers: Option<Vec<Consumer>>,
    }
    #[derive(Deserialize)]
    struct Consumer {
        config: Value,
    }
    let (mut seen, mut names) = (0, Vec::new());
    loop {
        let subject = format!("CONSUMER.LIST.{stream}");
        let page: Page = match ask(bus, &subject, &json!({ "offset": seen })).await {
            Err(AdminError::Bus { error: ApiError::NotFound { .. }, .. }) => return Ok(names),
            page => page?,
        };
        let found = page.consumers.unwrap_or_default();
        seen += found.len();
        let last = found.is_empty() || seen >= page.total;
        names.extend(
            found
                .iter()
                .filter_map(|consumer| Some(consumer.config.get("durable_name")?.as_str()?.to_owned())),
        );
        if last {
            return Ok(names);
        }
    }
}

async fn ask<R: serde::de::DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    request: &Value,
) -> Result<R, AdminError> {
    bus.api(subject, request).await.map_err(|error| AdminError::Bus { what: subject.to_owned(), error })
}
