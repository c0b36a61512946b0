//! Following keys inside the node.

use std::sync::Arc;

use super::{Event, Feed, News};

/// Follows the keys of one range. Whoever drops it is told nothing more.
pub struct Subscription {
    feed: Feed,
}

/// Why nothing more is told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubscriptionError {
    /// What was not told yet is gone: a compaction overtook a slow reader, or the start was too old.
    #[error("compacted up to revision {0}")]
    Compacted(
        /// The oldest revision that can be read.
        i64,
    ),
    /// This node cannot read its store.
    #[error(transparent)]
    Fault(#[from] kv_store::Fault),
}

impl Subscription {
    pub(super) fn new(feed: Feed) -> Subscription {
        Subscription { feed }
    }

    /// Waits for the next events: one or more, in order, all of each revision together. What is not waited for
    /// any longer comes with the next call.
    ///
    /// # Errors
    /// [`SubscriptionError`]. After it nothing more comes.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, SubscriptionError> {
        loop {
            match self.feed.next().await?.pop() {
                Some(News::Events { events, .. }) => return Ok(events),
                Some(News::Compacted { compacted, .. }) => {
                    return Err(SubscriptionError::Compacted(compacted));
                }
                None => {}
            }
        }
    }
}
