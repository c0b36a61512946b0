//! The line in which locks and elections wait, as etcd's own clients and its Lock and Election services keep it.
//!
//! Whoever wants to hold a name puts a key under it, named after its lease. The oldest key holds the name; each other
//! one waits until the key before it is gone. A key goes with its lease, so that nobody waits for the dead.

use std::time::Duration;

use bytes::Bytes;
use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kv_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kv_proto::etcdserverpb::request_op::Request;
use kv_proto::etcdserverpb::response_op::Response;
use kv_proto::etcdserverpb::watch_create_request::FilterType;
use kv_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, WatchCreateRequest,
};
use kv_proto::mvccpb::event::EventType;

use crate::{Client, Error, Lease, LeaseLoss, WatchItem, prefix_end};

/// The pause before asking again for a place.
const PAUSE: Duration = Duration::from_millis(100);

/// A place in a line.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `NAME/LEASE`, the lease in hexadecimal.
    pub(crate) key: Bytes,
    /// The revision that made the key: who has the smaller one is before.
    pub(crate) revision: i64,
}

/// What all keys of a line begin with.
pub(crate) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Takes a place in the line of `name`, or finds the one that the lease has already, and waits until it is the first.
pub(crate) async fn reach_the_front(
    client: &Client,
    lease: &Lease,
    name: &[u8],
    value: Bytes,
) -> Result<Place, Error> {
    let wait = async {
        let place = enter(client, lease.id(), name, value).await?;
        while let Some((before, revision)) = before(client, name, &place).await? {
            until_deleted(client, before, revision).await?;
        }
        Ok(place)
    };
    tokio::select! {
        place = wait => place,
        loss = lease.lost() => Err(Error::LeaseLost(loss)),
    }
}

/// The compare that holds while a place is kept.
pub(crate) fn is_kept(place: &Place) -> Compare {
    created_at(place.key.clone(), place.revision)
}

/// A request of a transaction.
pub(crate) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// Takes a place. Trying again after an unknown outcome is safe: a lease has one place in a line.
async fn enter(client: &Client, lease: i64, name: &[u8], value: Bytes) -> Result<Place, Error> {
    let key: Bytes = [&prefix(name)[..], format!("{lease:x}").as_bytes()]
        .concat()
        .into();
    let put = PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    };
    let get = RangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    let request = TxnRequest {
        compare: vec![created_at(key.clone(), 0)],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![op(Request::RequestRange(get))],
    };
    loop {
        let answer = match client.txn(request.clone()).await {
            Err(Error::OutcomeUnknown { message }) => {
                tracing::debug!(message, "asking again for a place in line");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            answer => answer?,
        };
        let header_revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let revision = if answer.succeeded {
            header_revision
        } else {
            first_range(&answer.responses)
                .and_then(|range| range.kvs.first())
                .map_or(0, |kv| kv.create_revision)
        };
        return Ok(Place { key, revision });
    }
}

/// The key just before a place, and the revision at which it was there; none if the place is the first.
async fn before(client: &Client, name: &[u8], place: &Place) -> Result<Option<(Bytes, i64)>, Error> {
    let prefix = prefix(name);
    let last_before = RangeRequest {
        range_end: prefix_end(&prefix),
        key: prefix,
        max_create_revision: place.revision - 1,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Create.into(),
        limit: 1,
        keys_only: true,
        ..Default::default()
    };
    let request = TxnRequest {
        compare: vec![is_kept(place)],
        success: vec![op(Request::RequestRange(last_before))],
        failure: vec![],
    };
    let answer = client.txn(request).await?;
    if !answer.succeeded {
        return Err(Error::LeaseLost(LeaseLoss::Ended));
    }
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let first = first_range(&answer.responses).and_then(|range| range.kvs.first());
    Ok(first.map(|kv| (kv.key.clone(), revision)))
}

/// Waits until a key that was there at a revision is deleted, or may have been.
async fn until_deleted(client: &Client, key: Bytes, revision: i64) -> Result<(), Error> {
    let request = WatchCreateRequest {
        key,
        start_revision: revision + 1,
        filters: vec![FilterType::Noput.into()],
        ..Default::default()
    };
    let mut watch = client.watch(request).await?;
    loop {
        match watch.next().await {
            Some(Ok(WatchItem::Events { events, .. })) => {
                if events.iter().any(|event| event.r#type() == EventType::Delete) {
                    return Ok(());
                }
            }
            Some(Ok(_)) => {}
            // It may have happened before the history that is left: the caller looks again.
            Some(Err(Error::Compacted { .. })) | None => return Ok(()),
            Some(Err(error)) => return Err(error),
        }
    }
}

fn first_range(responses: &[ResponseOp]) -> Option<&RangeResponse> {
    match responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => Some(range),
        _ => None,
    }
}
