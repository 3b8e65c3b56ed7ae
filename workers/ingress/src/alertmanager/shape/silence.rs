//! Silences: as they are shown, and as they are posted.

use jiff::Timestamp;
use keelson_schemas::alerting::{Matcher, SetSilence, Silence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alerting::view::{SilenceState, in_order, timestamp};
use crate::alertmanager::{BadMatcher, SilenceFilter};

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GettableSilences(pub Vec<GettableSilence>);

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GettableSilence {
    pub id: String,
    pub status: SilenceStatus,
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
    pub comment: String,
    pub created_by: String,
    #[schemars(with = "String")]
    pub ends_at: Timestamp,
    pub matchers: Vec<Matcher>,
    #[schemars(with = "String")]
    pub starts_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SilenceStatus {
    pub state: SilenceState,
}

/// A silence as it is posted: with an id, that one is changed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostableSilence {
    #[serde(default)]
    pub id: Option<String>,
    pub matchers: Vec<PostableMatcher>,
    #[schemars(with = "String")]
    pub starts_at: Timestamp,
    #[schemars(with = "String")]
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

/// Members that are not known are passed over, as Alertmanager does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostableMatcher {
    pub name: String,
    pub value: String,
    pub is_regex: bool,
    #[serde(default)]
    pub is_equal: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PostedSilence {
    #[serde(rename = "silenceID")]
    pub silence_id: String,
}

/// The silences that are asked for, in Alertmanager's order.
#[must_use]
pub fn silences(all: Vec<Silence>, filter: &SilenceFilter, now_ms: u64) -> GettableSilences {
    let wanted = all.into_iter().filter(|silence| filter.admits(silence)).collect();
    GettableSilences(in_order(wanted, now_ms).into_iter().map(|each| silence(each, now_ms)).collect())
}

/// One silence.
#[must_use]
pub fn silence(silence: Silence, now_ms: u64) -> GettableSilence {
    GettableSilence {
        status: SilenceStatus { state: SilenceState::of(&silence, now_ms) },
        updated_at: timestamp(silence.updated_at_ms),
        ends_at: timestamp(silence.ends_at_ms),
        starts_at: timestamp(silence.starts_at_ms),
        id: silence.id,
        comment: silence.comment,
        created_by: silence.created_by,
        matchers: silence.matchers,
    }
}

impl PostableSilence {
    /// The command. A new silence whose start is past begins now, as in Alertmanager: clients send the time at which they were called.
    ///
    /// # Errors
    /// When a matcher has a name that no label has.
    pub fn into_command(self, now_ms: u64) -> Result<SetSilence, BadMatcher> {
        let id = self.id.filter(|id| !id.is_empty());
        let starts_at_ms = milliseconds(self.starts_at);
        let from_now_on = id.is_none() && starts_at_ms <= now_ms;
        Ok(SetSilence {
            id,
            matchers: self.matchers.into_iter().map(PostableMatcher::into_text).collect::<Result<_, _>>()?,
            starts_at_ms: (!from_now_on).then_some(starts_at_ms),
            ends_at_ms: Some(milliseconds(self.ends_at)),
            duration: None,
            created_by: Some(self.created_by).filter(|name| !name.is_empty()),
            comment: self.comment,
        })
    }
}

impl PostableMatcher {
    /// As it is written. A name such as `a!` would make another matcher of it.
    fn into_text(self) -> Result<String, BadMatcher> {
        let is_equal = self.is_equal.unwrap_or(true);
        let matcher = Matcher { name: self.name, value: self.value, is_regex: self.is_regex, is_equal };
        let text = matcher.to_string();
        match text.parse() {
            Ok(read) if matcher == read => Ok(text),
            _ => Err(BadMatcher::new(format!("{:?} is no name of a label", matcher.name))),
        }
    }
}

fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
