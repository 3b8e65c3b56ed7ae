//! The rows of a telemetry body, as they are documented to clients, and their checks.

use std::borrow::Cow;

use keelson_schemas::limits::{MAX_AHEAD_MS, MAX_METHOD_BYTES, MAX_SERVICE_BYTES};
use keelson_schemas::telemetry::{
    Batch, BatchBuilder, Columns, HostReading, Invalid, check_db, check_host, check_http, duration,
    host_readings, name,
};
use serde::Deserialize;
use utoipa::ToSchema;

/// What one instance of one service measured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TelemetryBatch)]
pub struct Body<'a> {
    /// The service's name.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "content")]
    pub service: Cow<'a, str>,
    /// Which instance of it.
    #[serde(borrow, default)]
    #[schema(value_type = String, max_length = 128, example = "content-1")]
    pub instance: Cow<'a, str>,
    /// Requests that it answered.
    #[serde(borrow, default)]
    pub http: Vec<HttpRow<'a>>,
    /// Database calls that it made.
    #[serde(borrow, default)]
    pub db: Vec<DbRow<'a>>,
    /// The state of its machine.
    #[serde(default)]
    #[schema(value_type = Vec<HostRow>)]
    pub host: Vec<HostReading>,
}

/// One answered request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HttpSample)]
pub struct HttpRow<'a> {
    /// Unix milliseconds; the time of arrival when left out. At most five minutes ahead.
    #[schema(example = 1_764_000_000_123_u64)]
    pub ts: Option<u64>,
    /// The method. One that HTTP does not define is counted as `_OTHER`.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 32, example = "GET")]
    pub method: Cow<'a, str>,
    /// The route's template, not the path: every distinct value is a series.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 1024, example = "/videos/:id")]
    pub route: Cow<'a, str>,
    /// The response's status code.
    #[schema(minimum = 100, maximum = 599, example = 200)]
    pub status: u16,
    /// How long it took, at most 24 hours. Left out, the request counts in the totals and in no latency.
    #[schema(maximum = 86_400_000_000_u64, example = 12_500)]
    pub duration_us: Option<u64>,
}

/// One database call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DbSample)]
pub struct DbRow<'a> {
    /// Unix milliseconds; the time of arrival when left out. At most five minutes ahead.
    pub ts: Option<u64>,
    /// The database system.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "mongodb")]
    pub system: Cow<'a, str>,
    /// Database and collection.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 256, example = "click.videos")]
    pub namespace: Cow<'a, str>,
    /// What was asked of it.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "find")]
    pub operation: Cow<'a, str>,
    /// How long it took, at most 24 hours. Left out, the call counts in the totals and in no latency.
    pub duration_us: Option<u64>,
}

/// The state of a machine (documents [`HostReading`], whose own crate knows nothing of OpenAPI). What is not known is left out.
#[derive(ToSchema)]
#[schema(as = HostSample)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct HostRow {
    /// Unix milliseconds; the time of arrival when left out. At most five minutes ahead.
    ts: Option<u64>,
    /// Share of all CPUs in use.
    #[schema(minimum = 0, maximum = 1, example = 0.42)]
    cpu_utilization: Option<f64>,
    /// Bytes of memory in use.
    memory_used_bytes: Option<u64>,
    /// Bytes of memory in all.
    memory_total_bytes: Option<u64>,
    /// The mounted filesystems, at most 64.
    filesystems: Option<Vec<FilesystemRow>>,
}

/// How full a filesystem is.
#[derive(ToSchema)]
#[schema(as = FilesystemSample)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct FilesystemRow {
    /// Where it is mounted.
    #[schema(min_length = 1, max_length = 256, example = "/")]
    mountpoint: String,
    /// Bytes in use.
    used_bytes: u64,
    /// Bytes in all.
    total_bytes: u64,
}

impl Body<'_> {
    /// Samples of all kinds.
    pub fn samples(&self) -> usize {
        self.http.len() + self.db.len() + self.host.len()
    }

    /// The rows as checked columns.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn into_batch(self, arrived_ms: u64) -> Result<Batch, Invalid> {
        name("service", &self.service, MAX_SERVICE_BYTES)?;
        if !self.instance.is_empty() {
            name("instance", &self.instance, MAX_SERVICE_BYTES)?;
        }
        let clock = Clock(arrived_ms);
        let mut builder = BatchBuilder::default();
        add_http(&mut builder, clock, &self.http)?;
        add_db(&mut builder, clock, &self.db)?;
        add_hosts(&mut builder, clock, self.host)?;
        let batch = builder.build(self.service, self.instance);
        check_series("http", &batch.http, check_http)?;
        check_series("db", &batch.db, check_db)?;
        Ok(batch)
    }
}

fn add_http(builder: &mut BatchBuilder, clock: Clock, rows: &[HttpRow<'_>]) -> Result<(), Invalid> {
    for (i, row) in rows.iter().enumerate() {
        let at = |error: Wrong| error.at("http", i);
        // The builder folds unknown methods, so this is the last moment at which a bad one can be told.
        if row.method.is_empty() || row.method.len() > MAX_METHOD_BYTES {
            name(&format!("http[{i}].method"), &row.method, MAX_METHOD_BYTES)?;
        }
        let ts = clock.time_of(row.ts).map_err(at)?;
        let duration_us = checked_duration(row.duration_us).map_err(at)?;
        builder.http(ts, &row.method, &row.route, row.status, duration_us);
    }
    Ok(())
}

fn add_db(builder: &mut BatchBuilder, clock: Clock, rows: &[DbRow<'_>]) -> Result<(), Invalid> {
    for (i, row) in rows.iter().enumerate() {
        let at = |error: Wrong| error.at("db", i);
        let ts = clock.time_of(row.ts).map_err(at)?;
        let duration_us = checked_duration(row.duration_us).map_err(at)?;
        builder.db(ts, &row.system, &row.namespace, &row.operation, duration_us);
    }
    Ok(())
}

fn add_hosts(builder: &mut BatchBuilder, clock: Clock, readings: Vec<HostReading>) -> Result<(), Invalid> {
    host_readings(readings.len())?;
    for (i, mut reading) in readings.into_iter().enumerate() {
        reading.ts =
            clock.time_of(Some(reading.ts).filter(|ts| *ts > 0)).map_err(|error| error.at("host", i))?;
        check_host(&format!("host[{i}]"), &reading)?;
        builder.host(reading);
    }
    Ok(())
}

/// Checks each series once instead of each row, and looks for a row of it only to name it.
fn check_series<S>(
    kind: &str,
    columns: &Columns<S>,
    check: impl Fn(&str, &S) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let wrong = columns.series.iter().position(|series| check("", series).is_err());
    wrong.map_or(Ok(()), |series| {
        let row = columns.index.iter().position(|index| *index as usize == series).unwrap_or_default();
        check(&format!("{kind}[{row}]"), &columns.series[series])
    })
}

/// The time of arrival, which bounds the times of samples.
#[derive(Clone, Copy)]
struct Clock(u64);

impl Clock {
    fn time_of(self, ts: Option<u64>) -> Result<u64, Wrong> {
        let ts = ts.unwrap_or(self.0);
        if ts <= self.0.saturating_add(MAX_AHEAD_MS) {
            return Ok(ts);
        }
        let minutes = MAX_AHEAD_MS / 60_000;
        let now = self.0;
        Err(Wrong("ts", format!("is {ts}, more than {minutes} minutes ahead of {now} (Unix milliseconds)")))
    }
}

fn checked_duration(duration_us: Option<u64>) -> Result<Option<u64>, Wrong> {
    duration_us.map_or(Ok(()), duration).map_err(|reason| Wrong("duration_us", reason))?;
    Ok(duration_us)
}

/// A field of a row that is not yet known, and what is wrong with it.
struct Wrong(&'static str, String);

impl Wrong {
    fn at(self, kind: &str, row: usize) -> Invalid {
        Invalid::new(format!("{kind}[{row}].{}", self.0), self.1)
    }
}
