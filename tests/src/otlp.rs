//! A real OTLP/gRPC receiver, as Jaeger is one: what it is sent can be asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits, or nothing for a root.
    pub parent_id: String,
    /// Spans it is linked to: trace and span.
    pub links: Vec<(String, String)>,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
}

/// The receiver; it ends with the test.
pub struct Receiver {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Keep(spans.clone()));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(async move {
            let served =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            served.await.expect("the receiver serves");
        });
        Self { address, spans, server }
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("spans").clone()
    }

    /// Waits until `find` finds what it looks for among all spans; fails the test with their list when it does not.
    pub async fn wait<T>(&self, what: &str, patience: Duration, find: impl Fn(&[Span]) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            let spans = self.spans();
            if let Some(found) = find(&spans) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what} among:\n{}", table(&spans));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The way from a span up to its root (or to the last parent that was received), by name, the span itself first.
pub fn ancestry<'a>(spans: &'a [Span], span: &'a Span) -> Vec<&'a Span> {
    let parent = |span: &Span| {
        spans.iter().find(|other| other.trace_id == span.trace_id && other.span_id == span.parent_id)
    };
    std::iter::successors(Some(span), |span| parent(span)).take(spans.len()).collect()
}

/// One line a span, for people.
pub fn table(spans: &[Span]) -> String {
    let line = |span: &Span| {
        let Span { service, name, trace_id, span_id, parent_id, .. } = span;
        format!("{service} | {trace_id} {span_id} < {parent_id:16} | {name} | links {:?}", span.links)
    };
    spans.iter().map(line).collect::<Vec<_>>().join("\n")
}

struct Keep(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("spans");
        for resource in request.into_inner().resource_spans {
            let attributes =
                resource.resource.map(|resource| text_of(&resource.attributes)).unwrap_or_default();
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| Span::of(&service, &span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Span {
    fn of(service: &str, span: &proto::Span) -> Self {
        let links = span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id)));
        let failed =
            span.status.as_ref().is_some_and(|status| status.code() == proto::status::StatusCode::Error);
        Self {
            service: service.to_owned(),
            name: span.name.clone(),
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            links: links.collect(),
            attributes: text_of(&span.attributes),
            failed,
        }
    }
}

fn text_of(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, id: &str, parent: &str) -> Span {
        Span {
            service: String::new(),
            name: name.into(),
            trace_id: "t".into(),
            span_id: id.into(),
            parent_id: parent.into(),
            links: Vec::new(),
            attributes: BTreeMap::new(),
            failed: false,
        }
    }

    #[test]
    fn ancestry_leads_up_and_ends_even_in_a_circle() {
        let spans = [span("root", "1", "0"), span("middle", "2", "1"), span("leaf", "3", "2")];
        let names: Vec<_> = ancestry(&spans, &spans[2]).iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["leaf", "middle", "root"]);
        let circle = [span("a", "1", "2"), span("b", "2", "1")];
        assert_eq!(ancestry(&circle, &circle[0]).len(), 2);
    }
}
