//! What samples and readings are about: their labels, and numbers for those that come again and again.

use std::borrow::Cow;
use std::hash::Hash;

use keelson_schemas::alerting::Labels;
use keelson_schemas::slice::Cell;
use keelson_schemas::telemetry::{DbSeries, HttpSeries};
use rustc_hash::FxHashMap;

use crate::signal::{INSTANCE, MOUNTPOINT, SERVICE};

/// Something that has labels.
pub(super) trait Labelled {
    /// The value of a label; empty if it lacks it.
    fn label(&self, name: &str) -> Cow<'_, str>;
}

/// Something that has labels, and whose samples may be marked.
pub(super) trait Counted: Labelled {
    /// How many samples of a cell are marked: those that failed, or were slow.
    fn marked(&self, cell: &Cell) -> u64;
}

/// A status from which on a request failed.
const FAILED: u16 = 500;

/// A series of a service.
pub(super) struct Of<'a, S> {
    pub service: &'a str,
    pub series: &'a S,
}

impl Labelled for Of<'_, HttpSeries> {
    fn label(&self, name: &str) -> Cow<'_, str> {
        match name {
            SERVICE => self.service.into(),
            "http_request_method" => self.series.method.as_str().into(),
            "http_route" => self.series.route.as_str().into(),
            "http_response_status_code" => self.series.status.to_string().into(),
            _ => "".into(),
        }
    }
}

impl Labelled for Of<'_, DbSeries> {
    fn label(&self, name: &str) -> Cow<'_, str> {
        match name {
            SERVICE => self.service.into(),
            "db_system_name" => self.series.system.as_str().into(),
            "db_namespace" => self.series.namespace.as_str().into(),
            "db_operation_name" => self.series.operation.as_str().into(),
            _ => "".into(),
        }
    }
}

impl Counted for Of<'_, HttpSeries> {
    fn marked(&self, cell: &Cell) -> u64 {
        if self.series.status >= FAILED { cell.count } else { 0 }
    }
}

impl Counted for Of<'_, DbSeries> {
    fn marked(&self, cell: &Cell) -> u64 {
        cell.slow
    }
}

/// A machine, or a filesystem of it.
pub(super) struct Host<'a> {
    pub service: &'a str,
    pub instance: &'a str,
    pub mountpoint: &'a str,
}

impl Labelled for Host<'_> {
    fn label(&self, name: &str) -> Cow<'_, str> {
        match name {
            SERVICE => self.service.into(),
            INSTANCE => self.instance.into(),
            MOUNTPOINT => self.mountpoint.into(),
            _ => "".into(),
        }
    }
}

impl Labelled for Labels {
    fn label(&self, name: &str) -> Cow<'_, str> {
        self.get(name).map_or("", String::as_str).into()
    }
}

/// Numbers for series, so that each rule works out only once what a series is to it. As many as the metrics worker admits.
#[derive(Debug)]
pub(super) struct Numbers<S> {
    by_service: Vec<FxHashMap<S, usize>>,
    given: usize,
}

impl<S> Default for Numbers<S> {
    fn default() -> Self {
        Self { by_service: Vec::new(), given: 0 }
    }
}

impl<S: Clone + Eq + Hash> Numbers<S> {
    /// The number of a series of the service with this number.
    pub fn of(&mut self, service: usize, series: &S) -> usize {
        if self.by_service.len() <= service {
            self.by_service.resize_with(service + 1, FxHashMap::default);
        }
        let numbers = &mut self.by_service[service];
        if let Some(number) = numbers.get(series) {
            return *number;
        }
        numbers.insert(series.clone(), self.given);
        self.given += 1;
        self.given - 1
    }
}
