//! openraft's log storage over [`kv_wal::Wal`].
//!
//! Votes, appends, truncations and purges go through the write-ahead log's one queue, so that their
//! order on disk is the order in which openraft issued them. `append` returns before the flush; the
//! callback is called from the log's thread after it.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use kv_wal::{Position, Wal};
use openraft::{
    EntryPayload, OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::types::{Entry, LogId, Payload, Proposal, TypeConfig, Vote};
use crate::codec;

/// How many bytes of entries one read takes from the log at a time …
const READ_BYTES_MAX: usize = 4 << 20;
/// … and for a follower that is more entries behind than one request holds: little, because the thread that reads and sends
/// serves clients in between.
const CATCH_UP_BYTES_MAX: usize = 256 << 10;
/// Entries of one request to a follower, at most.
pub const APPEND_ENTRIES_MAX: u64 = 1024;

/// The log of one node. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
}

impl LogStore {
    /// Adapts an open log.
    pub fn new(wal: Wal) -> LogStore {
        LogStore { wal }
    }

    /// Entries of `range` that are in the log, up to so many bytes but at least one.
    fn read(&self, range: std::ops::Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        self.wal
            .read(range, max_bytes)?
            .into_iter()
            .map(decode_entry)
            .collect()
    }

    /// Gives each entry of `range` that is in the log to `take`, in order.
    ///
    /// # Errors
    /// When the log cannot be read, and those of `take`.
    pub fn each(
        &self,
        range: std::ops::Range<u64>,
        mut take: impl FnMut(Entry) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut next = range.start;
        while next < range.end {
            let piece = self.read(next..range.end, READ_BYTES_MAX)?;
            let Some(last) = piece.last() else { break };
            next = last.log_id.index + 1;
            piece.into_iter().try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// All entries of `range`.
    fn read_all(&self, range: std::ops::Range<u64>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let more = self.read(next..range.end, READ_BYTES_MAX)?;
            let Some(last) = more.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(more);
        }
        Ok(entries)
    }
}

/// The half-open form of a range of indexes.
fn half_open(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index + 1,
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn position(log_id: &LogId) -> Position {
    Position {
        term: **log_id.committed_leader_id(),
        index: log_id.index,
    }
}

fn log_id(position: Position) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

/// The first byte of a payload on disk.
mod kind {
    pub(super) const BLANK: u8 = 0;
    pub(super) const COMMAND: u8 = 1;
    pub(super) const MEMBERSHIP: u8 = 2;
}

pub(super) fn encode_entry(entry: &Entry) -> io::Result<kv_wal::Entry> {
    let payload = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[kind::BLANK]),
        EntryPayload::Normal(proposal) => tagged(kind::COMMAND, &proposal.encoded),
        EntryPayload::Membership(membership) => tagged(kind::MEMBERSHIP, &codec::encode(membership)?),
    };
    Ok(kv_wal::Entry {
        position: position(&entry.log_id),
        payload,
    })
}

fn tagged(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + body.len());
    bytes.put_u8(kind);
    bytes.put_slice(body);
    bytes.freeze()
}

/// A command's bytes are shared with the log's cache, not copied.
pub(super) fn decode_entry(entry: kv_wal::Entry) -> io::Result<Entry> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let payload: Payload = match entry.payload.first() {
        Some(&kind::BLANK) => EntryPayload::Blank,
        Some(&kind::COMMAND) => EntryPayload::Normal(Proposal {
            encoded: entry.payload.slice(1..),
        }),
        Some(&kind::MEMBERSHIP) => EntryPayload::Membership(codec::decode(&entry.payload[1..])?),
        other => {
            return Err(damaged(format!(
                "entry {} has unknown kind {other:?}",
                entry.position.index
            )));
        }
    };
    Ok(Entry {
        log_id: log_id(entry.position),
        payload,
    })
}

/// Queues an operation of the log and waits until it is durable.
///
/// # Errors
/// When the log has failed or stopped.
pub async fn durable(start: impl FnOnce(Box<dyn FnOnce(io::Result<()>) + Send>)) -> io::Result<()> {
    let (done, waiting) = oneshot::channel();
    start(Box::new(move |result| {
        // The receiver is gone only when the node is stopping.
        let _ = done.send(result);
    }));
    waiting
        .await
        .map_err(|_| io::Error::other("the write-ahead log has stopped"))?
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read_all(half_open(&range))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let behind = self.wal.last().map_or(0, |last| last.index.saturating_sub(start));
        let max_bytes = if behind > APPEND_ENTRIES_MAX {
            CATCH_UP_BYTES_MAX
        } else {
            READ_BYTES_MAX
        };
        self.read(start..end, max_bytes)
    }

    /// Reads piece by piece, so that applying a long backlog does not hold all of it in memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        use futures::{StreamExt, stream};
        let log = self.clone();
        let pieces = stream::unfold(half_open(&range), move |range| {
            let last = log.wal.last().map(|last| last.index);
            let piece = if range.is_empty() {
                Ok(Vec::new())
            } else {
                log.read(range.clone(), READ_BYTES_MAX)
            };
            async move {
                match piece {
                    Ok(_) if range.is_empty() => None,
                    Ok(entries) => match entries.last() {
                        Some(last) => {
                            let next = last.log_id.index + 1;
                            Some((Ok(entries), next..range.end))
                        }
                        None if last < Some(range.start) => None,
                        // A gap that nobody notices would be taken for entries applied.
                        None => {
                            let missing = format!("entry {} is missing from the log", range.start);
                            Some((Err(io::Error::other(missing)), range.end..range.end))
                        }
                    },
                    Err(error) => Some((Err(error), range.end..range.end)),
                }
            }
        });
        Box::pin(pieces.flat_map(|piece| match piece {
            Ok(entries) => stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        }))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.vote().map(|bytes| codec::decode(&bytes)).transpose()?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.wal.purged().map(log_id),
            last_log_id: self.wal.last().map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = codec::encode(vote)?;
        durable(|done| self.wal.save_vote(vote, done)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries
            .into_iter()
            .map(|entry| encode_entry(&entry))
            .collect::<io::Result<Vec<_>>>()?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("flushed-early") {
            self.wal.append(entries, |_| {});
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.wal
            .append(entries, move |result| callback.io_completed(result));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let last = last_log_id.map(|id| id.index);
        durable(|done| self.wal.truncate_after(last, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let upto = position(&log_id);
        durable(|done| self.wal.purge(upto, done)).await
    }
}
