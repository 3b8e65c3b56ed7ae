//! Logs for people, traces for OTLP. Without an endpoint no span is recorded and nothing is sent.
//!
//! How trace context travels over the bus is in [`crate::trace`].

mod exporter;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Subscriber, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use self::exporter::Patient;
use crate::config::{CoreConfig, LogConfig, LogFormat, OtelConfig};
use crate::node::NodeId;

/// How long sending one batch may take. A collector that is slower loses spans, never requests.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for the last batch.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// What is traced: everything but the exporter's own connection, whose spans would be exported in turn, for ever.
const TRACED: &str = "info,h2=off,hyper=off,opentelemetry=off,tonic=off,tower=off,tower_http=info";
/// The exporter's libraries tell of every failed attempt; [`Patient`] says once what there is to say.
const QUIET: &str = "opentelemetry=off";

/// Logs and traces of this process, from [`Telemetry::init`] until [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logging to stderr, and traces when `[otel] endpoint` is set. To be called once, inside the runtime.
    ///
    /// # Errors
    /// When the filter or the endpoint is not understood, or logging was set up before.
    pub fn init(core: &CoreConfig, node: &NodeId) -> anyhow::Result<Self> {
        let provider =
            core.otel.endpoint.as_deref().map(|endpoint| provider(endpoint, &core.otel, node)).transpose()?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        tracing_subscriber::registry()
            .with(log_layer(&core.log)?)
            .with(provider.as_ref().map(trace_layer))
            .try_init()
            .context("logging is set up already")?;
        Ok(Self { provider })
    }

    /// Sends what was not sent yet, for at most a few seconds.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // It waits for a thread, which waits for this runtime.
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            warn!("the last traces may not have been exported");
        }
    }
}

fn provider(endpoint: &str, otel: &OtelConfig, node: &NodeId) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .with_context(|| format!("no traces can be sent to {endpoint}"))?;
    let resource = Resource::builder()
        .with_service_name(otel.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_string()),
        ])
        .build();
    let exporter = Patient::new(exporter, endpoint);
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("keelson"));
    layer.with_filter(EnvFilter::new(TRACED))
}

fn log_layer<S>(log: &LogConfig) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let mut filter = EnvFilter::builder().parse(&log.filter).context("log.filter is not understood")?;
    if !log.filter.contains("opentelemetry") {
        filter = filter.add_directive(QUIET.parse().context("a directive of ours")?);
    }
    let colours = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    Ok(match log.format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

#[cfg(test)]
mod tests;
