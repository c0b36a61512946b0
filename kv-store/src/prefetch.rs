//! Fetches the values that commands will ask for before the state is locked to apply them.
//!
//! Only the applier changes the state, so what a command reads is either there now or written by a
//! command before it in the same call. Whatever is not foreseen here (a read of an old revision, more values
//! than the bound) is read with the state locked: slower for others, and as right.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{Command, CompareTarget, DeleteRange, KeyValue, Op, Put, Range, Revision, State, Txn};

use crate::{error::Fault, live::Live};

/// Values fetched ahead for one call.
const VALUES_MAX: usize = 4096;

/// The values that `commands` will need, as far as they are in the engine now.
pub(crate) fn prefetch<'a>(
    live: &Live,
    commands: impl Iterator<Item = &'a Command>,
) -> Result<BTreeMap<Revision, KeyValue>, Fault> {
    let mut wanted = Vec::new();
    for command in commands {
        reads_of(command, &mut wanted);
    }
    fetch(live, &wanted)
}

/// The values that a transaction will need, as far as they are in the engine now.
pub(crate) fn prefetch_txn(live: &Live, txn: &Txn) -> Result<BTreeMap<Revision, KeyValue>, Fault> {
    let mut wanted = Vec::new();
    reads_of_txn(txn, &mut wanted);
    fetch(live, &wanted)
}

fn fetch(live: &Live, wanted: &[Range]) -> Result<BTreeMap<Revision, KeyValue>, Fault> {
    let mut values = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(values);
    }
    let revisions = planned(&live.core.read().state, wanted);
    for at in revisions {
        if let Some(kv) = live.value(at)? {
            values.insert(at, kv);
        }
    }
    Ok(values)
}

fn planned(state: &State, wanted: &[Range]) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for range in wanted {
        // A refusal is for the command to find again.
        if let Ok(plan) = state.plan(range) {
            revisions.extend(plan.revisions().iter().take(VALUES_MAX - revisions.len()));
        }
        if revisions.len() == VALUES_MAX {
            break;
        }
    }
    revisions
}

/// Whether a command may take long to be applied: it needs values, or deletes keys that it does not name.
pub(crate) fn may_take_long(command: &Command) -> bool {
    match command.bare() {
        Command::DeleteRange(delete) if !delete.range_end.is_empty() => return true,
        Command::Txn(txn) if deletes_range(txn) => return true,
        // They delete however many keys their leases have.
        Command::LeaseRevoke(_) | Command::LeaseExpire(_) => return true,
        _ => {}
    }
    let mut wanted = Vec::new();
    reads_of(command, &mut wanted);
    !wanted.is_empty()
}

fn deletes_range(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::DeleteRange(delete) => !delete.range_end.is_empty(),
        Op::Txn(txn) => deletes_range(txn),
        Op::Put(_) | Op::Range(_) => false,
    })
}

fn reads_of(command: &Command, wanted: &mut Vec<Range>) {
    match command.bare() {
        Command::Put(put) => reads_of_put(put, wanted),
        Command::DeleteRange(delete) => reads_of_delete(delete, wanted),
        Command::Txn(txn) => reads_of_txn(txn, wanted),
        Command::Compact(_)
        | Command::Auth(_)
        | Command::As { .. }
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseRenew(_)
        | Command::LeaseExpire(_)
        | Command::Alarm(_) => {}
    }
}

fn whole(key: &Bytes, range_end: &Bytes) -> Range {
    Range {
        key: key.clone(),
        range_end: range_end.clone(),
        ..Range::default()
    }
}

fn reads_of_put(put: &Put, wanted: &mut Vec<Range>) {
    if put.prev_kv || put.ignore_value || put.ignore_lease {
        wanted.push(whole(&put.key, &Bytes::new()));
    }
}

fn reads_of_delete(delete: &DeleteRange, wanted: &mut Vec<Range>) {
    if delete.prev_kv {
        wanted.push(whole(&delete.key, &delete.range_end));
    }
}

/// What the compares of a transaction read, and both its branches.
fn reads_of_txn(txn: &Txn, wanted: &mut Vec<Range>) {
    for compare in &txn.compare {
        if matches!(compare.target, CompareTarget::Value(_) | CompareTarget::Lease(_)) {
            wanted.push(whole(&compare.key, &compare.range_end));
        }
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(put) => reads_of_put(put, wanted),
            Op::DeleteRange(delete) => reads_of_delete(delete, wanted),
            Op::Range(range) => wanted.push(range.clone()),
            Op::Txn(txn) => reads_of_txn(txn, wanted),
        }
    }
}
