//! Checks of a request that need no state: done before anything is proposed.
//!
//! What is checked, in which order and with which error follows etcd 3.5, since clients and their tests see
//! the first one.

use std::collections::BTreeSet;

use crate::intervals::Intervals;
use crate::{Command, DeleteRange, Error, LeaseGrant, LeaseTerm, NESTING_MAX, Op, Put, Range, Txn};

/// How deep transactions may stand within the outermost one. Who asks takes one of the levels that can be decoded.
const INNER_MAX: usize = NESTING_MAX - 1;

/// Bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in a transaction: its compares, its success list and its failure list may each have so
    /// many, and a transaction inside has what the longest of the three has left over.
    pub max_txn_ops: usize,
}

impl Default for Limits {
    /// etcd's default.
    fn default() -> Self {
        Limits { max_txn_ops: 128 }
    }
}

impl Command {
    /// Whether the command is well formed.
    ///
    /// # Errors
    /// The first thing found wrong, in etcd's order.
    pub fn validate(&self, limits: &Limits) -> Result<(), Error> {
        match self {
            Command::Put(put) => put.validate(),
            Command::DeleteRange(delete) => delete.validate(),
            Command::Txn(txn) => txn.validate(limits),
            Command::LeaseGrant(grant) => grant.validate(),
            Command::Compact(_)
            | Command::Auth(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseRenew(_)
            | Command::LeaseExpire(_)
            | Command::Alarm(_) => Ok(()),
            Command::As { .. } => self.bare().validate(limits),
        }
    }
}

impl Range {
    /// Whether the read is well formed. (An invalid sort option cannot be written down in [`Range`]; who
    /// reads one off the wire refuses an empty key first.)
    ///
    /// # Errors
    /// [`Error::EmptyKey`].
    pub fn validate(&self) -> Result<(), Error> {
        not_empty(&self.key)
    }
}

impl Put {
    fn validate(&self) -> Result<(), Error> {
        not_empty(&self.key)?;
        if self.ignore_value && !self.value.is_empty() {
            return Err(Error::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(Error::LeaseProvided);
        }
        Ok(())
    }
}

impl LeaseGrant {
    fn validate(&self) -> Result<(), Error> {
        if self.ttl_s > LeaseTerm::TTL_S_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        Ok(())
    }
}

impl DeleteRange {
    fn validate(&self) -> Result<(), Error> {
        not_empty(&self.key)
    }
}

impl Txn {
    /// Whether the transaction is well formed; the same as for [`Command::Txn`].
    ///
    /// # Errors
    /// The first thing found wrong, in etcd's order.
    pub fn validate(&self, limits: &Limits) -> Result<(), Error> {
        self.check_ops(limits.max_txn_ops, INNER_MAX)?;
        for branch in [&self.success, &self.failure] {
            written(branch)?;
        }
        Ok(())
    }

    fn check_ops(&self, max_ops: usize, max_depth: usize) -> Result<(), Error> {
        let ops = self.compare.len().max(self.success.len()).max(self.failure.len());
        let left = max_ops.checked_sub(ops).ok_or(Error::TooManyOps)?;
        for compare in &self.compare {
            not_empty(&compare.key)?;
        }
        for op in self.success.iter().chain(&self.failure) {
            match op {
                Op::Range(range) => range.validate()?,
                Op::Put(put) => put.validate()?,
                Op::DeleteRange(delete) => delete.validate()?,
                Op::Txn(inner) => {
                    let max_depth = max_depth.checked_sub(1).ok_or(Error::NestedTooDeep)?;
                    inner.check_ops(left, max_depth)?;
                }
            }
        }
        Ok(())
    }
}

fn not_empty(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// What one list of operations writes, transactions inside included.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Adds a transaction inside. Only one of its branches will run, so both may put the same key.
    fn txn(&mut self, txn: &'a Txn) -> Result<(), Error> {
        let (success, failure) = (written(&txn.success)?, written(&txn.failure)?);
        for &key in &success.puts {
            self.put(key)?;
        }
        for key in failure.puts {
            // Where the other branch puts it as well, it was checked with that.
            if !success.puts.contains(key) {
                self.put(key)?;
            }
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }
}

/// Refuses a list that puts a key twice or puts a key that it deletes: what the list's own deletions and
/// those of transactions inside it cover may be put neither by itself, nor by a transaction inside that comes
/// later (a put inside that comes before a deletion inside is not found, as in etcd).
fn written(ops: &[Op]) -> Result<Written<'_>, Error> {
    let mut written = Written::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op {
            written.deletes.insert(delete);
        }
    }
    for op in ops {
        if let Op::Txn(txn) = op {
            written.txn(txn)?;
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            written.put(&put.key)?;
        }
    }
    Ok(written)
}
