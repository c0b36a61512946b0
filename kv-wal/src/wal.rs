//! The log as its users see it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::cache::TailCache;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::format::NUMBER_MAX;
use crate::index::{Misfit, Place};
use crate::options::{Drive, MAX_STATE_BYTES, Options, Recovery, Stats};
use crate::read::Plan;
use crate::recovery::recover;
use crate::shared::{Shared, spawn};
use crate::state::State;
use crate::types::{Done, Entry, Position, Record};
use crate::writer::{Driven, Writer};

/// The log of one node. Clones share it; the last one to go closes it.
///
/// Every request that writes takes effect in memory before it returns, joins one queue, and calls its `done`
/// once it is durable. Callbacks come from the writer, in the order of the requests, and must be quick; they
/// may use the log, but not call [`Wal::drive`]. A request that is refused changes nothing, and its `done`
/// gets the error from the caller's own thread before the call returns:
///
/// - `InvalidInput`: it does not fit the log (a gap, too long, beyond the largest index);
/// - `QuotaExceeded`: [`Options::queue_bytes`] are waiting;
/// - `NotConnected`: the log is closed;
/// - otherwise the log has failed.
///
/// After a failed sync or any I/O error but a full disk the log has failed for good: all who wait and all
/// who come get the error, and the node must stop. If the writer panics, those whose batch it was writing
/// hear nothing more (their `done` is dropped), and everybody else gets an error.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: Option<ThreadId>,
}

impl Wal {
    /// Opens the log on `disk`, or makes an empty one when there is none.
    ///
    /// # Errors
    /// See [`OpenError`]. What is damaged is left as it is.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Wal, Recovery), OpenError> {
        options.check()?;
        let recovered = recover(disk.as_ref(), &options)?;
        let mut state = State::new(recovered.index, TailCache::new(options.cache_bytes));
        state.vote = recovered.state.vote.clone();
        state.committed = recovered.state.committed.clone();
        for segment in &recovered.segments {
            state.files.insert(segment.number, Arc::clone(&segment.file));
            state.counters.disk_bytes += u64::from(segment.bytes);
        }
        state.counters.segments = recovered.segments.len();
        let mut writer = Writer::new(disk, &options, recovered.segments, recovered.end, recovered.state);
        writer.mark().map_err(OpenError::io("writing the first mark"))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            writer: Mutex::new(writer),
            options,
        });
        let thread = match shared.options.drive {
            Drive::Caller => None,
            Drive::Thread => Some(spawn(&shared).map_err(OpenError::io("starting the log's thread"))?),
        };
        let thread_id = thread.as_ref().map(|handle| handle.thread().id());
        let inner = Arc::new(Inner {
            shared,
            thread: Mutex::new(thread),
            thread_id,
        });
        Ok((Wal { inner }, recovered.report))
    }

    /// Appends entries, each one index after the other. The first one of a log in which nothing ever was may
    /// have any index.
    pub fn append(&self, entries: Vec<Entry>, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        let max_record_bytes = self.inner.shared.options.max_record_bytes;
        self.submit(bytes, Box::new(done), |state| {
            check_entries(state, &entries, max_record_bytes)?;
            let mut records = Vec::with_capacity(entries.len());
            for entry in entries {
                let ticket = state.ticket();
                let fits = state.index.append(entry.position, Place::Pending { ticket });
                assert!(fits.is_ok(), "entries were checked");
                state.cache.push(entry.clone());
                records.push(Record::Entry { ticket, entry });
            }
            state.evict();
            Ok(records)
        });
    }

    /// Replaces the vote, at most [`MAX_STATE_BYTES`] of the caller's making.
    pub fn save_vote(&self, vote: Bytes, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.submit(vote.len(), Box::new(done), |state| {
            check_state(&vote, "vote")?;
            state.vote = Some(vote.clone());
            Ok(vec![Record::Vote(vote)])
        });
    }

    /// Notes what is committed, at most [`MAX_STATE_BYTES`] of the caller's making. It is written with the
    /// next batch, behind everything that was asked for before it, and never causes a sync of its own: after
    /// a crash an older one may come back, but never one that speaks of entries which did not.
    ///
    /// # Errors
    /// Too long, queue full, closed, or the log has failed.
    pub fn save_committed(&self, committed: Bytes) -> io::Result<()> {
        let mut state = self.inner.shared.state.lock();
        state.admit(committed.len(), self.inner.shared.options.queue_bytes)?;
        check_state(&committed, "committed mark")?;
        state.committed = Some(committed.clone());
        state.enqueue(vec![Record::Committed(committed)], None);
        Ok(())
    }

    /// Drops entries with an index above `last`; `None`: all of them. Purged entries do not come back: below
    /// [`Wal::purged`] it means the same as there.
    pub fn truncate_after(&self, last: Option<u64>, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.submit(0, Box::new(done), |state| {
            if !state.index.truncate_after(last) {
                return Ok(Vec::new());
            }
            state.cache.truncate_after(last);
            #[cfg(feature = "planted")]
            if quorate_planted::is("truncate-forgotten") {
                return Ok(Vec::new());
            }
            Ok(vec![Record::Truncate(state.index.last())])
        });
    }

    /// Drops entries up to and including `upto`, which may lie beyond the last: the log then goes on behind
    /// it. The purge is durable before a file is deleted. Purging less than before changes nothing.
    pub fn purge(&self, upto: Position, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.submit(0, Box::new(done), |state| {
            check_index(upto)?;
            if !state
                .index
                .purge(upto)
                .map_err(|misfit| refuse_misfit(upto, misfit))?
            {
                return Ok(Vec::new());
            }
            state.cache.purge(upto.index);
            Ok(vec![Record::Purge(upto)])
        });
    }

    /// Makes one request: `change` changes what callers see and says what to write.
    fn submit(&self, bytes: usize, done: Done, change: impl FnOnce(&mut State) -> io::Result<Vec<Record>>) {
        let shared = &self.inner.shared;
        let mut state = shared.state.lock();
        let changed = state
            .admit(bytes, shared.options.queue_bytes)
            .and_then(|()| change(&mut state));
        match changed {
            Ok(records) => {
                state.enqueue(records, Some(done));
                drop(state);
                shared.wake.notify_one();
                if let Some(told) = &shared.options.on_request {
                    told();
                }
            }
            Err(error) => {
                drop(state);
                done(Err(error));
            }
        }
    }

    /// The vote last saved, durable or not.
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.shared.state.lock().vote.clone()
    }

    /// The committed mark last saved, durable or not.
    pub fn committed(&self) -> Option<Bytes> {
        self.inner.shared.state.lock().committed.clone()
    }

    /// Up to where the log was purged.
    pub fn purged(&self) -> Option<Position> {
        self.inner.shared.state.lock().index.purged()
    }

    /// The last entry, or where the purge ended when there is none.
    pub fn last(&self) -> Option<Position> {
        self.inner.shared.state.lock().index.last()
    }

    /// Identity of the entry at `index`, also of the last purged one.
    pub fn position(&self, index: u64) -> Option<Position> {
        self.inner.shared.state.lock().index.position(index)
    }

    /// Entries of `range` in order, as many as fit into `max_bytes` of payload, at least one if there is
    /// any. What was purged or does not exist yet is left out. May read the disk: not for an async thread
    /// unless the range is recent.
    ///
    /// # Errors
    /// `InvalidData` when a record on disk is not what was written: it names segment and offset. Otherwise
    /// whatever the disk says.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let plan = Plan::new(&self.inner.shared.state.lock(), range, max_bytes)?;
        plan.run(self.inner.shared.options.log_id)
    }

    /// Bytes that wait for the writer or are being written: by this, callers shed load.
    pub fn queued_bytes(&self) -> usize {
        self.inner.shared.state.lock().queued_bytes()
    }

    /// Figures of this moment.
    pub fn stats(&self) -> Stats {
        let state = self.inner.shared.state.lock();
        let counters = state.counters.clone();
        Stats {
            segments: counters.segments,
            disk_bytes: counters.disk_bytes,
            entries: state.index.len() as u64,
            appended_entries: counters.appended_entries,
            batches: counters.batches,
            syncs: counters.syncs,
            last_sync: counters.last_sync,
            queued_bytes: state.queued_bytes(),
            cached_bytes: state.cache.payload_bytes(),
            stalled_for: state.stalled_since.map(|since| since.elapsed()),
            no_room_ahead: counters.no_room_ahead,
            failed: state.failure().map(|failure| failure.as_str().to_string()),
        }
    }

    /// Writes one batch, when the log was opened with [`Drive::Caller`].
    pub fn drive(&self) -> Driven {
        assert_eq!(
            self.inner.shared.options.drive,
            Drive::Caller,
            "the log has a thread of its own"
        );
        self.inner.shared.writer.lock().step(&self.inner.shared, false)
    }

    /// Writes what waits, syncs, and ends the thread. On a full disk what waits gets the error instead.
    /// From then on requests are refused; reading goes on working.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        let first = {
            let mut state = self.shared.state.lock();
            !std::mem::replace(&mut state.closing, true)
        };
        self.shared.wake.notify_all();
        match self.thread_id {
            // Amid a panic the writer may be between two of its steps: it is as if the power had gone.
            None if first && !thread::panicking() => self.shared.drain(),
            None => {}
            // A callback closes the log: the thread ends by itself once the callback has returned.
            Some(id) if id == thread::current().id() => {}
            Some(_) => {
                let mut thread = self.thread.lock();
                if let Some(Err(_)) = thread.take().map(JoinHandle::join) {
                    tracing::error!("the log's thread had panicked");
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Refuses entries that leave a gap or are too long, before anything is changed.
fn check_entries(state: &State, entries: &[Entry], max_record_bytes: usize) -> io::Result<()> {
    let mut next = state.index.next_index();
    for entry in entries {
        let position = entry.position;
        if let Some(expected) = next
            && expected != position.index
        {
            return Err(refuse_misfit(position, Misfit::NotNext { expected }));
        }
        check_index(position)?;
        next = Some(position.index + 1);
        if entry.payload.len() > max_record_bytes {
            return Err(refuse(format!(
                "entry {position} has {} bytes, at most {max_record_bytes} are allowed",
                entry.payload.len()
            )));
        }
    }
    Ok(())
}

/// Refuses what the log could not be opened with.
fn check_index(position: Position) -> io::Result<()> {
    if position.index > NUMBER_MAX {
        return Err(refuse(format!(
            "entry {position} is beyond the last one that a log can have, which is {NUMBER_MAX}"
        )));
    }
    Ok(())
}

fn check_state(bytes: &Bytes, what: &str) -> io::Result<()> {
    if bytes.len() > MAX_STATE_BYTES {
        return Err(refuse(format!(
            "the {what} has {} bytes, at most {MAX_STATE_BYTES} fit",
            bytes.len()
        )));
    }
    Ok(())
}

fn refuse_misfit(position: Position, misfit: Misfit) -> io::Error {
    refuse(match misfit {
        Misfit::NotNext { expected } => format!("entry {position} would leave a gap: {expected} is next"),
        Misfit::PurgeLeavesGap { first } => {
            format!("a purge up to {position} would leave a gap: the first entry is {first}")
        }
    })
}

fn refuse(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
