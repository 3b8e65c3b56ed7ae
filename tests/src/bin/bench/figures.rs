//! Medians over runs, and the table of them.

use std::collections::BTreeMap;

/// What was measured, run by run.
#[derive(Default)]
pub struct Figures(BTreeMap<&'static str, Vec<f64>>);

/// A line of the table.
pub struct Row {
    /// For people.
    pub what: &'static str,
    /// The figure.
    pub figure: &'static str,
    /// Of the figure and of what it is compared with.
    pub unit: Unit,
    /// The figure it is divided by.
    pub against: Option<&'static str>,
    /// What it is to reach.
    pub reach: &'static str,
}

/// How a figure is written.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Samples a second.
    Samples,
    /// Events a second.
    Events,
    /// Seconds.
    Seconds,
    /// Seconds too, where they are few.
    Milliseconds,
    /// Megabytes.
    Megabytes,
    /// Cores that are busy.
    Cores,
    /// Times another figure.
    Times,
}

impl Figures {
    /// Adds the figure of one run.
    pub fn add(&mut self, name: &'static str, value: f64) {
        println!("  {name}: {value:.3}");
        self.0.entry(name).or_default().push(value);
    }

    /// Prints the rows whose figures were measured.
    pub fn print(&self, rows: &[Row]) {
        println!("\n{:48} {:>14} {:>32} {:>8} {:>9}", "medians", "measured", "against", "ratio", "to reach");
        for row in rows {
            let Some(median) = self.median(row.figure) else { continue };
            let against = row.against.and_then(|name| Some((name, self.median(name)?)));
            let ratio = against.map_or(String::new(), |(_, other)| format!("{:.2} x", median / other));
            let other =
                against.map_or(String::new(), |(name, other)| format!("{name} {}", row.unit.write(other)));
            println!(
                "{:48} {:>14} {other:>32} {ratio:>8} {:>9}",
                row.what,
                row.unit.write(median),
                row.reach
            );
        }
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.0.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Samples => format!("{:.2} M/s", value / 1e6),
            Self::Events => format!("{:.1} k/s", value / 1e3),
            Self::Milliseconds => format!("{:.0} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Cores => format!("{:.1} % of one", value * 100.0),
            Self::Times => format!("{value:.2} x"),
        }
    }
}
