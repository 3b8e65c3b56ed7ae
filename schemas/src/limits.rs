//! The bounds of what is accepted, in one place: the ingress refuses what passes them, the workers refuse it again.

/// Samples in one telemetry batch. At the worst every sample is a cell of its own in a slice (some 90 bytes), and the slice must stay
/// below the server's `max_payload` of 8 MiB.
pub const MAX_SAMPLES_PER_BATCH: usize = 20_000;
/// A request body, as sent and after decompression.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How far ahead of the clock a sample may be: clocks differ, but a wrong unit (µs for ms) must not pass.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;
/// A sample that arrives later than this after its own time is counted as late.
pub const LATE_AFTER_MS: u64 = 5 * 60 * 1000;

/// Bytes of a service's or an instance's name.
pub const MAX_SERVICE_BYTES: usize = 128;
/// Bytes of an HTTP method.
pub const MAX_METHOD_BYTES: usize = 32;
/// Bytes of a route.
pub const MAX_ROUTE_BYTES: usize = 1024;
/// Bytes of a database namespace (MongoDB's own limit is 255).
pub const MAX_NAMESPACE_BYTES: usize = 256;
/// Bytes of a database operation or system.
pub const MAX_OPERATION_BYTES: usize = 64;
/// Bytes of a mountpoint.
pub const MAX_MOUNTPOINT_BYTES: usize = 256;
/// Host samples in one batch: with the longest names of [`MAX_FILESYSTEMS`] each, they still fit a slice.
pub const MAX_HOST_READINGS: usize = 100;
/// Filesystems in one host sample.
pub const MAX_FILESYSTEMS: usize = 64;
/// The status codes that HTTP knows (RFC 9110, section 15).
pub const STATUS: std::ops::RangeInclusive<u16> = 100..=599;

/// Services over all partitions; a further one is counted under [`OVERFLOW`].
pub const MAX_SERVICES: usize = 256;
/// What names fold into when there are too many of them.
pub const OVERFLOW: &str = "__overflow__";
/// The method label of a method that HTTP does not define (OpenTelemetry semantic conventions, `http.request.method`).
pub const OTHER_METHOD: &str = "_OTHER";
/// The route label of a request that matched no route, or whose instrumentation does not tell the route: a path is never put in
/// its place, because it would be a series for every resource.
pub const UNROUTED: &str = "__unrouted__";
/// The label of a database's namespace or operation that its instrumentation does not tell.
pub const UNKNOWN: &str = "__unknown__";
