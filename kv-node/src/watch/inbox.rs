//! Where the hub leaves events for a feed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Event, INBOX_BYTES_MAX, INBOXES_BYTES_MAX};

/// An event for a watch, named by its number.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) watch: u64,
    pub(super) event: Arc<Event>,
}

/// What a feed has not looked at yet.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// Bytes that wait in all inboxes of the node.
    total_bytes: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Of the publication under way: a feed must not see a part of a revision.
    staged: Vec<Delivery>,
    staged_bytes: usize,
    ready: Vec<Delivery>,
    ready_bytes: usize,
    closed_from: Option<i64>,
}

/// What was taken out of an inbox.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) ready: Vec<Delivery>,
    /// Nothing from this revision on was put in, or will be before the inbox is opened again.
    pub(super) closed_from: Option<i64>,
}

impl Inbox {
    pub(super) fn new(total_bytes: Arc<AtomicUsize>) -> Inbox {
        Inbox {
            waiting: Mutex::default(),
            news: Notify::new(),
            total_bytes,
        }
    }

    /// The hub: puts an event in; true for the first of a publication.
    pub(super) fn stage(&self, watch: u64, event: &Arc<Event>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed_from.is_some() {
            return false;
        }
        waiting.staged_bytes += event.bytes();
        waiting.staged.push(Delivery {
            watch,
            event: event.clone(),
        });
        waiting.staged.len() == 1
    }

    /// The hub: the publication is complete. Returns whether it went in; if it did not, the inbox is closed.
    pub(super) fn commit(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let waiting = &mut *waiting;
        let bytes = std::mem::take(&mut waiting.staged_bytes);
        let full = waiting.ready_bytes + bytes > INBOX_BYTES_MAX
            || self.total_bytes.load(Ordering::Relaxed) + bytes > INBOXES_BYTES_MAX;
        if full {
            waiting.closed_from = waiting.staged.first().map(|first| first.event.at.main);
            waiting.staged = Vec::new();
        } else {
            self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
            waiting.ready_bytes += bytes;
            waiting.ready.append(&mut waiting.staged);
        }
        self.news.notify_one();
        !full
    }

    /// The hub: what was written from this revision on does not come this way.
    pub(super) fn close(&self, from: i64) {
        let mut waiting = self.waiting.lock();
        assert!(waiting.staged.is_empty(), "closed amid a publication");
        waiting.closed_from.get_or_insert(from);
        self.news.notify_one();
    }

    /// The feed, with the hub locked: nothing is missing any more.
    pub(super) fn open(&self) {
        let mut waiting = self.waiting.lock();
        assert!(waiting.ready.is_empty(), "opened before it was emptied");
        waiting.closed_from = None;
    }

    /// The feed: whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.ready.is_empty() && waiting.closed_from.is_none()
    }

    /// The feed: takes what there is. A closed inbox stays closed.
    pub(super) fn take(&self) -> Taken {
        let mut waiting = self.waiting.lock();
        let bytes = std::mem::take(&mut waiting.ready_bytes);
        self.total_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Taken {
            ready: std::mem::take(&mut waiting.ready),
            closed_from: waiting.closed_from,
        }
    }

    /// The feed: waits until there may be something to take.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let bytes = self.waiting.get_mut().ready_bytes;
        self.total_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
