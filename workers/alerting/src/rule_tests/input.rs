//! What a test feeds.

use keelson_schemas::alerting::{Labels, Reading};
use keelson_schemas::slice::{Cell, DbDelta, HttpDelta, ServiceSlice, Slice};
use keelson_schemas::telemetry::{DbSeries, Filesystem, HostReading, HttpSeries};
use keelson_schemas::totals::InstanceReading;
use serde::Deserialize;

use super::span_ms;
use crate::evaluate::Evaluator;
use crate::signal::{INSTANCE, MOUNTPOINT, SERVICE, Signal, Source};

/// How often one input may be fed.
const MAX_TIMES: u64 = 100_000;
/// Samples of one input at a time.
const MAX_COUNT: u64 = 1_000_000;
/// What a share of memory or disk is a share of.
const WHOLE_BYTES: u64 = 1_000_000_000;

/// `[[tests.input]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawInput {
    /// How long after the beginning it happens first. 0s
    at: String,
    /// After how long it happens again. 1s
    every: String,
    /// How often it happens. 1
    times: Option<u64>,
    /// The service. service
    service: Option<String>,
    /// How many requests or calls. 1
    count: Option<u64>,
    /// How long each took. Unknown
    duration_ms: Option<f64>,
    /// Of requests. GET
    method: Option<String>,
    /// Of requests. /
    route: Option<String>,
    /// Of requests. 200
    status: Option<u16>,
    /// Of database calls. mongodb
    system: Option<String>,
    /// Of database calls.
    namespace: Option<String>,
    /// Of database calls.
    operation: Option<String>,
    /// How many of the calls were slow. 0
    slow: Option<u64>,
    /// The name of a reading or of a utilization.
    signal: Option<String>,
    /// Of a reading or utilization.
    labels: Labels,
    /// Of a reading or utilization.
    value: Option<f64>,
}

/// Something that happens, once or again and again.
pub(super) struct Input {
    after_ms: u64,
    every_ms: u64,
    times: u64,
    what: What,
}

enum What {
    Requests(String, HttpSeries, Cell),
    Calls(String, DbSeries, Cell),
    Host(String, InstanceReading),
    Reading(Reading),
}

type Wrong = (&'static str, String);

impl RawInput {
    pub fn check(self) -> Result<Input, Wrong> {
        let after_ms = span_ms("at", &self.at)?;
        let every_ms = if self.every.is_empty() { 1_000 } else { span_ms("every", &self.every)? };
        let times = self.times.unwrap_or(1);
        if times > MAX_TIMES {
            return Err(("times", format!("is {times}, and may be at most {MAX_TIMES}")));
        }
        Ok(Input { after_ms, every_ms, times, what: self.what()? })
    }

    fn what(self) -> Result<What, Wrong> {
        let is_request = self.method.is_some() || self.route.is_some() || self.status.is_some();
        let is_call = self.system.is_some()
            || self.namespace.is_some()
            || self.operation.is_some()
            || self.slow.is_some();
        match (self.signal.is_some(), is_call, is_request) {
            (true, false, false) => self.told(),
            (false, true, false) => self.calls(),
            (false, false, _) => self.requests(),
            (true, ..) => {
                Err(("signal", "is of readings, and stands beside keys of requests or calls".into()))
            }
            (false, true, true) => {
                Err(("route", "keys of requests stand beside keys of database calls".into()))
            }
        }
    }

    fn service(&self) -> String {
        self.service.clone().unwrap_or_else(|| "service".into())
    }

    fn cell(&self) -> Result<Cell, Wrong> {
        let mut cell =
            Cell { count: self.count.unwrap_or(1), slow: self.slow.unwrap_or(0), ..Cell::default() };
        if cell.count > MAX_COUNT {
            return Err(("count", format!("is {}, and may be at most {MAX_COUNT}", cell.count)));
        }
        if cell.slow > cell.count {
            return Err(("slow", format!("is {}, of only {} calls", cell.slow, cell.count)));
        }
        if let Some(ms) = self.duration_ms {
            (0..cell.count).for_each(|_| cell.latency.record((ms * 1_000.0).round() as u64));
        }
        Ok(cell)
    }

    fn requests(self) -> Result<What, Wrong> {
        let cell = self.cell()?;
        let service = self.service();
        let series = HttpSeries {
            method: self.method.unwrap_or_else(|| "GET".into()),
            route: self.route.unwrap_or_else(|| "/".into()),
            status: self.status.unwrap_or(200),
        };
        Ok(What::Requests(service, series, cell))
    }

    fn calls(self) -> Result<What, Wrong> {
        let cell = self.cell()?;
        let service = self.service();
        let series = DbSeries {
            system: self.system.unwrap_or_else(|| "mongodb".into()),
            namespace: self.namespace.unwrap_or_else(|| "database.collection".into()),
            operation: self.operation.unwrap_or_else(|| "find".into()),
        };
        Ok(What::Calls(service, series, cell))
    }

    fn told(self) -> Result<What, Wrong> {
        let name = self.signal.clone().unwrap_or_default();
        let signal = Signal::named(&name).ok_or_else(|| ("signal", format!("{name:?} is not known")))?;
        let value = self.value.ok_or_else(|| ("value", "is missing".to_owned()))?;
        if let Some(label) = self.labels.keys().find(|label| signal.label(label).is_none()) {
            return Err(("labels", format!("{name} has no label {label:?}")));
        }
        match signal.source {
            Source::Reading => Ok(What::Reading(Reading { signal: name, labels: self.labels, value, ts: 0 })),
            Source::Http | Source::Db => {
                Err(("signal", format!("{name} is made of requests or database calls; feed those")))
            }
            source => Ok(self.host(source, value)),
        }
    }

    fn host(self, source: Source, value: f64) -> What {
        let label = |name: &str| self.labels.get(name).cloned();
        let used_bytes = (value * WHOLE_BYTES as f64).round() as u64;
        let reading = match source {
            Source::Cpu => HostReading { cpu_utilization: Some(value), ..HostReading::default() },
            Source::Filesystem => {
                let mountpoint = label(MOUNTPOINT).unwrap_or_else(|| "/".into());
                let filesystems = vec![Filesystem { mountpoint, used_bytes, total_bytes: WHOLE_BYTES }];
                HostReading { filesystems, ..HostReading::default() }
            }
            _ => HostReading {
                memory_used_bytes: Some(used_bytes),
                memory_total_bytes: Some(WHOLE_BYTES),
                ..HostReading::default()
            },
        };
        let instance = label(INSTANCE).unwrap_or_default();
        What::Host(label(SERVICE).unwrap_or_else(|| self.service()), InstanceReading { instance, reading })
    }
}

impl Input {
    /// The times at which it happens, in milliseconds after the beginning.
    pub fn times_ms(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.times).map(|n| self.after_ms + n * self.every_ms)
    }

    /// Lets it happen at a time, in Unix milliseconds.
    pub fn feed(&self, evaluator: &mut Evaluator, at_ms: u64) {
        let cell = |cell: &Cell| vec![Cell { second: at_ms / 1000, ..cell.clone() }];
        let service = match &self.what {
            What::Reading(reading) => return evaluator.read(&Reading { ts: at_ms, ..reading.clone() }),
            What::Requests(service, series, requests) => ServiceSlice {
                http: vec![HttpDelta { series: series.clone(), cells: cell(requests) }],
                ..named(service)
            },
            What::Calls(service, series, calls) => ServiceSlice {
                db: vec![DbDelta { series: series.clone(), cells: cell(calls) }],
                ..named(service)
            },
            What::Host(service, host) => {
                let reading = HostReading { ts: at_ms, ..host.reading.clone() };
                ServiceSlice { hosts: vec![InstanceReading { reading, ..host.clone() }], ..named(service) }
            }
        };
        evaluator.observe(&Slice { cut_at_ms: at_ms, services: vec![service], ..Slice::default() });
    }
}

fn named(service: &str) -> ServiceSlice {
    ServiceSlice { service: service.to_owned(), ..ServiceSlice::default() }
}
