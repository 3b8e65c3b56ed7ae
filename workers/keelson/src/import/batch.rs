//! Lines gathered into the bodies that `POST /api/telemetry` takes.

use serde::Serialize;

use super::line::Line;

/// Lines in a batch: large enough that requests cost little, small enough that one is quickly repeated.
pub const LINES: usize = 5_000;

/// A run of lines of the log, on its way as one request: taken whole or not at all.
#[derive(Debug)]
pub struct Batch {
    /// The number of the first line that may be in it.
    pub first_line: u64,
    /// The number of the last line that may be in it.
    pub last_line: u64,
    /// What is sent.
    pub body: Body,
}

/// The body of the request.
#[derive(Debug, Serialize)]
pub struct Body {
    /// The service that answered the requests.
    pub service: String,
    /// Which instance of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The requests.
    pub http: Vec<Request>,
}

/// One request.
#[derive(Debug, Serialize)]
pub struct Request {
    ts: i64,
    method: String,
    route: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<u64>,
}

impl Batch {
    /// Names this run of lines, so that sending it again, even by another process, counts once. The receiver takes the body into
    /// account, too; the number of the line keeps apart runs that happen to hold the same requests.
    pub fn idempotency_key(&self) -> String {
        format!("import-{}-{}", self.first_line, self.last_line)
    }
}

impl Request {
    /// What the line says, with the route that its path belongs to.
    pub fn new(line: Line, route: &str) -> Self {
        Self {
            ts: line.ts_ms,
            method: line.method,
            route: route.into(),
            status: line.status,
            duration_us: line.duration_us,
        }
    }
}
