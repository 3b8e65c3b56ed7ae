//! OTLP/HTTP traces as telemetry: SERVER spans of HTTP become requests, CLIENT spans of databases become database calls.
//!
//! Everything else (internal spans, messaging, RPC servers) is accepted and not counted. A span that should count and cannot is *odd*:
//! it is left out and reported as `partial_success`, because an SDK does not retry a refused request and the good spans would be lost with it.

mod attributes;
mod batches;
pub mod reply;
mod span;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

pub use batches::{Converted, convert};

/// How a request is written, and hence its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// Reads an export request.
///
/// # Errors
/// A sentence that says why it is none.
pub fn decode(body: &[u8], encoding: Encoding) -> Result<ExportTraceServiceRequest, String> {
    match encoding {
        Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests;
