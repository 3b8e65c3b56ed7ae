//! Silences, and what they match.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// One condition on a label, as Alertmanager has it. A label that is missing is one with an empty value. A regular expression matches the whole value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// What it is compared with.
    pub value: String,
    /// Whether `value` is a regular expression.
    #[serde(default)]
    pub is_regex: bool,
    /// Whether it must match; false for `!=` and `!~`.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

/// A matcher that cannot be read: which, and how one is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no matcher: write name=value, name!=value, name=~regex or name!~regex")]
pub struct MatcherSyntax(String);

impl FromStr for Matcher {
    type Err = MatcherSyntax;

    fn from_str(text: &str) -> Result<Self, MatcherSyntax> {
        let syntax = || MatcherSyntax(text.to_owned());
        let at = text.find(['=', '!']).ok_or_else(syntax)?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let operators = [("=~", true, true), ("!~", true, false), ("!=", false, false), ("=", false, true)];
        let (operator, is_regex, is_equal) =
            operators.into_iter().find(|(operator, ..)| rest.starts_with(operator)).ok_or_else(syntax)?;
        let value = unquoted(rest[operator.len()..].trim()).ok_or_else(syntax)?;
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let named = name.starts_with(first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if named { Ok(Self { name: name.to_owned(), value, is_regex, is_equal }) } else { Err(syntax()) }
    }
}

/// The value with its quotes, if it has any, and its escapes taken off: `\"`, `\\` and `\n`. As in Alertmanager a backslash before anything else stands
/// for itself, so that `path=~"/v\d+"` means what it says.
fn unquoted(value: &str) -> Option<String> {
    let (inner, is_quoted) = value.strip_prefix('"').map_or((value, false), |inner| (inner, true));
    let (mut chars, mut unquoted) = (inner.chars(), String::with_capacity(inner.len()));
    while let Some(next) = chars.next() {
        match next {
            '"' => return (is_quoted && chars.as_str().is_empty()).then_some(unquoted),
            '\\' => unquoted.push_str(&escaped(chars.next())),
            other => unquoted.push(other),
        }
    }
    (!is_quoted).then_some(unquoted)
}

fn escaped(next: Option<char>) -> String {
    match next {
        Some('n') => "\n".into(),
        Some(itself @ ('"' | '\\')) => itself.into(),
        Some(other) => format!("\\{other}"),
        None => "\\".into(),
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match (self.is_regex, self.is_equal) {
            (false, true) => "=",
            (false, false) => "!=",
            (true, true) => "=~",
            (true, false) => "!~",
        };
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}{operator}\"{value}\"", self.name)
    }
}

/// Alerts that are not to be notified for a while. The value of a key of the bucket `silences`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    /// A UUID.
    pub id: String,
    /// All must match. At least one does not match the empty value.
    pub matchers: Vec<Matcher>,
    /// Unix milliseconds from which it holds.
    pub starts_at_ms: u64,
    /// Unix milliseconds up to which it holds.
    pub ends_at_ms: u64,
    /// Unix milliseconds at which it was last changed.
    pub updated_at_ms: u64,
    /// Who made it, in their own words.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl Message for Silence {
    const TYPE: &'static str = "keelson.alerting.silence.v1";

    fn example() -> Self {
        Self {
            id: "0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11".into(),
            matchers: vec![
                Matcher {
                    name: "alertname".into(),
                    value: "HighErrorRate".into(),
                    is_regex: false,
                    is_equal: true,
                },
                Matcher {
                    name: "service_name".into(),
                    value: "con.*".into(),
                    is_regex: true,
                    is_equal: false,
                },
            ],
            starts_at_ms: 1_764_000_000_000,
            ends_at_ms: 1_764_007_200_000,
            updated_at_ms: 1_764_000_000_000,
            created_by: "ada".into(),
            comment: "the disk is being replaced".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_written_as_alertmanager_writes_them() {
        for (text, shown) in [
            ("alertname=HighErrorRate", "alertname=\"HighErrorRate\""),
            (" severity != \"info\" ", "severity!=\"info\""),
            ("service_name=~\"a|b=c\"", "service_name=~\"a|b=c\""),
            ("a!~x", "a!~\"x\""),
            ("a=", "a=\"\""),
            ("a=\"say \\\"hi\\\"\"", "a=\"say \\\"hi\\\"\""),
            (r#"a=~"/v\d+\\.x""#, r#"a=~"/v\\d+\\.x""#),
            (r"a=~/v\d+", r#"a=~"/v\\d+""#),
            (r"a=x\", r#"a="x\\""#),
            (r#"a="x\n\t""#, r#"a="x\n\\t""#),
            ("a=\"\u{1}\t\"", "a=\"\u{1}\t\""),
        ] {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.to_string(), shown);
            assert_eq!(matcher.to_string().parse::<Matcher>().unwrap(), matcher);
        }
        for text in ["", "a", "=b", "a b=c", "1a=b", "a=\"b", "a=b\"", "a!b", "a=\"b\"c", "a=\"b\\\""] {
            assert!(text.parse::<Matcher>().is_err(), "{text}");
        }
    }
}
