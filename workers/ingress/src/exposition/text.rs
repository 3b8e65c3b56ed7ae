//! The two text forms. They differ in a counter's family name, in the escapes of help, and in `# EOF`.

use std::fmt::Write;

use keelson_schemas::histogram::Histogram;

use super::{Family, Kind, Label, Value, classic_buckets};

/// Which text form is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// Writes the families one after the other.
pub(super) fn write<'a>(families: impl Iterator<Item = &'a Family>, dialect: Dialect) -> Vec<u8> {
    let mut page = Page(String::new());
    for family in families {
        page.family(family, dialect);
    }
    if dialect == Dialect::OpenMetrics {
        page.line(format_args!("# EOF"));
    }
    page.0.into_bytes()
}

struct Page(String);

impl Page {
    /// Writing to a string cannot fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    fn family(&mut self, family: &Family, dialect: Dialect) {
        let title = title(family, dialect);
        self.line(format_args!("# HELP {title} {}", Help(family.help, dialect)));
        self.line(format_args!("# TYPE {title} {}", kind(family.kind)));
        for series in &family.series {
            match &series.value {
                Value::Counter(count) => self.sample(family.name, "", &series.labels, None, *count),
                Value::Gauge(value) => self.sample(family.name, "", &series.labels, None, Number(*value)),
                Value::Histogram(histogram) => self.histogram(family.name, &series.labels, histogram),
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[Label], histogram: &Histogram) {
        for (bound, count) in classic_buckets(histogram) {
            self.sample(name, "_bucket", labels, Some(bound), count);
        }
        self.sample(name, "_bucket", labels, Some(f64::INFINITY), histogram.count());
        self.sample(name, "_sum", labels, None, Number(histogram.sum_seconds()));
        self.sample(name, "_count", labels, None, histogram.count());
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[Label],
        le: Option<f64>,
        value: impl std::fmt::Display,
    ) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        self.labels(labels, le);
        self.line(format_args!(" {value}"));
    }

    fn labels(&mut self, labels: &[Label], le: Option<f64>) {
        let mut open = '{';
        for (name, value) in labels {
            self.0.push(open);
            self.0.push_str(name);
            self.0.push_str("=\"");
            escape(&mut self.0, value, true);
            self.0.push('"');
            open = ',';
        }
        if let Some(bound) = le {
            let _ = write!(self.0, "{open}le=\"{}\"", Bound(bound));
            open = ',';
        }
        if open == ',' {
            self.0.push('}');
        }
    }
}

/// OpenMetrics names a counter's family without the `_total` of its samples.
fn title(family: &Family, dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenMetrics if family.kind == Kind::Counter => {
            family.name.strip_suffix("_total").unwrap_or(family.name)
        }
        _ => family.name,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// Help, in which OpenMetrics escapes the quote as well.
struct Help<'a>(&'a str, Dialect);

impl std::fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::with_capacity(self.0.len());
        escape(&mut text, self.0, self.1 == Dialect::OpenMetrics);
        f.write_str(&text)
    }
}

/// A bucket's bound: `1.0`, never `1`, in both dialects, because that is what Prometheus itself writes for a bound that came by
/// protobuf; the series then stay the same when a scraper changes format.
struct Bound(f64);

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { Number(self.0).fmt(f) }
    }
}

/// A number as Prometheus spells it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

fn escape(into: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            other => into.push(other),
        }
    }
}
