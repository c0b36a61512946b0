//! What a client is told at its start.

use std::time::Duration;

use crate::Credentials;

/// Where to connect, and how long to wait.
#[derive(Clone, Debug)]
pub struct Config {
    /// Each `host:port` or `http://host:port`. The first one is tried first.
    pub endpoints: Vec<String>,
    /// The longest wait for one TCP connection, and for any connection at all where every endpoint refuses.
    pub dial_timeout: Duration,
    /// The longest that one call takes, all its attempts together.
    pub request_timeout: Duration,
    /// Who the client is, where the cluster asks for authentication.
    pub credentials: Option<Credentials>,
}

impl Config {
    /// The longest wait for a connection unless told otherwise.
    pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
    /// The longest that a call takes unless told otherwise.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// These endpoints with the default timeouts.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            dial_timeout: Self::DIAL_TIMEOUT,
            request_timeout: Self::REQUEST_TIMEOUT,
            credentials: None,
        }
    }
}
