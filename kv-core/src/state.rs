//! The state machine's memory and its entrance.

use crate::alarm::Alarms;
use crate::fact::Fact;
use crate::index::Index;
use crate::lease::Leases;
use crate::plan::Plan;
use crate::txn::{self, Branch};
use crate::write::{Stop, Writer};
use crate::{
    Auth, Caller, Command, Compact, Effects, Error, KeyValue, Outcome, Put, Range, Request, Response,
    Revision, Txn,
};

/// Gives back what was stored at a revision.
pub trait Values {
    /// Why a value cannot be had. That is a fault of this node, never an answer to a client.
    type Error;

    /// The key and value that a [`crate::Record::Put`] stored at `at`. Only revisions that were put and not swept
    /// are asked for.
    ///
    /// # Errors
    /// Where the store does not give it back.
    fn get(&self, at: Revision) -> Result<KeyValue, Self::Error>;
}

impl<V: Values + ?Sized> Values for &V {
    type Error = V::Error;

    fn get(&self, at: Revision) -> Result<KeyValue, Self::Error> {
        (**self).get(at)
    }
}

/// The data model's state without its values: revisions, the key index, and the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(crate) index: Index,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) auth: Auth,
    pub(crate) leases: Leases,
    pub(crate) alarms: Alarms,
}

impl Default for State {
    fn default() -> Self {
        State::new()
    }
}

impl State {
    /// The revision of a store in which nothing was written.
    pub const FIRST_REVISION: i64 = 1;
    /// The compacted revision of a store that never was; a compaction at revision 0 is accepted once, as in
    /// etcd.
    pub const NEVER_COMPACTED: i64 = -1;

    /// An empty store.
    pub fn new() -> State {
        State {
            index: Index::default(),
            revision: Self::FIRST_REVISION,
            compacted: Self::NEVER_COMPACTED,
            auth: Auth::new(),
            leases: Leases::default(),
            alarms: Alarms::default(),
        }
    }

    /// The revision of the last write.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest revision that can be read; [`State::NEVER_COMPACTED`] at first.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// How many keys exist at the current revision.
    pub fn keys(&self) -> usize {
        self.index.live()
    }

    /// Bytes of keys and values of all records that are not swept yet, superseded ones included: what the
    /// store cannot give back without a compaction and its sweep. Nodes sweep at their own pace, so it may
    /// differ between them.
    pub fn live_bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// Applies one committed command.
    ///
    /// What it changed is appended to `effects`. The caller makes that durable together with the applied index,
    /// and serves the records through `view` to the next command.
    ///
    /// A command that was not validated (see [`Command::validate`]) is applied or refused the same on every
    /// node.
    ///
    /// # Errors
    /// What `view` answers where it cannot give back a value. Then nothing has changed, and the node must not
    /// go on to the next command.
    pub fn apply<V: Values>(
        &mut self,
        view: &V,
        command: &Command,
        effects: &mut Effects,
    ) -> Result<Outcome, V::Error> {
        let (caller, command) = command.split();
        let allowed = self
            .authorize(caller, Request::Command(command))
            .and_then(|()| self.alarms.check(command));
        if let Err(refused) = allowed {
            return Ok(Outcome {
                revision: self.revision,
                result: Err(refused),
            });
        }
        let answer = match command {
            Command::Auth(change) => self.change_auth(change, effects).map_err(Stop::Refused),
            Command::As { .. } => unreachable!("the command was split from its caller"),
            Command::Compact(compact) => self.compact(compact).map_err(Stop::Refused),
            Command::Txn(txn) => self.write(view, effects, |writer| writer.txn(txn)),
            Command::DeleteRange(delete) => self.write(view, effects, |writer| writer.delete_range(delete)),
            Command::Put(put) => self.write(view, effects, |writer| writer.single_put(put)),
            Command::LeaseGrant(grant) => self.lease_grant(grant, effects).map_err(Stop::Refused),
            Command::LeaseRevoke(revoke) => self.lease_revoke(view, revoke, effects).map_err(Stop::Refused),
            Command::LeaseRenew(renew) => Ok(self.lease_renew(renew, effects)),
            Command::LeaseExpire(expire) => Ok(self.lease_expire(view, expire, effects)),
            Command::Alarm(change) => self.change_alarm(change, effects).map_err(Stop::Refused),
        };
        match answer {
            Ok(response) => Ok(Outcome {
                revision: self.revision,
                result: Ok(response),
            }),
            Err(Stop::Refused(error)) => Ok(Outcome {
                revision: self.revision,
                result: Err(error),
            }),
            Err(Stop::Fault(error)) => Err(error),
        }
    }

    /// Runs what may write, as a whole or not at all.
    fn write<'a, V: Values>(
        &'a mut self,
        view: &'a V,
        effects: &'a mut Effects,
        run: impl FnOnce(&mut Writer<'a, V>) -> Result<Response, Stop<V::Error>>,
    ) -> Result<Response, Stop<V::Error>> {
        let mut writer = Writer::new(self, view, effects);
        let answer = run(&mut writer);
        match &answer {
            Ok(_) => writer.commit(),
            Err(_) => writer.roll_back(),
        }
        answer
    }

    fn compact(&mut self, compact: &Compact) -> Result<Response, Error> {
        if compact.revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if compact.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = compact.revision;
        Ok(Response::Compact)
    }

    /// Users, roles, and whether they matter.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether the caller may do what it asks, see [`Auth::check`].
    ///
    /// # Errors
    /// Why not.
    pub fn authorize(&self, caller: &Caller, request: Request<'_>) -> Result<(), Error> {
        Ok(self.auth.check(caller, request, self)?)
    }

    /// All facts, in the order of their keys: what a snapshot carries besides the records.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        self.leases
            .facts()
            .chain(self.auth.facts())
            .chain(self.alarms.facts())
    }

    /// Decides a read against the index alone; the caller fetches the values without any lock.
    ///
    /// # Errors
    /// [`Error::FutureRevision`] and [`Error::Compacted`] for a revision that is not there yet or no longer.
    pub fn plan(&self, range: &Range) -> Result<Plan, Error> {
        self.plan_at(range, self.revision)
    }

    /// As [`State::plan`], where `current` counts as the current revision: inside a transaction it is ahead
    /// of the state's once something was written.
    pub(crate) fn plan_at(&self, range: &Range, current: i64) -> Result<Plan, Error> {
        if range.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if range.revision <= 0 {
            current
        } else {
            range.revision
        };
        if at < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(Plan::new(&self.index, range, at, current))
    }

    /// Answers a transaction that does not write, without the log.
    ///
    /// # Errors
    /// What `values` answers where it cannot give back a value.
    ///
    /// # Panics
    /// Where the transaction is not [`Txn::is_read_only`].
    pub fn read_txn<V: Values>(&self, values: &V, txn: &Txn) -> Result<Outcome, V::Error> {
        assert!(
            txn.is_read_only(),
            "a transaction that writes goes through the log"
        );
        let branch = Branch::decide(self, values, txn)?;
        let result = match branch.check_ranges(self) {
            Ok(()) => Ok(txn::read(self, values, &branch)?),
            Err(error) => Err(error),
        };
        Ok(Outcome {
            revision: self.revision,
            result,
        })
    }

    /// The put that `key` held just before the write at `before`; `None` where it did not exist then, or
    /// where that put is swept. What a watch gives as the previous value.
    pub fn previous(&self, key: &[u8], before: Revision) -> Option<Revision> {
        Some(self.index.get(key)?.before(before)?.revision())
    }

    /// The revision at which the key came into being; `None` where it does not exist now.
    pub fn created(&self, key: &[u8]) -> Option<i64> {
        let live = self.index.get(key)?.live();
        live.map(|point| point.create)
    }

    /// Whether the record of `key` at `at` exists and is still needed: all of the compacted revision and
    /// above are, and the put that a read at the compacted revision sees. What [`State::sweep`] has yet to
    /// take out is not.
    pub fn kept(&self, at: Revision, key: &[u8]) -> bool {
        self.index
            .get(key)
            .is_some_and(|history| history.keeps(at, self.compacted))
    }

    /// The lease check of etcd: no lease at all, or one that exists.
    pub(crate) fn check_lease(&self, put: &Put) -> Result<(), Error> {
        if put.lease == 0 || self.leases.exists(put.lease) {
            Ok(())
        } else {
            Err(Error::LeaseNotFound)
        }
    }

    /// Whether the key exists at the current revision.
    pub(crate) fn exists(&self, key: &[u8]) -> bool {
        self.index
            .get(key)
            .is_some_and(|history| history.live().is_some())
    }
}
