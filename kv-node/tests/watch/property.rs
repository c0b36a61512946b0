//! What watches are promised, whatever is written, compacted, replaced and read in which order: every event once, in
//! order, none missing, revisions whole, previous values right, progress never ahead.
//!
//! There is one log and there are two nodes, each of which has come to its own place in it: whoever watches goes from one
//! to the other, as after the loss of a node or of a leader, and goes on where it was.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bytes::Bytes;
use futures::FutureExt;
use kv_core::{Command, Compact, DeleteRange, KeyValue, Op, Put, Record, Revision, Txn};
use kv_node::watch::{Event, Feed, Filter, Hub, Interest, News, WatchKey, WatchSpec};
use kv_store::{Options, Store};
use proptest::{
    prelude::*,
    test_runner::{TestError, TestRunner},
};

/// Whether the promises are kept in random sequences of steps.
///
/// # Errors
/// The steps after which one is not.
pub(crate) fn check(config: ProptestConfig) -> Result<(), TestError<Vec<Step>>> {
    TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            steps.into_iter().for_each(|step| world.take(step));
            world.end();
        });
        Ok(())
    })
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// What the leader of the time puts into the log.
    Write(Vec<Command>),
    /// A node applies so many entries.
    Follow(usize, usize),
    /// A snapshot of all there is replaces a node's store.
    Replace(usize),
    Sweep(usize),
    Watch {
        feed: usize,
        spec: WatchSpec,
        /// The start, from the node's revision; `None` for now.
        start: Option<i64>,
    },
    /// A watch goes on from where it is, in another feed, most likely of another node.
    Move(prop::sample::Index, usize),
    Cancel(prop::sample::Index),
    /// Takes the news of a feed so many times.
    Read(usize, usize),
    Drop(usize),
}

const NODES: usize = 2;
const FEEDS: usize = 4;

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
    let commands = prop::collection::vec(command(), 1..8);
    let start = prop_oneof![3 => Just(None), 3 => (-30..3_i64).prop_map(Some)];
    let which = any::<prop::sample::Index>;
    prop_oneof![
        8 => commands.prop_map(Step::Write),
        12 => (0..NODES, 1..12_usize).prop_map(|(node, entries)| Step::Follow(node, entries)),
        1 => (0..NODES).prop_map(Step::Replace),
        1 => (0..NODES).prop_map(Step::Sweep),
        4 => (0..FEEDS, spec(), start).prop_map(|(feed, spec, start)| Step::Watch { feed, spec, start }),
        3 => (which(), 0..FEEDS).prop_map(|(which, feed)| Step::Move(which, feed)),
        1 => which().prop_map(Step::Cancel),
        8 => (0..FEEDS, 1..4_usize).prop_map(|(feed, times)| Step::Read(feed, times)),
        1 => (0..FEEDS).prop_map(Step::Drop),
    ]
}

/// A watch, and how far it has been told.
struct Watched {
    spec: WatchSpec,
    through: i64,
}

/// A node, and how many entries of the log it has applied.
struct Node {
    store: Store,
    hub: Hub,
    applied: usize,
}

/// A log, the state that it makes, nodes that follow it, and their watches.
struct World {
    all: Store,
    log: Vec<kv_store::Entry>,
    written: Vec<(Revision, Record)>,
    nodes: [Node; NODES],
    feeds: Vec<Feed>,
    /// By feed.
    watched: BTreeMap<(usize, WatchKey), Watched>,
}

/// The node of a feed.
fn node_of(feed: usize) -> usize {
    feed % NODES
}

impl World {
    fn new() -> World {
        let store = || Store::in_memory(Options::default()).unwrap();
        let nodes = std::array::from_fn(|_| {
            let store = store();
            Node {
                hub: Hub::new(store.clone()),
                store,
                applied: 0,
            }
        });
        World {
            all: store(),
            log: Vec::new(),
            written: Vec::new(),
            feeds: (0..FEEDS)
                .map(|feed| nodes[node_of(feed)].hub.feed().unwrap())
                .collect(),
            nodes,
            watched: BTreeMap::new(),
        }
    }

    fn node(&self, feed: usize) -> &Node {
        &self.nodes[node_of(feed)]
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write(commands) => {
                let first = self.log.len() as u64 + 1;
                let entries: Vec<_> = (first..).zip(commands.into_iter().map(Some)).collect();
                let applied = self.all.apply(&entries, Bytes::new()).unwrap();
                self.written.extend(applied.records.iter().cloned());
                self.log.extend(entries);
            }
            Step::Follow(node, entries) => self.nodes[node].follow(&self.log, entries),
            Step::Replace(node) => self.nodes[node].replace(&self.all, self.log.len()),
            Step::Sweep(node) => while self.nodes[node].store.sweep_step().unwrap() {},
            Step::Watch {
                feed,
                mut spec,
                start,
            } => {
                let node = self.node(feed);
                // 0 would mean now.
                spec.start_revision = start.map_or(0, |start| (node.hub.published() + start).max(1));
                let through = match spec.start_revision {
                    0 => node.store.revision(),
                    start => start - 1,
                };
                self.watch(feed, Watched { spec, through });
            }
            Step::Move(which, feed) => {
                if let Some(mut watched) = self.cancel(which) {
                    watched.spec.start_revision = watched.through + 1;
                    self.watch(feed, watched);
                }
            }
            Step::Cancel(which) => drop(self.cancel(which)),
            Step::Read(feed, times) => {
                for _ in 0..times {
                    self.read(feed);
                }
            }
            Step::Drop(feed) => {
                self.feeds[feed] = self.node(feed).hub.feed().unwrap();
                self.watched.retain(|(of, _), _| *of != feed);
            }
        }
    }

    fn watch(&mut self, feed: usize, watched: Watched) {
        let (key, revision) = self.feeds[feed].add(watched.spec.clone()).unwrap();
        assert_eq!(revision, self.node(feed).store.revision());
        self.watched.insert((feed, key), watched);
    }

    fn cancel(&mut self, which: prop::sample::Index) -> Option<Watched> {
        let keys: Vec<_> = self.watched.keys().copied().collect();
        let (feed, key) = *keys.get(which.index(keys.len().max(1)))?;
        self.feeds[feed].remove(key);
        self.watched.remove(&(feed, key))
    }

    /// Takes what a feed has to tell at once; false if that is nothing.
    fn read(&mut self, feed: usize) -> bool {
        let news = tokio::task::unconstrained(self.feeds[feed].next()).now_or_never();
        let is_news = news.is_some();
        for news in news.into_iter().flat_map(Result::unwrap) {
            self.check(feed, news);
        }
        if let Some(revision) = self.feeds[feed].progress(None) {
            assert_eq!(revision, self.node(feed).hub.published());
            for (_, watched) in self.watched.iter().filter(|((of, _), _)| *of == feed) {
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

    fn check(&mut self, feed: usize, news: News) {
        match news {
            News::Events {
                watch,
                events,
                through,
                ..
            } => {
                let watched = &self.watched[&(feed, watch)];
                let told: Vec<_> = events
                    .iter()
                    .map(|event| (event.at, event.record.clone()))
                    .collect();
                assert_eq!(told, self.wanted(&watched.spec, watched.through + 1..=through));
                if watched.spec.previous {
                    events.iter().for_each(|event| self.check_previous(feed, event));
                }
                self.watched.get_mut(&(feed, watch)).unwrap().through = through;
            }
            News::Compacted { watch, compacted, .. } => {
                let watched = self.watched.remove(&(feed, watch)).unwrap();
                assert_eq!(compacted, self.node(feed).store.compacted());
                assert!(
                    watched.through + 1 < compacted,
                    "nothing that it wants was compacted"
                );
            }
        }
    }

    fn check_previous(&self, feed: usize, event: &Event) {
        let of_key = |(at, record): &&(Revision, Record)| {
            at.main < event.at.main && record.key() == event.record.key()
        };
        let before = self.written.iter().rev().find(of_key);
        let expected: Option<&KeyValue> = match before {
            Some((_, Record::Put(kv))) => Some(kv),
            _ => None,
        };
        let created = matches!(&event.record, Record::Put(kv) if kv.create_revision == event.at.main);
        let may_be_none = created || self.node(feed).store.compacted() >= event.at.main;
        assert!(event.previous() == expected || (may_be_none && event.previous().is_none()));
    }

    /// When everybody has applied and read all there is, everything has been told.
    fn end(mut self) {
        for node in &mut self.nodes {
            node.follow(&self.log, self.log.len());
            assert_eq!(node.hub.published(), self.all.revision());
        }
        for feed in 0..FEEDS {
            while self.read(feed) {}
            assert_eq!(self.feeds[feed].progress(None), Some(self.all.revision()));
        }
        let mut watches = 0;
        for node in &self.nodes {
            let stats = node.hub.stats();
            assert_eq!((stats.behind, stats.waiting_bytes), (0, 0));
            watches += stats.watches;
        }
        assert_eq!(watches, self.watched.len());
        self.feeds.clear();
        for node in &self.nodes {
            let stats = node.hub.stats();
            assert_eq!((stats.watches, stats.feeds), (0, 0));
        }
    }
}

impl Node {
    fn follow(&mut self, log: &[kv_store::Entry], entries: usize) {
        let end = log.len().min(self.applied + entries);
        let entries = &log[self.applied..end];
        if !entries.is_empty() {
            let applied = self.store.apply(entries, Bytes::new()).unwrap();
            self.hub.publish(&applied.records);
            self.applied = end;
        }
    }

    fn replace(&mut self, all: &Store, applied: usize) {
        if self.applied == applied {
            return;
        }
        let view = all.snapshot().unwrap();
        let mut install = self.store.begin_install(view.header().clone()).unwrap();
        for chunk in view.chunks(1 << 20) {
            install.push(&chunk.unwrap()).unwrap();
        }
        self.store.install(install.finish().unwrap()).unwrap();
        self.hub.replaced(self.store.revision());
        self.applied = applied;
    }
}
