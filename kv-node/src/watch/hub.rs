//! The one place where writes become known to watches.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
};

use kv_core::{Record, Revision};
use kv_store::Store;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{
    AddError, Event, FEEDS_MAX, Feed, Filter, Interest, READS_MAX, Subscription, WATCHES_MAX, WatchSpec,
    inbox::Inbox, index::Index,
};

/// The hub of a node. Clones share it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    board: Mutex<Board>,
    /// The board's, to be read without its lock.
    published: AtomicI64,
    reads: Semaphore,
    inboxes_bytes: Arc<AtomicUsize>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    watches: AtomicUsize,
    behind: AtomicUsize,
    events: AtomicU64,
    fell_behind: AtomicU64,
}

/// What changes between two publications, and never during one.
pub(super) struct Board {
    live: Index<Target>,
    feeds: HashMap<u64, Arc<Inbox>>,
    /// All up to this revision is in the inboxes.
    pub(super) published: i64,
    next_number: u64,
    /// Inboxes that the publication under way put something into.
    touched: Vec<Arc<Inbox>>,
}

/// A live watch.
#[derive(Debug)]
struct Target {
    inbox: Arc<Inbox>,
    watch: u64,
    /// It has what was before, or does not want it.
    from: i64,
    filter: Filter,
}

/// Counts for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubStats {
    /// Streams of watches, and what follows keys inside the node.
    pub feeds: usize,
    /// Watches.
    pub watches: usize,
    /// Watches that read from the store at present.
    pub behind: usize,
    /// Bytes of events that wait in inboxes.
    pub waiting_bytes: usize,
    /// Events given out to watches, ever.
    pub events: u64,
    /// How often the reader of a feed was too slow, ever.
    pub fell_behind: u64,
}

impl Hub {
    /// For a store to which nobody applies yet.
    pub fn new(store: Store) -> Hub {
        let published = store.revision();
        let board = Board {
            live: Index::default(),
            feeds: HashMap::new(),
            published,
            next_number: 0,
            touched: Vec::new(),
        };
        Hub {
            shared: Arc::new(Shared {
                store,
                board: Mutex::new(board),
                published: AtomicI64::new(published),
                reads: Semaphore::new(READS_MAX),
                inboxes_bytes: Arc::default(),
                counters: Counters::default(),
            }),
        }
    }

    /// The applier: these records were applied, and no others since the last call; before their writers are
    /// answered.
    pub fn publish(&self, records: &[(Revision, Record)]) {
        let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else {
            return;
        };
        let mut board = self.shared.board.lock();
        assert!(first.main > board.published, "{first:?} is published twice");
        if !board.live.is_empty() {
            let slow = board.deliver(records);
            self.shared
                .counters
                .fell_behind
                .fetch_add(slow, Ordering::Relaxed);
        }
        self.advance(&mut board, last.main);
    }

    /// The applier: a snapshot replaced the store, whose revision is now this one.
    pub fn replaced(&self, revision: i64) {
        let mut board = self.shared.board.lock();
        let from = board.published + 1;
        board.feeds.values().for_each(|inbox| inbox.close(from));
        self.advance(&mut board, revision);
    }

    fn advance(&self, board: &mut Board, revision: i64) {
        assert!(revision >= board.published, "revisions go forward");
        board.published = revision;
        self.shared.published.store(revision, Ordering::Release);
    }

    /// All up to this revision has been told to those who are live.
    pub fn published(&self) -> i64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// A feed without watches; `None` where there are too many.
    pub fn feed(&self) -> Option<Feed> {
        let inbox = Arc::new(Inbox::new(self.shared.inboxes_bytes.clone()));
        let mut board = self.board();
        if board.feeds.len() >= FEEDS_MAX {
            return None;
        }
        let number = board.number();
        board.feeds.insert(number, inbox.clone());
        drop(board);
        Some(Feed::new(self.clone(), number, inbox))
    }

    /// Follows keys inside the node, from a revision on, or from now on if that is 0.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn subscribe(&self, interest: Interest, start_revision: i64) -> Result<Subscription, AddError> {
        let mut feed = self.feed().ok_or(AddError::TooMany)?;
        feed.add(WatchSpec {
            interest,
            start_revision,
            filter: Filter::default(),
            previous: false,
            tag: 0,
        })?;
        Ok(Subscription::new(feed))
    }

    /// Counts for the metrics.
    pub fn stats(&self) -> HubStats {
        let counters = &self.shared.counters;
        HubStats {
            feeds: self.shared.board.lock().feeds.len(),
            watches: counters.watches.load(Ordering::Relaxed),
            behind: counters.behind.load(Ordering::Relaxed),
            waiting_bytes: self.shared.inboxes_bytes.load(Ordering::Relaxed),
            events: counters.events.load(Ordering::Relaxed),
            fell_behind: counters.fell_behind.load(Ordering::Relaxed),
        }
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.shared.board.lock()
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(super) fn reads(&self) -> &Semaphore {
        &self.shared.reads
    }

    pub(super) fn close_feed(&self, number: u64) {
        self.board().feeds.remove(&number);
    }

    /// Counts a new watch; false where there are too many.
    pub(super) fn admit_watch(&self) -> bool {
        let watches = &self.shared.counters.watches;
        let admitted = watches.fetch_add(1, Ordering::Relaxed) < WATCHES_MAX;
        if !admitted {
            watches.fetch_sub(1, Ordering::Relaxed);
        }
        admitted
    }

    pub(super) fn release_watch(&self) {
        self.shared.counters.watches.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count_behind(&self, more: usize, fewer: usize) {
        let behind = &self.shared.counters.behind;
        behind.fetch_add(more, Ordering::Relaxed);
        behind.fetch_sub(fewer, Ordering::Relaxed);
    }

    pub(super) fn count_events(&self, events: usize) {
        self.shared
            .counters
            .events
            .fetch_add(events as u64, Ordering::Relaxed);
    }
}

impl Board {
    /// A number that nothing else on this board has.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Makes a watch live: it is told of what is published from now on, from a revision on. Nothing that it
    /// wants may have been published. Returns the number to take it out by.
    pub(super) fn insert(&mut self, inbox: &Arc<Inbox>, watch: u64, from: i64, spec: &WatchSpec) -> u64 {
        assert!(from > self.published, "{from} is published already");
        let number = self.number();
        let target = Target {
            inbox: inbox.clone(),
            watch,
            from,
            filter: spec.filter,
        };
        self.live.insert(&spec.interest, number, target);
        number
    }

    pub(super) fn remove(&mut self, number: u64, interest: &Interest) {
        let removed = self.live.remove(interest, number);
        assert!(removed.is_some(), "a watch that is live stands on the board");
    }

    /// Puts records into the inboxes of those they concern; returns how many could not take them.
    fn deliver(&mut self, records: &[(Revision, Record)]) -> u64 {
        let Board { live, touched, .. } = self;
        for (at, record) in records {
            let mut event = None;
            live.each(record.key(), |target| {
                if at.main >= target.from && target.filter.passes(record) {
                    let event = event.get_or_insert_with(|| Arc::new(Event::new(*at, record.clone())));
                    if target.inbox.stage(target.watch, event) {
                        touched.push(target.inbox.clone());
                    }
                }
            });
        }
        touched.drain(..).map(|inbox| u64::from(!inbox.commit())).sum()
    }
}
