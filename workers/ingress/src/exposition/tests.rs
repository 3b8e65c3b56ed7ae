use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;

use super::protobuf::MetricFamily;
use super::*;

fn latency(durations_us: &[u64]) -> Value {
    let mut histogram = Histogram::default();
    durations_us.iter().for_each(|us| histogram.record(*us));
    Value::Histogram(Box::new(histogram))
}

fn families() -> Vec<Family> {
    let mut requests =
        Family::new("http_server_requests_total", Kind::Counter, "Requests that were answered.");
    let route = |route: &'static str| vec![("service_name", "content".into()), ("http_route", route.into())];
    requests.push(route("/videos/:id"), Value::Counter(9_007_199_254_740_993));
    requests.push(route("/a\"b\\c\nd"), Value::Counter(0));
    let mut seconds =
        Family::new("http_server_request_duration_seconds", Kind::Histogram, "Time to answer a request.");
    seconds.push(route("/videos/:id"), latency(&[0, 1_000, 12_500, 1_000_000, 64_000_000]));
    let cpu = Family::single(
        "system_cpu_utilization_ratio",
        Kind::Gauge,
        "Share of \"busy\" CPUs.",
        Value::Gauge(0.42),
    );
    let nothing = Family::new("keelson_nothing_total", Kind::Counter, "Never seen.");
    vec![requests, seconds, cpu, nothing]
}

fn text(format: Format) -> String {
    String::from_utf8(encode(&families(), format)).expect("text is UTF-8")
}

#[test]
fn the_text_format_is_as_written() {
    let expected = r#"# HELP http_server_requests_total Requests that were answered.
# TYPE http_server_requests_total counter
http_server_requests_total{service_name="content",http_route="/videos/:id"} 9007199254740993
http_server_requests_total{service_name="content",http_route="/a\"b\\c\nd"} 0
# HELP http_server_request_duration_seconds Time to answer a request.
# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.000244140625"} 1
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.00048828125"} 1
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.0009765625"} 1
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.001953125"} 2
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.00390625"} 2
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.0078125"} 2
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.015625"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.03125"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.0625"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.125"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.25"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="0.5"} 3
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="1.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="2.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="4.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="8.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="16.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="32.0"} 4
http_server_request_duration_seconds_bucket{service_name="content",http_route="/videos/:id",le="+Inf"} 5
http_server_request_duration_seconds_sum{service_name="content",http_route="/videos/:id"} 65.0135
http_server_request_duration_seconds_count{service_name="content",http_route="/videos/:id"} 5
# HELP system_cpu_utilization_ratio Share of "busy" CPUs.
# TYPE system_cpu_utilization_ratio gauge
system_cpu_utilization_ratio 0.42
"#;
    assert_eq!(text(Format::Text), expected);
}

#[test]
fn openmetrics_differs_where_it_must() {
    let text = text(Format::OpenMetrics);
    assert!(text.contains("# TYPE http_server_requests counter\nhttp_server_requests_total{"), "{text}");
    assert!(text.contains(r#"Share of \"busy\" CPUs."#));
    assert!(text.ends_with("# EOF\n"));
}

/// promtool speaks text only; what it says of the names holds for all forms.
#[test]
fn promtool_has_nothing_to_say() {
    let Some(said) = promtool(&encode(&families(), Format::Text)) else {
        return;
    };
    assert_eq!(said, "");
    assert_ne!(
        promtool(b"# TYPE requests counter\nrequests 1\n").as_deref(),
        Some(""),
        "promtool does speak up"
    );
}

/// What `promtool check metrics` says about a page; `None` where it is not installed (`make test` installs it).
pub(crate) fn promtool(page: &[u8]) -> Option<String> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().expect("piped").write_all(page).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn decoded(bytes: &[u8]) -> Vec<MetricFamily> {
    let mut rest = bytes;
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).expect("decodes"));
    }
    families
}

#[test]
fn protobuf_carries_native_and_classic_buckets() {
    let families = decoded(&encode(&families(), Format::Protobuf));
    assert_eq!(families.len(), 3);
    let histogram = families[1].metric[0].histogram.as_ref().expect("a histogram");
    assert_eq!((histogram.schema, histogram.sample_count, histogram.zero_count), (5, 5, 1));
    assert!(histogram.zero_threshold > 0.0);
    assert_eq!(histogram.bucket.last().map(|b| (b.upper_bound, b.cumulative_count)), Some((32.0, 4)));
    // 1 ms lies in (2^-320/32, 2^-318/32], 1 s closes bucket 0, 64 s closes bucket 192.
    let bounds: Vec<i32> = native_buckets(histogram).into_keys().collect();
    assert_eq!(bounds, [-318, -202, 0, 192]);
}

/// Spans and deltas back into bucket -> count, as Prometheus reads them.
fn native_buckets(histogram: &protobuf::HistogramMessage) -> BTreeMap<i32, u64> {
    let (mut buckets, mut index, mut count) = (BTreeMap::new(), 0, 0_i64);
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for every bucket");
            buckets.insert(index, u64::try_from(count).expect("no negative count"));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    buckets
}

/// A label value read back from the text format.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next().expect("no lone backslash") {
                'n' => '\n',
                escaped => escaped,
            },
            other => other,
        });
    }
    plain
}

proptest! {
    #[test]
    fn any_label_value_comes_back(route in "\\PC*|[\\\\\"\n]{0,8}", count: u64) {
        let mut family = Family::new("x_total", Kind::Counter, "X.");
        family.push(vec![("http_route", route.clone().into())], Value::Counter(count));
        let page = String::from_utf8(encode(&[family], Format::Text)).expect("UTF-8");
        let sample = page.strip_prefix("# HELP x_total X.\n# TYPE x_total counter\n").expect("three lines");
        let (labels, value) = sample.trim_end_matches('\n').rsplit_once("\"} ").expect("a sample");
        prop_assert!(!labels.contains('\n'));
        prop_assert_eq!(unescape(labels.strip_prefix("x_total{http_route=\"").expect("the label")), route);
        prop_assert_eq!(value.parse::<u64>().expect("a number"), count);
    }

    #[test]
    fn a_histogram_comes_back_whole(durations in proptest::collection::vec(0_u64..86_400_000_000, 0..60)) {
        let Value::Histogram(histogram) = latency(&durations) else { unreachable!() };
        let family = Family::single("x_seconds", Kind::Histogram, "X.", Value::Histogram(histogram.clone()));
        let bytes = encode(std::slice::from_ref(&family), Format::Protobuf);
        let message = decoded(&bytes).remove(0).metric.remove(0).histogram.expect("a histogram");
        prop_assert_eq!(native_buckets(&message), histogram.buckets().collect::<BTreeMap<_, _>>());
        for bucket in &message.bucket {
            let within = durations.iter().filter(|us| **us as f64 / 1e6 <= bucket.upper_bound).count() as u64;
            prop_assert_eq!(bucket.cumulative_count, within, "classic counts are exact at {}", bucket.upper_bound);
        }
        let page = String::from_utf8(encode(&[family], Format::Text)).expect("UTF-8");
        let inf = format!("x_seconds_bucket{{le=\"+Inf\"}} {}\n", durations.len());
        let count = format!("x_seconds_count {}\n", durations.len());
        prop_assert!(page.contains(&inf) && page.ends_with(&count));
    }
}
