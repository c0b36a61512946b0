//! The ways in which a call can end without an answer.

use tonic::Code;

use crate::LeaseLoss;

/// Why a call gave no answer. The variants differ in what the caller may do next.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint that is not `host:port`, `http://host:port` or `https://host:port`. Nothing was sent.
    #[error("endpoint {endpoint:?}: {reason}")]
    InvalidEndpoint {
        /// The text that was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates that cannot be used. Nothing was sent.
    #[error("{message}")]
    Tls {
        /// Which one, and why.
        message: String,
    },
    /// The server refused: the request certainly was not executed, and the same one will be refused again
    /// (or, for [`Code::ResourceExhausted`], until the server has room).
    #[error("{message}")]
    Rejected {
        /// The gRPC code of the answer.
        code: Code,
        /// The server's words, etcd's error string among them.
        message: String,
    },
    /// No endpoint could be reached, or those that could have no leader. The request certainly was not executed.
    #[error("{message}")]
    NoQuorum {
        /// Which endpoints failed last, and how.
        message: String,
    },
    /// A read that ran out of time. It cannot have changed anything.
    #[error("{message}")]
    Timeout {
        /// How long it was tried, and the last failure.
        message: String,
    },
    /// A write that was sent and not answered: it may or may not have been executed.
    #[error("{message}")]
    OutcomeUnknown {
        /// How the answer was lost.
        message: String,
    },
    /// A watch cannot go on from where it was: the history up to there was given up. Read the keys anew, and watch
    /// from the revision of that answer.
    #[error(
        "etcdserver: mvcc: required revision has been compacted (revision {revision} is the oldest left)"
    )]
    Compacted {
        /// The oldest revision from which a watch can start.
        revision: i64,
    },
    /// A lease ended, and what was held under it with it.
    #[error("{0}")]
    LeaseLost(LeaseLoss),
}
