//! Between the wire's messages and the data model's types.
//!
//! Keys and values are moved, never copied. Numbers of enums that mean nothing are refused: etcd takes an
//! unknown comparison for one that holds, which nobody can want.

use kv_core::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Error, KeyValue, Op, Put, Range,
    RangeResult, Response, Txn,
};
use kv_proto::{
    etcdserverpb::{self as pb, compare::TargetUnion, request_op, response_op},
    mvccpb,
};

use super::errors::ApiError;

/// A read, without its `serializable`.
///
/// # Errors
/// As in etcd, an empty key is found before a sort that does not exist.
pub(super) fn range(request: pb::RangeRequest) -> Result<Range, ApiError> {
    let invalid = |error: Error| {
        if request.key.is_empty() {
            Error::EmptyKey
        } else {
            error
        }
    };
    Ok(Range {
        sort_order: request.sort_order.try_into().map_err(invalid)?,
        sort_target: request.sort_target.try_into().map_err(invalid)?,
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A write of one key.
pub(super) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(super) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    }
}

/// A compaction.
pub(super) fn compact(request: pb::CompactionRequest) -> Command {
    Command::Compact(Compact {
        revision: request.revision,
    })
}

/// A transaction. The wire bounds its depth: prost refuses messages nested deeper than 100, which are 50 transactions
/// within the outermost one, fewer than [`kv_core::NESTING_MAX`].
pub(super) fn txn(request: pb::TxnRequest) -> Result<Txn, ApiError> {
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(op).collect::<Result<Vec<Op>, ApiError>>();
    Ok(Txn {
        compare: request
            .compare
            .into_iter()
            .map(compare)
            .collect::<Result<_, _>>()?,
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    })
}

fn op(op: pb::RequestOp) -> Result<Op, ApiError> {
    // etcd's answer to an operation that says nothing.
    match op.request.ok_or(Error::KeyNotFound)? {
        request_op::Request::RequestRange(request) => range(request).map(Op::Range),
        request_op::Request::RequestPut(request) => Ok(Op::Put(put(request))),
        request_op::Request::RequestDeleteRange(request) => Ok(Op::DeleteRange(delete_range(request))),
        request_op::Request::RequestTxn(request) => txn(request).map(Op::Txn),
    }
}

/// As in etcd, `target` decides, and an operand that is missing or of another target counts as zero.
fn compare(compare: pb::Compare) -> Result<Compare, ApiError> {
    use pb::compare::{CompareResult as PbResult, CompareTarget as PbTarget};
    let result = match PbResult::try_from(compare.result).map_err(|_| ApiError::UnknownCompare)? {
        PbResult::Equal => CompareResult::Equal,
        PbResult::Greater => CompareResult::Greater,
        PbResult::Less => CompareResult::Less,
        PbResult::NotEqual => CompareResult::NotEqual,
    };
    let operand = compare.target_union;
    let target = match PbTarget::try_from(compare.target).map_err(|_| ApiError::UnknownCompare)? {
        PbTarget::Version => CompareTarget::Version(match operand {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        PbTarget::Create => CompareTarget::Create(match operand {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        PbTarget::Mod => CompareTarget::Mod(match operand {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        PbTarget::Value => CompareTarget::Value(match operand {
            Some(TargetUnion::Value(value)) => value,
            _ => bytes::Bytes::new(),
        }),
        PbTarget::Lease => CompareTarget::Lease(match operand {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
    };
    Ok(Compare {
        key: compare.key,
        range_end: compare.range_end,
        result,
        target,
    })
}

/// Whether every operation of both branches is a serializable range, and there is one: only then may the
/// transaction be answered from this node's own state without asking the others.
///
/// etcd takes a transaction without any operation for serializable too, so that its compares may be answered
/// from the past; here they are not.
pub(super) fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure).peekable();
    ops.peek().is_some()
        && ops.all(|op| match &op.request {
            Some(request_op::Request::RequestRange(range)) => range.serializable,
            _ => false,
        })
}

/// A record on the wire.
pub(super) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

fn key_values(kvs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

/// The answer to a read.
pub(super) fn range_response(header: pb::ResponseHeader, result: RangeResult) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: key_values(result.kvs),
        more: result.more,
        count: result.count,
    }
}

/// The answer to a put.
///
/// # Errors
/// [`ApiError::WrongAnswer`] when it answers something else; so for the others below.
pub(super) fn put_response(
    header: pb::ResponseHeader,
    response: Response,
) -> Result<pb::PutResponse, ApiError> {
    match response {
        Response::Put { prev_kv } => Ok(pb::PutResponse {
            header: Some(header),
            prev_kv: prev_kv.map(key_value),
        }),
        _ => Err(ApiError::WrongAnswer),
    }
}

/// The answer to a deletion.
pub(super) fn delete_range_response(
    header: pb::ResponseHeader,
    response: Response,
) -> Result<pb::DeleteRangeResponse, ApiError> {
    match response {
        Response::DeleteRange { deleted, prev_kvs } => Ok(pb::DeleteRangeResponse {
            header: Some(header),
            deleted,
            prev_kvs: key_values(prev_kvs),
        }),
        _ => Err(ApiError::WrongAnswer),
    }
}

/// The answer to a transaction.
pub(super) fn txn_response(
    header: pb::ResponseHeader,
    response: Response,
) -> Result<pb::TxnResponse, ApiError> {
    match response {
        Response::Txn { succeeded, responses } => Ok(pb::TxnResponse {
            header: Some(header),
            succeeded,
            responses: responses.into_iter().map(response_op).collect::<Result<_, _>>()?,
        }),
        _ => Err(ApiError::WrongAnswer),
    }
}

/// Inside a transaction, etcd fills in nothing of a header but the revision.
fn response_op((revision, response): (i64, Response)) -> Result<pb::ResponseOp, ApiError> {
    let header = pb::ResponseHeader {
        revision,
        ..pb::ResponseHeader::default()
    };
    let response = match response {
        Response::Range(result) => response_op::Response::ResponseRange(range_response(header, result)),
        Response::Put { .. } => response_op::Response::ResponsePut(put_response(header, response)?),
        Response::DeleteRange { .. } => {
            response_op::Response::ResponseDeleteRange(delete_range_response(header, response)?)
        }
        Response::Txn { .. } => response_op::Response::ResponseTxn(txn_response(header, response)?),
        Response::Compact
        | Response::Auth
        | Response::LeaseGrant { .. }
        | Response::LeaseRevoke
        | Response::LeaseRenew { .. }
        | Response::LeaseExpire { .. }
        | Response::Alarm { .. } => return Err(ApiError::WrongAnswer),
    };
    Ok(pb::ResponseOp {
        response: Some(response),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv_core::{SortOrder, SortTarget};
    use prost::Message;

    use super::*;

    fn range_op(serializable: bool) -> pb::RequestOp {
        let range = pb::RangeRequest {
            key: "k".into(),
            serializable,
            ..Default::default()
        };
        pb::RequestOp {
            request: Some(request_op::Request::RequestRange(range)),
        }
    }

    fn put_op() -> pb::RequestOp {
        let put = pb::PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        pb::RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }
    }

    /// A transaction with so many others within it.
    fn nested(levels: usize) -> pb::TxnRequest {
        (0..levels).fold(pb::TxnRequest::default(), |txn, _| pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(request_op::Request::RequestTxn(txn)),
            }],
            ..Default::default()
        })
    }

    #[test]
    fn as_deep_as_the_wire_lets_a_transaction_be_the_log_does() {
        let read = |levels| pb::TxnRequest::decode(nested(levels).encode_to_vec().as_slice());
        let deepest = Command::Txn(txn(read(50).unwrap()).unwrap());
        assert_eq!(deepest.validate(&kv_core::Limits::default()), Ok(()));
        let asked = deepest.by(kv_core::Caller::User {
            name: "alice".into(),
            revision: 1,
        });
        let frame = crate::codec::encode(&asked).unwrap();
        assert_eq!(crate::codec::decode::<Command>(&frame).unwrap(), asked);
        let error = read(51).unwrap_err().to_string();
        assert!(error.contains("recursion limit reached"), "{error}");
    }

    #[test]
    fn every_field_of_a_range_arrives() {
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 3,
            revision: 4,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 5,
            max_mod_revision: 6,
            min_create_revision: 7,
            max_create_revision: 8,
        };
        let expected = Range {
            key: "a".into(),
            range_end: "b".into(),
            limit: 3,
            revision: 4,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Mod,
            keys_only: true,
            count_only: true,
            min_mod_revision: 5,
            max_mod_revision: 6,
            min_create_revision: 7,
            max_create_revision: 8,
        };
        assert_eq!(range(request), Ok(expected));
    }

    #[test]
    fn unknown_enum_numbers_are_refused() {
        let invalid = Err(ApiError::Refused(Error::InvalidSortOption));
        assert_eq!(
            range(pb::RangeRequest {
                key: "k".into(),
                sort_order: 3,
                ..Default::default()
            }),
            invalid
        );
        assert_eq!(
            range(pb::RangeRequest {
                key: "k".into(),
                sort_target: -1,
                ..Default::default()
            }),
            invalid
        );
        let no_key = pb::RangeRequest {
            sort_order: 3,
            ..Default::default()
        };
        assert_eq!(range(no_key), Err(ApiError::Refused(Error::EmptyKey)));
        for (result, target) in [(4, 0), (0, 5), (-1, 0)] {
            let request = pb::TxnRequest {
                compare: vec![pb::Compare {
                    result,
                    target,
                    ..Default::default()
                }],
                ..Default::default()
            };
            assert_eq!(txn(request), Err(ApiError::UnknownCompare));
        }
    }

    #[test]
    fn an_empty_key_does_not_hide_what_is_wrong_before_it() {
        let put = pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            ignore_value: true,
            ..Default::default()
        };
        let op = |request| pb::RequestOp {
            request: Some(request),
        };
        let request = pb::TxnRequest {
            success: vec![
                op(request_op::Request::RequestPut(put)),
                op(request_op::Request::RequestRange(pb::RangeRequest::default())),
            ],
            ..Default::default()
        };
        let refused = txn(request).unwrap().validate(&kv_core::Limits::default());
        assert_eq!(refused, Err(Error::ValueProvided));
    }

    #[test]
    fn values_are_shared_and_not_copied() {
        let value = Bytes::from(vec![7; 100]);
        let moved = put(pb::PutRequest {
            value: value.clone(),
            ..Default::default()
        })
        .value;
        assert_eq!(moved.as_ptr(), value.as_ptr());
        let kv = key_value(KeyValue {
            value: value.clone(),
            ..Default::default()
        });
        assert_eq!(kv.value.as_ptr(), value.as_ptr());
    }

    #[test]
    fn the_target_decides_which_operand_counts() {
        let of = |target: i32, target_union| {
            compare(pb::Compare {
                key: "k".into(),
                target,
                target_union,
                ..Default::default()
            })
            .unwrap()
            .target
        };
        assert_eq!(of(0, Some(TargetUnion::Version(5))), CompareTarget::Version(5));
        assert_eq!(
            of(1, Some(TargetUnion::CreateRevision(5))),
            CompareTarget::Create(5)
        );
        assert_eq!(of(2, Some(TargetUnion::ModRevision(5))), CompareTarget::Mod(5));
        assert_eq!(
            of(3, Some(TargetUnion::Value("v".into()))),
            CompareTarget::Value("v".into())
        );
        assert_eq!(of(4, Some(TargetUnion::Lease(5))), CompareTarget::Lease(5));
        assert_eq!(
            of(0, Some(TargetUnion::ModRevision(5))),
            CompareTarget::Version(0)
        );
        assert_eq!(of(3, None), CompareTarget::Value(Bytes::new()));
    }

    #[test]
    fn an_operation_that_says_nothing() {
        let request = pb::TxnRequest {
            success: vec![pb::RequestOp { request: None }],
            ..Default::default()
        };
        assert_eq!(txn(request), Err(ApiError::Refused(Error::KeyNotFound)));
    }

    #[test]
    fn which_transactions_skip_the_barrier() {
        let txn = |success, failure| pb::TxnRequest {
            success,
            failure,
            ..Default::default()
        };
        assert!(is_serializable(&txn(vec![range_op(true)], vec![])));
        assert!(is_serializable(&txn(vec![range_op(true)], vec![range_op(true)])));
        assert!(!is_serializable(&txn(
            vec![range_op(true)],
            vec![range_op(false)]
        )));
        assert!(!is_serializable(&txn(vec![range_op(true), put_op()], vec![])));
        assert!(!is_serializable(&txn(vec![], vec![])));
    }

    #[test]
    fn nested_answers_keep_their_own_header() {
        let kv = KeyValue {
            key: "k".into(),
            mod_revision: 7,
            ..Default::default()
        };
        let inner = Response::Txn {
            succeeded: true,
            responses: vec![(8, Response::Put { prev_kv: None })],
        };
        let range = RangeResult {
            kvs: vec![kv],
            more: true,
            count: 9,
        };
        let outer = Response::Txn {
            succeeded: false,
            responses: vec![(7, Response::Range(range)), (0, inner)],
        };
        let header = pb::ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 8,
            raft_term: 3,
        };
        let answer = txn_response(header, outer).unwrap();
        assert_eq!((answer.header, answer.succeeded), (Some(header), false));
        let of = |revision| {
            Some(pb::ResponseHeader {
                revision,
                ..Default::default()
            })
        };
        match answer.responses[0].response.as_ref().unwrap() {
            response_op::Response::ResponseRange(range) => {
                assert_eq!((range.header, range.more, range.count), (of(7), true, 9));
                assert_eq!(range.kvs[0].mod_revision, 7);
            }
            other => panic!("{other:?}"),
        }
        match answer.responses[1].response.as_ref().unwrap() {
            response_op::Response::ResponseTxn(txn) => {
                assert_eq!((txn.header, txn.succeeded), (of(0), true));
                match txn.responses[0].response.as_ref().unwrap() {
                    response_op::Response::ResponsePut(put) => assert_eq!(put.header, of(8)),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_no_answer() {
        let header = pb::ResponseHeader::default();
        assert_eq!(
            put_response(header, Response::Compact),
            Err(ApiError::WrongAnswer)
        );
        assert_eq!(
            delete_range_response(header, Response::Put { prev_kv: None }),
            Err(ApiError::WrongAnswer)
        );
        let compacted = Response::Txn {
            succeeded: true,
            responses: vec![(1, Response::Compact)],
        };
        assert_eq!(txn_response(header, compacted), Err(ApiError::WrongAnswer));
    }
}
