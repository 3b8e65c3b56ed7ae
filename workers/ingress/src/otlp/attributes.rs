//! Attributes under their names of today and of before, as instrumentation in the field uses both (often without a choice).
//!
//! Today's names: OpenTelemetry semantic conventions 1.30 for HTTP and databases (`http.request.method`, `db.system.name`). Before:
//! 1.20 and older (`http.method`, `db.system`).

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// The attributes of a span or a resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(pub &'a [KeyValue]);

impl<'a> Attributes<'a> {
    /// The text of the first of `names` that is there and not empty. Numbers and truth values are texts too.
    pub fn text(self, names: &[&str]) -> Option<Cow<'a, str>> {
        names.iter().find_map(|name| as_text(self.value(name)?)).filter(|text| !text.is_empty())
    }

    /// The whole number of the first of `names` that is there; some instrumentation sends it as text.
    pub fn number(self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| match self.value(name)? {
            Value::IntValue(number) => Some(*number),
            Value::StringValue(text) => text.trim().parse().ok(),
            Value::DoubleValue(number) if number.fract() == 0.0 => Some(*number as i64),
            _ => None,
        })
    }

    /// Whether one of `names` is there.
    pub fn any(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.value(name).is_some())
    }

    fn value(self, name: &str) -> Option<&'a Value> {
        let attribute = self.0.iter().find(|attribute| attribute.key == name)?;
        let Some(AnyValue { value: Some(value) }) = &attribute.value else {
            return None;
        };
        Some(value)
    }
}

fn as_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::StringValue(text) => Some(Cow::Borrowed(text)),
        Value::IntValue(number) => Some(Cow::Owned(number.to_string())),
        Value::BoolValue(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        _ => None,
    }
}
