//! The figures, as ratios measured in one run: `make bench`. Everything of a row runs on the machine's same cores: nats-server, Keelson, and whoever
//! makes the load. Arguments choose rows (`bus`, `http`, `start`, `cdn`, `alert`, `services`); KEELSON_BENCH_RUNS sets over how many runs medians are taken.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod alert;
mod baseline;
mod bus;
mod cdn;
mod figures;
mod generator;
mod http;
mod samples;
mod services;
mod start;

use crate::figures::{Figures, Row, Unit};

const RUNS: usize = 3;

#[tokio::main]
async fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |row: &str| chosen.is_empty() || chosen.iter().any(|name| name == row);
    let runs =
        std::env::var("KEELSON_BENCH_RUNS").map_or(RUNS, |runs| runs.parse().expect("a number of runs"));

    let mut figures = Figures::default();
    for run in 1..=runs {
        println!("run {run} of {runs}");
        if wanted("bus") || wanted("http") {
            figures.add("prom-client", baseline::samples_per_second());
        }
        if wanted("bus") {
            let measured = bus::measure().await;
            figures.add("raw publish", measured.published_per_second);
            figures.add("bus", measured.aggregated_per_second);
            figures.add("bus, sustained", measured.sustained_per_second);
        }
        if wanted("http") {
            figures.add("http", http::measure().await);
            figures.add("raw publish, acked", http::measure_raw().await);
        }
        if wanted("start") {
            let measured = start::measure().await;
            figures.add("start", measured.fresh_seconds);
            figures.add("restart", measured.again_seconds);
            figures.add("resident", measured.resident_mb);
        }
        if wanted("cdn") {
            let measured = cdn::measure().await;
            figures.add("bare PURGE", measured.bare_per_second);
            figures.add("purge events", measured.events_per_second);
            figures.add("purge, median", measured.acknowledged_median);
            figures.add("purge, 99 %", measured.acknowledged_99);
            figures.add("purges drained", measured.drained);
        }
    }
    if wanted("services") {
        let measured = services::measure().await;
        figures.add("checks, CPU", measured.cores);
        figures.add("checks, resident", measured.resident_mb);
        figures.add("checks, busiest second", measured.busiest);
    }
    // Its trials are its runs.
    if wanted("alert") {
        let measured = alert::measure().await;
        figures.add("alert, median", measured.told.median);
        figures.add("alert, 99 %", measured.told.worst);
        figures.add("resolve, 99 %", measured.resolved.worst);
        figures.add("Alertmanager, median", measured.prometheus.median);
        figures.add("Alertmanager, 99 %", measured.prometheus.worst);
    }
    figures.print(ROWS);
}

const ROWS: &[Row] = &[
    Row {
        what: "bus to aggregated, from the worker's start",
        figure: "bus",
        unit: Unit::Samples,
        against: Some("prom-client"),
        reach: ">= 5 x",
    },
    Row {
        what: "bus to aggregated, sustained",
        figure: "bus, sustained",
        unit: Unit::Samples,
        against: Some("prom-client"),
        reach: "",
    },
    Row {
        what: "HTTP JSON to 202",
        figure: "http",
        unit: Unit::Samples,
        against: Some("prom-client"),
        reach: ">= 1 x",
    },
    Row {
        what: "HTTP JSON to 202",
        figure: "http",
        unit: Unit::Samples,
        against: Some("raw publish, acked"),
        reach: "",
    },
    Row {
        what: "raw publish, 500 samples a message, pipelined",
        figure: "raw publish",
        unit: Unit::Samples,
        against: None,
        reach: "",
    },
    Row {
        what: "keelson up on an empty directory, ready",
        figure: "start",
        unit: Unit::Seconds,
        against: None,
        reach: "<= 2 s",
    },
    Row {
        what: "keelson up after kill -9, ready",
        figure: "restart",
        unit: Unit::Seconds,
        against: None,
        reach: "<= 2 s",
    },
    Row {
        what: "keelson up, idle, without nats-server",
        figure: "resident",
        unit: Unit::Megabytes,
        against: None,
        reach: "<= 80 MB",
    },
    Row {
        what: "content changed, a purge of its own each",
        figure: "purge events",
        unit: Unit::Events,
        against: Some("bare PURGE"),
        reach: ">= 5 k/s",
    },
    Row {
        what: "content changed to Varnish purged, median",
        figure: "purge, median",
        unit: Unit::Milliseconds,
        against: None,
        reach: "",
    },
    Row {
        what: "content changed to Varnish purged, 99 %",
        figure: "purge, 99 %",
        unit: Unit::Milliseconds,
        against: None,
        reach: "<= 50 ms",
    },
    Row {
        what: "last change to all purged again and verified",
        figure: "purges drained",
        unit: Unit::Seconds,
        against: None,
        reach: "<= 60 s",
    },
    Row {
        what: "bad telemetry accepted to webhook, median",
        figure: "alert, median",
        unit: Unit::Seconds,
        against: Some("Alertmanager, median"),
        reach: "<= 0.6 s",
    },
    Row {
        what: "bad telemetry accepted to webhook, 99 %",
        figure: "alert, 99 %",
        unit: Unit::Seconds,
        against: Some("Alertmanager, 99 %"),
        reach: "<= 1 s",
    },
    Row {
        what: "window clear to webhook, 99 %",
        figure: "resolve, 99 %",
        unit: Unit::Seconds,
        against: None,
        reach: "<= 2 s",
    },
    Row {
        what: "500 services checked every 5 s, CPU",
        figure: "checks, CPU",
        unit: Unit::Cores,
        against: None,
        reach: "",
    },
    Row {
        what: "500 services checked every 5 s, memory",
        figure: "checks, resident",
        unit: Unit::Megabytes,
        against: None,
        reach: "",
    },
    Row {
        what: "500 services, busiest second to the mean",
        figure: "checks, busiest second",
        unit: Unit::Times,
        against: None,
        reach: "<= 2 x",
    },
];
