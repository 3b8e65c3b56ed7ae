//! Telemetry on the bus: what one service measured, as columns.
//!
//! A batch names each series once and then holds arrays: which series, how long after the batch's base time, how long it took. Five hundred
//! samples take about 5 kB this way and 36 kB row by row. A [`Batch`] off the bus is untrusted until [`Batch::check`] has passed.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};

use rustc_hash::{FxBuildHasher, FxHashMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::histogram::MAX_DURATION_US;
use crate::limits;
use crate::message::Message;

/// What one instance of one service measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// The service's name (`service.name`).
    pub service: String,
    /// Which instance of it (`service.instance.id`); empty when not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// Unix milliseconds that every `at` counts from.
    #[serde(default)]
    pub base_ms: u64,
    /// Requests that the service answered.
    #[serde(default, skip_serializing_if = "Columns::is_empty")]
    pub http: Columns<HttpSeries>,
    /// Database calls that the service made.
    #[serde(default, skip_serializing_if = "Columns::is_empty")]
    pub db: Columns<DbSeries>,
    /// The state of the machine that the instance runs on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<HostReading>,
}

/// Samples of many series: `index`, `at_ms` and `duration_us` have one entry a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Columns<S> {
    /// The series that occur, each once.
    pub series: Vec<S>,
    /// Which of `series` the sample belongs to.
    pub index: Vec<u32>,
    /// Milliseconds after the batch's `base_ms`.
    pub at_ms: Vec<u64>,
    /// Microseconds; none for a sample whose duration is not known, which counts in totals and in no latency.
    pub duration_us: Vec<Option<u64>>,
}

/// What the requests of a series have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct HttpSeries {
    /// `http.request.method`: one that HTTP defines, or `_OTHER`.
    pub method: String,
    /// `http.route`: the template, low in cardinality.
    pub route: String,
    /// `http.response.status_code`.
    pub status: u16,
}

/// What the database calls of a series have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct DbSeries {
    /// `db.system.name`, such as `mongodb`.
    pub system: String,
    /// `db.namespace`, with the collection where known: `click.videos`.
    pub namespace: String,
    /// `db.operation.name`, such as `find`.
    pub operation: String,
}

/// The state of one machine at one moment. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostReading {
    /// Unix milliseconds; zero when not told: the time of arrival is put in.
    #[serde(default)]
    pub ts: u64,
    /// Share of all CPUs in use, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_utilization: Option<f64>,
    /// Bytes of memory in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// Bytes of memory in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// The mounted filesystems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
}

/// How full a filesystem is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mountpoint: String,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Why a batch cannot be counted: the field, as a path into what was sent, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// For example `http[3].status`.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Invalid {
    /// An error of the field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl Message for Batch {
    const TYPE: &'static str = "keelson.telemetry.batch.v1";

    fn example() -> Self {
        let mut builder = BatchBuilder::default();
        builder.http(1_764_000_000_123, "GET", "/videos/:id", 200, Some(12_500));
        builder.http(1_764_000_000_124, "GET", "/videos/:id", 500, None);
        builder.db(1_764_000_000_125, "mongodb", "click.videos", "find", Some(9_000));
        builder.host(HostReading {
            ts: 1_764_000_000_130,
            cpu_utilization: Some(0.42),
            memory_used_bytes: Some(1),
            memory_total_bytes: Some(2),
            filesystems: vec![Filesystem { mountpoint: "/".into(), used_bytes: 1, total_bytes: 2 }],
        });
        builder.build("content".into(), "content-1".into())
    }
}

impl Batch {
    /// Samples of all kinds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.http.index.len() + self.db.index.len() + self.host.len()
    }

    /// Whether there is no sample in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything in it is within [`limits`] and every index points somewhere, so that it can be counted without a further check.
    ///
    /// # Errors
    /// The first field that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.len() > limits::MAX_SAMPLES_PER_BATCH {
            return Err(too_many_samples(self.len()));
        }
        name("service", &self.service, limits::MAX_SERVICE_BYTES)?;
        length("instance", &self.instance, limits::MAX_SERVICE_BYTES)?;
        self.http.check("http", self.base_ms, check_http)?;
        self.db.check("db", self.base_ms, check_db)?;
        host_readings(self.host.len())?;
        self.host.iter().enumerate().try_for_each(|(i, reading)| check_host(&format!("host[{i}]"), reading))
    }
}

impl<S> Default for Columns<S> {
    fn default() -> Self {
        Self { series: Vec::new(), index: Vec::new(), at_ms: Vec::new(), duration_us: Vec::new() }
    }
}

impl<S> Columns<S> {
    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The samples: series, milliseconds after the base, duration.
    pub fn samples(&self) -> impl Iterator<Item = (u32, u64, Option<u64>)> + '_ {
        let times = self.at_ms.iter().zip(&self.duration_us);
        self.index.iter().zip(times).map(|(index, (at_ms, duration_us))| (*index, *at_ms, *duration_us))
    }

    fn check(
        &self,
        kind: &str,
        base_ms: u64,
        series: impl Fn(&str, &S) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        if self.at_ms.len() != self.index.len() || self.duration_us.len() != self.index.len() {
            return Err(Invalid::new(kind, "index, at_ms and duration_us must be of one length"));
        }
        for (i, entry) in self.series.iter().enumerate() {
            series(&format!("{kind}.series[{i}]"), entry)?;
        }
        for (i, (index, at_ms, duration_us)) in self.samples().enumerate() {
            if index as usize >= self.series.len() {
                return Err(Invalid::new(format!("{kind}.index[{i}]"), "names no entry of series"));
            }
            if base_ms.checked_add(at_ms).is_none_or(|ts| ts > MAX_TS_MS) {
                return Err(Invalid::new(
                    format!("{kind}.at_ms[{i}]"),
                    "is no time: Unix milliseconds are expected",
                ));
            }
            if let Some(us) = duration_us {
                duration(us).map_err(|reason| Invalid::new(format!("{kind}.duration_us[{i}]"), reason))?;
            }
        }
        Ok(())
    }
}

/// The last millisecond of the year 9999.
const MAX_TS_MS: u64 = 253_402_300_799_999;

/// Checks what the samples of an HTTP series share; `at` is its path.
///
/// # Errors
/// The field that is out of bounds.
pub fn check_http(at: &str, series: &HttpSeries) -> Result<(), Invalid> {
    name_at(at, "method", &series.method, limits::MAX_METHOD_BYTES)?;
    name_at(at, "route", &series.route, limits::MAX_ROUTE_BYTES)?;
    if limits::STATUS.contains(&series.status) {
        return Ok(());
    }
    Err(Invalid::new(format!("{at}.status"), format!("is {}, and HTTP knows 100 to 599", series.status)))
}

/// Checks what the samples of a database series share; `at` is its path.
///
/// # Errors
/// The field that is out of bounds.
pub fn check_db(at: &str, series: &DbSeries) -> Result<(), Invalid> {
    name_at(at, "system", &series.system, limits::MAX_OPERATION_BYTES)?;
    name_at(at, "namespace", &series.namespace, limits::MAX_NAMESPACE_BYTES)?;
    name_at(at, "operation", &series.operation, limits::MAX_OPERATION_BYTES)
}

/// Checks a host reading; `at` is its path.
///
/// # Errors
/// The field that is out of bounds.
pub fn check_host(at: &str, reading: &HostReading) -> Result<(), Invalid> {
    if reading.ts > MAX_TS_MS {
        return Err(Invalid::new(format!("{at}.ts"), "is no time: Unix milliseconds are expected"));
    }
    if reading.cpu_utilization.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(Invalid::new(format!("{at}.cpu_utilization"), "must be a share from 0 to 1"));
    }
    let memory = (reading.memory_used_bytes, reading.memory_total_bytes);
    if let (Some(used), Some(total)) = memory
        && used > total
    {
        return Err(Invalid::new(format!("{at}.memory_used_bytes"), "is more than memory_total_bytes"));
    }
    if reading.filesystems.len() > limits::MAX_FILESYSTEMS {
        return Err(Invalid::new(
            format!("{at}.filesystems"),
            format!("has more than {} entries", limits::MAX_FILESYSTEMS),
        ));
    }
    reading.filesystems.iter().enumerate().try_for_each(|(i, filesystem)| {
        let at = format!("{at}.filesystems[{i}]");
        if filesystem.used_bytes > filesystem.total_bytes {
            return Err(Invalid::new(format!("{at}.used_bytes"), "is more than total_bytes"));
        }
        name_at(&at, "mountpoint", &filesystem.mountpoint, limits::MAX_MOUNTPOINT_BYTES)
    })
}

/// Checks a required name.
///
/// # Errors
/// It is empty, too long, or has control characters.
pub fn name(field: &str, value: &str, max_bytes: usize) -> Result<(), Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(field, "must not be empty"));
    }
    length(field, value, max_bytes)
}

/// Checks a duration in microseconds.
///
/// # Errors
/// A sentence that says the bound.
pub fn duration(us: u64) -> Result<(), String> {
    if us <= MAX_DURATION_US {
        Ok(())
    } else {
        Err(format!("is {us}, and 24 hours ({MAX_DURATION_US}) are the most"))
    }
}

/// Checks how many host readings a batch has.
///
/// # Errors
/// There are too many.
pub fn host_readings(readings: usize) -> Result<(), Invalid> {
    let most = limits::MAX_HOST_READINGS;
    if readings <= most {
        return Ok(());
    }
    Err(Invalid::new("host", format!("has {readings} readings, and {most} are the most: split the batch")))
}

/// The error of a batch with too many samples.
#[must_use]
pub fn too_many_samples(samples: usize) -> Invalid {
    let most = limits::MAX_SAMPLES_PER_BATCH;
    Invalid::new("", format!("{samples} samples in one batch, and {most} are the most: split it"))
}

/// The method as a label: as it is when HTTP defines it, else `_OTHER`, so that clients cannot invent series.
#[must_use]
pub fn known_method(method: &str) -> &str {
    const KNOWN: [&str; 10] =
        ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    if KNOWN.contains(&method) { method } else { limits::OTHER_METHOD }
}

fn name_at(at: &str, field: &str, value: &str, max_bytes: usize) -> Result<(), Invalid> {
    if value.is_empty() || value.len() > max_bytes || value.bytes().any(|byte| byte.is_ascii_control()) {
        return name(&format!("{at}.{field}"), value, max_bytes);
    }
    Ok(())
}

fn length(field: &str, value: &str, max_bytes: usize) -> Result<(), Invalid> {
    if value.len() > max_bytes {
        return Err(Invalid::new(field, format!("has {} bytes, and {max_bytes} are the most", value.len())));
    }
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Invalid::new(field, "must not have control characters"));
    }
    Ok(())
}

/// Turns rows into columns. Strings are borrowed until a series is seen for the first time.
#[derive(Default)]
struct ColumnsBuilder<S> {
    series: Vec<S>,
    found: FxHashMap<u64, Vec<u32>>,
    last: u32,
    index: Vec<u32>,
    ts_ms: Vec<u64>,
    duration_us: Vec<Option<u64>>,
}

impl<S> ColumnsBuilder<S> {
    /// Adds one sample. `same` compares `key` with a series, `make` makes the series of `key`.
    fn push_with<K: Hash>(
        &mut self,
        key: &K,
        ts_ms: u64,
        duration_us: Option<u64>,
        same: impl Fn(&S, &K) -> bool,
        make: impl FnOnce(&K) -> S,
    ) {
        let index = self.find(key, same).unwrap_or_else(|hash| {
            let index = self.series.len() as u32;
            self.series.push(make(key));
            self.found.entry(hash).or_default().push(index);
            index
        });
        self.last = index;
        self.index.push(index);
        self.ts_ms.push(ts_ms);
        self.duration_us.push(duration_us);
    }

    /// The index of the series, or the hash to keep it under. Neighbours are often alike, so the last one is tried first.
    fn find<K: Hash>(&self, key: &K, same: impl Fn(&S, &K) -> bool) -> Result<u32, u64> {
        if self.series.get(self.last as usize).is_some_and(|series| same(series, key)) {
            return Ok(self.last);
        }
        let hash = FxBuildHasher.hash_one(key);
        let candidates = self.found.get(&hash).into_iter().flatten();
        candidates.copied().find(|index| same(&self.series[*index as usize], key)).ok_or(hash)
    }

    fn build(self, base_ms: u64) -> Columns<S> {
        Columns {
            series: self.series,
            index: self.index,
            at_ms: self.ts_ms.into_iter().map(|ts| ts - base_ms).collect(),
            duration_us: self.duration_us,
        }
    }
}

/// Builds a [`Batch`] from rows, in the order they come. Rows are to be checked (`check_*`) by the caller for an error that names the row; [`Batch::check`]
/// finds the same again.
#[derive(Default)]
pub struct BatchBuilder {
    http: ColumnsBuilder<HttpSeries>,
    db: ColumnsBuilder<DbSeries>,
    host: Vec<HostReading>,
}

impl BatchBuilder {
    /// Adds a request; the method is folded by [`known_method`].
    pub fn http(&mut self, ts_ms: u64, method: &str, route: &str, status: u16, duration_us: Option<u64>) {
        self.http.push_with(
            &(known_method(method), route, status),
            ts_ms,
            duration_us,
            |series, key| series.status == key.2 && series.route == key.1 && series.method == key.0,
            |key| HttpSeries { method: key.0.to_owned(), route: key.1.to_owned(), status: key.2 },
        );
    }

    /// Adds a database call.
    pub fn db(
        &mut self,
        ts_ms: u64,
        system: &str,
        namespace: &str,
        operation: &str,
        duration_us: Option<u64>,
    ) {
        self.db.push_with(
            &(system, namespace, operation),
            ts_ms,
            duration_us,
            |series, key| series.operation == key.2 && series.namespace == key.1 && series.system == key.0,
            |key| DbSeries {
                system: key.0.to_owned(),
                namespace: key.1.to_owned(),
                operation: key.2.to_owned(),
            },
        );
    }

    /// Adds a host reading.
    pub fn host(&mut self, reading: HostReading) {
        self.host.push(reading);
    }

    /// Samples so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.http.index.len() + self.db.index.len() + self.host.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch of everything added.
    #[must_use]
    pub fn build(self, service: Cow<'_, str>, instance: Cow<'_, str>) -> Batch {
        let base_ms = self.http.ts_ms.iter().chain(&self.db.ts_ms).min().copied().unwrap_or_default();
        Batch {
            service: service.into_owned(),
            instance: instance.into_owned(),
            base_ms,
            http: self.http.build(base_ms),
            db: self.db.build(base_ms),
            host: self.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut builder = BatchBuilder::default();
        builder.http(1_000, "GET", "/a", 200, Some(5));
        builder.http(900, "GET", "/b", 500, None);
        builder.http(1_200, "BREW", "/a", 200, Some(7));
        builder.http(1_300, "GET", "/a", 200, Some(0));
        builder.db(950, "mongodb", "click.videos", "find", Some(9_000));
        builder.host(HostReading { ts: 950, cpu_utilization: Some(0.5), ..HostReading::default() });
        builder.build("content".into(), "content-1".into())
    }

    #[test]
    fn rows_become_columns_in_their_order() {
        let batch = batch();
        assert_eq!(batch.base_ms, 900);
        assert_eq!(batch.http.index, [0, 1, 2, 0]);
        assert_eq!(batch.http.at_ms, [100, 0, 300, 400]);
        assert_eq!(batch.http.duration_us, [Some(5), None, Some(7), Some(0)]);
        assert_eq!(batch.http.series[2].method, limits::OTHER_METHOD);
        assert_eq!((batch.len(), batch.check()), (6, Ok(())));
    }

    #[test]
    fn a_batch_that_lies_is_found_out() {
        type Spoil = fn(&mut Batch);
        let cases: [(&str, Spoil); 15] = [
            ("service", |b| b.service.clear()),
            ("service", |b| b.service = "x".repeat(10_000)),
            ("instance", |b| b.instance = "a\nb".into()),
            ("http.index[0]", |b| b.http.index[0] = 9),
            ("http", |b| b.http.at_ms.clear()),
            ("http.at_ms[1]", |b| b.http.at_ms[1] = u64::MAX),
            ("http.duration_us[0]", |b| b.http.duration_us[0] = Some(MAX_DURATION_US + 1)),
            ("http.series[0].status", |b| b.http.series[0].status = 99),
            ("http.series[1].status", |b| b.http.series[1].status = 1000),
            ("http.series[1].route", |b| b.http.series[1].route.clear()),
            ("db.series[0].namespace", |b| b.db.series[0].namespace = "n".repeat(300)),
            ("host[0].cpu_utilization", |b| b.host[0].cpu_utilization = Some(f64::NAN)),
            ("host[0].memory_used_bytes", |b| {
                b.host[0].memory_used_bytes = Some(2);
                b.host[0].memory_total_bytes = Some(1);
            }),
            ("host", |b| b.host = vec![HostReading::default(); limits::MAX_HOST_READINGS + 1]),
            ("", |b| b.host = vec![HostReading::default(); limits::MAX_SAMPLES_PER_BATCH + 1]),
        ];
        for (field, spoil) in cases {
            let mut batch = batch();
            spoil(&mut batch);
            assert_eq!(batch.check().expect_err(field).field, field);
        }
    }

    #[test]
    fn five_hundred_samples_take_five_kilobytes() {
        let mut builder = BatchBuilder::default();
        for i in 0..500_u64 {
            let route = ["/videos/:id", "/music/:id", "/users/:id/feed"][i as usize % 3];
            builder.http(1_764_000_000_000 + i * 7, "GET", route, 200, Some(1_000 + i * 977));
        }
        let bytes =
            rmp_serde::to_vec_named(&builder.build("content".into(), "content-1".into())).expect("encodes");
        assert!(bytes.len() < 5_500, "{} bytes", bytes.len());
    }
}
