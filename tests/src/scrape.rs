//! A page of the text exposition format, read by the letter.

use std::collections::BTreeMap;

use crate::ledger::{CLASSIC_OCTAVES, Count, Ledger, Series};

/// Families whose counts have to be exact and must never fall. Those are counts of single processes, which start over with them.
const EXACT: [&str; 4] = [
    "http_server_requests_total",
    "http_server_request_duration_seconds",
    "db_client_operation_duration_seconds",
    "keelson_telemetry_",
];

/// One line: labels in the order of their names, and the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The name with its suffix.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Everything a scrape showed.
#[derive(Clone, Debug, Default)]
pub struct Scrape(pub Vec<Line>);

impl Scrape {
    /// Reads a page.
    ///
    /// # Panics
    /// When a line is not of the format, as Prometheus would refuse the whole page.
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect())
    }

    /// The lines of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.0.iter().filter(move |line| line.name == name)
    }

    /// The sum over all lines of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |line: &&Line| {
            labels.iter().all(|(name, value)| line.labels.get(*name).is_some_and(|found| found == value))
        };
        self.named(name).filter(wanted).map(|line| line.value).sum()
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.sum("http_server_requests_total", &[]) as u64
    }

    /// Requests by status code.
    pub fn by_status(&self, service: &str) -> BTreeMap<u16, u64> {
        let mut counts = BTreeMap::new();
        for line in self.named("http_server_requests_total") {
            let series = series_of(line);
            if series.service == service {
                *counts.entry(series.status).or_default() += line.value as u64;
            }
        }
        counts
    }

    /// The page as a ledger, so that it can be compared with what was sent.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for line in self.named("http_server_requests_total") {
            let count =
                Count { requests: line.value as u64, classic: Some(no_classic()), ..Count::default() };
            assert!(ledger.0.insert(series_of(line), count).is_none(), "a series twice: {line:?}");
        }
        let mut add = |name: &str, apply: &dyn Fn(&mut Count, &Line)| {
            for line in self.named(name) {
                apply(ledger.0.entry(series_of(line)).or_default(), line);
            }
        };
        add("http_server_request_duration_seconds_count", &|count, line| count.timed = line.value as u64);
        add("http_server_request_duration_seconds_sum", &|count, line| {
            count.sum_us = (line.value * 1e6).round() as u128;
        });
        add("http_server_request_duration_seconds_bucket", &set_bucket);
        ledger
    }

    /// What every histogram must satisfy: buckets that grow with their bound, and `+Inf` equal to `_count`.
    ///
    /// # Errors
    /// The first series that does not.
    pub fn check_histograms(&self) -> Result<(), String> {
        let mut before: BTreeMap<Vec<(&str, &str)>, (f64, f64)> = BTreeMap::new();
        for line in self.0.iter().filter(|line| line.name.ends_with("_bucket")) {
            let le: f64 = line.labels["le"].parse().map_err(|_| format!("no bound: {line:?}"))?;
            let others = line.labels.iter().filter(|(name, _)| *name != "le");
            let mut key: Vec<_> = others.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            key.push(("", &line.name));
            let (bound, count) = before.insert(key, (le, line.value)).unwrap_or((f64::NEG_INFINITY, 0.0));
            if le <= bound || line.value < count {
                return Err(format!("buckets do not grow at {line:?}"));
            }
        }
        for (key, (bound, count)) in before {
            let name = key.last().expect("the name").1.replace("_bucket", "_count");
            let total = self.sum(&name, &key[..key.len() - 1]);
            if bound != f64::INFINITY || count != total {
                return Err(format!("+Inf is {count} and {name} is {total}: {key:?}"));
            }
        }
        Ok(())
    }

    /// Series of exact families that are less than they were in `earlier`, or gone.
    pub fn falls_since(&self, earlier: &Self) -> Vec<String> {
        let now: BTreeMap<_, _> = self.exact().map(|line| ((&line.name, &line.labels), line.value)).collect();
        let fell = earlier.exact().filter_map(|line| match now.get(&(&line.name, &line.labels)) {
            Some(value) if *value >= line.value => None,
            value => Some(format!("{line:?} became {value:?}")),
        });
        fell.take(10).collect()
    }

    fn exact(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().filter(|line| EXACT.iter().any(|family| line.name.starts_with(family)))
    }
}

fn no_classic() -> Vec<u64> {
    vec![0; CLASSIC_OCTAVES.count()]
}

fn set_bucket(count: &mut Count, line: &Line) {
    let le: f64 = line.labels["le"].parse().expect("a bound");
    let slot = CLASSIC_OCTAVES.into_iter().position(|octave| f64::from(octave).exp2() == le);
    match slot {
        Some(slot) => count.classic.get_or_insert_with(no_classic)[slot] = line.value as u64,
        None => assert_eq!(le, f64::INFINITY, "no power of two: {line:?}"),
    }
}

fn series_of(line: &Line) -> Series {
    let label = |name: &str| line.labels.get(name).unwrap_or_else(|| panic!("no {name}: {line:?}")).clone();
    Series {
        service: label("service_name"),
        method: label("http_request_method"),
        route: label("http_route"),
        status: label("http_response_status_code").parse().expect("a status code"),
    }
}

/// `name{label="value",…} number`
fn parse_line(line: &str) -> Option<Line> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let (label, after) = inner.split_once("=\"")?;
            let (value, after) = unquote(after)?;
            labels.insert(label.to_owned(), value);
            inner = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inner[1..];
    }
    let value = rest.trim().parse().ok()?;
    Some(Line { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what follows that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# TYPE d histogram
d_bucket{a="x \"y\"\n\\,}",le="0.5"} 1
d_bucket{a="x \"y\"\n\\,}",le="+Inf"} 3
d_count{a="x \"y\"\n\\,}"} 3
up 1"#;

    #[test]
    fn labels_are_unescaped() {
        let scrape = Scrape::parse(PAGE);
        assert_eq!(scrape.0[0].labels["a"], "x \"y\"\n\\,}");
        assert_eq!(scrape.sum("up", &[]), 1.0);
        scrape.check_histograms().unwrap();
    }

    #[test]
    fn a_histogram_that_lies_is_found_out() {
        for (good, bad) in [
            ("} 1", "} 4"),
            ("d_count{a=\"x \\\"y\\\"\\n\\\\,}\"} 3", "d_count{a=\"x \\\"y\\\"\\n\\\\,}\"} 2"),
        ] {
            let page = PAGE.replacen(good, bad, 1);
            assert_ne!(page, PAGE);
            Scrape::parse(&page).check_histograms().unwrap_err();
        }
    }

    #[test]
    fn a_fall_and_a_loss_are_both_seen() {
        let page = |n: &str| Scrape::parse(&format!("http_server_requests_total{{a=\"b\"}} {n}"));
        assert!(page("2").falls_since(&page("2")).is_empty());
        assert_eq!(page("1").falls_since(&page("2")).len(), 1);
        assert_eq!(Scrape::default().falls_since(&page("2")).len(), 1);
    }
}
