//! Whose turn it is, and what passes through.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use loadbalancer::backend::Kind;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_go_by_request_on_one_connection() {
    let nodes = [
        TestBackend::echo("a").await,
        TestBackend::echo("b").await,
        TestBackend::echo("c").await,
    ];
    let rig = Rig::nodes(&nodes.each_ref()).await;
    let client = rig.http2().await;
    let calls = (0..300).map(|_| client.call("/etcdserverpb.KV/Put", "x"));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.status, "0");
    }
    assert_eq!(nodes.each_ref().map(|n| n.count()), [100, 100, 100]);
    assert_eq!(rig.pool(Kind::Node).requests, 300);
}

/// Sends one frame at a time and gets it back before the next, on a stream that stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_flows_both_ways_and_keeps_its_trailers() {
    let node = TestBackend::start(|request: Request<hyper::body::Incoming>| async move {
        let mut body = request.into_body();
        let (mut send, receive) = futures::channel::mpsc::channel(0);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let _ = send.send(Ok(frame)).await;
            }
            let _ = send.send(Ok(Frame::trailers(trailers("7")))).await;
        });
        Response::new(StreamBody::new(receive).boxed_unsync())
    })
    .await;
    let rig = Rig::nodes(&[&node]).await;
    let client = rig.http2().await;
    let (mut send, receive) = futures::channel::mpsc::channel(0);
    let request = grpc(
        "/etcdserverpb.Watch/Watch",
        StreamBody::new(receive).boxed_unsync(),
    );
    let mut body = client.send(request).await.unwrap().into_body();
    for i in 0..100u8 {
        send.send(Ok(Frame::data(Bytes::from(vec![i; 1000]))))
            .await
            .unwrap();
        let mut back = Vec::new();
        while back.len() < 1000 {
            back.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(back, vec![i; 1000]);
    }
    assert_eq!(rig.backend(Kind::Node, node.addr).unwrap().in_flight, 1);
    drop(send);
    let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(end["grpc-status"], "7");
    assert!(body.frame().await.is_none());
    drop(body);
    rig.until(Kind::Node, "idle", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// More than all windows and buffers on the way hold together, in both directions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_longer_than_any_buffer_pass_unchanged() {
    const CHUNK: usize = 300_000;
    const CHUNKS: usize = 100;
    let echo = |request: Request<hyper::body::Incoming>| async move {
        Response::new(
            StreamBody::new(
                request
                    .into_body()
                    .into_data_stream()
                    .map(|data| Ok(Frame::data(data.unwrap()))),
            )
            .boxed_unsync(),
        )
    };
    let node = TestBackend::start(echo).await;
    let app = TestBackend::start(echo).await;
    let rig = Rig::nodes(&[&node]).await;
    rig.names.set("apps", [app.addr]);
    rig.until_usable(Kind::Web, 1).await;
    let chunks =
        || futures::stream::iter((0..CHUNKS).map(|i| Ok(Frame::data(Bytes::from(vec![i as u8; CHUNK])))));
    let check = |all: &[u8]| {
        assert_eq!(all.len(), CHUNK * CHUNKS);
        assert!(all.iter().enumerate().all(|(i, byte)| *byte == (i / CHUNK) as u8));
    };
    let request = grpc("/x", StreamBody::new(chunks()).boxed_unsync());
    let response = rig.http2().await.send(request).await.unwrap();
    check(&response.into_body().collect().await.unwrap().to_bytes());

    let stream = tokio::net::TcpStream::connect(rig.addr(Kind::Web)).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("/x")
        .body(StreamBody::new(chunks()).boxed_unsync())
        .unwrap();
    let response = send.send_request(request).await.unwrap();
    check(&response.into_body().collect().await.unwrap().to_bytes());
}

#[tokio::test]
async fn http1_clients_reach_nodes_with_path_host_and_body() {
    let node = TestBackend::start(|request: Request<hyper::body::Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| {
            parts
                .headers
                .get(name)
                .map_or("-", |v| v.to_str().unwrap())
                .to_owned()
        };
        let text = format!(
            "{} {} {:?} host={} for={} private={} body={}",
            parts.method,
            parts.uri,
            parts.version,
            header("host"),
            header("x-forwarded-for"),
            header("x-private"),
            String::from_utf8_lossy(&body),
        );
        Response::builder()
            .status(201)
            .header("x-revision", "7")
            .body(full(text))
            .unwrap()
    })
    .await;
    let rig = Rig::nodes(&[&node]).await;
    let request = Request::put("/v1/kv/a%20b?lease=1")
        .header("host", "store.test")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(full("value"))
        .unwrap();
    let (response, text) = rig.http1(Kind::Node, request).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-revision"]),
        (201, &"7".parse().unwrap())
    );
    assert_eq!(
        text,
        "PUT /v1/kv/a%20b?lease=1 HTTP/1.1 host=store.test for=127.0.0.1 private=- body=value"
    );

    // Plain HTTP over HTTP/2 is translated.
    let request = Request::get("http://store.test/v1/kv/c").body(full("")).unwrap();
    let response = rig.http2().await.send(request).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        text,
        "GET /v1/kv/c HTTP/1.1 host=store.test for=127.0.0.1 private=- body="
    );
}

#[tokio::test]
async fn web_apps_take_turns_and_their_connections_are_used_again() {
    let apps = [TestBackend::echo("a").await, TestBackend::echo("b").await];
    let rig = Rig::apps(&apps.each_ref()).await;
    let stream = tokio::net::TcpStream::connect(rig.addr(Kind::Web)).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for _ in 0..20 {
        send.ready().await.unwrap();
        let response = send.send_request(get("/")).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 2);
    }
    assert_eq!(apps.each_ref().map(|n| n.count()), [10, 10]);
    for app in &apps {
        let connections = rig.backend(Kind::Web, app.addr).unwrap().connections;
        assert!(
            (1..=2).contains(&connections),
            "{connections} connections for 10 requests in a row"
        );
    }
}

/// A response that ends without a body, and one to HEAD, give their connection back as well.
#[tokio::test]
async fn head_and_empty_answers() {
    let app = TestBackend::start(|request: Request<hyper::body::Incoming>| async move {
        let status = if request.uri().path() == "/empty" {
            204
        } else {
            200
        };
        let body = if status == 204 { full("") } else { full("12345") };
        Response::builder().status(status).body(body).unwrap()
    })
    .await;
    let rig = Rig::apps(&[&app]).await;
    for _ in 0..5 {
        let (response, body) = rig
            .http1(Kind::Web, Request::head("/").body(full("")).unwrap())
            .await;
        assert_eq!(
            (response.headers()["content-length"].to_str().unwrap(), &body[..]),
            ("5", "")
        );
        let (response, _) = rig.http1(Kind::Web, get("/empty")).await;
        assert_eq!(response.status(), 204);
    }
    assert!(rig.backend(Kind::Web, app.addr).unwrap().connections <= 2);
}

/// Server-sent events: what the backend has said is there before it says more.
#[tokio::test]
async fn an_answer_without_end_is_passed_on_as_it_comes() {
    let (say, said) = tokio::sync::mpsc::channel::<&'static str>(1);
    let said = std::sync::Mutex::new(Some(said));
    let backend = TestBackend::start(move |_| {
        let said = said.lock().unwrap().take().expect("one request");
        let frames = futures::stream::unfold(said, |mut said| async move {
            let frame = Frame::data(Bytes::from(said.recv().await?));
            Some((Ok(frame), said))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        async move {
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        }
    })
    .await;
    let rig = Rig::apps(&[&backend]).await;
    let stream = TcpStream::connect(rig.addr(Kind::Web)).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut response = send.send_request(get("/events")).await.unwrap();
    for event in ["data: a\n\n", ": still here\n\n", "data: b\n\n"] {
        say.send(event).await.unwrap();
        let frame = tokio::time::timeout(PATIENCE, response.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    drop(say);
    assert!(response.frame().await.is_none(), "the end is passed on too");
}
