//! Replies in the encoding of the request, as OTLP/HTTP asks for (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response").

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;

use super::Encoding;
use crate::problem::Problem;

/// The request was taken; `odd` of its spans were not, for a reason.
#[must_use]
pub fn taken(encoding: Encoding, odd: u64, reason: Option<&str>) -> Response {
    let error_message = reason.map(|first| format!("{odd} spans cannot be counted; the first: {first}"));
    let body = match (encoding, error_message) {
        (Encoding::Json, None) => json!({}).to_string().into_bytes(),
        (Encoding::Json, Some(error_message)) => {
            // An int64 is a string in the JSON of protobuf.
            let partial = json!({"rejectedSpans": odd.to_string(), "errorMessage": error_message});
            json!({"partialSuccess": partial}).to_string().into_bytes()
        }
        (Encoding::Protobuf, error_message) => {
            let rejected_spans = i64::try_from(odd).unwrap_or(i64::MAX);
            let partial = |error_message| ExportTracePartialSuccess { rejected_spans, error_message };
            ExportTraceServiceResponse { partial_success: error_message.map(partial) }.encode_to_vec()
        }
    };
    (StatusCode::OK, [(CONTENT_TYPE, content_type(encoding))], body).into_response()
}

/// A problem as `google.rpc.Status`. The HTTP status stays, and with it whether an SDK tries again (429, 502, 503, 504: yes).
#[must_use]
pub fn refused(encoding: Encoding, problem: &Problem, retry_after: Option<&HeaderValue>) -> Response {
    let code = grpc_code(problem.status());
    let message = problem.detail().to_owned();
    let body = match encoding {
        Encoding::Json => json!({"code": code, "message": message}).to_string().into_bytes(),
        Encoding::Protobuf => Status { code, message }.encode_to_vec(),
    };
    let mut response = (problem.status(), [(CONTENT_TYPE, content_type(encoding))], body).into_response();
    response.headers_mut().extend(retry_after.map(|wait| (RETRY_AFTER, wait.clone())));
    response
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    }
}

/// The code of `google.rpc.Code` that stands for an HTTP status.
fn grpc_code(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 | 415 | 422 => 3,
        401 => 16,
        403 => 7,
        404 | 405 => 12,
        413 | 429 => 8,
        503 => 14,
        _ => 13,
    }
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}
