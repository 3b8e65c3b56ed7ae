//! The traces of what is not yet committed or checkpointed.
//!
//! A slice commits many messages and a checkpoint many slices, so each continues the trace of the first and links to the others. Nothing is
//! kept for messages whose sender is not traced.

use keelson_kit::trace;
use keelson_schemas::envelope::TraceContext;
use tracing::Span;

/// Links that a span has at the most; further traces end with the message's own span.
const LINKS: usize = 32;

/// Spans that wait for what follows from them.
#[derive(Debug, Default)]
pub struct Trail(Vec<TraceContext>);

impl Trail {
    /// Notes a span that something follows from.
    pub fn note(&mut self, span: &Span) {
        if self.0.len() < LINKS {
            self.0
                .extend(Some(span.in_scope(trace::current)).filter(|context| context.traceparent.is_some()));
        }
    }

    /// Makes `span` follow from everything noted, which is then forgotten.
    pub fn follow(&mut self, span: &Span) {
        let mut noted = std::mem::take(&mut self.0).into_iter();
        if let Some(first) = noted.next() {
            trace::continue_from(span, &first);
        }
        noted.for_each(|other| trace::link_to(span, &other));
    }
}
