//! Backends come and go by name and by member list.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::BodyExt;
use kv_proto::etcdserverpb::{Member, MemberListResponse, ResponseHeader, StatusResponse};
use loadbalancer::backend::Kind;
use loadbalancer::health::State;

use crate::support::*;

type Members = Arc<Mutex<Vec<(u64, Vec<String>)>>>;

/// A node of a cluster: says its id, and the members that the test has set.
async fn member(id: u64, members: &Members) -> TestBackend {
    member_of(0, id, members).await
}

/// The same, of the cluster with this id.
async fn member_of(cluster_id: u64, id: u64, members: &Members) -> TestBackend {
    let members = Arc::clone(members);
    TestBackend::start(move |request: http::Request<hyper::body::Incoming>| {
        let header = Some(ResponseHeader {
            member_id: id,
            cluster_id,
            ..Default::default()
        });
        let message = match request.uri().path() {
            "/etcdserverpb.Maintenance/Status" => framed(&StatusResponse {
                header,
                ..Default::default()
            }),
            "/etcdserverpb.Cluster/MemberList" => {
                let list = members.lock().unwrap().clone();
                let member = |(id, client_ur_ls)| Member {
                    id,
                    client_ur_ls,
                    ..Default::default()
                };
                framed(&MemberListResponse {
                    header,
                    members: list.into_iter().map(member).collect(),
                })
            }
            _ => format!("{id}").into(),
        };
        async move { grpc_ok(message) }
    })
    .await
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

fn addresses(pool: &loadbalancer::stats::PoolSnapshot) -> Vec<String> {
    let mut all: Vec<_> = pool.backends.iter().map(|b| b.address.clone()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn names_are_followed_and_a_busy_backend_is_drained() {
    let (a, b) = (TestBackend::echo("a").await, TestBackend::echo("b").await);
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = Arc::new(tokio::sync::Mutex::new(Some(released)));
    let busy = TestBackend::start(move |_| {
        let released = Arc::clone(&released);
        async move {
            let gate = released.lock().await.take();
            gate.unwrap().await.unwrap();
            Response::new(full("done"))
        }
    })
    .await;
    let rig = Rig::apps(&[&busy]).await;
    let addr = rig.addr(Kind::Web);
    let slow = tokio::spawn(async move { http1(addr, get("/")).await });
    rig.until(Kind::Web, "busy", |pool| pool.backends[0].in_flight == 1)
        .await;

    rig.names.set("apps", [a.addr, b.addr]);
    rig.until(Kind::Web, "draining", |pool| {
        pool.usable == 2 && pool.backends.iter().any(|b| b.state == State::Draining)
    })
    .await;
    for _ in 0..10 {
        rig.http1(Kind::Web, get("/")).await;
    }
    assert_eq!((a.count(), b.count(), busy.count()), (5, 5, 1));

    release.send(()).unwrap();
    assert_eq!(slow.await.unwrap().1, "done");
    rig.until(Kind::Web, "removed", |pool| pool.backends.len() == 2)
        .await;
}

#[tokio::test]
async fn a_name_that_fails_to_resolve_keeps_its_backends() {
    let a = TestBackend::echo("a").await;
    let rig = Rig::apps(&[&a]).await;
    rig.names.forget("apps");
    let checks = rig.pool(Kind::Web).backends[0].checks;
    rig.until(Kind::Web, "more checks", |pool| {
        pool.backends.first().is_some_and(|b| b.checks > checks + 5)
    })
    .await;
    assert_eq!(rig.pool(Kind::Web).usable, 1);
    rig.names.set("apps", []);
    rig.until(Kind::Web, "gone", |pool| pool.backends.is_empty())
        .await;
}

#[tokio::test]
async fn the_member_list_adds_nodes_and_takes_them_away() {
    let members = Members::default();
    let nodes = [
        member(1, &members).await,
        member(2, &members).await,
        member(3, &members).await,
    ];
    let list = |ids: &[usize]| {
        ids.iter()
            .map(|i| (*i as u64 + 1, vec![url(nodes[*i].addr)]))
            .collect()
    };
    *members.lock().unwrap() = list(&[0, 1, 2]);
    let rig = Rig::start(config()).await;
    rig.names.set("nodes", [nodes[0].addr]);
    rig.until_usable(Kind::Node, 3).await;
    let shown = rig.pool(Kind::Node).backends;
    let mut ids: Vec<_> = shown.iter().map(|b| b.member_id.clone().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"]);

    *members.lock().unwrap() = list(&[0, 2]);
    rig.until(Kind::Node, "two left", |pool| {
        addresses(pool) == {
            let mut two = [url(nodes[0].addr), url(nodes[2].addr)].map(|u| u[7..].to_owned());
            two.sort();
            two
        }
    })
    .await;
}

#[tokio::test]
async fn one_node_under_two_addresses_counts_once_and_bad_urls_do_no_harm() {
    let members = Members::default();
    let (one, two) = (member(1, &members).await, member(2, &members).await);
    let stranger = member(99, &members).await;
    let rig = Rig::start(config()).await;
    let own = rig.addr(Kind::Node);
    *members.lock().unwrap() = vec![
        (1, vec![url(one.addr), "http://0.0.0.0:2379".into()]),
        // Node 2 is advertised under addresses that lead nowhere, to the balancer, and to somebody else.
        (
            2,
            vec![
                "http://0.0.0.0:2379".into(),
                "nonsense://".into(),
                url(own),
                url(stranger.addr),
                url(two.addr),
            ],
        ),
        (3, vec![]),
        (4, vec![url(nobody()[0]), "http://unknown.test:1".into()]),
    ];
    // Two seed names for node 1: by its address, and by another that leads to the same node.
    let twin_listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let twin = twin_listener.local_addr().unwrap();
    let target = one.addr;
    tokio::spawn(async move {
        while let Ok((mut inbound, _)) = twin_listener.accept().await {
            tokio::spawn(async move {
                let mut outbound = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await
            });
        }
    });
    rig.names.set("nodes", [one.addr, twin]);
    rig.until(Kind::Node, "nodes 1 and 2, once each", |pool| {
        let mut ids: Vec<_> = pool.backends.iter().map(|b| b.member_id.clone()).collect();
        ids.sort();
        pool.usable == 2 && ids == [Some("1".into()), Some("2".into())]
    })
    .await;
    let client = rig.http2().await;
    for _ in 0..10 {
        assert_eq!(client.call("/etcdserverpb.KV/Put", "x").await.status, "0");
    }
    assert_eq!(stranger.count(), 0);
    let all = addresses(&rig.pool(Kind::Node));
    assert!(
        all.contains(&two.addr.to_string()) && !all.contains(&stranger.addr.to_string()),
        "{all:?}"
    );
}

#[tokio::test]
async fn only_one_cluster_is_served() {
    let (ours, theirs) = (Members::default(), Members::default());
    let (a, b) = (member_of(0xa, 1, &ours).await, member_of(0xa, 2, &ours).await);
    // The stranger even has the member id of one of ours, and knows a node that no seed gives.
    let (stranger, beside) = (member_of(0xb, 1, &theirs).await, member_of(0xb, 9, &theirs).await);
    *theirs.lock().unwrap() = vec![(1, vec![url(stranger.addr)]), (9, vec![url(beside.addr)])];
    let rig = Rig::start(config()).await;
    rig.names.set("nodes", [a.addr]);
    rig.until_usable(Kind::Node, 1).await;
    rig.names.set("nodes", [a.addr, stranger.addr, b.addr]);
    rig.until(Kind::Node, "two up, one wrong", |pool| {
        let wrong = pool.backends.iter().filter(|b| b.state == State::WrongCluster);
        pool.usable == 2 && wrong.count() == 1
    })
    .await;
    let client = rig.http2().await;
    for _ in 0..20 {
        assert_eq!(client.call("/etcdserverpb.KV/Put", "x").await.status, "0");
    }
    assert_eq!((stranger.count(), beside.count()), (0, 0));
    let shown = rig.backend(Kind::Node, stranger.addr).unwrap();
    assert_eq!(shown.cluster_id.as_deref(), Some("b"));
    for (path, part) in [
        ("/", "wrong cluster</span>".to_owned()),
        ("/stats.json", "\"state\": \"wrong cluster\"".to_owned()),
        (
            "/metrics",
            format!(
                "quorate_lb_backend_wrong_cluster{{pool=\"node\",backend=\"{}\"}} 1",
                stranger.addr
            ),
        ),
    ] {
        let text = http1(rig.balancer.stats_addr(), get(path)).await.1;
        assert!(text.contains(&part), "{path}: {text}");
    }

    // With no other backend up it still gets nothing, and once nobody of ours is known it is ours.
    a.kill();
    b.kill();
    rig.until(Kind::Node, "ours are down", |pool| pool.usable == 0)
        .await;
    assert_eq!(client.call("/etcdserverpb.KV/Put", "x").await.status, "14");
    assert_eq!(stranger.count(), 0);
    rig.names.set("nodes", [stranger.addr]);
    rig.until_usable(Kind::Node, 2).await;
    assert_eq!(client.call("/etcdserverpb.KV/Put", "x").await.status, "0");
}

/// etcd has /health and no /readyz.
#[tokio::test]
async fn health_is_asked_where_there_is_no_readyz() {
    let node = TestBackend::start(|request: http::Request<hyper::body::Incoming>| async move {
        let status = if request.uri().path() == "/health" {
            200
        } else {
            404
        };
        let _ = request.into_body().collect().await;
        Response::builder()
            .status(status)
            .body(full("{\"health\":\"true\"}"))
            .unwrap()
    })
    .await;
    node.ready.store(404, std::sync::atomic::Ordering::SeqCst);
    let rig = Rig::nodes(&[&node]).await;
    assert_eq!(
        rig.pool(Kind::Node).backends[0].last_check.as_ref().unwrap().text,
        "/health 200"
    );
}
