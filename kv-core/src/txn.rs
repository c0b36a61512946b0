//! Transactions before they write: which branch is taken, and whether all of it may run.
//!
//! All compares, those of transactions inside too, see the state before the outermost one, so all branches
//! are decided first. Then puts are checked, then reads, over the branches taken and in their order, as in
//! etcd.

use std::cmp::Ordering;

use crate::history::Point;
use crate::{
    Compare, CompareResult, CompareTarget, DeleteRange, Error, KeyRange, Op, Put, Range, Response, State,
    Txn, Values,
};

/// A transaction whose compares are decided, inside ones too.
pub(crate) struct Branch<'a> {
    pub(crate) succeeded: bool,
    pub(crate) steps: Vec<Step<'a>>,
}

/// One operation of the branch taken.
pub(crate) enum Step<'a> {
    Range(&'a Range),
    Put(&'a Put),
    DeleteRange(&'a DeleteRange),
    Txn(Branch<'a>),
}

impl<'a> Branch<'a> {
    /// Evaluates all compares against the state as it is.
    pub(crate) fn decide<V: Values>(state: &State, values: &V, txn: &'a Txn) -> Result<Branch<'a>, V::Error> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = holds(state, values, compare)?;
            if !succeeded {
                break;
            }
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut steps = Vec::with_capacity(ops.len());
        for op in ops {
            steps.push(match op {
                Op::Range(range) => Step::Range(range),
                Op::Put(put) => Step::Put(put),
                Op::DeleteRange(delete) => Step::DeleteRange(delete),
                Op::Txn(inner) => Step::Txn(Branch::decide(state, values, inner)?),
            });
        }
        Ok(Branch { succeeded, steps })
    }

    /// Refuses puts on a missing key that would keep its value or lease, and on a missing lease.
    pub(crate) fn check_puts(&self, state: &State) -> Result<(), Error> {
        for step in &self.steps {
            match step {
                Step::Put(put) => {
                    if (put.ignore_value || put.ignore_lease) && !state.exists(&put.key) {
                        return Err(Error::KeyNotFound);
                    }
                    state.check_lease(put)?;
                }
                Step::Txn(inner) => inner.check_puts(state)?,
                Step::Range(_) | Step::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses reads at a revision that is not there. Unlike a read outside, one at a revision below 0 counts
    /// as compacted, as in etcd, unless it is not below [`State::NEVER_COMPACTED`] in a store that never was.
    pub(crate) fn check_ranges(&self, state: &State) -> Result<(), Error> {
        for step in &self.steps {
            match step {
                Step::Range(range) if range.revision == 0 => {}
                Step::Range(range) if range.revision > state.revision => return Err(Error::FutureRevision),
                Step::Range(range) if range.revision < state.compacted => return Err(Error::Compacted),
                Step::Txn(inner) => inner.check_ranges(state)?,
                Step::Range(_) | Step::Put(_) | Step::DeleteRange(_) => {}
            }
        }
        Ok(())
    }
}

/// Answers a transaction of reads alone, whose ranges are checked.
pub(crate) fn read<V: Values>(state: &State, values: &V, branch: &Branch<'_>) -> Result<Response, V::Error> {
    let mut responses = Vec::with_capacity(branch.steps.len());
    for step in &branch.steps {
        responses.push(match step {
            Step::Range(range) => {
                let plan = state
                    .plan(range)
                    .expect("the revision was checked against the same state");
                (plan.header_revision, Response::Range(plan.finish(values)?))
            }
            Step::Txn(inner) => (0, read(state, values, inner)?),
            Step::Put(_) | Step::DeleteRange(_) => unreachable!("the transaction is read-only"),
        });
    }
    Ok(Response::Txn {
        succeeded: branch.succeeded,
        responses,
    })
}

/// Whether the compare holds for every key of its range; a range without keys is compared like a missing key.
fn holds<V: Values>(state: &State, values: &V, compare: &Compare) -> Result<bool, V::Error> {
    let mut any = false;
    let mut answer = Ok(true);
    state
        .index
        .visit(KeyRange::new(&compare.key, &compare.range_end), |_, history| {
            let Some(point) = history.live() else { return true };
            any = true;
            answer = key_holds(values, compare, point);
            matches!(answer, Ok(true))
        });
    if any { answer } else { Ok(missing_holds(compare)) }
}

fn key_holds<V: Values>(values: &V, compare: &Compare, point: &Point) -> Result<bool, V::Error> {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => point.version.cmp(version),
        CompareTarget::Create(revision) => point.create.cmp(revision),
        CompareTarget::Mod(revision) => point.main().cmp(revision),
        CompareTarget::Value(value) => values.get(point.revision())?.value.cmp(value),
        CompareTarget::Lease(lease) => values.get(point.revision())?.lease.cmp(lease),
    };
    Ok(is(ordering, compare.result))
}

/// All facts of a missing key are 0, but it has no value, not even an empty one.
fn missing_holds(compare: &Compare) -> bool {
    match compare.target {
        CompareTarget::Version(fact)
        | CompareTarget::Create(fact)
        | CompareTarget::Mod(fact)
        | CompareTarget::Lease(fact) => is(0.cmp(&fact), compare.result),
        CompareTarget::Value(_) => false,
    }
}

fn is(ordering: Ordering, result: CompareResult) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}
