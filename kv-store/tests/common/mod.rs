//! Random commands for the tests of the store, and a small deterministic source of them.
#![allow(dead_code, reason = "each test uses a part of it")]

use bytes::Bytes;
use kv_core::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Fact, LeaseExpire, LeaseGrant,
    LeaseRenew, LeaseRevoke, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use kv_store::{Options, SledOptions, Store};
use proptest::prelude::*;

/// A few keys, so that they meet.
pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    (0..12_u8).prop_map(|n| Bytes::from(format!("k{n:02}")))
}

fn key_range() -> impl Strategy<Value = (Bytes, Bytes)> {
    prop_oneof![
        key().prop_map(|key| (key, Bytes::new())),
        (key(), key()).prop_map(|(a, b)| (a.clone().min(b.clone()), a.max(b))),
        Just((Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from),
        1 => (1_000..6_000_usize, any::<u8>()).prop_map(|(size, byte)| Bytes::from(vec![byte; size])),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), value(), any::<bool>(), 0..8_u8, lease()).prop_map(|(key, value, prev_kv, rare, lease)| {
        let ignore_value = rare == 0;
        let value = if ignore_value { Bytes::new() } else { value };
        Put {
            key,
            value,
            prev_kv,
            ignore_value,
            ignore_lease: rare == 1,
            lease: if rare < 5 { 0 } else { lease },
        }
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key_range(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRange {
        key,
        range_end,
        prev_kv,
    })
}

pub(crate) fn range(revisions: std::ops::Range<i64>) -> impl Strategy<Value = Range> {
    let revision = prop_oneof![Just(0), revisions];
    let order = prop_oneof![
        Just(SortOrder::None),
        Just(SortOrder::Ascend),
        Just(SortOrder::Descend)
    ];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    (key_range(), revision, order, target, 0..4_i64, any::<bool>()).prop_map(
        |((key, range_end), revision, sort_order, sort_target, limit, keys_only)| Range {
            key,
            range_end,
            revision,
            sort_order,
            sort_target,
            limit,
            keys_only,
            ..Range::default()
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..4_i64).prop_map(CompareTarget::Version),
        value().prop_map(CompareTarget::Value),
        Just(CompareTarget::Create(0)),
    ];
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::NotEqual),
        Just(CompareResult::Greater)
    ];
    (key(), target, result).prop_map(|(key, target, result)| Compare {
        key,
        range_end: Bytes::new(),
        result,
        target,
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        put().prop_map(Op::Put),
        delete().prop_map(Op::DeleteRange),
        range(0..30).prop_map(Op::Range),
    ]
}

/// Mostly one that is granted by then or not any more.
fn lease() -> impl Strategy<Value = i64> {
    prop::sample::select(&[-5_i64, 1, 2, 3])
}

/// The clock goes on by less than most TTLs, and sometimes by more.
fn lease_command() -> impl Strategy<Value = Command> {
    let now = || prop_oneof![3 => 0..30_000_u64, 1 => 0..900_000_u64];
    let ids = || prop::collection::vec(lease(), 0..4);
    prop_oneof![
        4 => (lease(), 0..60_i64, now())
            .prop_map(|(id, ttl_s, now_ms)| Command::LeaseGrant(LeaseGrant { id, ttl_s, now_ms })),
        1 => lease().prop_map(|id| Command::LeaseRevoke(LeaseRevoke { id })),
        2 => (ids(), now()).prop_map(|(ids, now_ms)| Command::LeaseRenew(LeaseRenew { ids, now_ms })),
        2 => (ids(), now()).prop_map(|(ids, now_ms)| Command::LeaseExpire(LeaseExpire { ids, now_ms })),
    ]
}

/// One command as the log could carry it.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    let ops = || prop::collection::vec(op(), 0..4);
    prop_oneof![
        6 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        2 => (prop::collection::vec(compare(), 0..2), ops(), ops())
            .prop_map(|(compare, success, failure)| Command::Txn(Txn { compare, success, failure })),
        1 => (0..40_i64).prop_map(|revision| Command::Compact(Compact { revision })),
        3 => lease_command(),
    ]
}

/// Small buffers, so that tests reach their bounds.
pub(crate) fn options() -> Options {
    let sled = SledOptions {
        cache_bytes: 1 << 20,
        ..SledOptions::default()
    };
    Options {
        cache_bytes: 64 << 10,
        sled,
        ..Options::default()
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The command at an index of a long log, the same in every process.
pub(crate) fn command_at(index: u64) -> Command {
    let mut numbers = Numbers::new(index);
    let key = Bytes::from(format!("key-{:03}", numbers.below(200)));
    let lease = |number: u64| number.cast_signed() % 20 + 1;
    match numbers.below(24) {
        20 => Command::LeaseGrant(LeaseGrant {
            id: lease(index),
            ttl_s: 60,
            now_ms: index * 100,
        }),
        21 => Command::LeaseRenew(LeaseRenew {
            ids: (1..20).step_by(3).collect(),
            now_ms: index * 100,
        }),
        22 => Command::LeaseExpire(LeaseExpire {
            ids: (1..=20).collect(),
            now_ms: index * 100,
        }),
        // Refused where there is no such lease.
        23 => Command::Put(Put {
            key,
            lease: lease(numbers.next() % 100),
            ..Put::default()
        }),
        0 => Command::DeleteRange(DeleteRange {
            key,
            ..DeleteRange::default()
        }),
        1 => Command::Txn(Txn {
            compare: Vec::new(),
            success: (0..4)
                .map(|n| {
                    Op::Put(Put {
                        key: Bytes::from(format!("txn-{n}")),
                        value: key.clone(),
                        ..Put::default()
                    })
                })
                .collect(),
            failure: Vec::new(),
        }),
        2 => Command::Compact(Compact {
            revision: (index / 2).cast_signed(),
        }),
        _ => {
            let size = if numbers.below(50) == 0 {
                20_000
            } else {
                10 + numbers.below(300)
            };
            let value = Bytes::from(vec![
                b'a' + (index % 26) as u8;
                usize::try_from(size).expect("small")
            ]);
            Command::Put(Put {
                key,
                value,
                ..Put::default()
            })
        }
    }
}

/// Applies the entries of that log from the store's applied point to `through`, in batches.
pub(crate) fn apply_log(store: &Store, through: u64, batch: u64) {
    let mut next = store.applied().map_or(1, |point| point.index + 1);
    while next <= through {
        let last = (next + batch - 1).min(through);
        let entries: Vec<_> = (next..=last)
            .map(|index| (index, Some(command_at(index))))
            .collect();
        store
            .apply(&entries, Bytes::from(format!("raft {last}")))
            .expect("applies");
        next = last + 1;
    }
}

/// Sweeps until nothing is left.
pub(crate) fn sweep(store: &Store) {
    while store.sweep_step().expect("sweeps") {}
}

/// Everything that exists.
pub(crate) fn all() -> Range {
    Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    }
}

/// What is replicated besides records.
pub(crate) fn facts(store: &Store) -> Vec<Fact> {
    store.with_state(|state| state.facts().collect())
}

/// Takes a snapshot of one store into another.
pub(crate) fn transfer(from: &Store, to: &Store, chunk_bytes: usize) {
    let view = from.snapshot().expect("a view");
    let mut install = to.begin_install(view.header().clone()).expect("begins");
    for chunk in view.chunks(chunk_bytes) {
        install.push(&chunk.expect("a chunk")).expect("is taken");
    }
    to.install(install.finish().expect("complete")).expect("installs");
}
