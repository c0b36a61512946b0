//! etcd's Lease service. What is expected was asked of etcd 3.5.1.

use std::time::Duration;

use kv_proto::etcdserverpb::{self as pb, lease_client::LeaseClient};
use tokio::time::timeout;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    common::{DEADLINE, until},
    harness::Server,
};

impl Server {
    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn grant(lease: &mut LeaseClient<Channel>, id: i64, ttl: i64) -> Result<(i64, i64), Status> {
    let granted = lease.lease_grant(pb::LeaseGrantRequest { id, ttl }).await?;
    let granted = granted.into_inner();
    assert!(granted.header.unwrap().revision > 0);
    Ok((granted.id, granted.ttl))
}

async fn time_to_live(lease: &mut LeaseClient<Channel>, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    lease.lease_time_to_live(request).await.unwrap().into_inner()
}

fn put(key: &'static str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        lease,
        ..Default::default()
    }
}

#[tokio::test]
async fn grants_as_etcd() {
    let server = Server::start().await;
    let mut lease = server.lease();
    assert_eq!(grant(&mut lease, 7, 60).await.unwrap(), (7, 60));
    assert_eq!(grant(&mut lease, 8, 1).await.unwrap(), (8, 2));
    assert_eq!(grant(&mut lease, 9, 0).await.unwrap(), (9, 2));
    assert_eq!(grant(&mut lease, -5, -1).await.unwrap(), (-5, 2));
    assert_eq!(
        grant(&mut lease, 10, 9_000_000_000).await.unwrap(),
        (10, 9_000_000_000)
    );
    let (chosen, ttl) = grant(&mut lease, 0, 100).await.unwrap();
    assert!(chosen > 0 && ttl == 100);
    assert_eq!(
        refusal(grant(&mut lease, 7, 60).await),
        (
            Code::FailedPrecondition,
            "etcdserver: lease already exists".to_owned()
        )
    );
    for id in [11, 7] {
        assert_eq!(
            refusal(grant(&mut lease, id, 9_000_000_001).await),
            (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned())
        );
    }
    let all = lease
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    let ids: Vec<i64> = all.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids[ids.len() - 3..], [7, chosen, 10], "by their end");
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_lease_takes_its_keys_along() {
    let server = Server::start().await;
    let (mut lease, mut kv) = (server.lease(), server.kv());
    grant(&mut lease, 7, 60).await.unwrap();
    for key in ["b", "a"] {
        kv.put(put(key, 7)).await.unwrap();
    }
    assert_eq!(
        refusal(kv.put(put("c", 8)).await),
        (Code::NotFound, "etcdserver: requested lease not found".to_owned())
    );
    let alive = time_to_live(&mut lease, 7).await;
    assert_eq!((alive.id, alive.granted_ttl), (7, 60));
    assert!((55..=60).contains(&alive.ttl), "{alive:?}");
    assert_eq!(alive.keys, ["a", "b"]);
    let before = alive.header.unwrap().revision;
    let revoked = lease
        .lease_revoke(pb::LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    assert_eq!(revoked.into_inner().header.unwrap().revision, before + 1);
    for id in [7, 0] {
        let gone = time_to_live(&mut lease, id).await;
        assert_eq!((gone.id, gone.ttl, gone.granted_ttl), (id, -1, 0));
        assert!(gone.keys.is_empty());
        assert_eq!(
            refusal(lease.lease_revoke(pb::LeaseRevokeRequest { id }).await),
            (Code::NotFound, "etcdserver: requested lease not found".to_owned())
        );
    }
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        ..Default::default()
    };
    assert_eq!(kv.range(range).await.unwrap().into_inner().count, 0);
    server.stop().await;
}

#[tokio::test]
async fn keepalives_are_answered_in_order_and_unknown_leases_with_0() {
    let server = Server::start().await;
    let mut lease = server.lease();
    grant(&mut lease, 7, 30).await.unwrap();
    grant(&mut lease, 8, 40).await.unwrap();
    let ids = [7, 9, 8, 7, 0];
    let requests = ids.map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = lease
        .lease_keep_alive(tokio_stream::iter(requests))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    let mut got = Vec::new();
    // The answers end where the requests do.
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.header.is_some());
        got.push((answer.id, answer.ttl));
    }
    assert_eq!(got, [(7, 30), (9, 0), (8, 40), (7, 30), (0, 0)]);
    server.stop().await;
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_not_before_its_time() {
    let server = Server::start().await;
    let (mut lease, mut kv) = (server.lease(), server.kv());
    let granted = tokio::time::Instant::now();
    grant(&mut lease, 7, 2).await.unwrap();
    kv.put(put("a", 7)).await.unwrap();
    let keys = server.node.store().keys();
    until("the key is gone", || server.node.store().keys() < keys).await;
    let lasted = granted.elapsed();
    assert!(lasted >= Duration::from_secs(2), "only {lasted:?}");
    assert!(lasted < Duration::from_secs(4), "{lasted:?}");
    assert_eq!(time_to_live(&mut lease, 7).await.ttl, -1);
    server.stop().await;
}

/// An idle stream does not hold up a node that stops, and its client hears that it is to go elsewhere.
#[tokio::test]
async fn streams_end_with_the_node() {
    let server = Server::start().await;
    let mut lease = server.lease();
    let idle = lease.lease_keep_alive(tokio_stream::pending()).await.unwrap();
    let ended = tokio::spawn(async move { idle.into_inner().message().await });
    timeout(Duration::from_secs(4), server.stop()).await.unwrap();
    let ended = timeout(DEADLINE, ended).await.unwrap().unwrap();
    assert_eq!(
        refusal(ended),
        (Code::Unavailable, "etcdserver: server stopped".to_owned())
    );
}

#[tokio::test]
async fn whoever_needs_a_leader_is_told_when_there_is_none() {
    let server = Server::start_without_quorum().await;
    let needs_leader = |answer: &str| {
        let mut request = Request::new(tokio_stream::pending::<pb::LeaseKeepAliveRequest>());
        request
            .metadata_mut()
            .insert("hasleader", answer.parse().unwrap());
        request
    };
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    let refused = server.lease().lease_keep_alive(needs_leader("true")).await;
    assert_eq!(refusal(refused), no_leader);
    server
        .lease()
        .lease_keep_alive(needs_leader("false"))
        .await
        .unwrap();
    server.stop().await;

    // And when it is lost later.
    let mut servers = Server::start_three().await;
    let at = servers.iter().position(|server| !server.leads()).unwrap();
    let left = servers.swap_remove(at);
    until("it knows the leader", || left.node.leader().is_some()).await;
    let began = left.lease().lease_keep_alive(needs_leader("true")).await;
    let mut answers = began.unwrap().into_inner();
    for server in servers {
        server.stop().await;
    }
    let ended = timeout(DEADLINE, answers.message()).await.unwrap();
    assert_eq!(refusal(ended), no_leader);
    left.stop().await;
}

#[tokio::test]
async fn leases_are_counted() {
    let server = Server::start().await;
    let count = async |name: &str| -> f64 {
        let page = server.get("/metrics").await;
        let line = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{}", page.text()))
            .parse()
            .unwrap()
    };
    const NAMES: [&str; 5] = [
        "etcd_debugging_lease_granted_total",
        "etcd_debugging_lease_revoked_total",
        "etcd_debugging_lease_renewed_total",
        "etcd_debugging_server_lease_expired_total",
        "etcd_debugging_lease_ttl_total_count",
    ];
    let mut lease = server.lease();
    // The process counts for all its nodes: other tests have processes of their own.
    grant(&mut lease, 1, 600).await.unwrap();
    grant(&mut lease, 2, 1).await.unwrap();
    let renewals = tokio_stream::iter([1, 7].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = lease.lease_keep_alive(renewals).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    lease
        .lease_revoke(pb::LeaseRevokeRequest { id: 1 })
        .await
        .unwrap();
    until("the other is over", || {
        server.node.store().with_state(|state| state.lease(2).is_none())
    })
    .await;
    let mut counts = Vec::new();
    for name in NAMES {
        counts.push(count(name).await);
    }
    assert_eq!(counts, [2.0, 2.0, 1.0, 1.0, 2.0]);
    assert_eq!(
        count("etcd_debugging_lease_ttl_total_bucket{le=\"2\"}").await,
        1.0
    );
    server.stop().await;
}
