//! Trace context over messages: what is published carries the span it was published in, what is consumed continues it.

use keelson_schemas::envelope::{TRACEPARENT, TRACESTATE, TraceContext};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The context of the current span, to be put on what is sent. Empty when nothing is being traced.
pub fn current() -> TraceContext {
    let mut carrier = Carrier::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.0
}

/// Whether the current span is part of a trace that somebody will see.
pub fn is_traced() -> bool {
    Span::current().context().span().span_context().is_sampled()
}

/// Makes `span` a child of the sender's span; without one it starts a trace of its own.
pub fn continue_from(span: &Span, sender: &TraceContext) {
    let context = TraceContextPropagator::new().extract(&Carrier(sender.clone()));
    if context.span().span_context().is_valid() {
        // An error means that no OpenTelemetry layer is installed: then there is no trace to continue.
        let _ = span.set_parent(context);
    }
}

/// Links `span` to another one that it also follows from, such as the request whose command it retries.
pub fn link_to(span: &Span, other: &TraceContext) {
    let context = TraceContextPropagator::new().extract(&Carrier(other.clone()));
    let other = context.span().span_context().clone();
    if other.is_valid() {
        span.add_link(other);
    }
}

#[derive(Default)]
struct Carrier(TraceContext);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.0.traceparent = Some(value),
            TRACESTATE if !value.is_empty() => self.0.tracestate = Some(value),
            _ => {}
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.0.traceparent.as_deref(),
            TRACESTATE => self.0.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}
