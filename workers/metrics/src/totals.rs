//! The totals of a partition: the fold of its slices.
//!
//! Slices are applied in the order of their ranges and each exactly once; a range that was applied before is passed over, and a gap is an error. The same function applies a
//! slice that was cut a moment ago and one that is read back after a crash.

use std::hash::Hash;

use keelson_schemas::limits::OVERFLOW;
use keelson_schemas::slice::{Cell, ServiceSlice, Slice};
use keelson_schemas::telemetry::{DbSeries, HttpSeries};
use keelson_schemas::totals::{DbTotal, HttpTotal, InstanceReading, PartitionTotals, ServiceTotals};
use rustc_hash::{FxHashMap, FxHashSet};

/// Series a checkpoint chunk. At the worst a series takes some 7 kB (a long route and every bucket in use), so that a chunk stays within 512 KiB.
const SERIES_PER_CHUNK: usize = 64;
/// Instances a checkpoint chunk. At the worst one takes some 18 kB (64 long mountpoints).
const INSTANCES_PER_CHUNK: usize = 16;
/// An instance that has told nothing for an hour makes room for a new one.
const STALE_AFTER_MS: u64 = 3_600_000;
/// Folded names that are kept, a service.
const FOLDED_NAMES: usize = 10;

/// Everything that was ever counted in one partition.
#[derive(Debug, Default)]
pub struct Totals {
    /// Which making of the telemetry stream `through` belongs to.
    stream: u64,
    through: u64,
    rejected: u64,
    services: Vec<Service>,
    by_name: FxHashMap<String, usize>,
    /// What each chunk of a checkpoint holds. A new part comes last, so that the others keep their places.
    parts: Vec<(usize, Part)>,
}

#[derive(Debug, Default)]
struct Service {
    totals: ServiceTotals,
    http: Index<HttpSeries>,
    db: Index<DbSeries>,
    changed: FxHashSet<Part>,
}

/// Where each series is among the totals, and how many of them count against the bound.
#[derive(Debug)]
pub(crate) struct Index<S> {
    places: FxHashMap<S, usize>,
    bounded: usize,
}

/// What of a service a checkpoint chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// Tally and folded names: small, and changed by every slice.
    Rest,
    /// Series of requests from 64 times this.
    Http(usize),
    /// Series of database calls from 64 times this.
    Db(usize),
    /// Readings of instances from 16 times this.
    Hosts(usize),
}

/// A slice that does not follow what was applied before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the slice begins after sequence {after}, and the totals reach {through}: slices are missing between them"
)]
pub struct Gap {
    /// Where the totals reach.
    pub through: u64,
    /// Where the slice begins.
    pub after: u64,
}

impl Totals {
    /// The totals that a checkpoint holds. `chunks` are in the order in which [`Totals::chunks`] gave them.
    #[must_use]
    pub fn restore(stream: u64, through: u64, rejected: u64, chunks: Vec<ServiceTotals>) -> Self {
        let mut totals = Self { stream, through, rejected, ..Self::default() };
        for chunk in chunks {
            let slot = totals.slot(&chunk.service);
            let service = &mut totals.services[slot];
            let part = service.part_of(&chunk);
            service.restore(chunk);
            totals.add_part(slot, part);
        }
        totals.checkpointed();
        totals
    }

    /// The sequence up to which everything is counted.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through
    }

    /// Which making of the telemetry stream [`Totals::through`] belongs to; zero before the first slice.
    #[must_use]
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Messages that were dead-lettered.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a slice; answers whether it was new.
    ///
    /// # Errors
    /// It leaves a gap.
    pub fn apply(&mut self, slice: &Slice) -> Result<bool, Gap> {
        if slice.stream < self.stream || (slice.stream == self.stream && slice.through <= self.through) {
            return Ok(false);
        }
        // In a stream that was made anew, sequences begin wherever they do.
        if slice.stream == self.stream && slice.after != self.through {
            return Err(Gap { through: self.through, after: slice.after });
        }
        self.stream = slice.stream;
        self.through = slice.through;
        self.rejected += slice.rejected;
        for service in &slice.services {
            let slot = self.slot(&service.service);
            let new_parts = self.services[slot].apply(service);
            new_parts.into_iter().for_each(|part| self.add_part(slot, part));
        }
        Ok(true)
    }

    /// What is known of a service, for deciding what may be new.
    #[must_use]
    pub fn known(&self, service: &str) -> Known<'_> {
        Known(self.by_name.get(service).map(|slot| &self.services[*slot]))
    }

    /// Whether the service was seen before.
    #[must_use]
    pub fn knows(&self, service: &str) -> bool {
        self.by_name.contains_key(service)
    }

    /// The totals as they are told.
    #[must_use]
    pub fn export(&self, partition: u8, epoch: u64) -> PartitionTotals {
        PartitionTotals {
            partition,
            epoch,
            through: self.through,
            rejected: self.rejected,
            services: self.services.iter().map(|service| service.totals.clone()).collect(),
        }
    }

    /// All chunks of a checkpoint in their places, each with its content if that changed since the last call of [`Totals::checkpointed`].
    #[must_use]
    pub fn chunks(&self) -> Vec<Option<ServiceTotals>> {
        let parts = self.parts.iter().map(|(slot, part)| (&self.services[*slot], *part));
        parts.map(|(service, part)| service.changed.contains(&part).then(|| service.part(part))).collect()
    }

    /// Notes that the chunks of the last [`Totals::chunks`] are kept.
    pub fn checkpointed(&mut self) {
        for service in &mut self.services {
            service.changed.clear();
        }
    }

    fn add_part(&mut self, slot: usize, part: Part) {
        if !self.parts.contains(&(slot, part)) {
            self.parts.push((slot, part));
        }
    }

    fn slot(&mut self, service: &str) -> usize {
        if let Some(slot) = self.by_name.get(service) {
            return *slot;
        }
        let slot = self.services.len();
        self.by_name.insert(service.to_owned(), slot);
        self.services.push(Service { totals: ServiceTotals::named(service), ..Service::default() });
        slot
    }
}

/// What is known of a service, or that nothing is.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a>(Option<&'a Service>);

impl Known<'_> {
    /// Series of requests that count against the bound.
    #[must_use]
    pub fn http_series(&self) -> usize {
        self.0.map_or(0, |service| service.http.bounded)
    }

    /// Whether the series of requests is known.
    #[must_use]
    pub fn has_http(&self, series: &HttpSeries) -> bool {
        self.0.is_some_and(|service| service.http.places.contains_key(series))
    }

    /// Series of database calls that count against the bound.
    #[must_use]
    pub fn db_series(&self) -> usize {
        self.0.map_or(0, |service| service.db.bounded)
    }

    /// Whether the series of database calls is known.
    #[must_use]
    pub fn has_db(&self, series: &DbSeries) -> bool {
        self.0.is_some_and(|service| service.db.places.contains_key(series))
    }

    /// Instances with a reading that is not stale at `now_ms`: the place of a stale one is given to the next new instance.
    #[must_use]
    pub fn instances(&self, now_ms: u64) -> usize {
        let fresh =
            |service: &Service| service.totals.hosts.iter().filter(|host| !is_stale(host, now_ms)).count();
        self.0.map_or(0, fresh)
    }

    /// Whether the instance has a reading.
    #[must_use]
    pub fn has_instance(&self, instance: &str) -> bool {
        self.0.is_some_and(|service| service.totals.hosts.iter().any(|host| host.instance == instance))
    }
}

impl Service {
    /// Adds a slice; answers which parts it changed that had not changed before.
    fn apply(&mut self, slice: &ServiceSlice) -> Vec<Part> {
        let mut touched = vec![Part::Rest];
        self.totals.tally.add(slice.tally);
        keep_last(&mut self.totals.folded, &slice.folded);
        for delta in &slice.http {
            let at = self.http.entry(&mut self.totals.http, &delta.series, http_total);
            touched.push(Part::Http(at / SERIES_PER_CHUNK));
            delta.cells.iter().for_each(|cell| add_request(&mut self.totals.http[at], cell));
        }
        for delta in &slice.db {
            let at = self.db.entry(&mut self.totals.db, &delta.series, db_total);
            touched.push(Part::Db(at / SERIES_PER_CHUNK));
            delta.cells.iter().for_each(|cell| add_call(&mut self.totals.db[at], cell));
        }
        for host in &slice.hosts {
            let at = keep_newest(&mut self.totals.hosts, host);
            touched.push(Part::Hosts(at / INSTANCES_PER_CHUNK));
        }
        touched.retain(|part| self.changed.insert(*part));
        touched
    }

    /// Which part a chunk is, being the next of its kind.
    fn part_of(&self, chunk: &ServiceTotals) -> Part {
        if !chunk.http.is_empty() {
            Part::Http(self.totals.http.len() / SERIES_PER_CHUNK)
        } else if !chunk.db.is_empty() {
            Part::Db(self.totals.db.len() / SERIES_PER_CHUNK)
        } else if !chunk.hosts.is_empty() {
            Part::Hosts(self.totals.hosts.len() / INSTANCES_PER_CHUNK)
        } else {
            Part::Rest
        }
    }

    fn restore(&mut self, chunk: ServiceTotals) {
        for total in chunk.http {
            let at = self.http.entry(&mut self.totals.http, &total.series, http_total);
            self.totals.http[at] = total;
        }
        for total in chunk.db {
            let at = self.db.entry(&mut self.totals.db, &total.series, db_total);
            self.totals.db[at] = total;
        }
        self.totals.hosts.extend(chunk.hosts);
        self.totals.tally.add(chunk.tally);
        self.totals.folded.extend(chunk.folded);
    }

    fn part(&self, part: Part) -> ServiceTotals {
        let mut content = ServiceTotals::named(&self.totals.service);
        match part {
            Part::Rest => {
                content.tally = self.totals.tally;
                content.folded.clone_from(&self.totals.folded);
            }
            Part::Http(at) => content.http = piece(&self.totals.http, at, SERIES_PER_CHUNK),
            Part::Db(at) => content.db = piece(&self.totals.db, at, SERIES_PER_CHUNK),
            Part::Hosts(at) => content.hosts = piece(&self.totals.hosts, at, INSTANCES_PER_CHUNK),
        }
        content
    }
}

/// A series that may be the one into which others fold.
pub(crate) trait Foldable: Clone + Eq + Hash {
    /// Whether it is; such a series is outside the bound.
    fn is_overflow(&self) -> bool;
}

impl Foldable for HttpSeries {
    fn is_overflow(&self) -> bool {
        self.route == OVERFLOW
    }
}

impl Foldable for DbSeries {
    fn is_overflow(&self) -> bool {
        self.namespace == OVERFLOW
    }
}

impl<S> Default for Index<S> {
    fn default() -> Self {
        Self { places: FxHashMap::default(), bounded: 0 }
    }
}

impl<S: Foldable> Index<S> {
    /// The place of a series among `totals`, made when it is new.
    pub(crate) fn entry<T>(&mut self, totals: &mut Vec<T>, series: &S, make: impl FnOnce(S) -> T) -> usize {
        if let Some(at) = self.places.get(series) {
            return *at;
        }
        self.places.insert(series.clone(), totals.len());
        self.bounded += usize::from(!series.is_overflow());
        totals.push(make(series.clone()));
        totals.len() - 1
    }
}

pub(crate) fn http_total(series: HttpSeries) -> HttpTotal {
    HttpTotal { series, requests: 0, latency: Default::default() }
}

pub(crate) fn db_total(series: DbSeries) -> DbTotal {
    DbTotal { series, calls: 0, slow: 0, latency: Default::default() }
}

pub(crate) fn add_request(total: &mut HttpTotal, cell: &Cell) {
    total.requests += cell.count;
    total.latency.merge(&cell.latency);
}

pub(crate) fn add_call(total: &mut DbTotal, cell: &Cell) {
    total.calls += cell.count;
    total.slow += cell.slow;
    total.latency.merge(&cell.latency);
}

fn piece<T: Clone>(all: &[T], at: usize, size: usize) -> Vec<T> {
    all.iter().skip(at * size).take(size).cloned().collect()
}

/// Whether an instance has told nothing for so long that it may be gone for good.
fn is_stale(host: &InstanceReading, now_ms: u64) -> bool {
    host.reading.ts.saturating_add(STALE_AFTER_MS) < now_ms
}

/// Keeps the newest reading of an instance, in its own place or in that of a stale one; answers the place.
pub(crate) fn keep_newest(hosts: &mut Vec<InstanceReading>, host: &InstanceReading) -> usize {
    let own = hosts.iter().position(|kept| kept.instance == host.instance);
    let Some(at) = own.or_else(|| hosts.iter().position(|kept| is_stale(kept, host.reading.ts))) else {
        hosts.push(host.clone());
        return hosts.len() - 1;
    };
    if hosts[at].reading.ts <= host.reading.ts {
        hosts[at].clone_from(host);
    }
    at
}

fn keep_last(kept: &mut Vec<String>, names: &[String]) {
    for name in names {
        kept.retain(|known| known != name);
        kept.push(name.clone());
    }
    kept.drain(..kept.len().saturating_sub(FOLDED_NAMES));
}

#[cfg(test)]
mod tests {
    use keelson_schemas::slice::HttpDelta;
    use keelson_schemas::totals::Tally;

    use super::*;

    fn slice(after: u64, through: u64, routes: &[&str]) -> Slice {
        let http = routes.iter().map(|route| {
            let mut cell = Cell { second: after, count: 2, ..Cell::default() };
            cell.latency.record(through);
            let series = HttpSeries { method: "GET".into(), route: (*route).into(), status: 200 };
            HttpDelta { series, cells: vec![cell] }
        });
        let http: Vec<_> = http.collect();
        let tally = Tally { samples: 2 * http.len() as u64, ..Tally::default() };
        let services =
            vec![ServiceSlice { service: "content".into(), http, tally, ..ServiceSlice::default() }];
        Slice { stream: 7, after, through, services, ..Slice::default() }
    }

    fn requests(totals: &Totals) -> u64 {
        totals
            .export(0, 1)
            .services
            .iter()
            .flat_map(|service| &service.http)
            .map(|total| total.requests)
            .sum()
    }

    #[test]
    fn a_range_counts_once_and_a_gap_is_an_error() {
        let mut totals = Totals::default();
        assert_eq!(totals.apply(&slice(0, 10, &["/a", "/b"])), Ok(true));
        assert_eq!(totals.apply(&slice(0, 10, &["/a", "/b"])), Ok(false));
        assert_eq!(totals.apply(&slice(12, 20, &["/a"])), Err(Gap { through: 10, after: 12 }));
        assert_eq!(totals.apply(&slice(10, 20, &["/a"])), Ok(true));
        assert_eq!((totals.through(), requests(&totals)), (20, 6));
    }

    #[test]
    fn a_telemetry_stream_made_anew_begins_at_its_beginning_and_the_old_one_is_over() {
        let mut totals = Totals::default();
        assert_eq!(totals.apply(&slice(0, 10, &["/a"])), Ok(true));
        let newer = Slice { stream: 8, ..slice(0, 5, &["/a"]) };
        assert_eq!(totals.apply(&newer), Ok(true));
        assert_eq!(totals.apply(&slice(10, 11, &["/a"])), Ok(false));
        assert_eq!((totals.through(), requests(&totals)), (5, 4), "counters go on where they were");
    }

    #[test]
    fn a_checkpoint_holds_everything_and_says_only_what_changed() {
        let routes: Vec<String> = (0..150).map(|i| format!("/{i}")).collect();
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let mut totals = Totals::default();
        totals.apply(&slice(0, 10, &routes)).expect("no gap");
        let full = totals.chunks();
        assert!(full.iter().all(Option::is_some));
        totals.checkpointed();
        let mut second = slice(10, 20, &["/70", "/new"]);
        second.services.push(ServiceSlice { service: "video".into(), ..second.services[0].clone() });
        second.services[0].hosts.push(InstanceReading { instance: "a".into(), reading: Default::default() });
        totals.apply(&second).expect("no gap");
        let changes = totals.chunks();
        let changed: Vec<_> = changes.iter().map(Option::is_some).collect();
        assert_eq!(changed, [true, false, true, true, true, true, true]);
        let old = full.into_iter().chain(std::iter::repeat(None));
        let kept = old.zip(changes).filter_map(|(old, new)| new.or(old));
        let restored = Totals::restore(totals.stream(), totals.through(), totals.rejected(), kept.collect());
        assert_eq!(restored.export(0, 1), totals.export(0, 1));
        assert_eq!(restored.known("content").http_series(), 151);
        assert!(restored.chunks().iter().all(Option::is_none), "what was restored is kept already");
        assert_eq!(restored.parts, totals.parts);
    }

    #[test]
    fn a_new_instance_takes_the_place_of_one_that_is_gone() {
        let host = |instance: &str, ts| InstanceReading {
            instance: instance.into(),
            reading: keelson_schemas::telemetry::HostReading { ts, ..Default::default() },
        };
        let mut hosts = Vec::new();
        for (instance, ts, place) in
            [("a", 1, 0), ("b", 2, 1), ("c", STALE_AFTER_MS + 2, 0), ("b", STALE_AFTER_MS, 1)]
        {
            assert_eq!(keep_newest(&mut hosts, &host(instance, ts)), place, "{instance}");
        }
        assert_eq!(hosts.iter().map(|host| host.instance.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    }
}
