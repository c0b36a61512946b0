//! One operation of a history, asked of a cluster: the words of the checkers put into etcd's, and back.

use kv_client::{Client, Error, prefix_end};
use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kv_proto::etcdserverpb::request_op::Request as WireOp;
use kv_proto::etcdserverpb::response_op::Response as WireReply;
use kv_proto::etcdserverpb::{
    Compare as WireCompare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    TxnRequest, TxnResponse,
};
use kv_proto::mvccpb;
use quorate_checkers::history::{
    Answer, Compare, KeyValue, Keys, Op, OpReply, Outcome, Reply, Request, Test, Txn, TxnReply,
};

/// Asks, and says what came of it.
pub(crate) async fn execute(client: &Client, request: &Request) -> Outcome {
    match ask(client, request).await {
        Ok(answer) => Outcome::Ok(answer),
        Err(Error::OutcomeUnknown { message }) => Outcome::Unknown(message),
        // Retried like a read, but it changes the lease's end.
        Err(Error::Timeout { message }) if matches!(request, Request::LeaseKeepAlive { .. }) => {
            Outcome::Unknown(message)
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

async fn ask(client: &Client, request: &Request) -> Result<Answer, Error> {
    match request {
        Request::Read {
            keys,
            serializable,
            revision,
        } => {
            let answer = client
                .range(range(keys, *serializable, revision.unwrap_or(0)))
                .await?;
            Ok(answered(answer.header, Reply::Read(key_values(answer.kvs))))
        }
        Request::Put { key, value, lease } => {
            let answer = client.put(put(key, value, *lease)).await?;
            Ok(answered(answer.header, Reply::Put))
        }
        Request::Delete { keys } => {
            let answer = client.delete_range(delete(keys)).await?;
            let deleted = answer.deleted.cast_unsigned();
            Ok(answered(answer.header, Reply::Delete { deleted }))
        }
        Request::CompareAndSet { key, expected, value } => {
            let answer = client
                .txn(compare_and_set(key, expected.as_deref(), value))
                .await?;
            let reply = Reply::CompareAndSet {
                succeeded: answer.succeeded,
            };
            Ok(answered(answer.header, reply))
        }
        Request::Txn(transaction) => {
            let answer = client.txn(txn(transaction)).await?;
            let header = answer.header;
            Ok(answered(header, Reply::Txn(txn_reply(answer))))
        }
        Request::SetAdd { set, element } => {
            let answer = client.put(put(&format!("{set}{element}"), element, None)).await?;
            Ok(answered(answer.header, Reply::SetAdd))
        }
        Request::SetRead { set, serializable } => {
            let mut request = range(&Keys::Prefix(set.clone()), *serializable, 0);
            request.keys_only = true;
            let answer = client.range(request).await?;
            let elements = answer.kvs.iter().map(|kv| text(&kv.key)[set.len()..].to_owned());
            Ok(answered(answer.header, Reply::SetRead(elements.collect())))
        }
        Request::LockRelease { key, .. } => {
            let answer = client.delete_range(delete(&Keys::Key(key.clone()))).await?;
            Ok(answered(answer.header, Reply::LockReleased))
        }
        Request::LeaseGrant { lease, ttl_s } => {
            let answer = client.lease_grant(ttl_s.cast_signed(), *lease).await?;
            Ok(answered(answer.header, lease_reply(answer.ttl)))
        }
        Request::LeaseKeepAlive { lease } => {
            let answer = client.lease_keep_alive_once(*lease).await?;
            Ok(answered(answer.header, lease_reply(answer.ttl)))
        }
        Request::LeaseTimeToLive { lease } => {
            let answer = client.lease_time_to_live(*lease, false).await?;
            // The last second is told as 0, and a lease that is gone as -1.
            let ttl_s = if answer.ttl == 0 { 1 } else { answer.ttl };
            Ok(answered(answer.header, lease_reply(ttl_s)))
        }
        Request::LeaseRevoke { lease } => {
            let answer = client.lease_revoke(*lease).await?;
            Ok(answered(answer.header, Reply::LeaseRevoked))
        }
        Request::Watch { .. }
        | Request::LockAcquire { .. }
        | Request::Hash { .. }
        | Request::Compact { .. } => unreachable!("their clients record these themselves"),
    }
}

/// An answer of a revision.
pub(crate) fn answered(header: Option<ResponseHeader>, reply: Reply) -> Answer {
    let revision = header.map_or(0, |header| header.revision);
    Answer {
        revision: revision.cast_unsigned(),
        reply,
    }
}

fn lease_reply(ttl_s: i64) -> Reply {
    Reply::Lease {
        ttl_s: u64::try_from(ttl_s).unwrap_or(0),
    }
}

fn range(keys: &Keys, serializable: bool, revision: u64) -> RangeRequest {
    let (key, range_end) = span(keys);
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        serializable,
        revision: revision.cast_signed(),
        ..RangeRequest::default()
    }
}

fn put(key: &str, value: &str, lease: Option<i64>) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease: lease.unwrap_or(0),
        ..PutRequest::default()
    }
}

fn delete(keys: &Keys) -> DeleteRangeRequest {
    let (key, range_end) = span(keys);
    DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..DeleteRangeRequest::default()
    }
}

/// `key` and `range_end` of a request.
pub(crate) fn span(keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    match keys {
        Keys::Key(key) => (key.clone().into_bytes(), Vec::new()),
        Keys::Prefix(prefix) => (prefix.clone().into_bytes(), prefix_end(prefix.as_bytes()).into()),
    }
}

fn compare_and_set(key: &str, expected: Option<&str>, value: &str) -> TxnRequest {
    let is = expected.map_or(Test::Version(0), |expected| Test::Value(expected.to_owned()));
    txn(&Txn {
        compares: vec![Compare {
            key: key.to_owned(),
            is,
        }],
        then: vec![Op::Put {
            key: key.to_owned(),
            value: value.to_owned(),
            lease: None,
        }],
        otherwise: Vec::new(),
    })
}

fn txn(txn: &Txn) -> TxnRequest {
    TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.then.iter().map(op).collect(),
        failure: txn.otherwise.iter().map(op).collect(),
    }
}

fn compare(compare: &Compare) -> WireCompare {
    let (target, union) = match &compare.is {
        Test::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
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
    WireCompare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: compare.key.clone().into(),
        range_end: Vec::new().into(),
        target_union: Some(union),
    }
}

fn op(op: &Op) -> RequestOp {
    let request = match op {
        Op::Read(keys) => WireOp::RequestRange(range(keys, false, 0)),
        Op::Put { key, value, lease } => WireOp::RequestPut(put(key, value, *lease)),
        Op::Delete(keys) => WireOp::RequestDeleteRange(delete(keys)),
    };
    RequestOp {
        request: Some(request),
    }
}

fn txn_reply(answer: TxnResponse) -> TxnReply {
    let results = answer
        .responses
        .into_iter()
        .filter_map(|part| match part.response? {
            WireReply::ResponseRange(range) => Some(OpReply::Read(key_values(range.kvs))),
            WireReply::ResponsePut(_) => Some(OpReply::Put),
            WireReply::ResponseDeleteRange(range) => Some(OpReply::Delete(range.deleted.cast_unsigned())),
            WireReply::ResponseTxn(_) => None,
        });
    TxnReply {
        succeeded: answer.succeeded,
        results: results.collect(),
    }
}

fn key_values(kvs: Vec<mvccpb::KeyValue>) -> Vec<KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

/// A key as a history has it.
pub(crate) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision.cast_unsigned(),
        mod_revision: kv.mod_revision.cast_unsigned(),
        version: kv.version.cast_unsigned(),
        lease: (kv.lease != 0).then_some(kv.lease),
    }
}

/// Text that a client of ours wrote. Anything else would be damage, and then differs from what was written.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
