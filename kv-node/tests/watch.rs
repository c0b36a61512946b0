//! Watches on a store and a hub without the rest of a node: what they are promised under slow readers, compactions, sweeps,
//! and snapshots that replace the store; readers and a writer at once; bounds.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "watch/property.rs"]
mod property;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kv_core::{Command, Compact, DeleteRange, Put, Record};
use kv_node::watch::{Filter, Hub, Interest, SubscriptionError, WatchSpec};
use kv_store::{Options, Store};
use proptest::prelude::ProptestConfig;

#[test]
fn watches_are_told_everything_once_and_in_order() {
    let config = ProptestConfig {
        cases: 96,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    if let Err(broken) = property::check(config) {
        panic!("{broken}");
    }
}

fn put_of(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Put(Put {
        key: Bytes::from(key.to_owned()),
        value: value.into(),
        ..Put::default()
    })
}

fn everything() -> Interest {
    Interest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
    }
}

/// Readers of all speeds come and go while a writer writes as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_any_speed_see_every_revision() {
    const WRITES: i64 = 6_000;
    let store = Store::in_memory(Options::default()).unwrap();
    let hub = Hub::new(store.clone());
    let writer = hub.clone();
    let written = tokio::task::spawn_blocking(move || {
        for index in 1..=WRITES {
            let entry = (index.cast_unsigned(), Some(put_of("a", vec![b'v'; 2_000])));
            writer.publish(&store.apply(&[entry], Bytes::new()).unwrap().records);
        }
    });
    let readers = (0..8_u64).map(|reader| {
        let hub = hub.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(reader * 5)).await;
            // Some from the beginning, some from now on.
            let start = if reader % 2 == 0 { 2 } else { hub.published() + 1 };
            let mut subscription = hub.subscribe(everything(), start).unwrap();
            let mut next = start;
            while next <= WRITES + 1 {
                for event in subscription.next().await.unwrap() {
                    assert_eq!(event.at.main, next);
                    next += 1;
                }
                tokio::time::sleep(Duration::from_millis(reader * 3)).await;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    written.await.unwrap();
    let stats = hub.stats();
    assert_eq!((stats.watches, stats.waiting_bytes), (0, 0));
    assert!(stats.fell_behind > 0, "no reader was slow: {stats:?}");
}

#[tokio::test]
async fn a_subscription_waits_and_hears_of_compaction() {
    let store = Store::in_memory(Options::default()).unwrap();
    let hub = Hub::new(store.clone());
    let mut index = 0;
    let mut apply = |command| {
        index += 1;
        hub.publish(
            &store
                .apply(&[(index, Some(command))], Bytes::new())
                .unwrap()
                .records,
        );
    };
    let interest = Interest {
        key: "lock".into(),
        range_end: Bytes::new(),
    };
    apply(put_of("lock", "held"));
    let mut waiting = hub.subscribe(interest.clone(), 3).unwrap();
    assert!(waiting.next().now_or_never().is_none());
    apply(put_of("other", "1"));
    assert!(waiting.next().now_or_never().is_none());
    apply(Command::DeleteRange(DeleteRange {
        key: "lock".into(),
        ..DeleteRange::default()
    }));
    let events = waiting.next().await.unwrap();
    assert!(matches!(&events[0].record, Record::Delete { key } if key == "lock"));
    apply(Command::Compact(Compact { revision: 3 }));
    let mut late = hub.subscribe(interest, 2).unwrap();
    assert!(matches!(late.next().await, Err(SubscriptionError::Compacted(3))));
}

#[tokio::test]
async fn watches_have_a_bound() {
    let hub = Hub::new(Store::in_memory(Options::default()).unwrap());
    let mut feed = hub.feed().unwrap();
    let spec = WatchSpec {
        interest: Interest {
            key: "a".into(),
            range_end: Bytes::new(),
        },
        start_revision: 0,
        filter: Filter::default(),
        previous: false,
        tag: 0,
    };
    for _ in 0..kv_node::watch::FEED_WATCHES_MAX {
        feed.add(spec.clone()).unwrap();
    }
    assert!(feed.add(spec.clone()).is_err());
    assert!(
        hub.feed().unwrap().add(spec.clone()).is_ok(),
        "another stream is not affected"
    );
    drop(feed);
    assert_eq!(hub.stats().watches, 0);
}
