//! What a provider says to a call.

use std::time::Duration;

/// What a provider said to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, under the provider's own name for the call.
    Done {
        /// That name.
        request_id: Option<String>,
        /// What else may be sent, if the provider says so.
        quota: Option<Quota>,
    },
    /// Not now.
    Retry {
        /// When, if the provider says so.
        after: Option<Duration>,
        /// Why not.
        reason: String,
    },
    /// Not now: it is well, and has too much in progress.
    Full(String),
    /// Not like this: something in it is wrong for the provider, or there is too much of it.
    Refused(String),
    /// Not with these credentials.
    Credentials(String),
}

/// What a provider says may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls.
    pub left: u64,
    /// When it is counted anew.
    pub resets_after: Duration,
}

impl Answer {
    /// It is done.
    #[must_use]
    pub fn done(request_id: Option<String>) -> Self {
        Self::Done { request_id, quota: None }
    }

    /// Why it is not done.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done { .. } => None,
            Self::Retry { reason, .. }
            | Self::Full(reason)
            | Self::Refused(reason)
            | Self::Credentials(reason) => Some(reason),
        }
    }
}
