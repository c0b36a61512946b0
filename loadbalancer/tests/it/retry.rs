//! What happens when a backend fails: who gets the request then, and what the client is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use loadbalancer::backend::Kind;
use loadbalancer::health::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const UNKNOWN: &str = "etcdserver: request timed out, possibly due to connection lost";

/// A balancer that never checks again after the first time, so that only requests judge.
async fn unchecked(nodes: &[&TestBackend]) -> Rig {
    unchecked_for(Duration::from_secs(30), nodes).await
}

async fn unchecked_for(eject_base: Duration, nodes: &[&TestBackend]) -> Rig {
    let mut config = config();
    config.thresholds.eject_base = eject_base;
    config.check.interval = Duration::from_secs(3600);
    let rig = Rig::start(config).await;
    let addrs: Vec<_> = nodes.iter().map(|n| n.addr).collect();
    rig.names.set("nodes", addrs.clone());
    rig.names.set("apps", addrs);
    rig.until_usable(Kind::Node, nodes.len()).await;
    rig.until_usable(Kind::Web, nodes.len()).await;
    rig
}

#[tokio::test]
async fn a_refused_connection_costs_nothing_but_an_attempt() {
    let (dead, alive) = (TestBackend::echo("dead").await, TestBackend::echo("alive").await);
    let rig = unchecked(&[&dead, &alive]).await;
    dead.kill();
    let client = rig.http2().await;
    let body = Bytes::from(vec![7u8; 1_500_000]);
    for _ in 0..4 {
        let reply = client.call(PUT, body.clone()).await;
        assert_eq!((reply.status.as_str(), reply.body.len()), ("0", 6 + body.len()));
        assert!(reply.body.ends_with(&body));
    }
    let request = http::Request::post("/").body(full("form")).unwrap();
    assert_eq!(rig.http1(Kind::Web, request).await.1, "alive:form");
    assert_eq!((dead.count(), alive.count()), (0, 5));
    let shown = rig.backend(Kind::Node, dead.addr).unwrap();
    assert_eq!(
        (shown.requests, shown.errors, shown.retries, shown.ejections),
        (1, 1, 1, 1)
    );
    assert_eq!(rig.pool(Kind::Node).retries, 1);
}

/// Takes connections, reads what comes, and hangs up once a request is in: the outcome is unknown.
async fn hangs_up() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut head = [0u8; 4];
                stream.read_exact(&mut head).await.unwrap();
                if head != *b"PRI " {
                    let ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let mut rest = vec![0; 10_000];
                    let n = stream.read(&mut rest).await.unwrap();
                    if rest[..n].starts_with(b"/readyz") {
                        stream.write_all(ready).await.unwrap();
                    } else {
                        counter.fetch_add(1, SeqCst);
                    }
                    return;
                }
                let mut preface = [0u8; 20];
                stream.read_exact(&mut preface).await.unwrap();
                // An empty SETTINGS frame, then wait for the client's HEADERS.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                loop {
                    let mut frame = [0u8; 9];
                    stream.read_exact(&mut frame).await.unwrap();
                    let len = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
                    let mut payload = vec![0; len];
                    stream.read_exact(&mut payload).await.unwrap();
                    if frame[3] == 1 {
                        if !payload.windows(6).any(|w| w == b"Status") {
                            counter.fetch_add(1, SeqCst);
                        }
                        return;
                    }
                }
            });
        }
    });
    (addr, requests)
}

async fn beside_one_that_hangs_up() -> (Rig, Arc<AtomicUsize>, TestBackend) {
    let (addr, requests) = hangs_up().await;
    let good = TestBackend::echo("good").await;
    let mut config = config();
    config.thresholds.eject_after = 1000;
    let rig = Rig::start(config).await;
    rig.names.set("nodes", [addr, good.addr]);
    rig.names.set("apps", [addr, good.addr]);
    rig.until_usable(Kind::Node, 2).await;
    rig.until_usable(Kind::Web, 2).await;
    (rig, requests, good)
}

#[tokio::test]
async fn a_write_whose_connection_broke_is_not_sent_twice() {
    let (rig, broken, good) = beside_one_that_hangs_up().await;
    let client = rig.http2().await;
    let mut unknown = 0;
    for _ in 0..10 {
        let reply = client.call(PUT, "x").await;
        match reply.status.as_str() {
            "0" => {}
            "14" => {
                assert_eq!(reply.message, UNKNOWN);
                unknown += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((unknown, good.count()), (5, 5));
    assert_eq!(rig.pool(Kind::Node).broken, 5);
    assert!(broken.load(SeqCst) > 0);
}

#[tokio::test]
async fn a_read_whose_connection_broke_goes_to_the_next() {
    let (rig, broken, good) = beside_one_that_hangs_up().await;
    let client = rig.http2().await;
    for _ in 0..10 {
        let reply = client.call(RANGE, "key").await;
        assert_eq!((reply.status.as_str(), &reply.body[..]), ("0", &b"good:key"[..]));
    }
    assert_eq!(good.count(), 10);
    assert!(broken.load(SeqCst) > 0);
    for _ in 0..4 {
        assert_eq!(rig.http1(Kind::Web, get("/")).await.1, "good:");
    }
}

#[tokio::test]
async fn http_clients_are_told_that_the_outcome_is_unknown() {
    let (rig, _, good) = beside_one_that_hangs_up().await;
    let mut statuses = Vec::new();
    for accept in ["text/html", "text/html", "application/json", "application/json"] {
        let request = http::Request::post("/")
            .header("accept", accept)
            .body(full("form"))
            .unwrap();
        let (response, body) = rig.http1(Kind::Web, request).await;
        statuses.push(response.status().as_u16());
        if response.status() == 502 {
            assert_eq!(
                body.starts_with("<!doctype html>"),
                accept == "text/html",
                "{body}"
            );
            assert!(body.contains("may have been executed"), "{body}");
        }
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!(good.count(), 2);
}

/// A node that refuses streams as one does that is full or shutting down.
#[tokio::test]
async fn a_refused_stream_goes_to_the_next_with_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut start = [0u8; 3];
                while stream.peek(&mut start).await.unwrap() < 3 {}
                if start != *b"PRI" {
                    let ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(ready).await.unwrap();
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if request.uri().path() == PUT {
                        counter.fetch_add(1, SeqCst);
                    }
                    // The body is begun before the stream is refused.
                    tokio::spawn(async move {
                        request.into_body().data().await;
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    });
                }
            });
        }
    });
    let good = TestBackend::echo("good").await;
    let rig = Rig::start(config()).await;
    rig.names.set("nodes", [addr, good.addr]);
    rig.until_usable(Kind::Node, 2).await;
    let client = rig.http2().await;
    let body = Bytes::from(vec![3u8; 200_000]);
    for _ in 0..6 {
        let reply = client.call(PUT, body.clone()).await;
        assert_eq!(
            (reply.status.as_str(), reply.body.len()),
            ("0", 5 + body.len()),
            "{reply:?}"
        );
    }
    assert_eq!((refused.load(SeqCst), good.count()), (3, 6));
    assert_eq!(
        rig.backend(Kind::Node, addr).unwrap().errors,
        0,
        "to refuse is no fault"
    );
}

#[tokio::test]
async fn nobody_there_is_said_to_be_not_executed() {
    let rig = Rig::start(config()).await;
    let check = async |text: &str| {
        let reply = rig.http2().await.call(PUT, "x").await;
        assert_eq!((reply.status.as_str(), reply.message.as_str()), ("14", text));
        let (response, body) = rig.http1(Kind::Node, get("/v1/kv/a")).await;
        assert_eq!(response.status(), 503);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&json["code"], &json["outcome"], &json["error"]),
            (&14.into(), &"not_executed".into(), &text.into())
        );
    };
    let text = "no storage node could take the request: it was not executed";
    check(text).await;
    rig.names.set("nodes", nobody());
    rig.until(Kind::Node, "down", |pool| {
        pool.backends.len() == 2 && pool.backends.iter().all(|b| b.state == State::Down)
    })
    .await;
    check(text).await;
    assert!(
        rig.pool(Kind::Node).all_down_picks > 0,
        "they are tried all the same"
    );
}

#[tokio::test]
async fn a_failing_backend_is_ejected_and_comes_back() {
    let sick = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&sick);
    let bad = TestBackend::start(move |_| {
        let status = if state.load(SeqCst) { 500 } else { 200 };
        async move { Response::builder().status(status).body(full("bad")).unwrap() }
    })
    .await;
    let good = TestBackend::echo("good").await;
    let mut config = config();
    config.check.interval = Duration::from_secs(3600);
    config.thresholds.eject_base = Duration::from_secs(30);
    let rig = Rig::start(config).await;
    rig.names.set("apps", [bad.addr, good.addr]);
    rig.until_usable(Kind::Web, 2).await;
    // Five failures in a row among ten turns; the app's own answer is passed on.
    for _ in 0..10 {
        rig.http1(Kind::Web, get("/")).await;
    }
    assert_eq!((bad.count(), good.count()), (5, 5));
    assert_eq!(rig.backend(Kind::Web, bad.addr).unwrap().state, State::Ejected);
    for _ in 0..4 {
        assert_eq!(rig.http1(Kind::Web, get("/")).await.0.status(), 200);
    }
    assert_eq!((bad.count(), good.count()), (5, 9));
    // Once nobody else is there it is tried all the same, and its good answer brings it back.
    sick.store(false, SeqCst);
    good.kill();
    assert_eq!(rig.http1(Kind::Web, get("/")).await.1, "bad");
    assert_eq!(rig.backend(Kind::Web, bad.addr).unwrap().state, State::Up);
}

#[tokio::test]
async fn an_ejection_ends_by_itself() {
    let node = TestBackend::echo("a").await;
    let rig = unchecked_for(Duration::from_millis(50), &[&node]).await;
    let addr = node.addr;
    node.kill();
    rig.http2().await.call(PUT, "x").await;
    assert_eq!(rig.backend(Kind::Node, addr).unwrap().ejections, 1);
    rig.until(Kind::Node, "usable again", |pool| {
        pool.usable == 1 && pool.backends[0].state == State::Up
    })
    .await;
}

#[tokio::test]
async fn checks_take_a_backend_out_and_bring_it_back() {
    let (a, b) = (TestBackend::echo("a").await, TestBackend::echo("b").await);
    let rig = Rig::nodes(&[&a, &b]).await;
    a.ready.store(503, SeqCst);
    rig.until_usable(Kind::Node, 1).await;
    let shown = rig.backend(Kind::Node, a.addr).unwrap();
    assert_eq!(shown.state, State::Down);
    assert_eq!(shown.last_check.unwrap().text, "/readyz 503: [-] leader: none");
    let client = rig.http2().await;
    for _ in 0..10 {
        assert_eq!(client.call(PUT, "x").await.body, "b:x");
    }
    a.ready.store(200, SeqCst);
    rig.until_usable(Kind::Node, 2).await;
    for _ in 0..10 {
        client.call(PUT, "x").await;
    }
    assert_eq!((a.count(), b.count()), (5, 15));
}

/// Without a leader anywhere the nodes' own words reach the client.
#[tokio::test]
async fn when_no_node_is_ready_they_are_asked_all_the_same() {
    let node = TestBackend::start(|_| async {
        let end = [("grpc-status", "14"), ("grpc-message", "etcdserver: no leader")];
        let mut response = Response::new(full(""));
        for (name, value) in end {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    })
    .await;
    node.ready.store(503, SeqCst);
    let rig = Rig::start(config()).await;
    rig.names.set("nodes", [node.addr]);
    rig.until(Kind::Node, "down", |pool| {
        pool.backends.iter().any(|b| b.state == State::Down)
    })
    .await;
    let reply = rig.http2().await.call(PUT, "x").await;
    assert_eq!(
        (reply.status.as_str(), reply.message.as_str()),
        ("14", "etcdserver: no leader")
    );
}

#[tokio::test]
async fn a_stream_whose_node_dies_ends_with_a_status() {
    let node = TestBackend::start(|request: http::Request<hyper::body::Incoming>| async move {
        Response::new(request.into_body().map_err(|_| unreachable!()).boxed_unsync())
    })
    .await;
    let rig = unchecked(&[&node]).await;
    let (mut send, receive) = futures::channel::mpsc::channel(1);
    let request = grpc(
        "/etcdserverpb.Watch/Watch",
        http_body_util::StreamBody::new(receive).boxed_unsync(),
    );
    let mut body = rig.http2().await.send(request).await.unwrap().into_body();
    send.try_send(Ok(http_body::Frame::data(Bytes::from_static(b"event"))))
        .unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
    node.kill();
    let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        (&end["grpc-status"], &end["grpc-message"]),
        (&"14".parse().unwrap(), &UNKNOWN.parse().unwrap())
    );
}

/// Web apps answer slowly at most once per request: 504 says that the outcome is unknown.
#[tokio::test]
async fn no_answer_in_time() {
    let app = TestBackend::start(|_| std::future::pending()).await;
    let mut config = config();
    config.limits.response_timeout = Duration::from_millis(50);
    let rig = Rig::start(config).await;
    rig.names.set("apps", [app.addr]);
    rig.until_usable(Kind::Web, 1).await;
    let request = http::Request::post("/").body(full("x")).unwrap();
    let (response, body) = rig.http1(Kind::Web, request).await;
    assert_eq!(response.status(), 504);
    assert!(body.contains("\"unknown\""), "{body}");
    assert_eq!(app.count(), 1);
}

/// A node that is stopped (SIGSTOP) still has its connections; it answers nothing, not even pings.
#[tokio::test]
async fn a_frozen_node_loses_its_requests_to_the_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (freeze, frozen) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let frozen = frozen.clone();
            tokio::spawn(async move {
                let mut head = [0u8; 3];
                while stream.peek(&mut head).await.unwrap() < 3 {}
                if head == *b"GET" && !*frozen.borrow() {
                    let ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(ready).await.unwrap();
                    return;
                }
                std::future::pending::<()>().await;
            });
        }
    });
    let good = TestBackend::echo("good").await;
    let mut config = config();
    config.check.timeout = Duration::from_millis(100);
    let rig = Rig::start(config).await;
    rig.names.set("nodes", [addr, good.addr]);
    rig.until_usable(Kind::Node, 2).await;
    let client = rig.http2().await;
    let calls = [RANGE, RANGE, PUT, PUT].map(|path| {
        let client = client.clone();
        tokio::spawn(async move { client.call(path, "key").await })
    });
    rig.until(Kind::Node, "two calls are stuck", |pool| {
        good.count() == 2 && pool.backends.iter().map(|b| b.in_flight).sum::<usize>() == 2
    })
    .await;
    freeze.send(true).unwrap();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap().status);
    }
    assert_eq!(statuses[..2], ["0", "0"], "reads are answered by the other");
    let mut writes = statuses[2..].to_vec();
    writes.sort();
    assert!(writes.iter().all(|status| status == "0" || status == "14"));
    assert_eq!(good.count() + writes.iter().filter(|s| *s == "14").count(), 4);
}
