//! A cluster in which every connection is TLS and everybody shows a certificate, and whoever does not.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use common::{DEADLINE, free_address, until};
use kv_core::{AuthCommand, Command, Permission, PermissionKind, PermissionRange, Secret};
use kv_node::{
    auth::TokenOptions,
    bootstrap::Bootstrap,
    corruption::Checks,
    membership::autopilot::Policy,
    node::{Config, Env, Limits, Node},
    running::Running,
    server::{self, Security},
    tls::Tls,
    urls::{self, Listen},
};
use kv_proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use kv_tls::{
    Alpn, ClientFiles, ClientTls, Connector, Flags, PeerCertificate, ServerFiles, ServerTls,
    testing::{Authority, Pair, Wanted},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

const FLAGS: Flags = Flags {
    cert: "--cert",
    key: "--key",
    ca: "--ca",
    client_auth: "--auth",
};

fn server_files(pair: &Pair, trusted_ca: Option<PathBuf>) -> ServerFiles {
    ServerFiles {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        trusted_ca,
        flags: FLAGS,
    }
}

fn client_files(ca: PathBuf, pair: Option<&Pair>) -> ClientFiles {
    ClientFiles {
        ca: Some(ca),
        cert: pair.map(|pair| pair.cert.clone()),
        key: pair.map(|pair| pair.key.clone()),
        insecure_skip_verify: false,
        flags: FLAGS,
    }
}

/// TLS towards everybody with one certificate, and everybody must show one of the CA.
fn mutual(ca: &Authority, pair: &Pair) -> Tls {
    Tls {
        client: Some(server_files(pair, Some(ca.cert()))),
        peer: Some(server_files(pair, Some(ca.cert()))),
        dial: Some(client_files(ca.cert(), Some(pair))),
    }
}

fn config(dir: &TempDir, name: &str, peer: &str, bootstrap: Bootstrap, tls: Tls) -> Config {
    let client = format!("https://{}", free_address());
    let peer = format!("https://{peer}");
    let listen = |url: &String| urls::listen(std::slice::from_ref(url), "").unwrap();
    Config {
        name: name.to_owned(),
        data_dir: dir.path().join(name),
        listen_client: listen(&client),
        client_urls: vec![client],
        listen_peer: listen(&peer),
        peer_urls: vec![peer],
        tls,
        bootstrap,
        zone: String::new(),
        autopilot: Policy::default(),
        leave_on_terminate: false,
        max_learners: 1,
        retention: None,
        corruption_checks: Checks::OFF,
        quota_bytes: 1 << 30,
        heartbeat_interval_ms: 75,
        election_timeout_ms: 300,
        snapshot_count: 1000,
        watch_progress_interval: Duration::from_secs(600),
        limits: Limits {
            max_request_bytes: 1536 << 10,
            max_txn_ops: 128,
            request_timeout: Duration::from_secs(5),
        },
        tokens: TokenOptions::default(),
    }
}

async fn start(config: Config) -> (Running, Node) {
    let mut running = Running::open(config).await.unwrap();
    let node = running.start(Env::real()).await.unwrap();
    (running, node)
}

/// A gRPC client of a node.
fn kv(url: &str, files: ClientFiles) -> KvClient<Channel> {
    let connector = Connector {
        tls: Some(ClientTls::load(files).unwrap()),
        alpn: Alpn::Http2,
        server_name: None,
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    KvClient::new(endpoint.connect_with_connector_lazy(connector))
}

async fn put(client: &mut KvClient<Channel>, key: &str) -> Result<(), Status> {
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: "there".into(),
        ..Default::default()
    };
    client.put(request).await.map(drop)
}

async fn get_one(client: &mut KvClient<Channel>, key: &str) -> usize {
    let request = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..Default::default()
    };
    client.range(request).await.unwrap().into_inner().kvs.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let stranger_ca = Authority::new(dir.path(), "stranger-ca");
    let peers = [free_address(), free_address(), free_address()];
    let members = peers
        .iter()
        .enumerate()
        .map(|(at, peer)| (format!("n{at}"), vec![format!("https://{peer}")]));
    let bootstrap = Bootstrap::Static {
        members: members.collect::<BTreeMap<_, _>>(),
        token: "tls".to_owned(),
        existing: false,
    };
    let starting = peers.iter().enumerate().map(|(at, peer)| {
        let name = format!("n{at}");
        let pair = ca.issue(&name, Wanted::default());
        start(config(&dir, &name, peer, bootstrap.clone(), mutual(&ca, &pair)))
    });
    let nodes = timeout(DEADLINE, futures::future::join_all(starting))
        .await
        .unwrap();
    until("client URLs", || {
        let urls: Vec<String> = nodes[0]
            .1
            .members()
            .into_iter()
            .flat_map(|member| member.client_urls)
            .collect();
        urls.len() == 3 && urls.iter().all(|url| url.starts_with("https://"))
    })
    .await;
    let urls: Vec<String> = nodes[0]
        .1
        .members()
        .into_iter()
        .flat_map(|member| member.client_urls)
        .collect();

    let alice = ca.issue(
        "alice",
        Wanted {
            common_name: "alice",
            ..Wanted::default()
        },
    );
    for (at, url) in urls.iter().enumerate() {
        let mut client = kv(url, client_files(ca.cert(), Some(&alice)));
        put(&mut client, &format!("key{at}")).await.unwrap();
        assert_eq!(get_one(&mut client, &format!("key{at}")).await, 1);
    }

    let expired = ca.issue(
        "expired",
        Wanted {
            expired: true,
            ..Wanted::default()
        },
    );
    let stranger = stranger_ca.issue("stranger", Wanted::default());
    for pair in [None, Some(&expired), Some(&stranger)] {
        let refused = put(&mut kv(&urls[0], client_files(ca.cert(), pair)), "refused")
            .await
            .unwrap_err();
        assert_ne!(refused.code(), Code::Ok, "{refused:?}");
    }
    let refused = put(
        &mut kv(&urls[0], client_files(stranger_ca.cert(), Some(&alice))),
        "refused",
    )
    .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    assert_eq!(
        get_one(
            &mut kv(&urls[0], client_files(ca.cert(), Some(&alice))),
            "refused"
        )
        .await,
        0
    );

    // A node with the wrong certificate does not get in; with the right one, by name, it does.
    let join = |tls| {
        let bootstrap = Bootstrap::Dynamic {
            join: vec![format!(
                "https://localhost:{}",
                peers[0].rsplit_once(':').unwrap().1
            )],
            expect: None,
        };
        config(&dir, "late", &free_address(), bootstrap, tls)
    };
    let mut late = Running::open(join(mutual(&ca, &stranger))).await.unwrap();
    assert!(
        timeout(Duration::from_secs(1), late.start(Env::real()))
            .await
            .is_err(),
        "it was let in"
    );
    drop(late);
    assert_eq!(nodes[0].1.members().len(), 3);

    for (running, node) in nodes {
        running.stop(&node).await;
    }
}

/// Certificates of the peers hold the name that they are found by, and none of their addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_found_by_a_name_that_their_certificates_hold() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let pair = ca.issue(
        "n",
        Wanted {
            host: Some("localhost"),
            ..Wanted::default()
        },
    );
    let tls = Tls {
        client: None,
        ..mutual(&ca, &pair)
    };
    let localhost = |address: &str| format!("localhost:{}", address.rsplit_once(':').unwrap().1);
    let peers = [localhost(&free_address()), localhost(&free_address())];
    let starting = peers.iter().enumerate().map(|(at, peer)| {
        let bootstrap = Bootstrap::Dynamic {
            join: peers.iter().map(|peer| format!("https://{peer}")).collect(),
            expect: Some(2),
        };
        let mut config = config(&dir, &format!("n{at}"), peer, bootstrap, tls.clone());
        config.listen_client = vec![Listen::from(free_address())];
        start(config)
    });
    let nodes = timeout(DEADLINE, futures::future::join_all(starting))
        .await
        .unwrap();
    until("a leader", || nodes[0].1.status().leader.is_some()).await;
    assert_eq!(nodes[0].1.members().len(), 2);
    for (running, node) in nodes {
        running.stop(&node).await;
    }
}

/// One port for http and https; who the client is stands beside its request.
#[tokio::test]
async fn both_on_one_port() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let pair = ca.issue("server", Wanted::default());
    let alice = ca.issue(
        "alice",
        Wanted {
            common_name: "alice",
            ..Wanted::default()
        },
    );
    let tls = ServerTls::load(server_files(&pair, Some(ca.cert()))).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let who = async |peer: Option<Extension<PeerCertificate>>| {
        peer.map_or_else(
            || "nobody".into(),
            |Extension(peer)| Arc::<str>::clone(&peer.common_name).to_string(),
        )
    };
    let stop = CancellationToken::new();
    let service = Router::new().route("/", get(who));
    let serving = tokio::spawn(server::serve(
        listener,
        Security::Either(tls),
        service,
        stop.clone(),
        DEADLINE,
    ));

    let ask = async |mut stream: kv_tls::Stream| {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().last().unwrap().to_owned()
    };
    let plain = TcpStream::connect(&address).await.unwrap();
    assert_eq!(ask(kv_tls::Stream::Plain(plain)).await, "nobody");
    let connector = Connector {
        tls: Some(ClientTls::load(client_files(ca.cert(), Some(&alice))).unwrap()),
        alpn: Alpn::Http1,
        server_name: None,
    };
    let secured = connector
        .connect(&format!("https://{address}").parse().unwrap())
        .await
        .unwrap();
    assert_eq!(ask(secured).await, "alice");
    // Somebody who never begins the handshake does not hold the stop up.
    let _silent = TcpStream::connect(&address).await.unwrap();
    stop.cancel();
    timeout(Duration::from_secs(2), serving).await.unwrap().unwrap();
}

/// With `--client-cert-auth`, the common name of a certificate says which user it is; without, it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_asks() {
    for client_certificates in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca");
        let pair = ca.issue("n", Wanted::default());
        let config = Config {
            tokens: TokenOptions {
                client_certificates,
                ..TokenOptions::default()
            },
            ..config(
                &dir,
                "n",
                &free_address(),
                Bootstrap::Dynamic {
                    join: Vec::new(),
                    expect: Some(1),
                },
                mutual(&ca, &pair),
            )
        };
        let url = config.client_urls[0].clone();
        let (running, node) = start(config).await;
        let certified = |name: &'static str| {
            let wanted = Wanted {
                common_name: name,
                ..Wanted::default()
            };
            kv(&url, client_files(ca.cert(), Some(&ca.issue(name, wanted))))
        };
        put(&mut certified("somebody"), "app").await.unwrap();
        for command in users() {
            let command = Command::Auth(command);
            let done = node.propose(command, Instant::now() + DEADLINE).await.unwrap();
            done.result.unwrap();
        }
        let code = async |name, key| match put(&mut certified(name), key).await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        let answers = [
            code("alice", "app").await,
            code("alice", "other").await,
            code("root", "other").await,
            code("somebody", "app").await,
        ];
        let expected = if client_certificates {
            [Code::Ok, Code::PermissionDenied, Code::Ok, Code::PermissionDenied]
        } else {
            [Code::InvalidArgument; 4]
        };
        assert_eq!(answers, expected);
        running.stop(&node).await;
    }
}

/// Root, and alice, who may use the key `app`; neither has a password.
fn users() -> Vec<AuthCommand> {
    let user = |name: &str| AuthCommand::UserAdd {
        name: name.into(),
        password: None,
        no_password: true,
    };
    let role = |user: &str, role: &str| AuthCommand::UserGrantRole {
        user: user.into(),
        role: role.into(),
    };
    let permission = Permission {
        kind: PermissionKind::ReadWrite,
        range: PermissionRange {
            key: "app".into(),
            range_end: "".into(),
        },
    };
    vec![
        user("root"),
        role("root", "root"),
        user("alice"),
        AuthCommand::RoleAdd { name: "app".into() },
        AuthCommand::RoleGrant {
            role: "app".into(),
            permission: Some(permission),
        },
        role("alice", "app"),
        AuthCommand::Enable {
            secret: Secret([3; 32]),
        },
    ]
}
