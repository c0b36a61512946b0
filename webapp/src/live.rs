//! The names that are registered from now on, for every page that is open.
//!
//! One watch of the store feeds an instance, however many pages listen. The last [`RECENT_MAX`] revisions are kept; a
//! listener asks for what comes after a revision, again and again, and so is told everything in order and once, or that
//! it has missed something ([`Next::Missed`]) and must read the list. Nothing is queued for anybody: a listener that is
//! slow just asks later.

use crate::entry::{Entry, StoredEntry};
use crate::keys::{BY_TIME, prefix_end};
use kv_client::{Client, Error, WatchItem};
use kv_proto::etcdserverpb::WatchCreateRequest;
use kv_proto::mvccpb::{Event, event::EventType};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

/// Revisions that are kept for listeners that come back or are slow.
pub const RECENT_MAX: usize = 512;
/// The most listeners at once. One more is told 503.
pub const LISTENERS_MAX: usize = 1024;
/// Pause before a watch that could not begin is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The names of one revision, in the order of their keys: the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: i64,
    /// At least one.
    pub entries: Vec<Entry>,
}

/// What came after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing that is known here yet.
    Nothing,
    /// This, and perhaps more.
    Batch(Arc<Batch>),
    /// More than is known here.
    Missed,
    /// There will be no more from here.
    End,
}

/// The names of this instance's watch.
pub struct Names {
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
    listeners: Arc<Semaphore>,
}

/// Everything after `floor`, if the watch has begun.
#[derive(Default)]
struct Known {
    floor: Option<i64>,
    recent: VecDeque<Arc<Batch>>,
    ended: bool,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            known: Mutex::default(),
            changed: watch::Sender::new(0),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }
}

impl Names {
    /// Follows the store until `stop` resolves; then every listener is told that this is the end.
    pub async fn follow(self: Arc<Self>, client: Client, stop: impl Future<Output = ()> + Send) {
        let following = async {
            loop {
                if let Err(error) = self.follow_once(&client).await {
                    tracing::debug!(%error, "names are not followed yet");
                }
                sleep(PAUSE).await;
            }
        };
        tokio::select! { () = following => {}, () = stop => {} }
        self.change(|known| known.ended = true);
    }

    async fn follow_once(&self, client: &Client) -> Result<(), Error> {
        let mut watch = client
            .watch(WatchCreateRequest {
                key: BY_TIME.into(),
                range_end: prefix_end(BY_TIME).into(),
                ..WatchCreateRequest::default()
            })
            .await?;
        self.begin(watch.created_revision());
        while let Some(item) = watch.next().await {
            if let WatchItem::Events { events, .. } = item? {
                self.take(&events);
            }
        }
        Ok(())
    }

    /// Begins, or begins anew, after a revision.
    pub fn begin(&self, revision: i64) {
        self.change(|known| {
            known.floor = Some(revision);
            known.recent.clear();
        });
    }

    /// Takes events in, of whole revisions and in their order.
    pub fn take(&self, events: &[Event]) {
        self.change(|known| {
            for event in events {
                if let Some((revision, entry)) = registration(event) {
                    known.add(revision, entry);
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// What came next after a revision.
    pub fn next(&self, after: i64) -> Next {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.floor {
            _ if known.ended => Next::End,
            None => Next::Nothing,
            Some(floor) if after < floor => Next::Missed,
            Some(_) => {
                let at = known.recent.partition_point(|batch| batch.revision <= after);
                known.recent.get(at).cloned().map_or(Next::Nothing, Next::Batch)
            }
        }
    }

    /// Resolves when [`Names::next`] may say something else; take it before asking.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A place among the listeners, if there is one.
    pub fn listen(&self) -> Option<OwnedSemaphorePermit> {
        self.listeners.clone().try_acquire_owned().ok()
    }
}

impl Known {
    fn add(&mut self, revision: i64, entry: Entry) {
        match self.recent.back_mut() {
            Some(last) if last.revision == revision => Arc::make_mut(last).entries.push(entry),
            last => {
                assert!(
                    last.is_none_or(|last| last.revision < revision),
                    "a watch gives revisions in their order"
                );
                let entries = vec![entry];
                self.recent.push_back(Arc::new(Batch { revision, entries }));
            }
        }
        if self.recent.len() > RECENT_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.floor = Some(oldest.revision);
        }
    }
}

/// The entry that an event wrote. What something else wrote there is left out, as in the list.
fn registration(event: &Event) -> Option<(i64, Entry)> {
    let kv = event.kv.as_ref().filter(|_| event.r#type() == EventType::Put)?;
    let stored = StoredEntry::decode(&kv.value).ok()?;
    Some((kv.mod_revision, stored.entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use chrono::DateTime;
    use kv_proto::mvccpb::KeyValue;
    use proptest::prelude::*;

    fn put(revision: i64, name: &str) -> Event {
        let name = Name::parse(name).expect("a name");
        let stored = StoredEntry::new(&name, DateTime::UNIX_EPOCH, "web", 1);
        let kv = KeyValue {
            value: stored.encode().into(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        Event {
            r#type: EventType::Put.into(),
            kv: Some(kv),
            prev_kv: None,
        }
    }

    /// Revisions and names of everything after, and what is at its end.
    fn told(names: &Names, mut after: i64) -> (Vec<(i64, String)>, Next) {
        let mut told = Vec::new();
        loop {
            match names.next(after) {
                Next::Batch(batch) => {
                    after = batch.revision;
                    told.extend(batch.entries.iter().map(|entry| (after, entry.name.clone())));
                }
                end => return (told, end),
            }
        }
    }

    #[test]
    fn a_listener_hears_what_came_after() {
        let names = Names::default();
        assert_eq!(names.next(7), Next::Nothing, "not known yet");
        names.begin(10);
        assert_eq!(names.next(9), Next::Missed);
        assert_eq!(names.next(10), Next::Nothing);
        names.take(&[put(12, "Ada"), put(12, "Grace"), put(15, "Barbara")]);
        let all = [(12, "Ada"), (12, "Grace"), (15, "Barbara")].map(|(at, name)| (at, name.to_owned()));
        assert_eq!(told(&names, 10), (all.to_vec(), Next::Nothing));
        assert_eq!(told(&names, 12), (all[2..].to_vec(), Next::Nothing));
        // Another instance was further on when the listener was there.
        assert_eq!(names.next(99), Next::Nothing);
        names.begin(20);
        assert_eq!(names.next(15), Next::Missed, "history was lost");
        names.change(|known| known.ended = true);
        assert_eq!(names.next(20), Next::End);
    }

    #[test]
    fn what_others_write_is_left_out() {
        let names = Names::default();
        names.begin(0);
        let mut broken = put(1, "Ada");
        if let Some(kv) = &mut broken.kv {
            kv.value = "nonsense".into();
        }
        let deleted = Event {
            r#type: EventType::Delete.into(),
            ..put(2, "Ada")
        };
        names.take(&[broken, deleted]);
        assert_eq!(names.next(0), Next::Nothing);
    }

    proptest! {
        /// However often it comes back, and however much there was: no gap, no repeat, or it is told that it missed
        /// something.
        #[test]
        fn nothing_is_told_twice_or_left_out(steps in prop::collection::vec((1_i64..3, 0_u8..4), 1..2000)) {
            let names = Names::default();
            names.begin(0);
            let (mut revision, mut heard, mut written) = (0, Vec::new(), Vec::new());
            let mut after = 0;
            for (by, listens) in steps {
                revision += by;
                names.take(&[put(revision, &format!("n{revision}"))]);
                written.push(revision);
                if listens == 0 {
                    match told(&names, after) {
                        (told, Next::Nothing) => heard.extend(told.into_iter().map(|(revision, _)| revision)),
                        (told, end) => {
                            prop_assert!(told.is_empty() && end == Next::Missed);
                            let missed = written.iter().filter(|revision| **revision > after);
                            prop_assert!(missed.clone().count() > RECENT_MAX);
                            heard.extend(missed);
                        }
                    }
                    after = revision;
                }
            }
            written.retain(|revision| *revision <= after);
            prop_assert_eq!(heard, written);
        }
    }
}
