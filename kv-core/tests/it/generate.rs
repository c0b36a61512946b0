//! Random requests over few keys, so that they meet.

use bytes::Bytes;
use kv_core::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseExpire, LeaseGrant,
    LeaseRenew, LeaseRevoke, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use proptest::prelude::*;

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Apply(Command),
    Read(Range),
    /// A slice of a sweep over so many keys.
    Sweep(usize),
    /// A slice of a sweep over so many keys, of which the disk deletes only so many records before a restart.
    CutOff(usize, usize),
    /// The state is thrown away and restored from the records.
    Restart,
}

pub(crate) fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => command().prop_map(Step::Apply),
        6 => range().prop_map(Step::Read),
        3 => (1usize..5).prop_map(Step::Sweep),
        1 => (1usize..9, 0usize..6).prop_map(|(max_keys, deleted)| Step::CutOff(max_keys, deleted)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..len)
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        5 => txn().prop_map(Command::Txn),
        1 => revision().prop_map(|revision| Command::Compact(Compact { revision })),
        4 => lease_command(),
    ]
}

/// Few leases, stamps of a clock that may stand still or go back, and TTLs that it passes now and then.
fn lease_command() -> impl Strategy<Value = Command> {
    let id = || prop::sample::select(&[-3_i64, 7, 8, 9]);
    let ids = move || prop::collection::vec(id(), 0..5);
    let now = || 0..90_000_u64;
    prop_oneof![
        4 => (id(), -1..40_i64, now())
            .prop_map(|(id, ttl_s, now_ms)| Command::LeaseGrant(LeaseGrant { id, ttl_s, now_ms })),
        1 => id().prop_map(|id| Command::LeaseRevoke(LeaseRevoke { id })),
        2 => (ids(), now()).prop_map(|(ids, now_ms)| Command::LeaseRenew(LeaseRenew { ids, now_ms })),
        2 => (ids(), now()).prop_map(|(ids, now_ms)| Command::LeaseExpire(LeaseExpire { ids, now_ms })),
    ]
}

fn key() -> impl Strategy<Value = Bytes> {
    let keys: [&'static [u8]; 8] = [b"\0", b"a", b"a\0", b"aa", b"b", b"c", b"d", b"\xff"];
    prop::sample::select(keys.to_vec()).prop_map(Bytes::from_static)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 3 => key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    let values: [&'static [u8]; 4] = [b"", b"x", b"y", b"z\xff"];
    prop::sample::select(values.to_vec()).prop_map(Bytes::from_static)
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0), 2 => Just(7), 2 => Just(8), 1 => Just(-3)]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![1 => -2..1i64, 9 => 1..40i64]
}

fn put() -> impl Strategy<Value = Put> {
    let flag = || prop::bool::weighted(0.2);
    (key(), value(), lease(), flag(), flag(), flag()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRange {
        key,
        range_end,
        prev_kv,
    })
}

pub(crate) fn range() -> impl Strategy<Value = Range> {
    let order = prop::sample::select(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let target = prop_oneof![1 => Just(SortTarget::Key), 1 => prop::sample::select(targets.to_vec())];
    let flag = || prop::bool::weighted(0.15);
    let filter = || prop_oneof![6 => Just(0), 1 => 1..20i64];
    let end = prop_oneof![1 => range_end(), 1 => Just(Bytes::from_static(b"\0"))];
    let at = prop_oneof![1 => Just(0), 1 => revision()];
    let filters = (filter(), filter(), filter(), filter());
    (key(), end, -1..6i64, at, order, target, (flag(), flag()), filters).prop_map(
        |(key, range_end, limit, revision, sort_order, sort_target, (keys_only, count_only), filters)| {
            Range {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(&[
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ]);
    let target = prop_oneof![
        (0..4i64).prop_map(CompareTarget::Version),
        (0..20i64).prop_map(CompareTarget::Create),
        (0..20i64).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        lease().prop_map(CompareTarget::Lease),
    ];
    (key(), range_end(), result, target).prop_map(|(key, range_end, result, target)| Compare {
        key,
        range_end,
        result,
        target,
    })
}

pub(crate) fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        2 => range().prop_map(Op::Range),
        4 => put().prop_map(Op::Put),
        2 => delete().prop_map(Op::DeleteRange),
    ];
    let ops = leaf.prop_recursive(3, 12, 3, |op| {
        let list = || prop::collection::vec(op.clone(), 0..3);
        (prop::collection::vec(compare(), 0..2), list(), list()).prop_map(|(compare, success, failure)| {
            Op::Txn(Txn {
                compare,
                success,
                failure,
            })
        })
    });
    let list = || prop::collection::vec(ops.clone(), 0..4);
    (prop::collection::vec(compare(), 0..3), list(), list()).prop_map(|(compare, success, failure)| Txn {
        compare,
        success,
        failure,
    })
}
