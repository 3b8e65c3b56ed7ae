//! Matchers, ready to match.

use std::borrow::Cow;

use keelson_schemas::alerting::{Labels, Matcher};
use regex::{Regex, RegexBuilder};

/// How large a compiled regular expression may become: it comes from whoever asks.
const REGEX_BYTES: usize = 256 * 1024;

/// Conditions on labels, all of which must match; none matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matchers(Vec<Compiled>);

/// What is wrong with one of several matchers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MatcherError {
    /// Which, from 0.
    pub index: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

#[derive(Clone, Debug)]
struct Compiled {
    matcher: Matcher,
    regex: Option<Regex>,
}

/// A regular expression follows from its matcher.
impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.matcher == other.matcher
    }
}

impl Matchers {
    /// Reads matchers as people write them.
    ///
    /// # Errors
    /// One for each that cannot be read.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<MatcherError>> {
        Self::collect(texts.iter().map(|text| {
            let matcher: Matcher = text.as_ref().parse().map_err(|error| format!("{error}"))?;
            Compiled::new(matcher)
        }))
    }

    /// Compiles matchers that were read before.
    ///
    /// # Errors
    /// One for each whose regular expression is none.
    pub fn compile(matchers: &[Matcher]) -> Result<Self, Vec<MatcherError>> {
        Self::collect(matchers.iter().cloned().map(Compiled::new))
    }

    fn collect(results: impl Iterator<Item = Result<Compiled, String>>) -> Result<Self, Vec<MatcherError>> {
        let (mut compiled, mut errors) = (Vec::new(), Vec::new());
        for (index, result) in results.enumerate() {
            match result {
                Ok(matcher) => compiled.push(matcher),
                Err(message) => errors.push(MatcherError { index, message }),
            }
        }
        if errors.is_empty() { Ok(Self(compiled)) } else { Err(errors) }
    }

    /// Whether all match. A label that is missing is one with an empty value.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_by(|name| labels.get(name).map_or("", String::as_str).into())
    }

    /// Whether all match the labels whose values `label` tells by their names.
    #[must_use]
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.0.iter().all(|compiled| compiled.is_match(&label(&compiled.matcher.name)))
    }

    /// Whether those match that are about the label `name`, if its value is `value`.
    #[must_use]
    pub fn allow(&self, name: &str, value: &str) -> bool {
        self.0
            .iter()
            .filter(|compiled| compiled.matcher.name == name)
            .all(|compiled| compiled.is_match(value))
    }

    /// Whether there is one that wants a label to have a value: without it, they match what has no labels at all, and so may match everything.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.0.iter().any(|compiled| !compiled.is_match(""))
    }

    /// The names of the labels that they are about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|compiled| compiled.matcher.name.as_str())
    }

    /// What they were made of.
    pub fn iter(&self) -> impl Iterator<Item = &Matcher> {
        self.0.iter().map(|compiled| &compiled.matcher)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Compiled {
    fn new(matcher: Matcher) -> Result<Self, String> {
        let regex = matcher.is_regex.then(|| whole(&matcher.value)).transpose();
        let regex =
            regex.map_err(|error| format!("{:?} is no regular expression: {error}", matcher.value))?;
        Ok(Self { matcher, regex })
    }

    fn is_match(&self, value: &str) -> bool {
        let matches = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => self.matcher.value == value,
        };
        matches == self.matcher.is_equal
    }
}

/// An expression, to match a value as a whole.
///
/// # Errors
/// It is no regular expression, or too large a one.
pub fn whole(expression: &str) -> Result<Regex, regex::Error> {
    let build = |expression: &str| RegexBuilder::new(expression).size_limit(REGEX_BYTES).build();
    // Compiled by itself first: "a)(b" must not become right by what is put around it.
    build(expression).and_then(|_| build(&format!("^(?:{expression})$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn all_must_match_and_what_is_missing_is_empty() {
        let content = labels(&[("service_name", "content"), ("severity", "critical")]);
        for (texts, expected) in [
            (&[][..], true),
            (&["service_name=content"], true),
            (&["service_name=content", "severity=warning"], false),
            (&["severity!=warning"], true),
            (&["service_name=~con"], false),
            (&["service_name=~con.*|video"], true),
            (&["service_name!~con.*"], false),
            (&["team="], true),
            (&["team!="], false),
            (&["team=~.*"], true),
            (&["team!~.+"], true),
        ] {
            assert_eq!(Matchers::parse(texts).unwrap().matches(&content), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let errors = Matchers::parse(&["a=b", "nothing", "a=~(", "a=~b)(c"]).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(
            errors[0].message.contains("no matcher") && errors[1].message.contains("no regular expression")
        );
    }

    #[test]
    fn matchers_that_match_everything_are_not_selective() {
        for (texts, expected) in [
            (&[][..], false),
            (&["a=~.*"], false),
            (&["a!=b"], false),
            (&["a=b"], true),
            (&["a=~.*", "b=c"], true),
        ] {
            assert_eq!(Matchers::parse(texts).unwrap().is_selective(), expected, "{texts:?}");
        }
    }

    #[test]
    fn one_label_can_be_asked_about_alone() {
        let matchers = Matchers::parse(&["service_name=~con.*", "http_route=/a"]).unwrap();
        assert!(matchers.allow("service_name", "content") && !matchers.allow("service_name", "video"));
        assert!(matchers.allow("instance", "anything"));
    }
}
