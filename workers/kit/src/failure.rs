//! How handling a message can fail. The type decides what happens next, so nobody has to read the words.

use std::fmt::Display;
use std::time::Duration;

use keelson_schemas::codec::DecodeError;

use crate::bus::ApiError;
use crate::kv::KvError;
use crate::publish::PublishError;

/// A message was not handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may succeed later.
    #[error("{reason}")]
    Retry {
        /// When, if the one who failed knows (a provider's Retry-After); else by our own schedule.
        after: Option<Duration>,
        /// Why not now.
        reason: String,
    },
    /// It cannot succeed: the message becomes a dead letter.
    #[error("{reason}")]
    Reject {
        /// Why not.
        reason: String,
    },
    /// It was tried for as long as it makes sense: the message becomes a dead letter, and its operation has failed.
    #[error("{reason}")]
    GiveUp {
        /// Why it was given up.
        reason: String,
    },
    /// A command makes no sense as things stand. Who asked is told so by its operation, which ends rejected, and that is all: there is nothing to be mended and
    /// redriven. A message that is no command becomes a dead letter.
    #[error("{reason}")]
    Decline {
        /// Why not, in words for who asked.
        reason: String,
    },
    /// Its effect, which must not happen twice, may or may not have happened: the message becomes a dead letter.
    #[error("it is not known whether it happened: {reason}")]
    Unknown {
        /// What is known.
        reason: String,
    },
}

impl Failure {
    /// Later, by our own schedule.
    pub fn retry(reason: impl Display) -> Self {
        Self::Retry { after: None, reason: reason.to_string() }
    }

    /// Not before `after` is over.
    pub fn retry_after(after: Duration, reason: impl Display) -> Self {
        Self::Retry { after: Some(after), reason: reason.to_string() }
    }

    /// Never.
    pub fn reject(reason: impl Display) -> Self {
        Self::Reject { reason: reason.to_string() }
    }

    /// Not any more.
    pub fn give_up(reason: impl Display) -> Self {
        Self::GiveUp { reason: reason.to_string() }
    }

    /// Not as it is asked for.
    pub fn decline(reason: impl Display) -> Self {
        Self::Decline { reason: reason.to_string() }
    }

    /// Perhaps it happened.
    pub fn unknown(reason: impl Display) -> Self {
        Self::Unknown { reason: reason.to_string() }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::reject(error)
    }
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        Self::retry(error)
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge(_) | PublishError::Rejected(_) => Self::reject(error),
            passing => Self::retry(passing),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::retry(error)
    }
}
