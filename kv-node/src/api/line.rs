//! Standing in line: what the Lock and the Election service are made of.
//!
//! Whoever wants a turn has a key under the name, attached to a lease and named after it; the oldest key has
//! the turn. This is what etcd's clients do by themselves, key for key, so that they and these services stand
//! in one line.

use bytes::Bytes;
use kv_core::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, Op, Put, Range, RangeResult,
    Response, SortOrder, SortTarget, Txn,
};
use tokio::runtime::Handle;

use super::{calls::Consistency, errors::ApiError, lease, session::Session};
use crate::{
    node::ProposeError,
    watch::{AddError, Interest, Subscription, SubscriptionError},
};

/// TTL of the lease that is made where none is given; etcd's.
const OWN_LEASE_TTL_S: i64 = 60;

/// The keys of a line.
pub(super) struct Line {
    first: Bytes,
    end: Bytes,
}

/// A place in a line.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its key.
    pub(super) key: Bytes,
    /// The revision of the key's creation: the lower, the earlier the turn.
    pub(super) revision: i64,
    /// The lease it lives by.
    pub(super) lease: i64,
}

/// How a place was taken.
pub(super) struct Joined {
    pub(super) place: Place,
    /// The revision of the answer's header.
    pub(super) header_revision: i64,
    /// What the place's key held already, if this is not the first call for it.
    pub(super) held: Option<Bytes>,
}

impl Line {
    pub(super) fn new(name: &[u8]) -> Line {
        let key = |last: u8| [name, &[last]].concat().into();
        Line {
            first: key(b'/'),
            end: key(b'/' + 1),
        }
    }

    /// The key of a lease's place: the id in hexadecimal, a negative one with its sign before it.
    fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let id = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.first, id.as_bytes()].concat().into()
    }

    fn range(&self) -> Range {
        Range {
            key: self.first.clone(),
            range_end: self.end.clone(),
            limit: 1,
            sort_target: SortTarget::Create,
            ..Range::default()
        }
    }

    /// The oldest place, which has the turn; and the revision of the store.
    pub(super) async fn first(
        &self,
        session: &Session,
        consistency: Consistency,
    ) -> Result<(i64, Option<KeyValue>), ApiError> {
        let range = Range {
            sort_order: SortOrder::Ascend,
            ..self.range()
        };
        let (revision, mut result) = session.range(&range, consistency).await?;
        Ok((revision, result.kvs.pop()))
    }

    /// Takes a place, or finds the one that the lease has.
    pub(super) async fn join(&self, session: &Session, lease: i64, value: Bytes) -> Result<Joined, ApiError> {
        let lease = if lease == 0 {
            lease::grant(session, 0, OWN_LEASE_TTL_S).await?.1
        } else {
            lease
        };
        let key = self.key(lease);
        let txn = Txn {
            compare: vec![created(&key, 0)],
            success: vec![Op::Put(Put {
                key: key.clone(),
                value,
                lease,
                ..Put::default()
            })],
            failure: vec![Op::Range(Range {
                key: key.clone(),
                ..Range::default()
            })],
        };
        let (header_revision, succeeded, answers) = run(session, txn).await?;
        let found = match answers.into_iter().next() {
            Some((_, Response::Range(RangeResult { kvs, .. }))) => kvs.into_iter().next(),
            _ => None,
        };
        let (revision, held) = match found {
            Some(kv) => (kv.create_revision, Some(kv.value)),
            None if succeeded => (header_revision, None),
            None => return Err(ApiError::WrongAnswer),
        };
        let place = Place { key, revision, lease };
        Ok(Joined {
            place,
            header_revision,
            held,
        })
    }

    /// Waits until no place before this one is left. Whoever stops waiting leaves the line.
    ///
    /// # Errors
    /// [`ApiError::SessionExpired`] where the place itself goes.
    pub(super) async fn wait(&self, session: &Session, place: &Place) -> Result<(), ApiError> {
        let mut leave = Leave {
            session: session.clone(),
            place: Some(place.clone()),
        };
        let stop = session.node().stopping();
        let waited = tokio::select! {
            waited = self.turn(session, place) => waited,
            // The place is kept: whoever stands there comes again, to another node.
            () = stop.cancelled() => Err(ProposeError::Stopped.into()),
        };
        leave.place = None;
        waited
    }

    async fn turn(&self, session: &Session, place: &Place) -> Result<(), ApiError> {
        loop {
            let before = Range {
                sort_order: SortOrder::Descend,
                max_create_revision: place.revision - 1,
                ..self.range()
            };
            let (revision, mut result) = session.range(&before, Consistency::Linearizable).await?;
            if !stands(session, &place.key, place.revision) {
                return Err(ApiError::SessionExpired);
            }
            let Some(last) = result.kvs.pop() else {
                return Ok(());
            };
            let mut theirs = follow(session, last.key.clone(), Bytes::new(), revision)?;
            let mut own = follow(session, place.key.clone(), Bytes::new(), revision)?;
            while stands(session, &last.key, last.create_revision)
                && stands(session, &place.key, place.revision)
            {
                let news = tokio::select! {
                    news = theirs.next() => news,
                    news = own.next() => news,
                };
                if !goes_on(news)? {
                    break;
                }
            }
        }
    }

    /// Follows all places, from after a revision on.
    pub(super) fn follow(&self, session: &Session, revision: i64) -> Result<Subscription, ApiError> {
        follow(session, self.first.clone(), self.end.clone(), revision)
    }
}

/// Whether this node knows the key as the one created at that revision.
fn stands(session: &Session, key: &[u8], revision: i64) -> bool {
    let store = session.node().store();
    store.with_state(|state| state.created(key) == Some(revision))
}

fn follow(session: &Session, key: Bytes, range_end: Bytes, revision: i64) -> Result<Subscription, ApiError> {
    let followed = session
        .node()
        .hub()
        .subscribe(Interest { key, range_end }, revision + 1);
    followed.map_err(|AddError::TooMany| ProposeError::TooManyRequests.into())
}

/// Whether more will be told. What happened is looked up, so that it does not matter what was, or that it is
/// compacted.
pub(super) fn goes_on<T>(news: Result<T, SubscriptionError>) -> Result<bool, ApiError> {
    match news {
        Ok(_) => Ok(true),
        Err(SubscriptionError::Compacted(_)) => Ok(false),
        Err(SubscriptionError::Fault(fault)) => Err(fault.into()),
    }
}

/// Refusals as etcd gives them here: its services are clients of it, which lose the code on the way.
pub(super) fn in_service<T>(result: Result<T, ApiError>) -> Result<T, ApiError> {
    result.map_err(|error| match error {
        ApiError::Refused(error) => ApiError::RefusedInService(error),
        error => error,
    })
}

/// Whether the key was created at that revision; 0 says that it does not exist.
pub(super) fn created(key: &Bytes, revision: i64) -> Compare {
    Compare {
        key: key.clone(),
        range_end: Bytes::new(),
        result: CompareResult::Equal,
        target: CompareTarget::Create(revision),
    }
}

/// Runs a transaction; the revision, whether its compares held, and its answers.
pub(super) async fn run(session: &Session, txn: Txn) -> Result<(i64, bool, Vec<(i64, Response)>), ApiError> {
    match session.propose(Command::Txn(txn)).await? {
        (revision, Response::Txn { succeeded, responses }) => Ok((revision, succeeded, responses)),
        _ => Err(ApiError::WrongAnswer),
    }
}

/// Gives a place up if it is still the same.
pub(super) fn give_up(key: &Bytes, revision: i64) -> Txn {
    Txn {
        compare: vec![created(key, revision)],
        success: vec![Op::DeleteRange(DeleteRange {
            key: key.clone(),
            ..DeleteRange::default()
        })],
        failure: Vec::new(),
    }
}

/// Gives up the place of a caller that has gone away, as its call is dropped.
struct Leave {
    session: Session,
    /// `None` once there is nothing to do.
    place: Option<Place>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        // Without a runtime the whole process ends, and with it the place's renewals.
        let (Some(place), Ok(runtime)) = (self.place.take(), Handle::try_current()) else {
            return;
        };
        let session = self.session.clone();
        runtime.spawn(async move {
            // The place was the caller's to take, so it is the node's to give back.
            let command = Command::Txn(give_up(&place.key, place.revision));
            let deadline = session.deadline();
            if let Err(error) = session.node().propose(command, deadline).await {
                tracing::debug!(%error, "a place in a line stays until its lease ends");
            }
        });
    }
}
