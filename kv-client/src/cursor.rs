//! Where a watch is in the history: which events it has given out, and from which revision it can go on elsewhere.
//!
//! Events are given out by whole revisions, so that the place is one number. What a server tells again, because it was
//! asked from an earlier revision or because a connection broke within a revision, is given out once.

use kv_proto::etcdserverpb::WatchResponse;
use kv_proto::mvccpb::Event;

/// The events of one revision that a server sends in fragments must fit into so many bytes together. A transaction
/// is far smaller; only a deletion of very many keys, watched with their old values, comes near.
pub(crate) const REVISION_BYTES_MAX: usize = 1 << 30;

/// The place of one watch.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The next revision that may hold an event not given out yet; 0 until the server says where "now" is.
    next: i64,
    /// The beginning of a revision whose other fragments are still to come.
    pending: Vec<Event>,
    pending_bytes: usize,
}

/// The events of one revision are too many ([`REVISION_BYTES_MAX`]).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Cursor {
    /// A watch from this revision on; 0 or less for whatever comes after its creation.
    pub(crate) fn new(start_revision: i64) -> Cursor {
        Cursor {
            next: start_revision.max(0),
            ..Cursor::default()
        }
    }

    /// The revision from which the watch is to be created.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// The watch was created, or created again, when the store was at this revision.
    pub(crate) fn created(&mut self, revision: i64) {
        self.drop_pending();
        if self.next == 0 {
            self.next = revision + 1;
        }
    }

    /// Every event up to this revision was sent.
    pub(crate) fn progressed(&mut self, revision: i64) {
        self.next = self.next.max(revision + 1);
    }

    /// Takes the events of an answer in; gives those out that are new and whose revisions are complete.
    pub(crate) fn take(&mut self, answer: WatchResponse) -> Result<Vec<Event>, TooLarge> {
        let mut events = std::mem::take(&mut self.pending);
        self.pending_bytes += answer.events.iter().map(size).sum::<usize>();
        events.extend(
            answer
                .events
                .into_iter()
                .filter(|event| revision(event) >= self.next),
        );
        let Some(last) = events.last().map(revision) else {
            return Ok(events);
        };
        if answer.fragment {
            let complete = events.partition_point(|event| revision(event) < last);
            self.pending = events.split_off(complete);
            if complete > 0 {
                self.pending_bytes = self.pending.iter().map(size).sum();
            }
            if self.pending_bytes > REVISION_BYTES_MAX {
                self.drop_pending();
                return Err(TooLarge);
            }
            self.next = self.next.max(last);
        } else {
            self.pending_bytes = 0;
            self.next = last + 1;
        }
        Ok(events)
    }

    fn drop_pending(&mut self) {
        self.pending = Vec::new();
        self.pending_bytes = 0;
    }
}

/// The revision of an event.
pub(crate) fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// The bytes that an event keeps.
fn size(event: &Event) -> usize {
    let kvs = [&event.kv, &event.prev_kv].into_iter().flatten();
    size_of::<Event>() + kvs.map(|kv| kv.key.len() + kv.value.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use kv_proto::etcdserverpb::WatchResponse;
    use kv_proto::mvccpb::{Event, KeyValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{Cursor, revision};

    /// An event of a revision; its place within that stands in the version.
    fn event(revision: i64, place: i64) -> Event {
        let kv = KeyValue {
            mod_revision: revision,
            version: place,
            ..Default::default()
        };
        Event {
            kv: Some(kv),
            ..Default::default()
        }
    }

    fn answer(events: &[Event], fragment: bool) -> WatchResponse {
        WatchResponse {
            events: events.to_vec(),
            fragment,
            ..Default::default()
        }
    }

    /// The history from a revision on, in answers of some revisions each, those in fragments of some events each.
    fn send(history: &[Event], from: i64, revisions: usize, events: usize) -> Vec<WatchResponse> {
        let rest: Vec<Event> = history
            .iter()
            .filter(|event| revision(event) >= from)
            .cloned()
            .collect();
        let by_revision: Vec<&[Event]> = rest.chunk_by(|a, b| revision(a) == revision(b)).collect();
        let mut answers = Vec::new();
        for batch in by_revision.chunks(revisions) {
            let batch = batch.concat();
            let fragments: Vec<_> = batch.chunks(events).collect();
            for (index, fragment) in fragments.iter().enumerate() {
                answers.push(answer(fragment, index + 1 < fragments.len()));
            }
        }
        answers
    }

    proptest! {
        /// Whatever is cut when, and however the events are packed: each comes once, in order, by whole revisions.
        #[test]
        fn each_event_once_and_in_order(
            sizes in vec(1..6_i64, 1..20),
            lives in vec((1..5_usize, 1..5_usize, 0..8_usize, 0..3_i64), 0..12),
        ) {
            let history: Vec<Event> = (2..)
                .zip(&sizes)
                .flat_map(|(revision, &size)| (0..size).map(move |place| event(revision, place)))
                .collect();
            let mut cursor = Cursor::new(2);
            let mut got = Vec::new();
            // Each life of a connection ends after some answers; the last one does not.
            for (revisions, events, end, again) in lives.into_iter().chain([(3, 3, usize::MAX, 0)]) {
                cursor.created(1);
                // A server may begin earlier than it was asked to.
                for answer in send(&history, cursor.next() - again, revisions, events).into_iter().take(end) {
                    let events = cursor.take(answer).unwrap();
                    if let Some(last) = events.last().map(revision) {
                        prop_assert!(cursor.next() > last);
                        let size = sizes[usize::try_from(last - 2).unwrap()];
                        prop_assert_eq!(events.last(), Some(&event(last, size - 1)), "a part of a revision");
                    }
                    got.extend(events);
                }
            }
            prop_assert_eq!(got, history);
        }
    }

    #[test]
    fn a_watch_from_now_on_goes_on_from_its_beginning() {
        let mut cursor = Cursor::new(0);
        cursor.created(7);
        assert_eq!(cursor.next(), 8);
        cursor.created(12); // elsewhere, later: what happened between is still to come
        assert_eq!(cursor.next(), 8);
        cursor.progressed(10);
        assert_eq!(cursor.next(), 11);
        cursor.progressed(9);
        assert_eq!(cursor.next(), 11, "never back");
    }
}
