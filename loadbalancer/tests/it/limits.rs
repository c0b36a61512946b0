//! What happens at each bound, and with what the balancer does not do.

use std::sync::Arc;
use std::time::Duration;

use loadbalancer::backend::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::*;

/// Everything that the other side says until it closes.
async fn all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("closed in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn requests_over_the_bound_are_turned_away() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let node = TestBackend::start(move |request: http::Request<hyper::body::Incoming>| {
        let gate = Arc::clone(&open);
        async move {
            // The balancer's own question for the member id does not wait at the gate.
            if request.uri().path() == "/etcdserverpb.KV/Put" {
                gate.acquire().await.unwrap().forget();
            }
            grpc_ok("done")
        }
    })
    .await;
    let mut config = config();
    config.limits.in_flight_max = 3;
    let rig = Rig::start(config).await;
    rig.names.set("nodes", [node.addr]);
    rig.until_usable(Kind::Node, 1).await;
    let client = rig.http2().await;
    let held: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call("/etcdserverpb.KV/Put", "x").await })
        })
        .collect();
    rig.until(Kind::Node, "full", |pool| pool.backends[0].in_flight == 3)
        .await;
    let reply = client.call("/etcdserverpb.KV/Put", "x").await;
    assert_eq!(
        (reply.status.as_str(), reply.message.as_str()),
        ("8", "etcdserver: too many requests")
    );
    let (response, body) = rig.http1(Kind::Node, get("/v1/kv/a")).await;
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    assert!(body.contains("too many requests"), "{body}");
    gate.add_permits(3);
    for call in held {
        assert_eq!(call.await.unwrap().status, "0");
    }
    assert_eq!(rig.pool(Kind::Node).rejected, 2);
}

#[tokio::test]
async fn connections_over_the_bound_are_turned_away() {
    let mut config = config();
    config.listener.connections_max = 2;
    let rig = Rig::start(config).await;
    let addr = rig.addr(Kind::Web);
    let first = TcpStream::connect(addr).await.unwrap();
    let _second = TcpStream::connect(addr).await.unwrap();
    rig.until(Kind::Web, "two", |pool| pool.connections == 2).await;
    let mut third = TcpStream::connect(addr).await.unwrap();
    let said = all(&mut third).await;
    assert!(
        said.starts_with("HTTP/1.1 503") && said.contains("too many connections"),
        "{said}"
    );
    drop(first);
    rig.until(Kind::Web, "one", |pool| pool.connections == 1).await;
    assert_eq!(
        rig.http1(Kind::Web, get("/")).await.0.status(),
        503,
        "accepted; there is no app"
    );
    assert_eq!(rig.pool(Kind::Web).connections_rejected, 1);
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let mut config = config();
    config.listener.header_timeout = Duration::from_millis(50);
    let rig = Rig::start(config).await;
    for start in [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(rig.addr(Kind::Node)).await.unwrap();
        stream.write_all(start).await.unwrap();
        let said = all(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
}

#[tokio::test]
async fn long_heads_are_refused() {
    let rig = Rig::start(config()).await;
    let mut stream = TcpStream::connect(rig.addr(Kind::Node)).await.unwrap();
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let _ = stream.write_all(long.as_bytes()).await;
    let said = all(&mut stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    let node = TestBackend::echo("a").await;
    rig.names.set("nodes", [node.addr]);
    rig.until_usable(Kind::Node, 1).await;
    let mut request = grpc("/x", full("x"));
    request
        .headers_mut()
        .insert("x-long", "x".repeat(100_000).parse().unwrap());
    let refused = rig.http2().await.send(request).await;
    assert!(refused.is_err() || node.count() == 0);
}

#[tokio::test]
async fn upgrades_are_not_supported() {
    let app = TestBackend::echo("a").await;
    let rig = Rig::apps(&[&app]).await;
    let mut request = get("/socket");
    request
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    request
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    let (response, body) = rig.http1(Kind::Web, request).await;
    assert_eq!(response.status(), 501);
    assert!(body.contains("no protocol upgrade"), "{body}");
    assert_eq!(app.count(), 0);
    let mut request = http::Request::post("/etcdserverpb.KV/Put")
        .body(full("x"))
        .unwrap();
    request
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let (response, body) = rig.http1(Kind::Node, request).await;
    assert_eq!(
        (response.status().as_u16(), body.contains("gRPC needs HTTP/2")),
        (505, true)
    );
}
