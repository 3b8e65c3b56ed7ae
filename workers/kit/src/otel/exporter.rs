//! An exporter that says once that the collector is away and once that it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{info, warn};

/// Passes batches on; those that fail are dropped.
#[derive(Debug)]
pub(super) struct Patient<E> {
    inner: E,
    endpoint: String,
    away: AtomicBool,
}

impl<E> Patient<E> {
    pub fn new(inner: E, endpoint: &str) -> Self {
        Self { inner, endpoint: endpoint.to_owned(), away: AtomicBool::new(false) }
    }

    fn tell(&self, outcome: &OTelSdkResult) {
        match outcome {
            Err(error) if !self.away.swap(true, Ordering::Relaxed) => {
                warn!(otel.endpoint = %self.endpoint, %error, "traces cannot be exported; they are dropped until it answers");
            }
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => {
                info!(otel.endpoint = %self.endpoint, "traces are exported again");
            }
            _ => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.inner.export(batch).await;
        self.tell(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
