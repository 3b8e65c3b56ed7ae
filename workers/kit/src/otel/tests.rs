use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use opentelemetry::trace::{SpanId, TraceContextExt};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::*;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn otel(endpoint: &str) -> OtelConfig {
    OtelConfig { endpoint: Some(endpoint.to_owned()), service_name: "test-service".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_an_otlp_collector_with_their_service_and_parent() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let collector = Collector::default();
    let service = TraceServiceServer::new(collector.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));

    let provider = provider(&endpoint, &otel(&endpoint), &NodeId::ephemeral())?;
    let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        let parent = tracing::info_span!("parent");
        let sent = parent.in_scope(crate::trace::current);
        assert!(sent.traceparent.is_some());
        let child = tracing::info_span!("child");
        crate::trace::continue_from(&child, &sent);
        assert_eq!(
            child.context().span().span_context().trace_id(),
            parent.context().span().span_context().trace_id()
        );
        assert_ne!(child.context().span().span_context().span_id(), SpanId::INVALID);
    });
    Telemetry { provider: Some(provider) }.shutdown().await;

    let received = collector.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let resources: Vec<_> = received.iter().flat_map(|request| &request.resource_spans).collect();
    let attributes = format!("{:?}", resources[0].resource);
    assert!(attributes.contains("test-service"), "{attributes}");
    let spans: Vec<_> =
        resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let span = |name: &str| {
        *spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"))
    };
    assert_eq!(span("child").parent_span_id, span("parent").span_id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_slows_nothing() -> anyhow::Result<()> {
    let endpoint = "http://127.0.0.1:1";
    let provider = provider(endpoint, &otel(endpoint), &NodeId::ephemeral())?;
    let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
    let started = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..20_000 {
            tracing::info_span!("work").in_scope(|| ());
        }
    });
    assert!(started.elapsed() < Duration::from_secs(2), "20,000 spans took {:?}", started.elapsed());
    let stopping = Instant::now();
    Telemetry { provider: Some(provider) }.shutdown().await;
    assert!(stopping.elapsed() < 2 * FLUSH_TIMEOUT, "the shutdown took {:?}", stopping.elapsed());
    Ok(())
}
