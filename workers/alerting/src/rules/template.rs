//! Texts with fields: `{service_name}: {value} of requests fail`.

use std::time::Duration;

use keelson_schemas::alerting::Labels;

use crate::signal::Unit;

/// A text whose fields are known to exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Field(String),
}

/// What the fields that are no labels stand for.
pub const FIELDS: [&str; 4] = ["value", "threshold", "window", "name"];

/// What the fields are filled with.
#[derive(Debug)]
pub struct Filling<'a> {
    /// The alert's labels.
    pub labels: &'a Labels,
    /// The signal's value; none when there is no data.
    pub value: Option<f64>,
    /// What it is compared with.
    pub threshold: f64,
    /// What both are in.
    pub unit: Unit,
    /// How far the rule looks back.
    pub window: Duration,
    /// The rule's name.
    pub name: &'a str,
}

impl Template {
    /// Reads a text in which a field stands in braces, and a brace is doubled.
    ///
    /// # Errors
    /// A brace is not closed, or a field is not among [`FIELDS`] and `labels`.
    pub fn parse(text: &str, labels: &[&str]) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                plain.push_str(&from[..1]);
                rest = &from[2..];
            } else {
                let (name, after) = field(from)?;
                known(name, labels)?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Field(name.to_owned()));
                rest = after;
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The text with its fields filled in.
    #[must_use]
    pub fn fill(&self, filling: &Filling<'_>) -> String {
        self.0.iter().map(|piece| piece.fill(filling)).collect()
    }
}

/// The name of the field at the beginning of a text, and what follows it.
fn field(text: &str) -> Result<(&str, &str), String> {
    let inside = text.strip_prefix('{').ok_or("a closing brace stands alone; a brace is written }}")?;
    inside.split_once('}').ok_or_else(|| "a brace is not closed; a brace is written {{".to_owned())
}

fn known(name: &str, labels: &[&str]) -> Result<(), String> {
    if FIELDS.contains(&name) || labels.contains(&name) {
        return Ok(());
    }
    let fields: Vec<String> = FIELDS.iter().chain(labels).map(|field| format!("{{{field}}}")).collect();
    Err(format!("there is no field {{{name}}}; there are {}", fields.join(", ")))
}

impl Piece {
    fn fill(&self, filling: &Filling<'_>) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Field(name) => match name.as_str() {
                "value" => filling.value.map_or_else(|| "no data".into(), |value| shown(value, filling.unit)),
                "threshold" => shown(filling.threshold, filling.unit),
                "window" => humantime::format_duration(filling.window).to_string(),
                "name" => filling.name.to_owned(),
                label => filling.labels.get(label).cloned().unwrap_or_default(),
            },
        }
    }
}

/// A value as people read it: `12.5 %`, `250 ms`, `2.31 s`, `1day 2h`, `40/s`, `12`.
#[must_use]
pub fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => short(value),
        Unit::PerSecond => format!("{}/s", short(value)),
        Unit::Ratio => format!("{} %", short(value * 100.0)),
        Unit::Seconds if value.abs() < 1.0 => format!("{} ms", short(value * 1000.0)),
        Unit::Seconds if (120.0..1e12).contains(&value) => {
            humantime::format_duration(Duration::from_secs(value.round() as u64)).to_string()
        }
        Unit::Seconds => format!("{} s", short(value)),
    }
}

/// A number to four significant digits, whole ones as they are.
fn short(value: f64) -> String {
    let magnitude = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    let decimals = (3.0 - magnitude).clamp(0.0, 9.0) as usize;
    let digits = format!("{value:.decimals$}");
    if decimals == 0 { digits } else { digits.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, value: Option<f64>) -> String {
        let labels = [("service_name".to_owned(), "content".to_owned())].into();
        let filling = Filling {
            labels: &labels,
            value,
            threshold: 0.05,
            unit: Unit::Ratio,
            window: Duration::from_secs(90),
            name: "Errors",
        };
        Template::parse(text, &["service_name"]).unwrap().fill(&filling)
    }

    #[test]
    fn fields_are_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("nothing to fill", "nothing to fill"),
            ("{service_name}: {value} of requests fail", "content: 12.5 % of requests fail"),
            ("{name} > {threshold} over {window}", "Errors > 5 % over 1m 30s"),
            ("{{value}} is {value}", "{value} is 12.5 %"),
            ("}}{{", "}{"),
        ] {
            assert_eq!(fill(text, Some(0.125)), expected, "{text}");
        }
        assert_eq!(fill("{value}", None), "no data");
    }

    #[test]
    fn what_is_no_field_is_an_error_that_lists_the_fields() {
        for (text, expected) in [
            ("{vlaue}", "{service_name}"),
            ("{http_route}", "no field {http_route}"),
            ("{value", "not closed"),
            ("value}", "stands alone"),
            ("{}", "no field {}"),
        ] {
            let error = Template::parse(text, &["service_name"]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_shown_in_their_unit() {
        for (value, unit, expected) in [
            (0.05, Unit::Ratio, "5 %"),
            (0.123_456, Unit::Ratio, "12.35 %"),
            (1.0, Unit::Ratio, "100 %"),
            (0.0, Unit::Seconds, "0 ms"),
            (0.25, Unit::Seconds, "250 ms"),
            (2.0, Unit::Seconds, "2 s"),
            (2.3149, Unit::Seconds, "2.315 s"),
            (93_600.0, Unit::Seconds, "1day 2h"),
            (12.0, Unit::Count, "12"),
            (1_234_567.0, Unit::Count, "1234567"),
            (40.25, Unit::PerSecond, "40.25/s"),
            (0.000_004_2, Unit::PerSecond, "0.0000042/s"),
        ] {
            assert_eq!(shown(value, unit), expected);
        }
    }
}
