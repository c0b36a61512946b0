//! Why a log cannot be opened, and how write errors are told apart.

use std::io;

use thiserror::Error;

/// Why [`Wal::open`](crate::Wal::open) refused.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error("the log's options are wrong: {0}")]
    Options(String),
    /// The disk failed.
    #[error("the log cannot be opened: {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
    /// Records that were once durable are broken or missing.
    #[error(
        "the log is damaged: segment {segment}, byte {offset}: {reason}; the log of this node cannot be \
         trusted: remove the member from the cluster and let it join again with an empty data directory"
    )]
    Damaged {
        /// File name of the segment.
        segment: String,
        /// Byte offset in that file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A newer program wrote this log.
    #[error(
        "the log was written by a newer version: segment {segment} has format {found}, this program reads \
         up to format {supported}; start the newer program again, nothing was changed"
    )]
    NewerVersion {
        /// File name of the segment.
        segment: String,
        /// Format that the segment says it has.
        found: u32,
        /// Newest format that this program knows.
        supported: u32,
    },
    /// A segment belongs to the log of another node.
    #[error(
        "segment {segment} belongs to another log: its id is {found:016x}, the id of this node's log is \
         {expected:016x}; this is the data directory of another node"
    )]
    OtherLog {
        /// File name of the segment.
        segment: String,
        /// Log id in the segment.
        found: u64,
        /// [`Options::log_id`](crate::Options::log_id).
        expected: u64,
    },
}

impl OpenError {
    /// For `map_err`: an error of the disk while doing `what`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let what = what.into();
        move |source| OpenError::Io { what, source }
    }

    /// Damage in `segment` at `offset`.
    pub(crate) fn damaged(segment: u32, offset: u64, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged {
            segment: crate::segment::file_name(segment),
            offset,
            reason: reason.into(),
        }
    }
}

/// Why a batch is not on disk.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No room. Nothing is lost; the same bytes can be written again later.
    Full(io::Error),
    /// Nobody knows what is on disk: the log must not be used any more.
    Fatal(io::Error),
}

impl WriteError {
    /// Of a write, an allocation, or a directory operation: no room is not fatal.
    pub(crate) fn of_write(error: io::Error) -> WriteError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::Full(error),
            _ => WriteError::Fatal(error),
        }
    }

    /// Of a sync: always fatal, since the kernel may have dropped the pages and call the next sync good.
    pub(crate) fn of_sync(error: io::Error) -> WriteError {
        WriteError::Fatal(error)
    }
}

/// The error after which a log takes no more writes; cloned for every callback.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    /// From the error that caused it.
    pub(crate) fn new(error: &io::Error) -> Failure {
        Failure {
            kind: error.kind(),
            text: format!("the log failed and takes no more writes: {error}"),
        }
    }

    /// From a text.
    pub(crate) fn text(kind: io::ErrorKind, text: &str) -> Failure {
        Failure {
            kind,
            text: text.to_string(),
        }
    }

    /// For one callback.
    pub(crate) fn to_io(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }

    /// What people read.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}
