//! A large range in pieces.

use futures::StreamExt;
use kv_proto::etcdserverpb::{
    self as pb,
    range_request::{SortOrder, SortTarget},
};
use tonic::{Code, Status};

use crate::harness::Server;

fn put(key: String, bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: vec![7; bytes].into(),
        ..Default::default()
    }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    }
}

/// The pieces put together, and how many there were.
async fn merged(server: &Server, request: pb::RangeRequest) -> Result<(pb::RangeResponse, usize), Status> {
    let mut stream = server.kv().range_stream(request).await?.into_inner();
    let (mut merged, mut count) = (pb::RangeResponse::default(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece?.range_response.unwrap();
        merged.kvs.extend(piece.kvs);
        merged.header = piece.header.or(merged.header);
        (merged.more, merged.count) = (merged.more | piece.more, merged.count.max(piece.count));
        count += 1;
    }
    Ok((merged, count))
}

#[tokio::test]
async fn the_pieces_make_up_the_range() {
    let server = Server::start().await;
    for number in 0..40 {
        server
            .kv()
            .put(put(format!("k{number:02}"), 100 << 10))
            .await
            .unwrap();
    }
    let old = server
        .kv()
        .put(put("k00".to_owned(), 1))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision;
    server.kv().put(put("k01".to_owned(), 1)).await.unwrap();
    let (whole, pieces) = merged(&server, all()).await.unwrap();
    assert_eq!(whole, server.kv().range(all()).await.unwrap().into_inner());
    assert!(pieces > 5, "{pieces} pieces of 4 MB");
    for request in [
        pb::RangeRequest { limit: 7, ..all() },
        pb::RangeRequest {
            keys_only: true,
            ..all()
        },
        pb::RangeRequest {
            count_only: true,
            ..all()
        },
        pb::RangeRequest {
            revision: old,
            ..all()
        },
        pb::RangeRequest {
            min_mod_revision: old,
            ..all()
        },
        pb::RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            ..all()
        },
        pb::RangeRequest {
            serializable: true,
            ..all()
        },
        pb::RangeRequest {
            key: "nothing".into(),
            ..Default::default()
        },
    ] {
        let (streamed, _) = merged(&server, request.clone()).await.unwrap();
        assert_eq!(
            streamed,
            server.kv().range(request.clone()).await.unwrap().into_inner(),
            "{request:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn refuses_what_is_not_known_before_the_end() {
    let server = Server::start().await;
    let refusal = async |request| {
        let status = merged(&server, request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let by = |order: SortOrder, target: SortTarget| pb::RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..all()
    };
    let unsorted = (
        Code::InvalidArgument,
        "etcdserver: invalid sort option".to_owned(),
    );
    assert_eq!(refusal(by(SortOrder::Descend, SortTarget::Key)).await, unsorted);
    assert_eq!(refusal(by(SortOrder::Ascend, SortTarget::Value)).await, unsorted);
    let empty = (
        Code::InvalidArgument,
        "etcdserver: key is not provided".to_owned(),
    );
    assert_eq!(refusal(pb::RangeRequest::default()).await, empty);
    let future = pb::RangeRequest {
        revision: 99,
        ..all()
    };
    let text = "etcdserver: mvcc: required revision is a future revision".to_owned();
    assert_eq!(refusal(future).await, (Code::OutOfRange, text));
    server.stop().await;
}

#[tokio::test]
async fn ends_when_what_is_to_come_is_compacted() {
    let server = Server::start().await;
    // More than the transport takes ahead.
    for number in 0..60 {
        server
            .kv()
            .put(put(format!("k{number:02}"), 200 << 10))
            .await
            .unwrap();
    }
    let mut stream = server.kv().range_stream(all()).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    let delete = pb::DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let revision = server
        .kv()
        .delete_range(delete)
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision;
    let compaction = pb::CompactionRequest {
        revision,
        physical: true,
    };
    server.kv().compact(compaction).await.unwrap();
    let ended = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("the stream claims to be whole"),
        }
    };
    assert_eq!(
        (ended.code(), ended.message()),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted"
        )
    );
    server.stop().await;
}
