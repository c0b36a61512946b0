//! What the client library promises about watches and leases, on a cluster that loses one node after the other.

use std::time::Duration;

use kv_client::{Client, Error, Watch, WatchItem, prefix_end};
use kv_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};

use crate::harness::System;

/// How many writes there are, and after which of them the leader is killed.
const WRITES: usize = 60;
const KILL_AFTER: [usize; 2] = [20, 40];
/// The longest that the watch may take to have everything.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Seconds that the lease lives when it is not renewed: longer than an election takes here.
const TTL_S: i64 = 15;

async fn watch_from(client: &Client, start_revision: i64) -> Watch {
    let request = WatchCreateRequest {
        key: "follow/".into(),
        range_end: prefix_end(b"follow/"),
        start_revision,
        ..Default::default()
    };
    client.watch(request).await.unwrap()
}

/// Revisions and values up to the last write.
async fn follow(mut watch: Watch) -> Vec<(i64, String)> {
    let mut seen = Vec::new();
    let last = format!("{}", WRITES - 1);
    while seen.last().is_none_or(|(_, value)| *value != last) {
        let item = tokio::time::timeout(SEEN_WITHIN, watch.next()).await;
        match item.expect("the watch is silent").unwrap().unwrap() {
            WatchItem::Events { events, .. } => seen.extend(events.into_iter().map(|event| {
                let kv = event.kv.unwrap();
                (kv.mod_revision, String::from_utf8(kv.value.to_vec()).unwrap())
            })),
            other => println!("{other:?}"),
        }
    }
    seen
}

/// Writes until it is certain that it was written.
async fn write(client: &Client, value: usize) {
    let request = PutRequest {
        key: "follow/k".into(),
        value: value.to_string().into(),
        ..Default::default()
    };
    loop {
        match client.put(request.clone()).await {
            Ok(_) => return,
            Err(Error::OutcomeUnknown { message } | Error::NoQuorum { message }) => {
                println!("{value}: {message}")
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_and_a_lock_survive_the_loss_of_leaders() {
    let mut system = System::start(3).await;
    let client = system.client().clone();
    let lease = client.lease(TTL_S).await.unwrap();
    let lock = client.lock(&lease, b"only-one").await.unwrap();

    let watch = watch_from(&client, 0).await;
    let begin = watch.next_revision();
    let following = tokio::spawn(follow(watch));
    for value in 0..WRITES {
        write(&client, value).await;
        if KILL_AFTER.contains(&(value + 1)) {
            let leader = system.leader().await;
            system.nodes[leader].kill();
            write(&client, value).await;
            system.nodes[leader].start_again();
            system.ready().await;
        }
    }
    let seen = following.await.unwrap();
    let history = follow(watch_from(&client, begin).await).await;
    assert_eq!(seen, history, "each event once and in order");
    let mut values: Vec<usize> = seen.iter().map(|(_, value)| value.parse().unwrap()).collect();
    assert!(values.is_sorted());
    values.dedup();
    assert_eq!(
        values,
        (0..WRITES).collect::<Vec<_>>(),
        "what was acknowledged is there"
    );

    assert!(!lease.is_lost());
    let held = RangeRequest {
        key: lock.key().clone(),
        ..Default::default()
    };
    let held = client.range(held).await.unwrap();
    assert_eq!(
        held.kvs[0].create_revision,
        lock.revision(),
        "the lock was never lost"
    );
    lock.unlock().await.unwrap();
    lease.revoke().await.unwrap();
}
