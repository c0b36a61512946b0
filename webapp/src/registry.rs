//! The register of names: one transaction to register, one read to look up, one or two to list.
//!
//! Promises: of any number of registrations of one name exactly one is [`Registration::Created`], and every other
//! that gets an answer is told the entry that won. All reads are linearizable: what was confirmed is seen.
//!
//! **Lost answers.** A transaction whose answer was lost may have been executed. Sending it again and finding the name
//! taken would not tell whether by somebody else or by this very registration. So every registration carries a random
//! id; after a lost answer the entry is read until the time is up: with our id it is ours, with another id it is
//! theirs, and both are certain, because an entry is never replaced. If there is none, the transaction may still be on
//! its way: that, and only that, is [`StoreError::OutcomeUnknown`].

use crate::entry::{BadEntry, Entry, StoredEntry};
use crate::keys::{BY_NAME, BY_TIME, BY_TIME_ASC, Cursor, Position, prefix_end};
use crate::name::Name;
use kv_client::{Client, Error};
use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kv_proto::etcdserverpb::request_op::Request as Op;
use kv_proto::etcdserverpb::response_op::Response as OpResponse;
use kv_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest};
use kv_proto::mvccpb::KeyValue;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest one call to the store may take, all its attempts together.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest a registration may take, with the reads after a lost answer.
pub const REGISTER_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest the store check of `/readyz` may take.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two reads after a lost answer.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);
/// After so many reads that found no entry, a registration whose answer was lost is reported as unknown: most answers
/// are lost with the request, and nobody should wait the whole time for that.
const SETTLE_MISSES_MAX: u32 = 5;

/// How a registration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// The name is now registered by this very request.
    Created(Entry),
    /// Somebody else has it: their entry.
    Taken(Entry),
}

/// Some entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most as many as were asked for.
    pub entries: Vec<Entry>,
    /// Where the next newer entries are; `None` if there are none.
    pub newer: Option<Cursor>,
    /// Where the next older entries are; `None` if there are none.
    pub older: Option<Cursor>,
    /// How many names there are in all; known only on the first page.
    pub total: Option<u64>,
    /// The revision of the store of which this is true.
    pub revision: i64,
}

/// Why the register gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No majority of the store could be reached; nothing was stored.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// The store refused, for example because it is full; nothing was stored.
    #[error("refused: {0}")]
    Refused(String),
    /// A read took too long; nothing has changed.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The registration may or may not be stored, now or in a moment.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
    /// Something in the store is not what this app writes.
    #[error(transparent)]
    Corrupt(#[from] BadEntry),
}

/// A handle on the register. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    client: Client,
}

impl Registry {
    /// A register behind this client. [`CALL_TIMEOUT`] should be the client's request timeout.
    pub fn new(client: Client) -> Registry {
        Registry { client }
    }

    /// Registers `name` as `stored`, if nobody has it.
    ///
    /// # Errors
    /// [`StoreError`]; within [`REGISTER_TIMEOUT`].
    pub async fn register(&self, name: &Name, stored: &StoredEntry) -> Result<Registration, StoreError> {
        let deadline = Instant::now() + REGISTER_TIMEOUT;
        let lost = match timeout_at(deadline, self.client.txn(create_if_absent(name, stored))).await {
            Ok(Ok(response)) if response.succeeded => return Ok(Registration::Created(stored.entry.clone())),
            Ok(Ok(response)) => {
                let earlier = response.responses.into_iter().next().and_then(|op| op.response);
                let kv = match earlier {
                    Some(OpResponse::ResponseRange(range)) => range.kvs.into_iter().next(),
                    _ => None,
                };
                // The compare failed, so there is an entry; a store that shows none is broken or is no store.
                let missing = || StoreError::Refused("the store says taken, but shows no entry".to_owned());
                return Ok(whose(
                    stored,
                    StoredEntry::decode(&kv.ok_or_else(missing)?.value)?,
                ));
            }
            Ok(Err(Error::OutcomeUnknown { message } | Error::Timeout { message })) => message,
            Ok(Err(error)) => return Err(of_client(error)),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            name = name.shown(),
            reason = lost,
            "the answer to a registration was lost"
        );
        self.settle(name, stored, lost, deadline).await
    }

    /// Finds out what became of a registration whose answer was lost; see the module's head.
    async fn settle(
        &self,
        name: &Name,
        stored: &StoredEntry,
        lost: String,
        deadline: Instant,
    ) -> Result<Registration, StoreError> {
        let mut misses = 0;
        while misses < SETTLE_MISSES_MAX {
            match timeout_at(deadline, self.find(name)).await {
                Ok(Ok(Some(found))) => return Ok(whose(stored, found)),
                Ok(Ok(None)) => misses += 1,
                Ok(Err(StoreError::Corrupt(error))) => return Err(error.into()),
                Ok(Err(error)) => tracing::debug!(%error, "reading after a lost answer"),
                Err(_) => break,
            }
            if Instant::now() + SETTLE_PAUSE >= deadline {
                break;
            }
            sleep(SETTLE_PAUSE).await;
        }
        Err(StoreError::OutcomeUnknown(lost))
    }

    /// The entry of a name, if it is registered.
    ///
    /// # Errors
    /// [`StoreError`], but not [`StoreError::OutcomeUnknown`].
    pub async fn lookup(&self, name: &Name) -> Result<Option<Entry>, StoreError> {
        Ok(self.find(name).await?.map(|stored| stored.entry))
    }

    async fn find(&self, name: &Name) -> Result<Option<StoredEntry>, StoreError> {
        let request = RangeRequest {
            key: name_key(name).into(),
            ..RangeRequest::default()
        };
        match self.range(request).await?.kvs.first() {
            Some(kv) => Ok(Some(StoredEntry::decode(&kv.value)?)),
            None => Ok(None),
        }
    }

    /// A page of at most `limit` entries, newest first. It reads that many keys, wherever in the list it is (for the
    /// way back, as many again).
    ///
    /// # Errors
    /// [`StoreError`], but not [`StoreError::OutcomeUnknown`].
    pub async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let (start, end) = match cursor {
            None => (BY_TIME.to_owned(), prefix_end(BY_TIME)),
            Some(Cursor::OlderThan(position)) => (after(&position.newest_first_key()), prefix_end(BY_TIME)),
            Some(Cursor::NewerThan(position)) => match self.newer_start(position, limit).await? {
                Some(start) => (start.newest_first_key(), position.newest_first_key()),
                None => (BY_TIME.to_owned(), prefix_end(BY_TIME)),
            },
        };
        let is_first = start == BY_TIME;
        let request = RangeRequest {
            key: start.into(),
            range_end: end.into(),
            limit: at_most(limit, 1),
            ..RangeRequest::default()
        };
        let answer = self.range(request).await?;
        let came_from_older = matches!(cursor, Some(Cursor::NewerThan(_))) && !is_first;
        let has_older = came_from_older || answer.kvs.len() > limit;
        let rows: Vec<_> = answer.kvs.iter().take(limit).filter_map(readable).collect();
        let edge = |row: Option<&(Position, Entry)>| row.map(|(position, _)| *position);
        Ok(Page {
            newer: edge(rows.first()).filter(|_| !is_first).map(Cursor::NewerThan),
            older: edge(rows.last()).filter(|_| has_older).map(Cursor::OlderThan),
            total: u64::try_from(answer.count).ok().filter(|_| is_first),
            revision: answer.header.map_or(0, |header| header.revision),
            entries: rows.into_iter().map(|(_, entry)| entry).collect(),
        })
    }

    /// Where the page of `limit` entries that are just newer than `position` starts; `None` if that is the first page.
    async fn newer_start(&self, position: Position, limit: usize) -> Result<Option<Position>, StoreError> {
        let request = RangeRequest {
            key: after(&position.oldest_first_key()).into(),
            range_end: prefix_end(BY_TIME_ASC).into(),
            limit: at_most(limit, 1),
            keys_only: true,
            ..RangeRequest::default()
        };
        let answer = self.range(request).await?;
        if answer.kvs.len() <= limit {
            return Ok(None);
        }
        Ok(answer
            .kvs
            .iter()
            .take(limit)
            .filter_map(|kv| Position::from_key(&kv.key))
            .next_back())
    }

    /// Whether a majority of the store answers, within [`CHECK_TIMEOUT`].
    ///
    /// # Errors
    /// [`StoreError`], but not [`StoreError::OutcomeUnknown`].
    pub async fn check(&self) -> Result<(), StoreError> {
        let request = RangeRequest {
            key: BY_NAME.into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        match timeout(CHECK_TIMEOUT, self.range(request)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(StoreError::Timeout(format!("no answer within {CHECK_TIMEOUT:?}"))),
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.client.range(request).await.map_err(of_client)
    }
}

fn name_key(name: &Name) -> String {
    format!("{BY_NAME}{}", name.key())
}

/// The first key after `key`.
fn after(key: &str) -> String {
    format!("{key}\0")
}

fn at_most(limit: usize, and_more: usize) -> i64 {
    i64::try_from(limit.saturating_add(and_more)).unwrap_or(i64::MAX)
}

/// The transaction that decides: if the name has no entry, write it and its place in both indexes; else read it.
fn create_if_absent(name: &Name, stored: &StoredEntry) -> TxnRequest {
    let key = name_key(name);
    let value = bytes::Bytes::from(stored.encode());
    let position = stored.position();
    let op = |request| RequestOp {
        request: Some(request),
    };
    let put = |key: String, value: bytes::Bytes| {
        op(Op::RequestPut(PutRequest {
            key: key.into(),
            value,
            ..PutRequest::default()
        }))
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: key.clone().into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        }],
        success: vec![
            put(key.clone(), value.clone()),
            put(position.newest_first_key(), value),
            put(position.oldest_first_key(), bytes::Bytes::new()),
        ],
        failure: vec![op(Op::RequestRange(RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        }))],
    }
}

fn whose(ours: &StoredEntry, found: StoredEntry) -> Registration {
    if found.id == ours.id {
        Registration::Created(found.entry)
    } else {
        Registration::Taken(found.entry)
    }
}

/// A row of the newest-first index. What something else put there is left out: it must not hide the names.
fn readable(kv: &KeyValue) -> Option<(Position, Entry)> {
    match (Position::from_key(&kv.key), StoredEntry::decode(&kv.value)) {
        (Some(position), Ok(stored)) => Some((position, stored.entry)),
        (position, stored) => {
            let key = String::from_utf8_lossy(&kv.key);
            tracing::warn!(%key, ?position, error = ?stored.err(), "left out of the list: not written by this app");
            None
        }
    }
}

/// What the client says of a read, or of a write that certainly was not executed. An error that this version does not
/// know is treated as the worst that it can be.
fn of_client(error: Error) -> StoreError {
    match error {
        Error::Rejected { message, .. } => StoreError::Refused(message),
        Error::NoQuorum { message } => StoreError::NoQuorum(message),
        Error::Timeout { message } => StoreError::Timeout(message),
        Error::InvalidEndpoint { .. } | Error::Tls { .. } => StoreError::NoQuorum(error.to_string()),
        other => StoreError::OutcomeUnknown(other.to_string()),
    }
}
