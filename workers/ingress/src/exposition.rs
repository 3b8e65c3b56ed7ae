//! What a scrape shows: metric families, and the three forms in which Prometheus reads them.
//!
//! `prometheus-client` was tried for this and left: its text encoder speaks OpenMetrics only (an 0.0.4 parser, `promtool` among them,
//! takes its `_total` samples for untyped ones), and its protobuf needs `protoc` wherever Keelson is built.

mod negotiate;
mod protobuf;
mod text;

use std::borrow::Cow;

use keelson_schemas::histogram::Histogram;

pub use negotiate::Format;

/// One name with its help, its type and all its series.
#[derive(Debug, Clone)]
pub struct Family {
    /// The name as samples carry it: a counter's ends in `_total`.
    pub name: &'static str,
    /// One sentence, shown by Prometheus beside the name.
    pub help: &'static str,
    /// What every series of the family is.
    pub kind: Kind,
    /// The series; their label sets differ.
    pub series: Vec<Series>,
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of seconds.
    Histogram,
}

/// One series: labels and the value now.
#[derive(Debug, Clone)]
pub struct Series {
    /// Names are legal by being constants; values may be any text.
    pub labels: Vec<Label>,
    /// Fits the family's [`Kind`].
    pub value: Value,
}

/// A label's name and value.
pub type Label = (&'static str, Cow<'static, str>);

/// The value of a series.
#[derive(Debug, Clone)]
pub enum Value {
    /// A counter.
    Counter(u64),
    /// A gauge.
    Gauge(f64),
    /// A histogram of seconds.
    Histogram(Box<Histogram>),
}

impl Family {
    /// A family without series yet.
    #[must_use]
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, help, kind, series: Vec::new() }
    }

    /// Adds a series.
    pub fn push(&mut self, labels: Vec<Label>, value: Value) {
        self.series.push(Series { labels, value });
    }

    /// The family with one series that has no labels.
    #[must_use]
    pub fn single(name: &'static str, kind: Kind, help: &'static str, value: Value) -> Self {
        let mut family = Self::new(name, kind, help);
        family.push(Vec::new(), value);
        family
    }
}

/// Writes the families in a format. Families without series are left out, as their type line alone says nothing.
#[must_use]
pub fn encode(families: &[Family], format: Format) -> Vec<u8> {
    let shown = families.iter().filter(|family| !family.series.is_empty());
    match format {
        Format::Text => text::write(shown, text::Dialect::Prometheus),
        Format::OpenMetrics => text::write(shown, text::Dialect::OpenMetrics),
        Format::Protobuf => protobuf::write(shown),
    }
}

/// The upper bounds of the classic buckets, as powers of two seconds: 0.24 ms to 32 s.
///
/// They coincide with bounds of the exponential histogram, so the classic counts are exact. They are fixed, because a classic
/// histogram whose bounds change is a broken series to Prometheus.
const CLASSIC_OCTAVES: std::ops::RangeInclusive<i32> = -12..=5;

/// The classic buckets of a histogram: (upper bound in seconds, cumulative count), without `+Inf`.
fn classic_buckets(histogram: &Histogram) -> impl Iterator<Item = (f64, u64)> + '_ {
    let mut buckets = histogram.buckets().peekable();
    let mut below = histogram.zeros();
    CLASSIC_OCTAVES.map(move |octave| {
        let last = octave * keelson_schemas::histogram::BUCKETS_PER_OCTAVE;
        while let Some((_, count)) = buckets.next_if(|(bucket, _)| *bucket <= last) {
            below += count;
        }
        (f64::from(octave).exp2(), below)
    })
}

#[cfg(test)]
pub(crate) mod tests;
