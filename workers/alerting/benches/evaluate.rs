//! How fast one core counts slices into windows and evaluates rules: `cargo bench -p keelson-alerting`.

#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

use std::sync::Arc;
use std::time::Instant;

use keelson_alerting::evaluate::Evaluator;
use keelson_alerting::rules::{RuleSet, Source};
use keelson_schemas::slice::{Cell, HttpDelta, ServiceSlice, Slice};
use keelson_schemas::telemetry::HttpSeries;

const BEGIN_MS: u64 = 1_764_000_000_000;
const SERVICES: u64 = 50;
const ROUTES: u64 = 20;
/// Beside the shipped rules, one that keeps durations for as many things apart as a rule may.
const RULE: &str = "[[rules]]\nname = \"SlowRoute\"\nsignal = \"latency_p99\"\nby = [\"service_name\", \"http_route\"]\nabove = 1.0\n";

fn main() {
    let mut figures: Vec<(f64, f64, f64)> = (0..5).map(|_| figures()).collect();
    figures.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (cells_per_s, slice_ms, tick_us) = figures[2];
    println!(
        "six rules, {} series: {:.2} M cells/s counted and evaluated ({slice_ms:.2} ms a slice of {} cells), a tick in which nothing came {tick_us:.0} us (median of 5)",
        SERVICES * ROUTES * 2,
        cells_per_s / 1e6,
        SERVICES * ROUTES * 2,
    );
}

/// Cells a second, milliseconds a slice, microseconds a tick.
fn figures() -> (f64, f64, f64) {
    let source = Source { name: "bench".into(), text: RULE.into() };
    let rules = Arc::new(RuleSet::parse(&[source], &[], true).expect("is right"));
    let mut evaluator = Evaluator::new(rules, Vec::new());
    // Two slices a second, for two windows.
    let slices: Vec<Slice> = (0..240).map(|n| slice(BEGIN_MS + n * 500)).collect();
    let cells = SERVICES * ROUTES * 2 * slices.len() as u64;
    let start = Instant::now();
    for slice in &slices {
        evaluator.observe(slice);
        assert_eq!(evaluator.evaluate(slice.cut_at_ms), []);
    }
    let taken = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for n in 0..1_000 {
        evaluator.evaluate(BEGIN_MS + 120_000 + n / 2);
    }
    let ticks = start.elapsed().as_secs_f64();
    (cells as f64 / taken, taken * 1e3 / slices.len() as f64, ticks * 1e3)
}

/// Each route of each service, with one failure in fifty.
fn slice(cut_at_ms: u64) -> Slice {
    let services = (0..SERVICES).map(|service| {
        let series = (0..ROUTES).flat_map(|route| [(route, 200, 49), (route, 500, 1)]);
        let http = series.map(|(route, status, count)| HttpDelta {
            series: HttpSeries { method: "GET".into(), route: format!("/videos/:id/{route}"), status },
            cells: vec![cell(cut_at_ms, count)],
        });
        ServiceSlice {
            service: format!("service-{service}"),
            http: http.collect(),
            ..ServiceSlice::default()
        }
    });
    Slice { cut_at_ms, services: services.collect(), ..Slice::default() }
}

fn cell(cut_at_ms: u64, count: u64) -> Cell {
    let mut cell = Cell { second: cut_at_ms / 1000, count, ..Cell::default() };
    (0..count).for_each(|n| cell.latency.record(1_000 + (cut_at_ms / 500 * 7_919 + n * 104_729) % 200_000));
    cell
}
