//! Watches: who asked to be told of writes is told of each one, once, in the order of the log.
//!
//! ```text
//! apply ─→ Hub::publish ─→ Index: whom it concerns ─→ inbox of each Feed ─→ Feed::next ─→ gRPC, locks, …
//!                                                          │ full                ↑
//!                                                          └→ fell behind ─→ Store::history
//! ```
//!
//! A [`Feed`] is the watches of one stream. A watch in it is *live*, and then the hub puts what concerns it into
//! the feed's inbox right after it was applied and before the writer has its answer; or it is *behind*, because
//! it begins in the past, its reader is slow, or a snapshot replaced the store: then the feed reads history from
//! the store until nothing is missing, and becomes live between two publications.
//!
//! Promised to each watch: every event that concerns it, once, in order, from where it begins; the events of one
//! revision together; nothing above the revision a [`News::Events`] goes through, and nothing left out below; or
//! else to be told of the compaction that took events away. Writers wait for nobody: where a reader is slower
//! than they are, its inbox is closed at a bound, and it reads from the store at its own pace.
//!
//! Left to others: the wire and permissions (`api::watch`), and which revisions are kept (`kv_store`).

mod event;
mod feed;
mod hub;
mod inbox;
mod index;
mod subscription;

pub use event::{Event, Filter};
pub use feed::{AddError, Feed, News, WatchKey, WatchSpec};
pub use hub::{Hub, HubStats};
pub use index::Interest;
pub use subscription::{Subscription, SubscriptionError};

/// Watches of one feed, at most. Beyond it a watch is refused.
pub const FEED_WATCHES_MAX: usize = 1 << 16;
/// Watches of a node, at most. Beyond it a watch is refused.
pub const WATCHES_MAX: usize = 1 << 18;
/// Feeds of a node, at most. Beyond it a feed is refused.
pub const FEEDS_MAX: usize = 1 << 14;
/// Bytes of events that wait in one inbox. Beyond it the feed reads from the store instead.
const INBOX_BYTES_MAX: usize = 1 << 20;
/// The same for all inboxes of a node together.
const INBOXES_BYTES_MAX: usize = 64 << 20;
/// How much history is read at a time.
const HISTORY_LIMITS: kv_store::HistoryLimits = kv_store::HistoryLimits {
    bytes_max: 256 << 10,
    records_max: 8192,
};
/// Feeds that read from the store at the same time: each may hold a thread up.
const READS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use kv_store::{Options, Store};

    use super::*;

    fn hub() -> Hub {
        Hub::new(Store::in_memory(Options::default()).unwrap())
    }

    #[test]
    fn beyond_the_number_of_feeds_there_are_none_until_one_ends() {
        let hub = hub();
        let mut feeds: Vec<Feed> = (0..FEEDS_MAX).map_while(|_| hub.feed()).collect();
        assert_eq!(feeds.len(), FEEDS_MAX);
        assert!(hub.feed().is_none());
        feeds.pop();
        assert!(hub.feed().is_some());
    }

    #[test]
    fn beyond_the_number_of_watches_there_are_none_until_one_ends() {
        let hub = hub();
        let watch = || WatchSpec {
            interest: Interest {
                key: "a".into(),
                range_end: "".into(),
            },
            start_revision: 0,
            filter: Filter::default(),
            previous: false,
            tag: 0,
        };
        let filled = || {
            let mut feed = hub.feed().unwrap();
            for _ in 0..FEED_WATCHES_MAX {
                feed.add(watch()).unwrap();
            }
            assert!(feed.add(watch()).is_err(), "a feed has a bound of its own");
            feed
        };
        let mut feeds: Vec<Feed> = (0..WATCHES_MAX / FEED_WATCHES_MAX).map(|_| filled()).collect();
        assert_eq!(hub.stats().watches, WATCHES_MAX);
        let mut one_more = hub.feed().unwrap();
        assert!(one_more.add(watch()).is_err());
        assert!(hub.subscribe(watch().interest, 0).is_err());
        feeds.pop();
        one_more.add(watch()).unwrap();
        assert_eq!(hub.stats().watches, WATCHES_MAX - FEED_WATCHES_MAX + 1);
    }
}
