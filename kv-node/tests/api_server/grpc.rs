//! etcd's services.

use bytes::Bytes;
use kv_proto::etcdserverpb::{
    self as pb, CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, compare::TargetUnion, request_op::Request, response_op::Response,
};
use tonic::{Code, Status};

use crate::harness::{MAX_REQUEST_BYTES, Server};

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn writes_and_reads_with_full_headers() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let ids = server.node.identity();
    let header = |revision| ResponseHeader {
        cluster_id: ids.cluster_id,
        member_id: ids.member_id,
        revision,
        raft_term: server.node.status().term,
    };
    // Revision 2 was the harness's.
    let first = kv.put(put("a", "1")).await.unwrap().into_inner();
    assert_eq!((first.header, first.prev_kv), (Some(header(3)), None));
    assert!(header(3).raft_term > 0);
    let second = kv
        .put(PutRequest {
            prev_kv: true,
            ..put("a", "2")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (second.header, second.prev_kv.unwrap().value),
        (Some(header(4)), Bytes::from("1"))
    );
    for serializable in [false, true] {
        let read = kv
            .range(RangeRequest {
                serializable,
                ..range("a")
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!((read.header, read.count, read.more), (Some(header(4)), 1, false));
        let record = &read.kvs[0];
        assert_eq!((&record.key[..], &record.value[..]), (&b"a"[..], &b"2"[..]));
        assert_eq!(
            (record.create_revision, record.mod_revision, record.version),
            (3, 4, 2)
        );
    }
    let past = kv
        .range(RangeRequest {
            revision: 3,
            ..range("a")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (past.header, &past.kvs[0].value[..]),
        (Some(header(4)), &b"1"[..])
    );
    let nothing = kv
        .delete_range(DeleteRangeRequest {
            key: "b".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (nothing.get_ref().header, nothing.get_ref().deleted),
        (Some(header(4)), 0)
    );
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: true,
    };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((deleted.header, deleted.deleted), (Some(header(5)), 1));
    assert_eq!(&deleted.prev_kvs[0].value[..], b"2");
    server.stop().await;
}

#[tokio::test]
async fn transactions() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let absent = Compare {
        key: "lock".into(),
        target: pb::compare::CompareTarget::Create.into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Default::default()
    };
    let take = TxnRequest {
        compare: vec![absent],
        success: vec![
            op(Request::RequestPut(put("lock", "mine"))),
            op(Request::RequestRange(range("lock"))),
        ],
        failure: vec![op(Request::RequestRange(range("lock")))],
    };
    let won = kv.txn(take.clone()).await.unwrap().into_inner();
    assert!(won.succeeded);
    assert_eq!(won.header.unwrap().revision, 3);
    match &won.responses[1].response {
        Some(Response::ResponseRange(read)) => {
            assert_eq!(
                (&read.kvs[0].value[..], read.kvs[0].mod_revision),
                (&b"mine"[..], 3)
            );
            assert_eq!(
                read.header,
                Some(ResponseHeader {
                    revision: 3,
                    ..Default::default()
                })
            );
        }
        other => panic!("{other:?}"),
    }
    let lost = kv.txn(take).await.unwrap().into_inner();
    assert!(!lost.succeeded);
    assert_eq!((lost.header.unwrap().revision, lost.responses.len()), (3, 1));

    // Without a write, the log does not grow.
    let before = server.node.status().last_log_index;
    for serializable in [false, true] {
        let read = op(Request::RequestRange(RangeRequest {
            serializable,
            ..range("lock")
        }));
        let read = kv
            .txn(TxnRequest {
                success: vec![read],
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (
                read.succeeded,
                read.header.unwrap().revision,
                read.responses.len()
            ),
            (true, 3, 1)
        );
    }
    assert_eq!(server.node.status().last_log_index, before);
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_etcds() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let invalid = |message: &str| (Code::InvalidArgument, message.to_owned());
    let empty_key = invalid("etcdserver: key is not provided");
    assert_eq!(refusal(kv.put(put("", "v")).await), empty_key);
    assert_eq!(refusal(kv.range(range("")).await), empty_key);
    assert_eq!(
        refusal(kv.delete_range(DeleteRangeRequest::default()).await),
        empty_key
    );
    assert_eq!(
        refusal(
            kv.put(PutRequest {
                ignore_value: true,
                ..put("nobody", "")
            })
            .await
        ),
        invalid("etcdserver: key not found")
    );
    assert_eq!(
        refusal(
            kv.put(PutRequest {
                ignore_value: true,
                ..put("k", "v")
            })
            .await
        ),
        invalid("etcdserver: value is provided")
    );
    assert_eq!(
        refusal(
            kv.put(PutRequest {
                ignore_lease: true,
                lease: 1,
                ..put("k", "v")
            })
            .await
        ),
        invalid("etcdserver: lease is provided")
    );
    assert_eq!(
        refusal(
            kv.put(PutRequest {
                lease: 7,
                ..put("k", "v")
            })
            .await
        ),
        (Code::NotFound, "etcdserver: requested lease not found".to_owned())
    );
    assert_eq!(
        refusal(
            kv.range(RangeRequest {
                sort_order: 9,
                ..range("k")
            })
            .await
        ),
        invalid("etcdserver: invalid sort option")
    );
    let ops = |count| vec![op(Request::RequestRange(range("k"))); count];
    kv.txn(TxnRequest {
        success: ops(128),
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(
        refusal(
            kv.txn(TxnRequest {
                success: ops(129),
                ..Default::default()
            })
            .await
        ),
        invalid("etcdserver: too many operations in txn request")
    );
    let unheard_of = Compare {
        result: 9,
        key: "k".into(),
        ..Default::default()
    };
    assert_eq!(
        refusal(
            kv.txn(TxnRequest {
                compare: vec![unheard_of],
                ..Default::default()
            })
            .await
        ),
        invalid("quorate: compare with an unknown result or target")
    );
    let twice = vec![op(Request::RequestPut(put("k", "1"))); 2];
    assert_eq!(
        refusal(
            kv.txn(TxnRequest {
                success: twice,
                ..Default::default()
            })
            .await
        ),
        invalid("etcdserver: duplicate key given in txn request")
    );
    let nothing = TxnRequest {
        success: vec![RequestOp { request: None }],
        ..Default::default()
    };
    assert_eq!(
        refusal(kv.txn(nothing).await),
        invalid("etcdserver: key not found")
    );
    assert_eq!(
        refusal(
            kv.range(RangeRequest {
                revision: 99,
                ..range("k")
            })
            .await
        ),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".to_owned()
        )
    );
    assert_eq!(
        kv.range(range("k"))
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision,
        2,
        "nothing was done"
    );
    server.stop().await;
}

#[tokio::test]
async fn compaction() {
    let server = Server::start().await;
    let mut kv = server.kv();
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
    }
    let compact = |revision, physical| CompactionRequest { revision, physical };
    let done = kv.compact(compact(4, true)).await.unwrap().into_inner();
    assert_eq!(done.header.unwrap().revision, 5);
    let compacted = (
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted".to_owned(),
    );
    assert_eq!(refusal(kv.compact(compact(4, false)).await), compacted);
    assert_eq!(
        refusal(
            kv.range(RangeRequest {
                revision: 3,
                ..range("a")
            })
            .await
        ),
        compacted
    );
    let at = kv
        .range(RangeRequest {
            revision: 4,
            ..range("a")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(&at.kvs[0].value[..], b"2");
    assert_eq!(refusal(kv.compact(compact(99, false)).await).0, Code::OutOfRange);
    let hash = |revision| pb::HashKvRequest { revision };
    let mut maintenance = server.maintenance();
    assert_eq!(refusal(maintenance.hash_kv(hash(3)).await), compacted);
    let now = maintenance.hash_kv(hash(0)).await.unwrap().into_inner();
    assert_eq!(
        (
            now.compact_revision,
            now.hash_revision,
            now.header.unwrap().revision
        ),
        (4, 5, 5)
    );
    assert_eq!(
        maintenance.hash_kv(hash(5)).await.unwrap().into_inner().hash,
        now.hash
    );
    server.stop().await;
}

#[tokio::test]
async fn status_and_members() {
    let server = Server::start().await;
    let member = server.node.identity().member_id;
    let status = server
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let header = status.header.unwrap();
    assert_eq!(
        (header.member_id, header.revision, header.raft_term),
        (member, 2, status.raft_term)
    );
    assert_eq!(
        (status.leader, status.is_learner, status.errors.len()),
        (member, false, 0)
    );
    assert!(status.raft_applied_index > 0 && status.raft_index >= status.raft_applied_index);
    assert!(status.raft_term > 0 && status.db_size > 0 && status.db_size_in_use > 0);
    assert_eq!(
        (status.db_size_quota, status.storage_version.as_str()),
        (1 << 30, "3.5.0")
    );
    assert!(status.version.starts_with("3.5."));
    for linearizable in [true, false] {
        let request = pb::MemberListRequest { linearizable };
        let list = server.cluster().member_list(request).await.unwrap().into_inner();
        assert_eq!((list.header.unwrap().member_id, list.members.len()), (member, 1));
        let only = &list.members[0];
        assert_eq!(
            (only.id, only.name.as_str(), only.is_learner),
            (member, "n0", false)
        );
        assert_eq!(only.client_ur_ls, [server.url("")]);
        assert_eq!(only.peer_ur_ls.len(), 1);
    }
    server.stop().await;
}

#[tokio::test]
async fn sizes() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let of = |bytes| PutRequest {
        key: "k".into(),
        value: vec![7; bytes].into(),
        ..Default::default()
    };
    kv.put(of(MAX_REQUEST_BYTES - 100)).await.unwrap();
    let too_large = (
        Code::InvalidArgument,
        "etcdserver: request is too large".to_owned(),
    );
    assert_eq!(refusal(kv.put(of(MAX_REQUEST_BYTES)).await), too_large);
    assert_eq!(
        refusal(kv.put(of(MAX_REQUEST_BYTES + (500 << 10))).await),
        too_large
    );
    let txn = TxnRequest {
        success: vec![op(Request::RequestPut(of(MAX_REQUEST_BYTES)))],
        ..Default::default()
    };
    assert_eq!(refusal(kv.txn(txn).await), too_large);
    let beyond = refusal(kv.put(of(MAX_REQUEST_BYTES + (513 << 10))).await);
    assert_eq!(
        beyond,
        (
            Code::ResourceExhausted,
            "grpc: received message larger than max".to_owned()
        )
    );
    // Answers have no limit.
    for number in 0..6 {
        let key = Bytes::from(format!("large/{number}"));
        kv.put(PutRequest { key, ..of(1 << 20) }).await.unwrap();
    }
    let all = RangeRequest {
        range_end: "large0".into(),
        ..range("large/")
    };
    assert_eq!(kv.range(all).await.unwrap().into_inner().kvs.len(), 6);
    server.stop().await;
}

/// More bytes of metadata than a node reads.
const METADATA_BEYOND: usize = 1 << 20;

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let server = Server::start().await;
    for path in ["/etcdserverpb.KV/Nothing", "/nothing.At/All"] {
        let mut grpc = tonic::client::Grpc::new(server.channel());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<RangeRequest, pb::RangeResponse>::default();
        let request = tonic::Request::new(range("a"));
        let answer = grpc.unary(request, path.parse().unwrap(), codec).await;
        assert_eq!(refusal(answer).0, Code::Unimplemented, "{path}");
    }
    server.stop().await;
}

/// What cannot be read is refused, and the connection goes on.
#[tokio::test]
async fn a_malformed_message_and_too_much_metadata_cost_one_request() {
    let server = Server::start().await;
    let channel = server.channel();
    // Its first field is a number; that of a range is bytes.
    let grant = pb::LeaseGrantRequest { ttl: 1, id: 1 };
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::LeaseGrantRequest, pb::RangeResponse>::default();
    let range_path = "/etcdserverpb.KV/Range".parse().unwrap();
    let malformed = grpc.unary(tonic::Request::new(grant), range_path, codec).await;
    assert_eq!(refusal(malformed).0, Code::Internal);

    let mut kv = kv_proto::etcdserverpb::kv_client::KvClient::new(channel);
    let mut crowded = tonic::Request::new(range("a"));
    let much = "m".repeat(METADATA_BEYOND);
    crowded.metadata_mut().insert("much", much.parse().unwrap());
    let refused = kv.range(crowded).await;
    assert!(refused.is_err(), "{refused:?}");
    kv.range(range("a")).await.unwrap();
    server.stop().await;
}
