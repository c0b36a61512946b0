//! TLS: who is talked to, and what is said when it is not who it should be. A write that is refused for its
//! certificate was certainly not executed.

use std::path::Path;
use std::process::Output;

use kv_client::{Client, Config, Error, Tls};
use kv_proto::etcdserverpb::PutRequest;
use kv_tls::testing::{Authority, Pair, Wanted};
use kv_tls::{Flags, ServerFiles, ServerTls};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::Scripted;

const FLAGS: Flags = Flags {
    cert: "--cert-file",
    key: "--key-file",
    ca: "--trusted-ca-file",
    client_auth: "",
};

struct World {
    dir: TempDir,
    ca: Authority,
    server: Scripted,
    /// Where the server is behind TLS, which wants certificates of clients.
    address: String,
}

impl World {
    async fn new(wanted: Wanted<'_>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca");
        let Pair { cert, key } = ca.issue("server", wanted);
        let files = ServerFiles {
            cert,
            key,
            trusted_ca: Some(ca.cert()),
            flags: FLAGS,
        };
        let server = Scripted::start([]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(relay(
            listener,
            ServerTls::load(files).unwrap(),
            server.endpoint(),
        ));
        World {
            dir,
            ca,
            server,
            address,
        }
    }

    fn trusting(&self, pair: Option<Pair>) -> Tls {
        Tls {
            ca: Some(self.ca.cert()),
            cert: pair.as_ref().map(|pair| pair.cert.clone()),
            key: pair.map(|pair| pair.key),
            insecure_skip_verify: false,
        }
    }

    async fn put(&self, endpoint: String, tls: Tls) -> Result<(), Error> {
        let config = Config {
            tls,
            ..Config::new([endpoint])
        };
        let request = PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        Client::new(config)?.put(request).await.map(drop)
    }
}

async fn relay(listener: TcpListener, tls: ServerTls, inside: String) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, inside) = (tls.clone(), inside.clone());
        tokio::spawn(async move {
            let Ok((mut outside, _)) = tls.accept(stream).await else {
                return;
            };
            let mut inside = TcpStream::connect(inside).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

#[tokio::test]
async fn a_certificate_lets_the_client_in() {
    let world = World::new(Wanted::default()).await;
    let pair = world.ca.issue("alice", Wanted::default());
    let tls = world.trusting(Some(pair));
    world
        .put(format!("https://{}", world.address), tls.clone())
        .await
        .unwrap();
    // Without a scheme the files say that TLS is meant; http:// says that it is not.
    world.put(world.address.clone(), tls.clone()).await.unwrap();
    world
        .put(format!("http://{}", world.server.endpoint()), tls)
        .await
        .unwrap();
    assert_eq!(world.server.calls(), 3);
}

#[tokio::test]
async fn what_is_refused_was_not_executed() {
    let world = World::new(Wanted::default()).await;
    let stranger = Authority::new(world.dir.path(), "stranger");
    let foreign = stranger.issue("foreign", Wanted::default());
    let expired = world.ca.issue(
        "expired",
        Wanted {
            expired: true,
            ..Wanted::default()
        },
    );
    let distrusting = Tls {
        ca: Some(stranger.cert()),
        ..Tls::default()
    };
    for (tls, expected) in [
        (world.trusting(None), "wants a client certificate"),
        (
            world.trusting(Some(foreign)),
            "does not trust the CA of our certificate",
        ),
        (world.trusting(Some(expired)), "our certificate has expired"),
        (distrusting, "not from a CA that is trusted here"),
    ] {
        let error = world.put(world.address.clone(), tls).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // HTTP in the clear: the server hangs up, perhaps after the request was sent.
    world
        .put(format!("http://{}", world.address), Tls::default())
        .await
        .unwrap_err();
    assert_eq!(world.server.calls(), 0);
}

#[tokio::test]
async fn any_certificate_will_do_where_told_so() {
    let world = World::new(Wanted {
        host: Some("elsewhere.example"),
        ..Wanted::default()
    })
    .await;
    let tls = world.trusting(Some(world.ca.issue("alice", Wanted::default())));
    let error = world.put(world.address.clone(), tls.clone()).await.unwrap_err();
    assert!(error.to_string().contains("for another host"), "{error}");
    let insecure = Tls {
        ca: None,
        insecure_skip_verify: true,
        ..tls
    };
    world.put(world.address.clone(), insecure).await.unwrap();
}

/// Runs the command with the flags or variables of etcdctl.
async fn run(args: &[&str], env: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-client"));
    command.args(args).env_clear().envs(env.iter().copied());
    command.output().await.unwrap()
}

#[tokio::test]
async fn flags_and_variables_of_etcdctl() {
    let world = World::new(Wanted::default()).await;
    let Pair { cert, key } = world.ca.issue("alice", Wanted::default());
    let ca = world.ca.cert();
    let [cert_arg, key_arg, ca_arg] = [&cert, &key, &ca].map(|path| path.to_str().unwrap());
    let at = ["--endpoints", &world.address, "put", "k", "v"];
    let flags = ["--cacert", ca_arg, "--cert", cert_arg, "--key", key_arg];
    let output = run(&[&at[..], &flags[..]].concat(), &[]).await;
    assert!(output.status.success(), "{output:?}");
    let env = [
        ("ETCDCTL_CACERT", &*ca),
        ("ETCDCTL_CERT", &*cert),
        ("ETCDCTL_KEY", &*key),
    ];
    let output = run(&at, &env).await;
    assert!(output.status.success(), "{output:?}");

    let output = run(&[&at[..], &["--cert", cert_arg]].concat(), &[]).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("error: --cert needs --key beside it\nhint: "),
        "{stderr}"
    );
}
