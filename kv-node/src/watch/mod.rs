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
