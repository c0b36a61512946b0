//! TLS towards backends and towards clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use kv_tls::testing::{Authority, Pair, Wanted};
use kv_tls::{Alpn, ClientFiles, ClientTls, Connector, Flags, ServerFiles, ServerTls};
use loadbalancer::backend::Kind;
use loadbalancer::seed::Seed;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Rig, TestBackend, config, full, get};

const FLAGS: Flags = Flags {
    cert: "--cert",
    key: "--key",
    ca: "--ca",
    client_auth: "",
};

fn server_tls(Pair { cert, key }: Pair, trusted_ca: Option<PathBuf>) -> ServerTls {
    ServerTls::load(ServerFiles {
        cert,
        key,
        trusted_ca,
        flags: FLAGS,
    })
    .unwrap()
}

fn client_tls(ca: &Authority, pair: Option<Pair>) -> ClientTls {
    let files = ClientFiles {
        ca: Some(ca.cert()),
        cert: pair.as_ref().map(|pair| pair.cert.clone()),
        key: pair.map(|pair| pair.key),
        insecure_skip_verify: false,
        flags: FLAGS,
    };
    ClientTls::load(files).unwrap()
}

/// Puts TLS in front of a backend.
async fn behind_tls(backend: &TestBackend, tls: ServerTls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, inside) = (listener.local_addr().unwrap(), backend.addr);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok((mut outside, _)) = tls.accept(stream).await else {
                    return;
                };
                let mut inside = TcpStream::connect(inside).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn backends_with_tls_must_be_who_their_name_says() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let good = ca.issue(
        "good",
        Wanted {
            host: Some("nodes"),
            ..Wanted::default()
        },
    );
    let other = ca.issue(
        "other",
        Wanted {
            host: Some("elsewhere"),
            ..Wanted::default()
        },
    );
    let balancer = ca.issue("balancer", Wanted::default());
    let backend = TestBackend::echo("a").await;
    let stranger = TestBackend::echo("b").await;
    let good = behind_tls(&backend, server_tls(good, Some(ca.cert()))).await;
    let other = behind_tls(&stranger, server_tls(other, None)).await;

    let mut config = config();
    config.backend_tls = Some(client_tls(&ca, Some(balancer)));
    for pool in [&mut config.nodes, &mut config.web].into_iter().flatten() {
        pool.seeds = vec![Seed::parse("https://nodes", 1).unwrap()];
    }
    let rig = Rig::start(config).await;
    rig.names.set("nodes", [good, other]);
    for kind in [Kind::Node, Kind::Web] {
        rig.until_usable(kind, 1).await;
        rig.until(kind, "the reason", |pool| {
            let stranger = pool.backends.iter().find(|b| b.address == other.to_string());
            stranger.is_some_and(|b| format!("{b:?}").contains("for another host"))
        })
        .await;
    }
    let reply = rig.http2().await.call("/etcdserverpb.KV/Put", "x").await;
    assert_eq!((reply.status.as_str(), &reply.body[..]), ("0", &b"a:x"[..]));
    assert_eq!(rig.http1(Kind::Web, get("/")).await.1, "a:");
    assert_eq!(stranger.count(), 0);
}

#[tokio::test]
async fn clients_may_have_to_speak_tls() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let backend = TestBackend::start(|request| async move {
        let proto = request.headers()["x-forwarded-proto"].clone();
        http::Response::new(full(proto.as_bytes().to_vec()))
    })
    .await;
    let mut config = config();
    config.listen_tls = Some(server_tls(ca.issue("balancer", Wanted::default()), None));
    let rig = Rig::start(config).await;
    rig.names.set("apps", [backend.addr]);
    rig.until_usable(Kind::Web, 1).await;

    let connector = Connector {
        tls: Some(client_tls(&ca, None)),
        alpn: Alpn::Http1,
        server_name: None,
    };
    let url = format!("https://{}", rig.addr(Kind::Web)).parse().unwrap();
    let stream = connector.connect(&url).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = send.send_request(get("/")).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "https");
    // HTTP in the clear is told what is wrong.
    let (response, text) = rig.http1(Kind::Web, get("/")).await;
    assert_eq!(response.status(), 400);
    assert!(
        text.starts_with("Client sent an HTTP request to an HTTPS server."),
        "{text}"
    );
}

#[test]
fn a_balancer_is_no_user() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let pair = ca.issue(
        "root",
        Wanted {
            common_name: "root",
            ..Wanted::default()
        },
    );
    let args = loadbalancer::tls::TlsArgs {
        backend_cacert: Some(ca.cert()),
        backend_cert: Some(pair.cert),
        backend_key: Some(pair.key),
        ..Default::default()
    };
    let error = args.backends(&[], &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("--backend-cert ") && error.contains("the common name \"root\""),
        "{error}"
    );
}
