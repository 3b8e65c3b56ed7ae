//! What was counted since the last slice: the part of a partition's state that is not yet committed.
//!
//! This is the hot path of the whole pipeline. Names are looked up once a batch, not once a sample; a sample costs an index, a comparison
//! of seconds and a histogram bucket.

use std::hash::Hash;

use keelson_schemas::limits::{LATE_AFTER_MS, OVERFLOW};
use keelson_schemas::slice::{Cell, DbDelta, HttpDelta, ServiceSlice};
use keelson_schemas::telemetry::{Batch, Columns, DbSeries, HostReading, HttpSeries};
use keelson_schemas::totals::{InstanceReading, Tally};
use rustc_hash::FxHashMap;

use crate::totals::{Known, Totals};

/// How many names may be kept apart, and what counts as slow.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Series of requests a service.
    pub http_series: usize,
    /// Series of database calls a service.
    pub db_series: usize,
    /// Instances a service.
    pub instances: usize,
    /// A database call that takes longer than this many microseconds is slow.
    pub slow_us: u64,
}

/// The bytes of a [`Delta`] at which it is cut, whatever its age. With one more batch of the largest size it stays below `max_payload`.
pub const FULL_AT_BYTES: usize = 2 * 1024 * 1024;
/// The most that a cell takes on the wire besides its buckets.
const CELL_BYTES: usize = 96;
/// The most that a bucket takes on the wire.
const BUCKET_BYTES: usize = 5;
/// The most that a series takes on the wire besides its names.
const SERIES_BYTES: usize = 64;
/// Folded names that are told of, a service.
const FOLDED_NAMES: usize = 10;

/// Counts that are not in a slice yet.
#[derive(Debug, Default)]
pub struct Delta {
    services: Vec<ServiceDelta>,
    by_name: FxHashMap<String, usize>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ServiceDelta {
    name: String,
    http: Table<HttpSeries>,
    db: Table<DbSeries>,
    hosts: Vec<InstanceReading>,
    new_instances: Vec<String>,
    tally: Tally,
    folded: Vec<String>,
}

/// The cells of the series of one kind.
#[derive(Debug)]
struct Table<S> {
    rows: Vec<(S, Vec<Cell>)>,
    by_series: FxHashMap<S, u32>,
    /// Where the cell of (row, second) is, for rows that span more seconds than their last.
    by_second: FxHashMap<(u32, u64), u32>,
    /// Rows that the totals do not have yet and that count against the bound.
    new_series: usize,
}

impl Delta {
    /// Adds a batch that has passed its check and was stored at `arrival_ms`. `service` is the name it counts under: its own, or `__overflow__`.
    pub fn add(&mut self, totals: &Totals, bounds: &Bounds, service: &str, batch: Batch, arrival_ms: u64) {
        let known = totals.known(service);
        let slot = self.slot(service);
        let delta = &mut self.services[slot];
        delta.tally.samples += batch.len() as u64;
        let late_before_ms = arrival_ms.saturating_sub(LATE_AFTER_MS);
        let clock = BatchClock { base_ms: batch.base_ms, late_before_ms };
        self.bytes += delta.add_http(&known, bounds, batch.http, clock);
        self.bytes += delta.add_db(&known, bounds, batch.db, clock);
        self.bytes +=
            delta.add_hosts(&known, bounds, &batch.instance, batch.host, arrival_ms, late_before_ms);
    }

    /// Whether a service has something in it.
    #[must_use]
    pub fn knows(&self, service: &str) -> bool {
        self.by_name.contains_key(service)
    }

    /// Whether it must be cut now, because its slice could grow too large for a message.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= FULL_AT_BYTES
    }

    /// Takes everything out, as a slice tells it.
    pub fn take(&mut self) -> Vec<ServiceSlice> {
        let taken = std::mem::take(self);
        taken.services.into_iter().map(ServiceDelta::into_slice).collect()
    }

    fn slot(&mut self, service: &str) -> usize {
        if let Some(slot) = self.by_name.get(service) {
            return *slot;
        }
        let slot = self.services.len();
        self.by_name.insert(service.to_owned(), slot);
        self.services.push(ServiceDelta { name: service.to_owned(), ..ServiceDelta::default() });
        self.bytes += SERIES_BYTES + service.len();
        slot
    }
}

#[derive(Clone, Copy)]
struct BatchClock {
    base_ms: u64,
    late_before_ms: u64,
}

impl ServiceDelta {
    fn add_http(
        &mut self,
        known: &Known<'_>,
        bounds: &Bounds,
        columns: Columns<HttpSeries>,
        clock: BatchClock,
    ) -> usize {
        let mut admit = Admission::new(&mut self.folded, bounds.http_series, known.http_series());
        let rows = columns.series.iter().map(|series| {
            admit.row(&mut self.http, series, known.has_http(series), &series.route, || HttpSeries {
                method: series.method.clone(),
                route: OVERFLOW.to_owned(),
                status: series.status,
            })
        });
        let rows: Vec<Row> = rows.collect();
        let names = admit.bytes;
        names + self.http.count(&mut self.tally, &rows, &columns, clock, u64::MAX)
    }

    fn add_db(
        &mut self,
        known: &Known<'_>,
        bounds: &Bounds,
        columns: Columns<DbSeries>,
        clock: BatchClock,
    ) -> usize {
        let mut admit = Admission::new(&mut self.folded, bounds.db_series, known.db_series());
        let rows = columns.series.iter().map(|series| {
            admit.row(&mut self.db, series, known.has_db(series), &series.namespace, || DbSeries {
                system: OVERFLOW.to_owned(),
                namespace: OVERFLOW.to_owned(),
                operation: OVERFLOW.to_owned(),
            })
        });
        let rows: Vec<Row> = rows.collect();
        let names = admit.bytes;
        names + self.db.count(&mut self.tally, &rows, &columns, clock, bounds.slow_us)
    }

    /// Keeps the readings of a known or an admitted instance. A gauge cannot be folded, so the readings of one past the bound are left out and counted.
    fn add_hosts(
        &mut self,
        known: &Known<'_>,
        bounds: &Bounds,
        instance: &str,
        readings: Vec<HostReading>,
        arrival_ms: u64,
        late_before_ms: u64,
    ) -> usize {
        if readings.is_empty() {
            return 0;
        }
        let is_new = !known.has_instance(instance) && !self.new_instances.iter().any(|name| name == instance);
        if is_new && known.instances(arrival_ms) + self.new_instances.len() >= bounds.instances {
            self.tally.overflow += readings.len() as u64;
            return 0;
        }
        if is_new {
            self.new_instances.push(instance.to_owned());
        }
        let mut bytes = 0;
        for mut reading in readings {
            if reading.ts == 0 {
                reading.ts = arrival_ms;
            }
            self.tally.late += u64::from(reading.ts < late_before_ms);
            bytes += SERIES_BYTES + instance.len() + CELL_BYTES;
            bytes += reading.filesystems.iter().map(|fs| fs.mountpoint.len() + SERIES_BYTES).sum::<usize>();
            self.hosts.push(InstanceReading { instance: instance.to_owned(), reading });
        }
        bytes
    }

    fn into_slice(self) -> ServiceSlice {
        ServiceSlice {
            service: self.name,
            http: self.http.rows.into_iter().map(|(series, cells)| HttpDelta { series, cells }).collect(),
            db: self.db.rows.into_iter().map(|(series, cells)| DbDelta { series, cells }).collect(),
            hosts: self.hosts,
            tally: self.tally,
            folded: self.folded,
        }
    }
}

/// Where the samples of an entry of a batch's dictionary go.
#[derive(Clone, Copy)]
struct Row {
    row: u32,
    is_overflow: bool,
    last: Option<(u64, u32)>,
}

/// Decides which new series are kept apart and which fold.
struct Admission<'a> {
    folded: &'a mut Vec<String>,
    room: usize,
    bytes: usize,
}

impl<'a> Admission<'a> {
    fn new(folded: &'a mut Vec<String>, bound: usize, known: usize) -> Self {
        Self { folded, room: bound.saturating_sub(known), bytes: 0 }
    }

    fn row<S: Clone + Eq + Hash>(
        &mut self,
        table: &mut Table<S>,
        series: &S,
        is_known: bool,
        name: &str,
        overflow: impl FnOnce() -> S,
    ) -> Row {
        let admitted = is_known || table.by_series.contains_key(series) || table.new_series < self.room;
        if admitted {
            let (row, is_new) = table.row(series);
            if is_new {
                table.new_series += usize::from(!is_known);
                self.bytes += SERIES_BYTES + CELL_BYTES + 2 * name.len();
            }
            return Row { row, is_overflow: false, last: None };
        }
        self.remember(name);
        let (row, is_new) = table.row(&overflow());
        self.bytes += if is_new { SERIES_BYTES + CELL_BYTES } else { 0 };
        Row { row, is_overflow: true, last: None }
    }

    fn remember(&mut self, name: &str) {
        if self.folded.len() < FOLDED_NAMES && !self.folded.iter().any(|folded| folded == name) {
            self.folded.push(name.to_owned());
            self.bytes += name.len();
        }
    }
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            by_series: FxHashMap::default(),
            by_second: FxHashMap::default(),
            new_series: 0,
        }
    }
}

impl<S: Clone + Eq + Hash> Table<S> {
    /// The row of a series, and whether it was made just now.
    fn row(&mut self, series: &S) -> (u32, bool) {
        if let Some(row) = self.by_series.get(series) {
            return (*row, false);
        }
        let row = self.rows.len() as u32;
        self.by_series.insert(series.clone(), row);
        self.rows.push((series.clone(), Vec::new()));
        (row, true)
    }

    /// Counts the samples of a batch, whose dictionary is `rows`; answers by how many bytes the slice may have grown.
    fn count(
        &mut self,
        tally: &mut Tally,
        rows: &[Row],
        columns: &Columns<S>,
        clock: BatchClock,
        slow_us: u64,
    ) -> usize {
        let mut rows = rows.to_vec();
        let mut new_cells = 0;
        for (index, at_ms, duration_us) in columns.samples() {
            let ts_ms = clock.base_ms + at_ms;
            let row = &mut rows[index as usize];
            tally.late += u64::from(ts_ms < clock.late_before_ms);
            tally.overflow += u64::from(row.is_overflow);
            let cell = self.cell(row, ts_ms / 1000, &mut new_cells);
            cell.count += 1;
            if let Some(us) = duration_us {
                cell.slow += u64::from(us > slow_us);
                cell.latency.record(us);
            }
        }
        new_cells * CELL_BYTES + columns.index.len() * BUCKET_BYTES
    }

    #[inline]
    fn cell(&mut self, row: &mut Row, second: u64, new_cells: &mut usize) -> &mut Cell {
        let cells = &mut self.rows[row.row as usize].1;
        let at = match row.last {
            Some((last, at)) if last == second => at,
            _ => {
                let at = *self.by_second.entry((row.row, second)).or_insert_with(|| {
                    cells.push(Cell { second, ..Cell::default() });
                    *new_cells += 1;
                    cells.len() as u32 - 1
                });
                row.last = Some((second, at));
                at
            }
        };
        &mut cells[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::telemetry::BatchBuilder;

    use super::*;

    const BOUNDS: Bounds = Bounds { http_series: 3, db_series: 2, instances: 2, slow_us: 100_000 };
    const NOW_MS: u64 = 1_764_000_000_000;

    fn requests(routes: impl IntoIterator<Item = String>) -> Batch {
        let mut builder = BatchBuilder::default();
        for route in routes {
            builder.http(NOW_MS, "GET", &route, 200, Some(1_000));
        }
        builder.build("content".into(), "".into())
    }

    fn one_service(delta: &mut Delta) -> ServiceSlice {
        let mut services = delta.take();
        assert_eq!(services.len(), 1);
        services.remove(0)
    }

    #[test]
    fn samples_are_spread_over_the_seconds_in_which_they_happened() {
        let mut builder = BatchBuilder::default();
        for (after_ms, us) in
            [(0, Some(10)), (999, None), (1_000, Some(30)), (500, Some(0)), (61_000, Some(5))]
        {
            builder.http(NOW_MS + after_ms, "GET", "/a", 200, us);
        }
        let mut delta = Delta::default();
        delta.add(&Totals::default(), &BOUNDS, "content", builder.build("content".into(), "".into()), NOW_MS);
        let slice = one_service(&mut delta);
        let cells = &slice.http[0].cells;
        let told: Vec<_> =
            cells.iter().map(|c| (c.second - NOW_MS / 1000, c.count, c.latency.count())).collect();
        assert_eq!(told, [(0, 3, 2), (1, 1, 1), (61, 1, 1)]);
        assert_eq!(slice.tally, Tally { samples: 5, late: 0, overflow: 0 });
        assert!(delta.take().is_empty(), "taking leaves nothing behind");
    }

    #[test]
    fn past_the_bound_new_routes_fold_and_no_sample_is_lost() {
        let mut delta = Delta::default();
        let totals = Totals::default();
        delta.add(&totals, &BOUNDS, "content", requests((0..5).map(|i| format!("/{i}"))), NOW_MS);
        delta.add(&totals, &BOUNDS, "content", requests(["/0", "/7"].map(str::to_owned)), NOW_MS);
        let slice = one_service(&mut delta);
        let told: Vec<_> = slice
            .http
            .iter()
            .map(|d| (d.series.route.as_str(), d.cells.iter().map(|c| c.count).sum()))
            .collect();
        assert_eq!(told, [("/0", 2_u64), ("/1", 1), ("/2", 1), (OVERFLOW, 3)]);
        assert_eq!(slice.tally, Tally { samples: 7, late: 0, overflow: 3 });
        assert_eq!(slice.folded, ["/3", "/4", "/7"]);
    }

    #[test]
    fn slow_and_late_are_told_apart_at_their_thresholds() {
        let mut builder = BatchBuilder::default();
        for us in [99_999, 100_000, 100_001] {
            builder.db(NOW_MS, "mongodb", "click.videos", "find", Some(us));
        }
        let mut delta = Delta::default();
        let batch = builder.build("content".into(), "".into());
        delta.add(&Totals::default(), &BOUNDS, "content", batch.clone(), NOW_MS + LATE_AFTER_MS);
        delta.add(&Totals::default(), &BOUNDS, "content", batch, NOW_MS + LATE_AFTER_MS + 1);
        let slice = one_service(&mut delta);
        assert_eq!((slice.db[0].cells[0].count, slice.db[0].cells[0].slow), (6, 2));
        assert_eq!(slice.tally.late, 3);
    }

    #[test]
    fn readings_of_instances_past_the_bound_are_counted_as_overflow() {
        let mut delta = Delta::default();
        for instance in ["a", "b", "c", "a"] {
            let mut builder = BatchBuilder::default();
            builder.host(HostReading { cpu_utilization: Some(0.5), ..HostReading::default() });
            let batch = builder.build("content".into(), instance.into());
            delta.add(&Totals::default(), &BOUNDS, "content", batch, NOW_MS);
        }
        let slice = one_service(&mut delta);
        assert_eq!(slice.hosts.iter().map(|h| h.instance.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(slice.hosts[0].reading.ts, NOW_MS, "a reading without a time has the time of arrival");
        assert_eq!(slice.tally, Tally { samples: 4, late: 0, overflow: 1 });
    }

    #[test]
    fn the_bytes_never_fall_behind_what_the_slice_takes() {
        let mut delta = Delta::default();
        let bounds = Bounds { http_series: 2_000, ..BOUNDS };
        let mut builder = BatchBuilder::default();
        for i in 0..20_000_u64 {
            let route = format!("/{}/{}", i % 2_500, "x".repeat(900));
            builder.http(NOW_MS - i * 1_000, "GET", &route, 200, Some(1 << (i % 36)));
        }
        delta.add(&Totals::default(), &bounds, "content", builder.build("content".into(), "".into()), NOW_MS);
        let told = delta.bytes;
        let taken = rmp_serde::to_vec_named(&delta.take()).expect("encodes").len();
        assert!(taken <= told, "{taken} bytes taken, {told} told");
        assert!(taken + FULL_AT_BYTES < 8 * 1024 * 1024, "{taken} bytes");
    }
}
