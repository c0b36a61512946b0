//! The watches of one stream, and what they are to be told next.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kv_store::{Fault, History, HistoryError};

use super::{
    Event, FEED_WATCHES_MAX, Filter, HISTORY_LIMITS, Hub, Interest,
    inbox::{Delivery, Inbox},
    index::Index,
};
use crate::blocking::may_wait;

/// Watches that are moved while the board is locked, and writers with it.
const BOARD_BATCH: usize = 1024;
/// Values that are looked up without telling the runtime.
const VALUES_INLINE_MAX: usize = 16;

/// Names a watch of a feed, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey(u64);

/// What a watch is to be told.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The keys.
    pub interest: Interest,
    /// The revision of the first event, also one to come; 0 for what is written from now on.
    pub start_revision: i64,
    /// Which events to leave out.
    pub filter: Filter,
    /// Whether [`Event::previous`] is wanted.
    pub previous: bool,
    /// The caller's own name for it.
    pub tag: i64,
}

/// Why a watch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The feed or the node has as many as it takes.
    #[error("too many watches")]
    TooMany,
}

/// Something to tell.
#[derive(Clone, Debug)]
pub enum News {
    /// Events of a watch.
    Events {
        /// The watch.
        watch: WatchKey,
        /// Its tag.
        tag: i64,
        /// One or more, in order.
        events: Vec<Arc<Event>>,
        /// No event up to this revision is left to tell.
        through: i64,
    },
    /// Events that a watch wants are compacted. It is not there any more.
    Compacted {
        /// The watch.
        watch: WatchKey,
        /// Its tag.
        tag: i64,
        /// The oldest revision that can be read.
        compacted: i64,
    },
}

/// Watches, and what they are to be told next. Dropping it ends them.
pub struct Feed {
    hub: Hub,
    number: u64,
    inbox: Arc<Inbox>,
    watches: HashMap<WatchKey, Watch>,
    /// Those that are behind, by key.
    behind: Index<WatchKey>,
    behind_count: usize,
    /// Found, but not told yet: a value is still to be looked up.
    found: Vec<News>,
    /// Whether history is read before the inbox is looked at.
    history_first: bool,
}

struct Watch {
    spec: WatchSpec,
    /// Of where it stands: on the hub's board, or in `behind`.
    number: u64,
    is_live: bool,
    /// What was before it has been told, or is not wanted. Of a live watch, as it was when it became live.
    next: i64,
}

impl Feed {
    pub(super) fn new(hub: Hub, number: u64, inbox: Arc<Inbox>) -> Feed {
        Feed {
            hub,
            number,
            inbox,
            watches: HashMap::new(),
            behind: Index::default(),
            behind_count: 0,
            found: Vec::new(),
            history_first: false,
        }
    }

    /// Adds a watch. Returns the revision at which it was added.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&mut self, spec: WatchSpec) -> Result<(WatchKey, i64), AddError> {
        if self.watches.len() >= FEED_WATCHES_MAX || !self.hub.admit_watch() {
            return Err(AddError::TooMany);
        }
        let mut board = self.hub.board();
        let (key, published) = (WatchKey(board.number()), board.published);
        let next = if spec.start_revision == 0 {
            published + 1
        } else {
            spec.start_revision
        };
        let is_live = next > published;
        let number = if is_live {
            board.insert(&self.inbox, key.0, next, &spec)
        } else {
            board.number()
        };
        drop(board);
        if !is_live {
            self.behind.insert(&spec.interest, number, key);
            self.count_behind(1, 0);
        }
        let watch = Watch {
            spec,
            number,
            is_live,
            next,
        };
        self.watches.insert(key, watch);
        Ok((key, published))
    }

    /// Ends a watch: what is not told yet is not told any more.
    pub fn remove(&mut self, key: WatchKey) {
        let Some(watch) = self.watches.remove(&key) else {
            return;
        };
        if watch.is_live {
            self.hub.board().remove(watch.number, &watch.spec.interest);
        } else {
            self.behind.remove(&watch.spec.interest, watch.number);
            self.count_behind(0, 1);
        }
        self.found.retain(|news| news.watch() != key);
        self.hub.release_watch();
    }

    /// The revision up to which everything is told, if it is all that is published: of one watch, or of all.
    pub fn progress(&self, of: Option<WatchKey>) -> Option<i64> {
        // In this order: what was published by then is in the inbox.
        let published = self.hub.published();
        let is_live = match of {
            Some(key) => self.watches.get(&key).is_some_and(|watch| watch.is_live),
            None => self.behind_count == 0,
        };
        (is_live && self.found.is_empty() && self.inbox.is_empty()).then_some(published)
    }

    /// All up to this revision has been published.
    pub fn published(&self) -> i64 {
        self.hub.published()
    }

    /// Waits for something to tell; there is at most one piece of news for each watch, and none at all now and
    /// then, when a watch that was behind no longer is. Nothing is lost where this is not waited for to the end.
    ///
    /// # Errors
    /// When the store cannot be read. Then the feed must be dropped.
    pub async fn next(&mut self) -> Result<Vec<News>, Fault> {
        loop {
            if self.found.is_empty() && !(self.history_first && self.behind_count > 0) {
                self.look_into_inbox();
            }
            if self.found.is_empty() && self.behind_count > 0 {
                let hub = self.hub.clone();
                // The semaphore is never closed.
                let _permit = hub.reads().acquire().await;
                self.read_history()?;
                if self.found.is_empty() {
                    return Ok(Vec::new());
                }
            }
            if !self.found.is_empty() {
                self.look_up_previous().await?;
                let events = self.found.iter().map(News::events_count).sum();
                self.hub.count_events(events);
                return Ok(std::mem::take(&mut self.found));
            }
            self.inbox.news().await;
        }
    }

    /// Finds what the hub has left.
    fn look_into_inbox(&mut self) {
        self.history_first = true;
        // In this order: what was published by then is in the inbox.
        let published = self.hub.published();
        let taken = self.inbox.take();
        let last = taken.ready.last().map_or(0, |last| last.event.at.main);
        let through = match taken.closed_from {
            Some(from) => from - 1,
            None => published.max(last),
        };
        self.sort_out(taken.ready, through);
        if let Some(from) = taken.closed_from {
            self.fall_behind(from);
        }
    }

    /// Turns deliveries into news, those of a watch together.
    fn sort_out(&mut self, deliveries: Vec<Delivery>, through: i64) {
        let mut events: BTreeMap<WatchKey, Vec<Arc<Event>>> = BTreeMap::new();
        for delivery in deliveries {
            events
                .entry(WatchKey(delivery.watch))
                .or_default()
                .push(delivery.event);
        }
        for (key, events) in events {
            // What was left for a watch that has ended is nobody's.
            if let Some(watch) = self.watches.get(&key) {
                let tag = watch.spec.tag;
                self.found.push(News::Events {
                    watch: key,
                    tag,
                    events,
                    through,
                });
            }
        }
    }

    /// The inbox was closed: all that live on it lack what was written from a revision on.
    fn fall_behind(&mut self, from: i64) {
        let hub = self.hub.clone();
        let live = self.watches.iter().filter(|(_, watch)| watch.is_live);
        let live: Vec<WatchKey> = live.map(|(key, _)| *key).collect();
        for keys in live.chunks(BOARD_BATCH) {
            let mut board = hub.board();
            for key in keys {
                let Some(watch) = self.watches.get_mut(key) else {
                    continue;
                };
                board.remove(watch.number, &watch.spec.interest);
                watch.next = watch.next.max(from);
                watch.is_live = false;
                watch.number = board.number();
                self.behind.insert(&watch.spec.interest, watch.number, *key);
            }
        }
        // With the board locked: between two publications.
        let board = hub.board();
        self.inbox.open();
        drop(board);
        self.count_behind(live.len(), 0);
    }

    /// Reads a stretch of history for those that are behind.
    fn read_history(&mut self) -> Result<(), Fault> {
        self.history_first = false;
        let behind = self.watches.values().filter(|watch| !watch.is_live);
        let Some(from) = behind.map(|watch| watch.next).min() else {
            return Ok(());
        };
        let wanted = |key: &[u8]| self.behind.any(key);
        match may_wait(|| self.hub.store().history(from, wanted, HISTORY_LIMITS)) {
            Ok(history) => {
                self.take_history(history);
                self.go_live();
                Ok(())
            }
            Err(HistoryError::Compacted(compacted)) => {
                self.end_compacted(compacted);
                Ok(())
            }
            Err(HistoryError::Fault(fault)) => Err(fault),
        }
    }

    fn take_history(&mut self, history: History) {
        let mut deliveries = Vec::new();
        for (at, record) in history.records {
            let event = Arc::new(Event::new(at, record));
            self.behind.each(event.record.key(), |key| {
                let watch = &self.watches[key];
                if at.main >= watch.next && watch.spec.filter.passes(&event.record) {
                    deliveries.push(Delivery {
                        watch: key.0,
                        event: event.clone(),
                    });
                }
            });
        }
        for watch in self.watches.values_mut().filter(|watch| !watch.is_live) {
            watch.next = watch.next.max(history.through + 1);
        }
        self.sort_out(deliveries, history.through);
    }

    /// Makes those live that have all that is published.
    fn go_live(&mut self) {
        let hub = self.hub.clone();
        let published = hub.published();
        let ready = |(_, watch): &(&WatchKey, &Watch)| !watch.is_live && watch.next > published;
        let ready: Vec<WatchKey> = self.watches.iter().filter(ready).map(|(key, _)| *key).collect();
        let mut gone_live = 0;
        for keys in ready.chunks(BOARD_BATCH) {
            let mut board = hub.board();
            for key in keys {
                let Some(watch) = self.watches.get_mut(key) else {
                    continue;
                };
                // More may have been published since.
                if watch.next > board.published {
                    #[cfg(feature = "planted")]
                    if quorate_planted::is("watch-skips-at-sync") {
                        watch.next += 1;
                    }
                    self.behind.remove(&watch.spec.interest, watch.number);
                    watch.number = board.insert(&self.inbox, key.0, watch.next, &watch.spec);
                    watch.is_live = true;
                    gone_live += 1;
                }
            }
        }
        self.count_behind(0, gone_live);
    }

    /// Ends the watches that want what is compacted.
    fn end_compacted(&mut self, compacted: i64) {
        #[cfg(feature = "planted")]
        if quorate_planted::is("watch-hides-compaction") {
            for watch in self.watches.values_mut().filter(|watch| !watch.is_live) {
                watch.next = watch.next.max(compacted);
            }
            return;
        }
        let lost = |(_, watch): &(&WatchKey, &Watch)| !watch.is_live && watch.next < compacted;
        let lost: Vec<WatchKey> = self.watches.iter().filter(lost).map(|(key, _)| *key).collect();
        for key in lost {
            let tag = self.watches[&key].spec.tag;
            self.remove(key);
            self.found.push(News::Compacted {
                watch: key,
                tag,
                compacted,
            });
        }
    }

    /// Looks up what the keys held before, for the watches that ask.
    async fn look_up_previous(&mut self) -> Result<(), Fault> {
        let asked = self.found.iter().filter_map(|news| match news {
            News::Events { watch, events, .. } if self.watches[watch].spec.previous => Some(events),
            _ => None,
        });
        let lacking: Vec<_> = asked
            .flatten()
            .filter(|event| event.lacks_previous())
            .cloned()
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let _permit = self.hub.reads().acquire().await;
        let writes = lacking
            .iter()
            .map(|event| (&event.record.key()[..], event.at.main));
        let look_up = || self.hub.store().previous(writes);
        // Telling the runtime costs about as much as a few values.
        let values = if lacking.len() > VALUES_INLINE_MAX {
            may_wait(look_up)
        } else {
            look_up()
        }?;
        for (event, previous) in lacking.iter().zip(values) {
            event.set_previous(previous);
        }
        Ok(())
    }

    fn count_behind(&mut self, more: usize, fewer: usize) {
        self.behind_count = self.behind_count + more - fewer;
        self.hub.count_behind(more, fewer);
    }
}

impl News {
    /// The watch it is for.
    pub fn watch(&self) -> WatchKey {
        match self {
            News::Events { watch, .. } | News::Compacted { watch, .. } => *watch,
        }
    }

    fn events_count(&self) -> usize {
        match self {
            News::Events { events, .. } => events.len(),
            News::Compacted { .. } => 0,
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.found.clear();
        let keys: Vec<WatchKey> = self.watches.keys().copied().collect();
        keys.into_iter().for_each(|key| self.remove(key));
        self.hub.close_feed(self.number);
    }
}
