//! Uploads that do not get through: the backend refuses them, or the client breaks them off.

use loadbalancer::backend::Kind;
use loadbalancer::health::State;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// More than the buffers of both connections hold together.
const LARGE_BYTES: usize = 32 << 20;

/// A backend that closes the connection with most of a body unread, after this answer.
async fn refuses(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 1024];
                let n = stream.read(&mut head).await.unwrap();
                let answer: &[u8] = if head[..n].starts_with(b"GET /readyz") {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                } else {
                    // The body has begun to come: closing now resets the connection.
                    stream.readable().await.unwrap();
                    answer
                };
                let _ = stream.write_all(answer).await;
            });
        }
    });
    addr
}

async fn in_front_of(app: SocketAddr) -> Rig {
    let rig = Rig::start(config()).await;
    rig.names.set("apps", [app]);
    rig.until_usable(Kind::Web, 1).await;
    rig
}

/// Uploads and reads at the same time, as clients do; the answer until the connection ends.
async fn upload(addr: SocketAddr) -> String {
    let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
    let head = format!("PUT /x HTTP/1.1\r\nhost: b.test\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
    let sending = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await?;
        write.write_all(&vec![b'x'; LARGE_BYTES]).await
    });
    let mut answer = Vec::new();
    let reading = async {
        let mut buf = vec![0; 4096];
        while let Ok(n @ 1..) = read.read(&mut buf).await {
            answer.extend_from_slice(&buf[..n]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    sending.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_answer_of_a_backend_that_refuses_a_body_gets_through() {
    let app =
        refuses(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge")
            .await;
    let rig = in_front_of(app).await;
    for _ in 0..20 {
        let answer = upload(rig.addr(Kind::Web)).await;
        assert!(
            answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("large"),
            "{answer}"
        );
    }
    let shown = rig.backend(Kind::Web, app).unwrap();
    assert_eq!((shown.errors, shown.ejections, shown.state), (0, 0, State::Up));
}

#[tokio::test]
async fn a_body_that_a_backend_hangs_up_on_ejects_nobody() {
    let app = refuses(b"").await;
    let rig = in_front_of(app).await;
    for _ in 0..10 {
        let answer = upload(rig.addr(Kind::Web)).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
    let shown = rig.backend(Kind::Web, app).unwrap();
    assert_eq!((shown.errors, shown.ejections, shown.state), (0, 0, State::Up));
}

#[tokio::test]
async fn a_client_that_breaks_its_upload_off_ejects_nobody() {
    let app = TestBackend::echo("app").await;
    let rig = Rig::apps(&[&app]).await;
    for _ in 0..10 {
        let mut client = TcpStream::connect(rig.addr(Kind::Web)).await.unwrap();
        let part = b"PUT /x HTTP/1.1\r\nhost: b.test\r\ncontent-length: 1000\r\n\r\nxxx";
        client.write_all(part).await.unwrap();
        rig.until(Kind::Web, "sent", |pool| pool.backends[0].in_flight == 1)
            .await;
        drop(client);
        rig.until(Kind::Web, "over", |pool| pool.backends[0].in_flight == 0)
            .await;
    }
    let shown = rig.backend(Kind::Web, app.addr).unwrap();
    assert_eq!((shown.requests, shown.errors, shown.ejections), (10, 0, 0));
}
