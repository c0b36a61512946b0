//! Events as etcd's messages.

use std::sync::Arc;

use kv_core::Record;
use kv_proto::{
    etcdserverpb::WatchResponse,
    mvccpb::{self, event::EventType},
};
use prost::{Message, length_delimiter_len};

use crate::{api::convert, watch::Event};

/// Bytes of one answer. Beyond it the next revision comes with the next answer: many clients take no message
/// beyond 4 MiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Bytes of the tag in front of each event of an answer.
const TAG_BYTES: usize = 1;

/// An event as a watch is told of it.
fn message(event: &Event, with_previous: bool) -> mvccpb::Event {
    let previous = event.previous().filter(|_| with_previous);
    let (kind, kv) = match &event.record {
        Record::Put(kv) => (EventType::Put, convert::key_value(kv.clone())),
        // As etcd: the key and when it was deleted, and nothing else.
        Record::Delete { key } => (
            EventType::Delete,
            mvccpb::KeyValue {
                key: key.clone(),
                mod_revision: event.at.main,
                ..Default::default()
            },
        ),
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: previous.cloned().map(convert::key_value),
    }
}

/// How the events of one watch become answers.
pub(super) struct Answering {
    pub(super) with_previous: bool,
    /// Where to break up an answer that is not smaller; `None` to keep each revision whole.
    pub(super) fragment_bytes: Option<usize>,
}

impl Answering {
    /// The answers that tell of events, in order. `blank` makes one without events, for a revision up to which
    /// the watch is told everything with it; `through` is that of the last one.
    pub(super) fn answers(
        &self,
        events: &[Arc<Event>],
        through: i64,
        blank: impl Fn(i64) -> WatchResponse,
    ) -> Vec<WatchResponse> {
        let mut answers = Vec::new();
        let mut rest = events;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(self.whole_revisions(rest));
            let revision = match piece.last() {
                Some(last) if !more.is_empty() => last.at.main,
                _ => through,
            };
            let answer = WatchResponse {
                events: piece
                    .iter()
                    .map(|event| message(event, self.with_previous))
                    .collect(),
                ..blank(revision)
            };
            match self.fragment_bytes {
                Some(bytes_max) => fragment(answer, bytes_max, &mut answers),
                None => answers.push(answer),
            }
            rest = more;
        }
        answers
    }

    /// How many of the events go into one answer: as many revisions as fit, and at least one.
    fn whole_revisions(&self, events: &[Arc<Event>]) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for revision in events.chunk_by(|a, b| a.at.main == b.at.main) {
            bytes += revision.iter().map(|event| self.bytes(event)).sum::<usize>();
            if count > 0 && bytes > ANSWER_BYTES_MAX {
                break;
            }
            count += revision.len();
        }
        count
    }

    fn bytes(&self, event: &Event) -> usize {
        let previous = event.previous().filter(|_| self.with_previous);
        event.bytes() + previous.map_or(0, |kv| kv.key.len() + kv.value.len())
    }
}

/// Breaks an answer up into such as are smaller than `bytes_max`, or have a single event. All but the last say
/// that there is more.
fn fragment(mut answer: WatchResponse, bytes_max: usize, answers: &mut Vec<WatchResponse>) {
    if answer.encoded_len() < bytes_max || answer.events.len() < 2 {
        answers.push(answer);
        return;
    }
    let mut events = std::mem::take(&mut answer.events).into_iter().peekable();
    answer.fragment = true;
    let blank_bytes = answer.encoded_len();
    while events.peek().is_some() {
        let mut piece = answer.clone();
        let mut bytes = blank_bytes;
        while let Some(event) = events.next_if(|event| {
            let event_bytes = event.encoded_len();
            bytes += TAG_BYTES + length_delimiter_len(event_bytes) + event_bytes;
            piece.events.is_empty() || bytes < bytes_max
        }) {
            piece.events.push(event);
        }
        piece.fragment = events.peek().is_some();
        answers.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{KeyValue, Revision};
    use proptest::prelude::*;

    use super::*;

    fn event((main, sub, bytes): (i64, i64, usize)) -> Arc<Event> {
        let kv = KeyValue {
            key: format!("{main}.{sub}").into(),
            value: vec![b'v'; bytes].into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            lease: 0,
        };
        Arc::new(Event::new(Revision { main, sub }, Record::Put(kv)))
    }

    fn events() -> impl Strategy<Value = Vec<Arc<Event>>> {
        let revision = prop::collection::vec(0..600_000_usize, 1..6);
        prop::collection::vec(revision, 1..6).prop_map(|revisions| {
            let numbered = (2..).zip(revisions);
            let events =
                numbered.flat_map(|(main, sizes)| (0..).zip(sizes).map(move |(sub, size)| (main, sub, size)));
            events.map(event).collect()
        })
    }

    fn blank(revision: i64) -> WatchResponse {
        WatchResponse {
            watch_id: revision,
            ..Default::default()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn every_event_once_and_revisions_whole(events in events(), fragment_bytes in prop::option::of(1_000..2_000_000_usize)) {
            let answering = Answering { with_previous: false, fragment_bytes };
            let answers = answering.answers(&events, 100, blank);
            let told: Vec<_> = answers.iter().flat_map(|answer| answer.events.clone()).collect();
            let expected: Vec<_> = events.iter().map(|event| message(event, false)).collect();
            prop_assert_eq!(told, expected);
            let main = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
            for two in answers.windows(2) {
                let (last, first) = (main(two[0].events.last().unwrap()), main(&two[1].events[0]));
                prop_assert_eq!(two[0].fragment, two[0].watch_id == two[1].watch_id);
                if two[0].fragment {
                    let with_next = WatchResponse {
                        events: [&two[0].events[..], &two[1].events[..1]].concat(),
                        ..two[0].clone()
                    };
                    prop_assert!(with_next.encoded_len() >= fragment_bytes.unwrap());
                } else {
                    prop_assert!(last < first, "a revision is whole");
                    prop_assert_eq!(two[0].watch_id, last, "told up to there, and no further");
                }
            }
            for answer in &answers {
                let single = answer.events.len() == 1;
                prop_assert!(single || fragment_bytes.is_none_or(|max| answer.encoded_len() < max));
            }
            let last = answers.last().unwrap();
            prop_assert_eq!((last.watch_id, last.fragment), (100, false));
        }
    }
}
