//! What watches are promised, on a store and a hub without the rest of a node: every event once, in order, none
//! missing, revisions whole, previous values right, progress never ahead; under slow readers, compactions,
//! sweeps, and snapshots that replace the store.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use kv_core::{Command, Compact, DeleteRange, KeyValue, Op, Put, Record, Revision, Txn};
use kv_node::watch::{Event, Feed, Filter, Hub, Interest, News, SubscriptionError, WatchKey, WatchSpec};
use kv_store::{Options, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Command>),
    /// The log is applied elsewhere, and a snapshot of that replaces the store.
    Replace(Vec<Command>),
    Sweep,
    Watch {
        feed: usize,
        spec: WatchSpec,
        /// The start, from the current revision; `None` for now.
        start: Option<i64>,
    },
    Cancel(prop::sample::Index),
    /// Takes the news of a feed so many times.
    Read(usize, usize),
    Drop(usize),
}

const FEEDS: usize = 3;

fn key() -> impl Strategy<Value = Bytes> {
    (b'a'..=b'f').prop_map(|letter| Bytes::from(vec![letter]))
}

fn put() -> impl Strategy<Value = Put> {
    // Large ones fill an inbox soon.
    let value =
        prop_oneof![4 => 1..40_usize, 1 => Just(300_000)].prop_map(|bytes| Bytes::from(vec![b'v'; bytes]));
    (key(), value).prop_map(|(key, value)| Put {
        key,
        value,
        ..Put::default()
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key(), prop::option::of(key())).prop_map(|(key, end)| DeleteRange {
        key,
        range_end: end.unwrap_or_default(),
        prev_kv: false,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let op = prop_oneof![put().prop_map(Op::Put), delete().prop_map(Op::DeleteRange)];
    let txn = prop::collection::vec(op, 1..5).prop_map(|success| {
        Command::Txn(Txn {
            success,
            ..Txn::default()
        })
    });
    prop_oneof![
        8 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        4 => txn,
        1 => (0..60_i64).prop_map(|revision| Command::Compact(Compact { revision })),
    ]
}

fn spec() -> impl Strategy<Value = WatchSpec> {
    let range_end = prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"\0")),
        2 => Just(Bytes::from_static(b"g")),
    ];
    (key(), range_end, any::<(bool, bool, bool)>()).prop_map(
        |(key, range_end, (previous, no_put, no_delete))| WatchSpec {
            interest: Interest { key, range_end },
            start_revision: 0,
            filter: Filter {
                no_put: no_put && no_delete,
                no_delete: no_delete && !no_put,
            },
            previous,
            tag: 0,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let commands = || prop::collection::vec(command(), 1..8);
    let start = prop_oneof![3 => Just(None), 3 => (-30..3_i64).prop_map(Some)];
    prop_oneof![
        8 => commands().prop_map(Step::Apply),
        1 => commands().prop_map(Step::Replace),
        1 => Just(Step::Sweep),
        4 => (0..FEEDS, spec(), start).prop_map(|(feed, spec, start)| Step::Watch { feed, spec, start }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        8 => (0..FEEDS, 1..4_usize).prop_map(|(feed, times)| Step::Read(feed, times)),
        1 => (0..FEEDS).prop_map(Step::Drop),
    ]
}

/// A watch, and how far it has been told.
struct Watched {
    feed: usize,
    spec: WatchSpec,
    through: i64,
}

/// A store that is applied to, one that follows it, and the watches of the latter.
struct World {
    leader: Store,
    follower: Store,
    hub: Hub,
    index: u64,
    written: Vec<(Revision, Record)>,
    feeds: Vec<Feed>,
    watched: BTreeMap<WatchKey, Watched>,
}

impl World {
    fn new() -> World {
        let store = || Store::in_memory(Options::default()).unwrap();
        let follower = store();
        let hub = Hub::new(follower.clone());
        World {
            leader: store(),
            follower,
            index: 0,
            written: Vec::new(),
            feeds: (0..FEEDS).map(|_| hub.feed().unwrap()).collect(),
            hub,
            watched: BTreeMap::new(),
        }
    }

    fn entries(&mut self, commands: Vec<Command>) -> Vec<kv_store::Entry> {
        let entries: Vec<_> = (self.index + 1..).zip(commands.into_iter().map(Some)).collect();
        self.index += entries.len() as u64;
        let applied = self.leader.apply(&entries, Bytes::new()).unwrap();
        self.written.extend(applied.records.iter().cloned());
        entries
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Apply(commands) => {
                let entries = self.entries(commands);
                let applied = self.follower.apply(&entries, Bytes::new()).unwrap();
                self.hub.publish(&applied.records);
            }
            Step::Replace(commands) => {
                self.entries(commands);
                let view = self.leader.snapshot().unwrap();
                let mut install = self.follower.begin_install(view.header().clone()).unwrap();
                for chunk in view.chunks(1 << 20) {
                    install.push(&chunk.unwrap()).unwrap();
                }
                self.follower.install(install.finish().unwrap()).unwrap();
                self.hub.replaced(self.follower.revision());
            }
            Step::Sweep => while self.follower.sweep_step().unwrap() {},
            Step::Watch {
                feed,
                mut spec,
                start,
            } => {
                // 0 would mean now.
                spec.start_revision = start.map_or(0, |start| (self.hub.published() + start).max(1));
                let (key, revision) = self.feeds[feed].add(spec.clone()).unwrap();
                assert_eq!(revision, self.follower.revision());
                let through = match spec.start_revision {
                    0 => revision,
                    start => start - 1,
                };
                self.watched.insert(key, Watched { feed, spec, through });
            }
            Step::Cancel(which) => {
                let keys: Vec<_> = self.watched.keys().copied().collect();
                if !keys.is_empty() {
                    let key = keys[which.index(keys.len())];
                    let watched = self.watched.remove(&key).unwrap();
                    self.feeds[watched.feed].remove(key);
                }
            }
            Step::Read(feed, times) => {
                for _ in 0..times {
                    self.read(feed);
                }
            }
            Step::Drop(feed) => {
                self.feeds[feed] = self.hub.feed().unwrap();
                self.watched.retain(|_, watched| watched.feed != feed);
            }
        }
    }

    /// Takes what a feed has to tell at once; false if that is nothing.
    fn read(&mut self, feed: usize) -> bool {
        let news = tokio::task::unconstrained(self.feeds[feed].next()).now_or_never();
        let is_news = news.is_some();
        for news in news.into_iter().flat_map(Result::unwrap) {
            self.check(news);
        }
        if let Some(revision) = self.feeds[feed].progress(None) {
            assert_eq!(revision, self.hub.published());
            for watched in self.watched.values().filter(|watched| watched.feed == feed) {
                assert_eq!(
                    self.wanted(&watched.spec, watched.through + 1..=revision),
                    [],
                    "progress is ahead"
                );
            }
        }
        is_news
    }

    fn wanted(&self, spec: &WatchSpec, revisions: RangeInclusive<i64>) -> Vec<(Revision, Record)> {
        let wanted = |(at, record): &&(Revision, Record)| {
            let passes = match record {
                Record::Put(_) => !spec.filter.no_put,
                Record::Delete { .. } => !spec.filter.no_delete,
            };
            passes && revisions.contains(&at.main) && spec.interest.range().contains(record.key())
        };
        self.written.iter().filter(wanted).cloned().collect()
    }

    fn check(&mut self, news: News) {
        match news {
            News::Events {
                watch,
                events,
                through,
                ..
            } => {
                let watched = &self.watched[&watch];
                let told: Vec<_> = events
                    .iter()
                    .map(|event| (event.at, event.record.clone()))
                    .collect();
                assert_eq!(told, self.wanted(&watched.spec, watched.through + 1..=through));
                if watched.spec.previous {
                    events.iter().for_each(|event| self.check_previous(event));
                }
                self.watched.get_mut(&watch).unwrap().through = through;
            }
            News::Compacted { watch, compacted, .. } => {
                let watched = self.watched.remove(&watch).unwrap();
                assert_eq!(compacted, self.follower.compacted());
                assert!(
                    watched.through + 1 < compacted,
                    "nothing that it wants was compacted"
                );
            }
        }
    }

    fn check_previous(&self, event: &Event) {
        let of_key = |(at, record): &&(Revision, Record)| {
            at.main < event.at.main && record.key() == event.record.key()
        };
        let before = self.written.iter().rev().find(of_key);
        let expected: Option<&KeyValue> = match before {
            Some((_, Record::Put(kv))) => Some(kv),
            _ => None,
        };
        let created = matches!(&event.record, Record::Put(kv) if kv.create_revision == event.at.main);
        let may_be_none = created || self.follower.compacted() >= event.at.main;
        assert!(event.previous() == expected || (may_be_none && event.previous().is_none()));
    }

    /// When everybody has read all there is, everything has been told.
    fn end(mut self) {
        for feed in 0..FEEDS {
            while self.read(feed) {}
            assert_eq!(self.feeds[feed].progress(None), Some(self.hub.published()));
        }
        assert_eq!(self.hub.published(), self.follower.revision());
        let stats = self.hub.stats();
        assert_eq!(
            (stats.watches, stats.behind, stats.waiting_bytes),
            (self.watched.len(), 0, 0)
        );
        self.feeds.clear();
        let stats = self.hub.stats();
        assert_eq!((stats.watches, stats.feeds), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn watches_are_told_everything_once_and_in_order(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            steps.into_iter().for_each(|step| world.take(step));
            world.end();
        });
    }
}

fn put_of(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Put(Put {
        key: Bytes::from(key.to_owned()),
        value: value.into(),
        ..Put::default()
    })
}

fn everything() -> Interest {
    Interest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
    }
}

/// Readers of all speeds come and go while a writer writes as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_any_speed_see_every_revision() {
    const WRITES: i64 = 6_000;
    let store = Store::in_memory(Options::default()).unwrap();
    let hub = Hub::new(store.clone());
    let writer = hub.clone();
    let written = tokio::task::spawn_blocking(move || {
        for index in 1..=WRITES {
            let entry = (index.cast_unsigned(), Some(put_of("a", vec![b'v'; 2_000])));
            writer.publish(&store.apply(&[entry], Bytes::new()).unwrap().records);
        }
    });
    let readers = (0..8_u64).map(|reader| {
        let hub = hub.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(reader * 5)).await;
            // Some from the beginning, some from now on.
            let start = if reader % 2 == 0 { 2 } else { hub.published() + 1 };
            let mut subscription = hub.subscribe(everything(), start).unwrap();
            let mut next = start;
            while next <= WRITES + 1 {
                for event in subscription.next().await.unwrap() {
                    assert_eq!(event.at.main, next);
                    next += 1;
                }
                tokio::time::sleep(Duration::from_millis(reader * 3)).await;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    written.await.unwrap();
    let stats = hub.stats();
    assert_eq!((stats.watches, stats.waiting_bytes), (0, 0));
    assert!(stats.fell_behind > 0, "no reader was slow: {stats:?}");
}

#[tokio::test]
async fn a_subscription_waits_and_hears_of_compaction() {
    let store = Store::in_memory(Options::default()).unwrap();
    let hub = Hub::new(store.clone());
    let mut index = 0;
    let mut apply = |command| {
        index += 1;
        hub.publish(
            &store
                .apply(&[(index, Some(command))], Bytes::new())
                .unwrap()
                .records,
        );
    };
    let interest = Interest {
        key: "lock".into(),
        range_end: Bytes::new(),
    };
    apply(put_of("lock", "held"));
    let mut waiting = hub.subscribe(interest.clone(), 3).unwrap();
    assert!(waiting.next().now_or_never().is_none());
    apply(put_of("other", "1"));
    assert!(waiting.next().now_or_never().is_none());
    apply(Command::DeleteRange(DeleteRange {
        key: "lock".into(),
        ..DeleteRange::default()
    }));
    let events = waiting.next().await.unwrap();
    assert!(matches!(&events[0].record, Record::Delete { key } if key == "lock"));
    apply(Command::Compact(Compact { revision: 3 }));
    let mut late = hub.subscribe(interest, 2).unwrap();
    assert!(matches!(late.next().await, Err(SubscriptionError::Compacted(3))));
}

#[tokio::test]
async fn watches_have_a_bound() {
    let hub = Hub::new(Store::in_memory(Options::default()).unwrap());
    let mut feed = hub.feed().unwrap();
    let spec = WatchSpec {
        interest: Interest {
            key: "a".into(),
            range_end: Bytes::new(),
        },
        start_revision: 0,
        filter: Filter::default(),
        previous: false,
        tag: 0,
    };
    for _ in 0..kv_node::watch::FEED_WATCHES_MAX {
        feed.add(spec.clone()).unwrap();
    }
    assert!(feed.add(spec.clone()).is_err());
    assert!(
        hub.feed().unwrap().add(spec.clone()).is_ok(),
        "another stream is not affected"
    );
    drop(feed);
    assert_eq!(hub.stats().watches, 0);
}
