//! KV operations in one form: every one is a transaction, and every answer that of one.

use std::borrow::Cow;
use std::ops::Range;

use crate::history::{KeyValue, Keys, Op, OpReply, Record, Reply, Request, Test};
use crate::revisions::{Id, Names};

/// A KV operation.
pub(crate) struct Call<'a> {
    pub(crate) compares: Vec<(&'a str, Guard<'a>)>,
    pub(crate) then: Vec<Act<'a>>,
    pub(crate) otherwise: Vec<Act<'a>>,
}

/// What must be equal.
#[derive(Clone, Copy)]
pub(crate) enum Guard<'a> {
    Value(&'a str),
    Version(u64),
    CreateRevision(u64),
    ModRevision(u64),
}

/// One step.
pub(crate) enum Act<'a> {
    Read(Span<'a>),
    Put {
        key: Cow<'a, str>,
        value: &'a str,
        lease: Option<i64>,
    },
    Delete(Span<'a>),
}

/// Which keys.
#[derive(Clone, Copy)]
pub(crate) enum Span<'a> {
    Key(&'a str),
    Prefix(&'a str),
}

/// An answer to a [`Call`].
pub(crate) struct Said<'a> {
    pub(crate) succeeded: bool,
    pub(crate) results: Vec<Saw<'a>>,
}

/// An answer to an [`Act`].
pub(crate) enum Saw<'a> {
    Kvs(&'a [KeyValue]),
    /// The keys without the prefix of the set.
    Elements(&'a [String]),
    Put,
    Deleted(u64),
}

impl<'a> Call<'a> {
    /// None for what is no KV operation.
    pub(crate) fn of(request: &'a Request) -> Option<Call<'a>> {
        let step = |act| Call {
            compares: Vec::new(),
            then: vec![act],
            otherwise: Vec::new(),
        };
        Some(match request {
            Request::Read { keys, .. } => step(Act::Read(keys.into())),
            Request::SetRead { set, .. } => step(Act::Read(Span::Prefix(set))),
            Request::Put { key, value, lease } => step(put(key, value, *lease)),
            Request::SetAdd { set, element } => step(Act::Put {
                key: Cow::Owned(format!("{set}{element}")),
                value: element,
                lease: None,
            }),
            Request::Delete { keys } => step(Act::Delete(keys.into())),
            Request::CompareAndSet { key, expected, value } => Call {
                compares: vec![(key, expected.as_deref().map_or(Guard::Version(0), Guard::Value))],
                then: vec![put(key, value, None)],
                otherwise: Vec::new(),
            },
            Request::Txn(txn) => Call {
                compares: txn
                    .compares
                    .iter()
                    .map(|compare| (&*compare.key, (&compare.is).into()))
                    .collect(),
                then: txn.then.iter().map(Act::from).collect(),
                otherwise: txn.otherwise.iter().map(Act::from).collect(),
            },
            _ => return None,
        })
    }

    /// All keys that it concerns.
    pub(crate) fn keys(&self, names: &Names) -> Vec<Range<Id>> {
        let compared = self.compares.iter().map(|(key, _)| names.ids(Span::Key(key)));
        let acts = self.then.iter().chain(&self.otherwise).map(|act| match act {
            Act::Read(span) | Act::Delete(span) => names.ids(*span),
            Act::Put { key, .. } => names.ids(Span::Key(key)),
        });
        compared.chain(acts).collect()
    }

    /// Whether it can change anything.
    pub(crate) fn may_write(&self) -> bool {
        self.then
            .iter()
            .chain(&self.otherwise)
            .any(|act| !matches!(act, Act::Read(_)))
    }
}

impl<'a> Said<'a> {
    /// The answer to a KV operation; none if there was none, or if it is not one to this request.
    pub(crate) fn of(record: &'a Record) -> Option<Said<'a>> {
        let one = |saw| Said {
            succeeded: true,
            results: vec![saw],
        };
        Some(match (&record.request, &record.answer()?.reply) {
            (Request::Read { .. }, Reply::Read(kvs)) => one(Saw::Kvs(kvs)),
            (Request::SetRead { .. }, Reply::SetRead(elements)) => one(Saw::Elements(elements)),
            (Request::Put { .. }, Reply::Put) | (Request::SetAdd { .. }, Reply::SetAdd) => one(Saw::Put),
            (Request::Delete { .. }, Reply::Delete { deleted }) => one(Saw::Deleted(*deleted)),
            (Request::CompareAndSet { .. }, Reply::CompareAndSet { succeeded }) => Said {
                succeeded: *succeeded,
                results: if *succeeded { vec![Saw::Put] } else { Vec::new() },
            },
            (Request::Txn(_), Reply::Txn(reply)) => Said {
                succeeded: reply.succeeded,
                results: reply.results.iter().map(Saw::from).collect(),
            },
            _ => return None,
        })
    }

    /// Whether it says that something changed: then the revision is its own.
    pub(crate) fn wrote(&self) -> bool {
        self.results.iter().any(|saw| match saw {
            Saw::Put => true,
            Saw::Deleted(count) => *count > 0,
            Saw::Kvs(_) | Saw::Elements(_) => false,
        })
    }
}

fn put<'a>(key: &'a str, value: &'a str, lease: Option<i64>) -> Act<'a> {
    Act::Put {
        key: Cow::Borrowed(key),
        value,
        lease,
    }
}

impl<'a> From<&'a Op> for Act<'a> {
    fn from(op: &'a Op) -> Act<'a> {
        match op {
            Op::Read(keys) => Act::Read(keys.into()),
            Op::Put { key, value, lease } => put(key, value, *lease),
            Op::Delete(keys) => Act::Delete(keys.into()),
        }
    }
}

impl<'a> From<&'a Keys> for Span<'a> {
    fn from(keys: &'a Keys) -> Span<'a> {
        match keys {
            Keys::Key(key) => Span::Key(key),
            Keys::Prefix(prefix) => Span::Prefix(prefix),
        }
    }
}

impl<'a> From<&'a Test> for Guard<'a> {
    fn from(test: &'a Test) -> Guard<'a> {
        match test {
            Test::Value(value) => Guard::Value(value),
            Test::Version(version) => Guard::Version(*version),
            Test::CreateRevision(revision) => Guard::CreateRevision(*revision),
            Test::ModRevision(revision) => Guard::ModRevision(*revision),
        }
    }
}

impl<'a> From<&'a OpReply> for Saw<'a> {
    fn from(reply: &'a OpReply) -> Saw<'a> {
        match reply {
            OpReply::Read(kvs) => Saw::Kvs(kvs),
            OpReply::Put => Saw::Put,
            OpReply::Delete(count) => Saw::Deleted(*count),
        }
    }
}
