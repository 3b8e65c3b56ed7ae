//! An export request as batches, one for each instance of a service in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use keelson_schemas::limits::{MAX_SAMPLES_PER_BATCH, MAX_SERVICE_BYTES};
use keelson_schemas::telemetry::{Batch, BatchBuilder, Invalid, name};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use super::attributes::Attributes;
use super::span::{self, Sample, What};

/// The name that OpenTelemetry gives a service that has none.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// What became of an export request.
#[derive(Debug, Default, PartialEq)]
pub struct Converted {
    /// What is to be counted, in an order that depends on the request alone, so that the same request has the same parts.
    pub batches: Vec<Batch>,
    /// How many spans were odd.
    pub odd: u64,
    /// What was odd about the first of them.
    pub reason: Option<String>,
}

/// Turns the spans of a request that arrived at `now_ms` (Unix milliseconds) into batches.
#[must_use]
pub fn convert(request: &ExportTraceServiceRequest, now_ms: u64) -> Converted {
    let mut parts = Parts { now_ms, open: BTreeMap::new(), done: Converted::default() };
    for resource in &request.resource_spans {
        parts.add_resource(resource);
    }
    parts.finish()
}

/// Service and instance.
type Source<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Parts<'a> {
    now_ms: u64,
    open: BTreeMap<Source<'a>, BatchBuilder>,
    done: Converted,
}

impl<'a> Parts<'a> {
    fn add_resource(&mut self, resource: &'a ResourceSpans) {
        let spans = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
        match source(resource) {
            Ok(source) => spans.for_each(|span| self.add_span(&source, span)),
            Err(error) => self.odd(spans.filter(|span| self.counts(span)).count() as u64, &error),
        }
    }

    fn counts(&self, span: &Span) -> bool {
        !matches!(span::sample(span, self.now_ms), Ok(None))
    }

    fn add_span(&mut self, source: &Source<'a>, span: &'a Span) {
        match span::sample(span, self.now_ms) {
            Ok(Some(sample)) => self.add_sample(source, &sample),
            Ok(None) => {}
            Err(error) => self.odd(
                1,
                &Invalid::new(format!("span {:?}: {}", short(&span.name), error.field), error.reason),
            ),
        }
    }

    fn add_sample(&mut self, source: &Source<'a>, sample: &Sample<'_>) {
        if !self.open.contains_key(source) {
            self.open.insert(source.clone(), BatchBuilder::default());
        }
        let Some(builder) = self.open.get_mut(source) else { return };
        let (ts, took) = (sample.ts_ms, Some(sample.duration_us));
        match &sample.what {
            What::Http { method, route, status } => builder.http(ts, method, route, *status, took),
            What::Db { system, namespace, operation } => builder.db(ts, system, namespace, operation, took),
        }
        if builder.len() == MAX_SAMPLES_PER_BATCH {
            let full = std::mem::take(builder);
            self.done.batches.push(full.build(source.0.clone(), source.1.clone()));
        }
    }

    fn odd(&mut self, spans: u64, error: &Invalid) {
        self.done.odd += spans;
        if spans > 0 {
            self.done.reason.get_or_insert_with(|| error.to_string());
        }
    }

    fn finish(self) -> Converted {
        let mut done = self.done;
        let rest = self.open.into_iter().filter(|(_, builder)| !builder.is_empty());
        done.batches.extend(rest.map(|((service, instance), builder)| builder.build(service, instance)));
        done
    }
}

fn source(resource: &ResourceSpans) -> Result<Source<'_>, Invalid> {
    let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
    let text = |key: &str| Attributes(attributes).text(&[key]);
    let service = text("service.name").unwrap_or(Cow::Borrowed(UNKNOWN_SERVICE));
    let instance = text("service.instance.id").unwrap_or_default();
    name("service.name", &service, MAX_SERVICE_BYTES)?;
    if !instance.is_empty() {
        name("service.instance.id", &instance, MAX_SERVICE_BYTES)?;
    }
    Ok((service, instance))
}

/// Enough of a span's name to find it by.
fn short(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(end, _)| &name[..end])
}
