//! Nodes that must not be let in, and why.

use axum::{Json, Router, routing::get};
use kv_node::bootstrap::control::{ControlClient, MemberAnswer, MemberRequest, Speaks};

use super::*;

fn machines(root: &Path, count: usize) -> Vec<Machine> {
    (0..count).map(|i| Machine::new(root, &format!("n{i}"))).collect()
}

fn join(hosts: &[&Machine]) -> Bootstrap {
    Bootstrap::Dynamic {
        join: hosts.iter().map(|machine| machine.peer.clone()).collect(),
        expect: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_an_address_that_is_taken_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 3);
    let up = static_cluster(&machines[..1]).await.remove(0);
    up.put("a", "1").await;
    let name_taken = refusal(machines[1].config("n0", join(&[&machines[0]]))).await;
    assert!(
        name_taken.contains("member \"n0\"") && name_taken.contains("is alive at"),
        "{name_taken}"
    );
    let address_taken = Config {
        peer_urls: vec![format!("http://{}", machines[0].peer)],
        ..machines[2].config("n2", join(&[&machines[0]]))
    };
    let address_taken = refusal(address_taken).await;
    assert!(
        address_taken.contains("do not start a node twice"),
        "{address_taken}"
    );
    assert_eq!(up.node.members().len(), 1);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_data_twice_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 2);
    let up = static_cluster(&machines[..1]).await.remove(0);
    up.put("a", "1").await;
    std::fs::create_dir_all(&machines[1].dir).unwrap();
    std::fs::copy(
        machines[0].dir.join("identity.json"),
        machines[1].dir.join("identity.json"),
    )
    .unwrap();
    copy_all(&machines[0].dir.join("wal"), &machines[1].dir.join("wal"));
    let refused = refusal(machines[1].config("n0", join(&[&machines[0]]))).await;
    assert!(refused.contains("a member must not run twice"), "{refused}");
    up.stop().await;
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_choose_between_two_clusters() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 3);
    let one = static_cluster(&machines[..1]).await.remove(0);
    let other = static_cluster(&machines[1..2]).await.remove(0);
    let refused = refusal(machines[2].config("n2", join(&[&machines[0], &machines[1]]))).await;
    assert!(refused.contains("there are two clusters"), "{refused}");
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_too_far_apart_refuse_each_other() {
    let root = tempfile::tempdir().unwrap();
    let machines = machines(root.path(), 3);
    let up = static_cluster(&machines[..1]).await.remove(0);
    up.put("a", "1").await;
    let far = Speaks {
        protocol: 9,
        protocol_min: 8,
    };

    // The leader refuses one from the future …
    let hello = ControlClient::new(None)
        .hello(&format!("http://{}", machines[0].peer))
        .await
        .unwrap();
    assert!(hello.speaks.is_understood());
    let request = MemberRequest {
        speaks: far,
        cluster_id: up.node.identity().cluster_id,
        node_id: 77,
        member: hello.seen.member.clone(),
        join: true,
    };
    let leader = format!("http://{}", machines[0].peer);
    let answer = ControlClient::new(None).members(&leader, &request).await.unwrap();
    let MemberAnswer::Refused(why) = answer else {
        panic!("{answer:?}")
    };
    assert!(
        why.contains("versions 8 to 9") && why.contains("the leader 1 to 1"),
        "{why}"
    );

    // … and a node does not join a cluster from there: one such member answers for it here.
    let mut from_the_future = hello;
    from_the_future.speaks = far;
    let router = Router::new().route(
        "/quorate/hello",
        get(move || async move { Json(from_the_future) }),
    );
    let listener = tokio::net::TcpListener::bind(&machines[1].peer).await.unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let refused = refusal(machines[2].config("n2", join(&[&machines[1]]))).await;
    assert!(
        refused.contains("upgrade one release after the other"),
        "{refused}"
    );
    server.abort();
    up.stop().await;
}
