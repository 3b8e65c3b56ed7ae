//! The headers of a message: CloudEvents 1.0 in binary mode (NATS binding), W3C trace context, and the message id by which
//! JetStream drops duplicates.

use jiff::Timestamp;

/// CloudEvents `id`; equal to the message id.
pub const CE_ID: &str = "ce-id";
/// CloudEvents `type`: [`crate::message::Message::TYPE`].
pub const CE_TYPE: &str = "ce-type";
/// CloudEvents `source`: the role that published, e.g. `keelson/ingress`.
pub const CE_SOURCE: &str = "ce-source";
/// CloudEvents `time`, RFC 3339.
pub const CE_TIME: &str = "ce-time";
/// CloudEvents `specversion`: always `1.0`.
pub const CE_SPECVERSION: &str = "ce-specversion";
/// The format of the body, see [`crate::codec`].
pub const CONTENT_TYPE: &str = "content-type";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context, vendor part.
pub const TRACESTATE: &str = "tracestate";
/// JetStream's message id: a second message with it inside the stream's duplicate window is not stored.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";

/// The W3C trace context of a message, as it travels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`.
    pub traceparent: Option<String>,
    /// Vendor part, only meaningful with a `traceparent`.
    pub tracestate: Option<String>,
}

/// All that a message says about itself outside its body. A person who publishes by hand says none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `ce-id`, or the message id when only that is there.
    pub id: Option<String>,
    /// `ce-type`.
    pub message_type: Option<String>,
    /// `ce-source`.
    pub source: Option<String>,
    /// `ce-time`; None also when it is not a valid time.
    pub time: Option<Timestamp>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `traceparent` and `tracestate`.
    pub trace: TraceContext,
}

impl Envelope {
    /// Reads an envelope through `get`, a look-up of a header by its exact name.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Self {
        let owned = |name| get(name).map(str::to_owned);
        Self {
            id: owned(CE_ID).or_else(|| owned(NATS_MSG_ID)).filter(|id| !id.is_empty()),
            message_type: owned(CE_TYPE),
            source: owned(CE_SOURCE),
            time: get(CE_TIME).and_then(|time| time.parse().ok()),
            content_type: owned(CONTENT_TYPE),
            trace: TraceContext { traceparent: owned(TRACEPARENT), tracestate: owned(TRACESTATE) },
        }
    }

    /// The headers to send, in a fixed order.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let time = self.time.map(|time| time.to_string());
        let optional = [
            (NATS_MSG_ID, &self.id),
            (CE_ID, &self.id),
            (CE_TYPE, &self.message_type),
            (CE_SOURCE, &self.source),
            (CE_TIME, &time),
            (CONTENT_TYPE, &self.content_type),
            (TRACEPARENT, &self.trace.traceparent),
            (TRACESTATE, &self.trace.tracestate),
        ];
        let set = optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        std::iter::once((CE_SPECVERSION, "1.0".to_owned())).chain(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn full() -> Envelope {
        Envelope {
            id: Some("a1".into()),
            message_type: Some("keelson.steward.redrive.v1".into()),
            source: Some("keelson/ingress".into()),
            time: Some(Timestamp::UNIX_EPOCH),
            content_type: Some("application/msgpack".into()),
            trace: TraceContext { traceparent: Some("00-1-2-01".into()), tracestate: Some("a=b".into()) },
        }
    }

    #[test]
    fn an_envelope_survives_its_headers() {
        let headers: HashMap<_, _> = full().headers().into_iter().collect();
        assert_eq!(headers[CE_SPECVERSION], "1.0");
        assert_eq!(headers[NATS_MSG_ID], headers[CE_ID]);
        assert_eq!(Envelope::read(|name| headers.get(name).map(String::as_str)), full());
    }

    #[test]
    fn a_message_published_by_hand_says_nothing() {
        assert_eq!(Envelope::read(|_| None), Envelope::default());
    }

    #[test]
    fn the_message_id_alone_is_an_id_and_a_bad_time_is_none() {
        let read = Envelope::read(|name| match name {
            NATS_MSG_ID => Some("x"),
            CE_TIME => Some("yesterday"),
            _ => None,
        });
        assert_eq!((read.id.as_deref(), read.time), (Some("x"), None));
    }
}
