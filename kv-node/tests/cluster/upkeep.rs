//! What a cluster does by itself: alarms of room, compaction.

use kv_node::compaction::Retention;

use super::*;

async fn alone(root: &Path, change: impl FnOnce(&mut Config)) -> Up {
    let machines = [Machine::new(root, "n0")];
    let mut config = machines[0].config("n0", static_list(&machines));
    change(&mut config);
    start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_raises_an_alarm_that_ends_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let up = alone(root.path(), |config| config.quota_bytes = 100_000).await;
    let large = "v".repeat(60_000);
    up.put("a", &large).await;
    up.put("b", &large).await;
    until("the alarm is raised", || !up.node.alarms().is_empty()).await;
    let put = Command::Put(Put {
        key: "c".into(),
        ..Put::default()
    });
    // The leader refuses it, or the alarm does.
    let refused = up.node.propose(put, Instant::now() + DEADLINE).await;
    let is_no_space = match refused {
        Err(error) => error == kv_node::node::ProposeError::NoSpace,
        Ok(outcome) => outcome.result == Err(kv_core::Error::NoSpace),
    };
    assert!(is_no_space);
    for command in [
        Command::DeleteRange(kv_core::DeleteRange {
            key: "a".into(),
            ..Default::default()
        }),
        Command::Compact(kv_core::Compact { revision: 4 }),
    ] {
        let outcome = up.node.propose(command, Instant::now() + DEADLINE).await.unwrap();
        outcome.result.unwrap();
    }
    until("the alarm is over", || up.node.alarms().is_empty()).await;
    up.put("c", "there is room").await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_compacted_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let period = Retention::Period(Duration::from_millis(500));
    let up = alone(root.path(), |config| config.retention = Some(period)).await;
    up.put("a", "1").await;
    let began = up.node.store().revision();
    until("what is old is compacted", || {
        up.node.store().compacted() >= began
    })
    .await;
    up.put("a", "2").await;
    assert_eq!(up.get("a").await.unwrap(), "2");
    up.stop().await;
}
