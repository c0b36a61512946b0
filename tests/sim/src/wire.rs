//! Requests of a history as etcd's messages, and answers back.

use kv_node::raft::network::Transport;
use kv_proto::{
    etcdserverpb::{self as pb, kv_client::KvClient, lease_client::LeaseClient},
    mvccpb,
    v3lockpb::{self as lockpb, lock_client::LockClient},
};
use quorate_checkers::history::{
    Answer, Compare, KeyValue, Keys, Op, OpReply, Reply, Request, Test, TxnReply,
};
use tonic::{Code, Status};

/// Errors that say that nothing was executed: the rule that `kv-client` goes by.
const NOT_EXECUTED: [&str; 4] = [
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: rpc not supported for learner",
    "etcdserver: too many requests",
];

/// Whether a request may change anything.
pub fn is_write(request: &Request) -> bool {
    !matches!(
        request,
        Request::Read { .. } | Request::LeaseTimeToLive { .. } | Request::Watch { .. }
    )
}

/// Whether an error excludes that the request was executed.
pub fn is_certain(request: &Request, status: &Status) -> bool {
    // Several steps, of which any may have failed.
    if matches!(request, Request::LockAcquire { .. }) {
        return false;
    }
    let never_sent = std::error::Error::source(status).is_some();
    if never_sent {
        return kv_node::raft::network::never_sent(status);
    }
    NOT_EXECUTED.contains(&status.message())
        || matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::ResourceExhausted
                | Code::Unimplemented
        )
}

/// Asks one node.
///
/// # Errors
/// What the node answers, or the network.
pub async fn call(transport: Transport, request: &Request) -> Result<Answer, Status> {
    let mut kv = KvClient::new(transport.clone());
    match request {
        Request::Read {
            keys,
            serializable,
            revision,
        } => {
            let mut range = range(keys);
            range.serializable = *serializable;
            range.revision = revision.unwrap_or(0).cast_signed();
            let read = kv.range(range).await?.into_inner();
            answer(
                read.header,
                Reply::Read(read.kvs.into_iter().map(key_value).collect()),
            )
        }
        Request::Put { key, value, lease } => {
            let written = kv.put(put(key, value, *lease)).await?.into_inner();
            answer(written.header, Reply::Put)
        }
        Request::Delete { keys } => {
            let deleted = kv.delete_range(delete(keys)).await?.into_inner();
            let reply = Reply::Delete {
                deleted: deleted.deleted.cast_unsigned(),
            };
            answer(deleted.header, reply)
        }
        Request::CompareAndSet { key, expected, value } => {
            let is = match expected {
                Some(value) => Test::Value(value.clone()),
                None => Test::Version(0),
            };
            let done = kv
                .txn(pb::TxnRequest {
                    compare: vec![compare(&Compare { key: key.clone(), is })],
                    success: vec![op(&Op::Put {
                        key: key.clone(),
                        value: value.clone(),
                        lease: None,
                    })],
                    failure: Vec::new(),
                })
                .await?
                .into_inner();
            let reply = Reply::CompareAndSet {
                succeeded: done.succeeded,
            };
            answer(done.header, reply)
        }
        Request::Txn(txn) => {
            let done = kv
                .txn(pb::TxnRequest {
                    compare: txn.compares.iter().map(compare).collect(),
                    success: txn.then.iter().map(op).collect(),
                    failure: txn.otherwise.iter().map(op).collect(),
                })
                .await?
                .into_inner();
            let results = done
                .responses
                .into_iter()
                .map(op_reply)
                .collect::<Result<_, _>>()?;
            let reply = Reply::Txn(TxnReply {
                succeeded: done.succeeded,
                results,
            });
            answer(done.header, reply)
        }
        Request::LeaseGrant { .. }
        | Request::LeaseKeepAlive { .. }
        | Request::LeaseTimeToLive { .. }
        | Request::LeaseRevoke { .. } => lease(LeaseClient::new(transport), request).await,
        Request::LockAcquire { name, lease } => {
            let asked = lockpb::LockRequest {
                name: name.clone().into_bytes().into(),
                lease: lease.unwrap_or(0),
            };
            let held = LockClient::new(transport).lock(asked).await?.into_inner();
            let key = String::from_utf8_lossy(&held.key).into_owned();
            // The lock's key carries the revision that fences in a read of it.
            let read = kv.range(range(&Keys::Key(key.clone()))).await?.into_inner();
            let created = read
                .kvs
                .first()
                .ok_or_else(|| Status::unavailable("the lock is lost again"))?;
            let fencing = created.create_revision.cast_unsigned();
            answer(read.header, Reply::Lock { key, fencing })
        }
        Request::LockRelease { key, .. } => {
            let asked = lockpb::UnlockRequest {
                key: key.clone().into_bytes().into(),
            };
            let released = LockClient::new(transport).unlock(asked).await?.into_inner();
            answer(released.header, Reply::LockReleased)
        }
        Request::Compact { revision } => {
            let asked = pb::CompactionRequest {
                revision: revision.cast_signed(),
                physical: false,
            };
            answer(kv.compact(asked).await?.into_inner().header, Reply::Compacted)
        }
        other => Err(Status::unimplemented(format!("{other:?}"))),
    }
}

async fn lease(mut leases: LeaseClient<Transport>, request: &Request) -> Result<Answer, Status> {
    let seconds = |ttl: i64| u64::try_from(ttl).unwrap_or(0);
    match *request {
        Request::LeaseGrant { lease, ttl_s } => {
            let asked = pb::LeaseGrantRequest {
                id: lease,
                ttl: ttl_s.cast_signed(),
            };
            let granted = leases.lease_grant(asked).await?.into_inner();
            let ttl_s = seconds(granted.ttl);
            answer(granted.header, Reply::Lease { ttl_s })
        }
        Request::LeaseKeepAlive { lease } => {
            let asked = futures::stream::iter([pb::LeaseKeepAliveRequest { id: lease }]);
            let mut renewed = leases.lease_keep_alive(asked).await?.into_inner();
            let renewed = renewed.message().await?;
            let renewed = renewed.ok_or_else(|| Status::unavailable("the stream ended without an answer"))?;
            let ttl_s = seconds(renewed.ttl);
            answer(renewed.header, Reply::Lease { ttl_s })
        }
        Request::LeaseTimeToLive { lease } => {
            let asked = pb::LeaseTimeToLiveRequest {
                id: lease,
                keys: false,
            };
            let left = leases.lease_time_to_live(asked).await?.into_inner();
            // The last second is told as 0, and a lease that is gone as -1.
            let ttl_s = seconds(if left.ttl == 0 { 1 } else { left.ttl });
            answer(left.header, Reply::Lease { ttl_s })
        }
        Request::LeaseRevoke { lease } => {
            let revoked = leases
                .lease_revoke(pb::LeaseRevokeRequest { id: lease })
                .await?
                .into_inner();
            answer(revoked.header, Reply::LeaseRevoked)
        }
        _ => Err(Status::internal("not about leases")),
    }
}

fn answer(header: Option<pb::ResponseHeader>, reply: Reply) -> Result<Answer, Status> {
    let header = header.ok_or_else(|| Status::internal("an answer without a header"))?;
    Ok(Answer {
        revision: header.revision.cast_unsigned(),
        reply,
    })
}

pub(crate) fn end_of(keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    match keys {
        Keys::Key(key) => (key.clone().into_bytes(), Vec::new()),
        // etcd's way to say all.
        Keys::Prefix(prefix) if prefix.is_empty() => (vec![0], vec![0]),
        Keys::Prefix(prefix) => {
            let mut end = prefix.clone().into_bytes();
            if let Some(last) = end.last_mut() {
                *last += 1;
            }
            (prefix.clone().into_bytes(), end)
        }
    }
}

pub(crate) fn range(keys: &Keys) -> pb::RangeRequest {
    let (key, range_end) = end_of(keys);
    pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    }
}

fn put(key: &str, value: &str, lease: Option<i64>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into_bytes().into(),
        value: value.to_owned().into_bytes().into(),
        lease: lease.unwrap_or(0),
        ..Default::default()
    }
}

fn delete(keys: &Keys) -> pb::DeleteRangeRequest {
    let (key, range_end) = end_of(keys);
    pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareTarget, TargetUnion};
    let (target, union) = match &compare.is {
        Test::Value(value) => (
            CompareTarget::Value,
            TargetUnion::Value(value.clone().into_bytes().into()),
        ),
        Test::Version(version) => (
            CompareTarget::Version,
            TargetUnion::Version(version.cast_signed()),
        ),
        Test::CreateRevision(revision) => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(revision.cast_signed()),
        ),
        Test::ModRevision(revision) => (
            CompareTarget::Mod,
            TargetUnion::ModRevision(revision.cast_signed()),
        ),
    };
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: target.into(),
        key: compare.key.clone().into_bytes().into(),
        target_union: Some(union),
        ..Default::default()
    }
}

fn op(op: &Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        Op::Read(keys) => Request::RequestRange(range(keys)),
        Op::Put { key, value, lease } => Request::RequestPut(put(key, value, *lease)),
        Op::Delete(keys) => Request::RequestDeleteRange(delete(keys)),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

fn op_reply(response: pb::ResponseOp) -> Result<OpReply, Status> {
    use pb::response_op::Response;
    match response.response {
        Some(Response::ResponseRange(read)) => {
            Ok(OpReply::Read(read.kvs.into_iter().map(key_value).collect()))
        }
        Some(Response::ResponsePut(_)) => Ok(OpReply::Put),
        Some(Response::ResponseDeleteRange(deleted)) => Ok(OpReply::Delete(deleted.deleted.cast_unsigned())),
        _ => Err(Status::internal("an answer that nobody asked for")),
    }
}

pub(crate) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        create_revision: kv.create_revision.cast_unsigned(),
        mod_revision: kv.mod_revision.cast_unsigned(),
        version: kv.version.cast_unsigned(),
        lease: (kv.lease != 0).then_some(kv.lease),
    }
}
