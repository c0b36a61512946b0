//! What goes in and out of the log: positions, entries, callbacks.

use std::fmt;
use std::io;

use bytes::Bytes;

/// Identity of an entry. Ordered by term, then index, as Raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the leader that made the entry.
    pub term: u64,
    /// Place in the log; neighbours differ by one.
    pub index: u64,
}

impl Position {
    /// The position with this term and index.
    pub fn new(term: u64, index: u64) -> Self {
        Position { term, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// One entry of the log. The payload means nothing to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which entry this is.
    pub position: Position,
    /// What it holds, at most [`Options::max_record_bytes`](crate::Options::max_record_bytes).
    pub payload: Bytes,
}

/// What the log calls once a request is durable, or when it never will be.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One thing that the writer puts on disk.
#[derive(Debug)]
pub(crate) enum Record {
    /// An entry, with the ticket by which its slot in the index knows it.
    Entry { ticket: u64, entry: Entry },
    /// The vote.
    Vote(Bytes),
    /// What the caller knows to be committed.
    Committed(Bytes),
    /// Entries above this position are dropped; `None`: all of a log that was never purged.
    Truncate(Option<Position>),
    /// Entries up to this position are dropped.
    Purge(Position),
}

/// Where an entry stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Segment number.
    pub(crate) segment: u32,
    /// Byte offset of the record in the segment.
    pub(crate) offset: u32,
    /// Length of the entry's payload in bytes.
    pub(crate) payload_bytes: u32,
}
