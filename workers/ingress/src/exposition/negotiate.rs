//! Which form a scraper gets, from its `Accept` header (RFC 9110, section 12.5.1).

/// A form of exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4, what `curl` gets too.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily`; the only one that carries native histograms.
    Protobuf,
}

impl Format {
    /// The form a client likes best of those Keelson has; text when it names none of them.
    #[must_use]
    pub fn accepted_by(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',').filter_map(preference);
        // `max_by` takes the last of equals; the client's order decides among them, hence the reversal.
        let best = ranges.collect::<Vec<_>>().into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(Self::Text, |(format, _)| format)
    }

    /// The `Content-Type` of a reply.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// One media range as (format, quality); `None` for a range that Keelson cannot serve or that is refused with `q=0`.
fn preference(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<(String, String)> = parts.filter_map(parameter).collect();
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let quality = value("q").map_or(Some(1.0), |q| q.parse().ok()).filter(|q| *q > 0.0)?;
    let format = match media.as_str() {
        "application/vnd.google.protobuf" => {
            let ours = value("proto") == Some("io.prometheus.client.metricfamily")
                && value("encoding") == Some("delimited");
            ours.then_some(Format::Protobuf)?
        }
        "application/openmetrics-text" => Format::OpenMetrics,
        "text/plain" | "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    Some((format, quality))
}

fn parameter(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_known_range_wins() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                                 application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html,application/xhtml+xml"), Format::Text),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some(prometheus_native), Format::Protobuf),
            (Some("application/vnd.google.protobuf;proto=other.Message;encoding=delimited"), Format::Text),
            (Some("application/openmetrics-text;q=0,text/plain;q=0.2"), Format::Text),
            (Some("text/plain, application/openmetrics-text"), Format::Text),
            (Some("application/openmetrics-text;q=banana"), Format::Text),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::accepted_by(accept), expected, "{accept:?}");
        }
    }
}
