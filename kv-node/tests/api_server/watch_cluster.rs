//! Watches on all nodes of a cluster, while the leader goes and history is compacted.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_proto::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient,
    watch_request::RequestUnion,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{common::DEADLINE, harness::Server};

/// The key whose put is the last.
const END: &[u8] = b"end";

/// Revision, key and value of events, and the error that ended them, if one did.
type Told = (Vec<(i64, Bytes, Bytes)>, Option<Status>);

/// Follows all keys from a revision on, until the last put or an error.
async fn follow(server: &Server, start_revision: i64) -> JoinHandle<Told> {
    let (requests, queue) = mpsc::channel(1);
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision,
        ..Default::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    requests.send(create).await.unwrap();
    let mut answers = server
        .watch()
        .watch(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().unwrap().created);
    tokio::spawn(async move {
        let _requests = requests;
        let mut told = Vec::new();
        loop {
            let answer: WatchResponse = match answers.message().await {
                Ok(answer) => answer.unwrap(),
                Err(status) => return (told, Some(status)),
            };
            assert!(!answer.canceled, "{answer:?}");
            for event in answer.events {
                let kv = event.kv.unwrap();
                assert!(kv.mod_revision <= answer.header.as_ref().unwrap().revision);
                told.push((kv.mod_revision, kv.key, kv.value));
            }
            if told.last().is_some_and(|(_, key, _)| key == END) {
                return (told, None);
            }
        }
    })
}

/// Puts until it succeeds; returns the revision.
async fn put(kv: &mut KvClient<Channel>, key: &'static [u8], value: String) -> i64 {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    loop {
        match kv.put(put.clone()).await {
            Ok(done) => return done.into_inner().header.unwrap().revision,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_on_all_nodes_agree_while_the_leader_changes() {
    let mut servers = Box::pin(Server::start_three()).await;
    let mut followers = Vec::new();
    for server in &servers {
        followers.push(follow(server, 2).await);
    }
    let leads = servers.iter().position(Server::leads).unwrap();
    let (leader, leaders) = (servers.swap_remove(leads), followers.swap_remove(leads));
    let mut kv = servers[0].kv();
    let mut acknowledged = BTreeMap::new();
    for n in 0..60 {
        acknowledged.insert(put(&mut kv, b"a", n.to_string()).await, n.to_string());
    }
    let stopping = tokio::spawn(leader.stop());
    for n in 60..120 {
        acknowledged.insert(put(&mut kv, b"a", n.to_string()).await, n.to_string());
    }
    stopping.await.unwrap();
    let revision = *acknowledged.keys().last().unwrap() - 20;
    kv.compact(CompactionRequest {
        revision,
        physical: true,
    })
    .await
    .unwrap();
    let late = follow(&servers[1], revision).await;
    let end = put(&mut kv, END, String::new()).await;

    let mut told = Vec::new();
    for follower in followers {
        let (events, error) = tokio::time::timeout(DEADLINE, follower).await.unwrap().unwrap();
        assert!(error.is_none(), "{error:?}");
        told.push(events);
    }
    let (first, second) = (&told[0], &told[1]);
    assert_eq!(first, second);
    assert!(
        first.iter().map(|(revision, ..)| *revision).eq(2..=end),
        "each revision once"
    );
    for (revision, _, value) in first {
        if let Some(acknowledged) = acknowledged.remove(revision) {
            assert_eq!(*value, acknowledged);
        }
    }
    assert_eq!(
        acknowledged,
        BTreeMap::new(),
        "told of everything that was acknowledged"
    );
    let (until_it_stopped, error) = leaders.await.unwrap();
    assert_eq!(error.unwrap().message(), "etcdserver: server stopped");
    assert_eq!(until_it_stopped, first[..until_it_stopped.len()]);
    let (late, _) = tokio::time::timeout(DEADLINE, late).await.unwrap().unwrap();
    assert_eq!(late, first[first.len() - late.len()..]);
    assert_eq!(late[0].0, revision);
    for server in servers {
        server.stop().await;
    }
}
