//! The protobuf form: `io.prometheus.client.MetricFamily`, each preceded by its length, with native and classic buckets.
//!
//! The messages below are the part that Keelson fills of `metrics.proto` in github.com/prometheus/client_model; field numbers are
//! theirs. Written out with prost's derive, because generating them would need `protoc` on every machine that builds Keelson.

use keelson_schemas::histogram::{Histogram, SCHEMA};
use prost::Message;

use super::{Family, Kind, Label, Series, Value, classic_buckets};

/// What counts as zero in a native histogram: the default of Prometheus' own client libraries, 2^-128. Any positive value would
/// do, as durations are whole microseconds; it must not be zero, or a histogram without observations is taken for a classic one.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Writes the families one after the other.
pub(super) fn write<'a>(families: impl Iterator<Item = &'a Family>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for family in families {
        bytes.extend_from_slice(&MetricFamily::from(family).encode_length_delimited_to_vec());
    }
    bytes
}

impl From<&Family> for MetricFamily {
    fn from(family: &Family) -> Self {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        Self {
            name: family.name.to_owned(),
            help: family.help.to_owned(),
            r#type: kind as i32,
            metric: family.series.iter().map(metric).collect(),
        }
    }
}

fn metric(series: &Series) -> Metric {
    let label = series.labels.iter().map(label_pair).collect();
    match &series.value {
        Value::Counter(count) => {
            Metric { label, counter: Some(Number { value: *count as f64 }), ..Metric::default() }
        }
        Value::Gauge(value) => Metric { label, gauge: Some(Number { value: *value }), ..Metric::default() },
        Value::Histogram(counts) => Metric { label, histogram: Some(native(counts)), ..Metric::default() },
    }
}

fn label_pair((name, value): &Label) -> LabelPair {
    LabelPair { name: (*name).to_owned(), value: value.clone().into_owned() }
}

fn native(histogram: &Histogram) -> HistogramMessage {
    let (positive_span, positive_delta) = spans_and_deltas(histogram.buckets());
    HistogramMessage {
        sample_count: histogram.count(),
        sample_sum: histogram.sum_seconds(),
        bucket: classic_buckets(histogram)
            .map(|(upper_bound, cumulative_count)| Bucket { cumulative_count, upper_bound })
            .collect(),
        schema: SCHEMA,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: histogram.zeros(),
        positive_span,
        positive_delta,
    }
}

/// Buckets in ascending order as runs of neighbours, and each count as its difference from the one before.
fn spans_and_deltas(buckets: impl Iterator<Item = (i32, u64)>) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let (mut next, mut before) = (0_i32, 0_i64);
    for (bucket, count) in buckets {
        match spans.last_mut() {
            Some(span) if bucket == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: bucket - next, length: 1 }),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (next, before) = (bucket + 1, count);
    }
    (spans, deltas)
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub help: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    pub r#type: i32,
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Gauge` and `Counter` have the same first field.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(double, tag = "1")]
    pub value: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramMessage {
    #[prost(uint64, tag = "1")]
    pub sample_count: u64,
    #[prost(double, tag = "2")]
    pub sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}
