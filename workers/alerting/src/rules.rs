//! Rules: what is written, checked, and as it takes effect.

mod error;
mod raw;

use std::time::Duration;

pub use error::RuleError;
pub use raw::RawRule;

/// A rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How errors name it: its path.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A rule that takes effect.
#[derive(Clone, Debug)]
pub struct Rule {}

/// Rules in which nothing is wrong.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

impl RuleSet {
    /// The rules of files and of keelson.toml, with or without those that Keelson ships with. A rule of one's own replaces the shipped one of its name.
    ///
    /// # Errors
    /// All that is wrong, in all sources.
    pub fn parse(sources: &[Source], inline: &[RawRule], defaults: bool) -> Result<Self, Vec<RuleError>> {
        let _ = (sources, inline, defaults);
        Ok(Self::default())
    }

    /// How far back the rule looks that looks furthest; zero without rules.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        Duration::ZERO
    }

    /// The rules, in the order in which they stand.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}
