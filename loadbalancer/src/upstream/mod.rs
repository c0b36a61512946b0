//! Connections to one backend, and what can be said for certain when a request on them fails.
//!
//! Both pools first obtain a connection and only then touch the request, so that a backend that is not
//! there costs nothing but the attempt. What fails afterwards is sorted by whether the backend can have
//! executed the request: that decides about a second attempt and about what the client is told.

mod connect;
mod http1;
mod http2;
mod patient;

use std::time::Duration;

pub use connect::{ConnectError, Dial};
pub use http1::{Http1Connection, Http1Pool};
pub use http2::{Http2Connection, Http2Pool, StreamCount};

/// The bounds of the connections to one backend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// HTTP/2 connections that are kept to a node.
    pub http2_connections: usize,
    /// HTTP/1.1 connections that are kept while idle. Those in use are bounded by `in_flight_max`.
    pub http1_idle_max: usize,
    /// Requests that a backend has at most.
    pub in_flight_max: usize,
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Time from an HTTP/1.1 request to the head of its response.
    pub response_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            http2_connections: 2,
            http1_idle_max: 64,
            in_flight_max: 4096,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(60),
        }
    }
}

/// Why an attempt on a backend failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection could be made: nothing was sent.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The connection ended before the request went out, or the backend said that it did not take it
    /// (REFUSED_STREAM, or GOAWAY with an earlier stream): certainly not executed.
    #[error("not taken: {0}")]
    NotExecuted(String),
    /// The connection broke after the request, or a part of it, was sent.
    #[error("connection lost: {0}")]
    Broken(String),
    /// The backend closed the connection while the request's body was being sent, and gave no answer.
    #[error("upload broken off: {0}")]
    Upload(String),
    /// No answer within [`Limits::response_timeout`].
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Failure {
    /// Whether the backend certainly did not execute the request.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        matches!(self, Failure::Connect(_) | Failure::NotExecuted(_))
    }
}
