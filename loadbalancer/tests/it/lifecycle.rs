//! Start and end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use loadbalancer::backend::Kind;
use loadbalancer::balancer::Balancer;

use crate::support::*;

async fn echo_stream() -> TestBackend {
    TestBackend::start(|request: http::Request<hyper::body::Incoming>| async move {
        http::Response::new(request.into_body().map_err(|_| unreachable!()).boxed_unsync())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_lets_a_long_stream_finish() {
    let node = echo_stream().await;
    let rig = Rig::nodes(&[&node]).await;
    let (listen, stats) = (rig.addr(Kind::Node), rig.balancer.stats_addr());
    let (mut send, receive) = futures::channel::mpsc::channel(1);
    let request = grpc(
        "/etcdserverpb.Watch/Watch",
        StreamBody::new(receive).boxed_unsync(),
    );
    let client = rig.http2().await;
    let mut body = client.send(request).await.unwrap().into_body();
    assert_eq!(http1(stats, get("/livez")).await.0.status(), 200);

    let ending = tokio::spawn(rig.balancer.shutdown());
    // The listener closes, and the balancer says that it is not ready.
    while tokio::net::TcpStream::connect(listen).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let (response, text) = http1(stats, get("/readyz")).await;
    assert_eq!(
        (response.status().as_u16(), text.starts_with("draining")),
        (503, true)
    );
    for i in 0..10u8 {
        send.try_send(Ok(Frame::data(Bytes::from(vec![i; 10])))).unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            vec![i; 10]
        );
    }
    assert!(!ending.is_finished());
    drop(send);
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    assert!(ending.await.unwrap(), "everything finished by itself");
    assert!(tokio::net::TcpStream::connect(stats).await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let node = echo_stream().await;
    let mut config = config();
    config.drain_timeout = Duration::from_millis(50);
    let rig = Rig::start(config).await;
    rig.names.set("nodes", [node.addr]);
    rig.until_usable(Kind::Node, 1).await;
    let (_send, receive) = futures::channel::mpsc::channel(1);
    let request = grpc(
        "/etcdserverpb.Watch/Watch",
        StreamBody::new(receive).boxed_unsync(),
    );
    let mut body = rig.http2().await.send(request).await.unwrap().into_body();
    let finished = tokio::time::timeout(PATIENCE, rig.balancer.shutdown())
        .await
        .unwrap();
    assert!(!finished);
    assert!(!matches!(body.frame().await, Some(Ok(frame)) if frame.is_data()));
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let node = TestBackend::echo("a").await;
    let rig = Rig::nodes(&[&node]).await;
    let client = rig.http2().await;
    client.call("/x", "x").await;
    let _silent = tokio::net::TcpStream::connect(rig.addr(Kind::Node))
        .await
        .unwrap();
    let _silent_web = tokio::net::TcpStream::connect(rig.addr(Kind::Web)).await.unwrap();
    assert!(
        tokio::time::timeout(PATIENCE, rig.balancer.shutdown())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_taken_port_is_reported_with_its_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let mut config = config();
    config.web.as_mut().unwrap().listen = addr;
    let error = Balancer::start(config, Arc::new(Names::default()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "--listen-http {addr}: the port is in use by another process; give another ADDR:PORT with --listen-http"
        )
    );
}
