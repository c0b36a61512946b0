//! A server and its clients over real sockets: who is let in, and what the others are told.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::{io, path::PathBuf, time::Duration};

use kv_tls::{
    Alpn, ClientFiles, ClientTls, Connector, Flags, PeerCertificate, ServerFiles, ServerTls, heard,
    testing::{Authority, Pair, Wanted},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const SERVER: Flags = Flags {
    cert: "--cert-file",
    key: "--key-file",
    ca: "--trusted-ca-file",
    client_auth: "--client-cert-auth",
};
const CLIENT: Flags = Flags {
    cert: "--cert",
    key: "--key",
    ca: "--cacert",
    client_auth: "",
};

type Accepted = io::Result<Option<PeerCertificate>>;

/// Takes one connection and greets it.
async fn server(tls: ServerTls) -> (String, JoinHandle<Accepted>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, peer) = tls.accept(stream).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        Ok(peer)
    });
    (address, accepted)
}

fn server_files(pair: &Pair, trusted_ca: Option<PathBuf>) -> ServerFiles {
    ServerFiles {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        trusted_ca,
        flags: SERVER,
    }
}

fn client_files(ca: &Authority, pair: Option<&Pair>) -> ClientFiles {
    ClientFiles {
        ca: Some(ca.cert()),
        cert: pair.map(|pair| pair.cert.clone()),
        key: pair.map(|pair| pair.key.clone()),
        insecure_skip_verify: false,
        flags: CLIENT,
    }
}

/// What a client gets: the greeting, or why not.
async fn greeting(address: &str, files: ClientFiles) -> Result<String, String> {
    let connector = Connector {
        tls: Some(ClientTls::load(files).unwrap()),
        alpn: Alpn::Http1,
        server_name: None,
    };
    let url = format!("https://{address}").parse().unwrap();
    let stream = connector.connect(&url).await.map_err(|error| error.to_string())?;
    let (mut stream, first) = heard(stream);
    let mut text = String::new();
    let read = stream.read_to_string(&mut text).await;
    first.await.unwrap()?;
    read.map(|_| text).map_err(|error| error.to_string())
}

struct World {
    dir: TempDir,
    ca: Authority,
    other_ca: Authority,
    server: Pair,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let other_ca = Authority::new(dir.path(), "other-ca");
    let server = ca.issue("server", Wanted::default());
    World {
        dir,
        ca,
        other_ca,
        server,
    }
}

#[tokio::test]
async fn a_client_without_and_with_a_certificate() {
    let World {
        dir: _dir,
        ca,
        server: pair,
        ..
    } = world();
    let (address, accepted) = server(ServerTls::load(server_files(&pair, None)).unwrap()).await;
    assert_eq!(
        greeting(&address, client_files(&ca, None)).await.unwrap(),
        "hello"
    );
    assert_eq!(accepted.await.unwrap().unwrap(), None);

    let alice = ca.issue(
        "alice",
        Wanted {
            common_name: "alice",
            ..Wanted::default()
        },
    );
    let (address, accepted) = server(ServerTls::load(server_files(&pair, Some(ca.cert()))).unwrap()).await;
    assert_eq!(
        greeting(&address, client_files(&ca, Some(&alice))).await.unwrap(),
        "hello"
    );
    assert_eq!(&*accepted.await.unwrap().unwrap().unwrap().common_name, "alice");
}

#[tokio::test]
async fn servers_that_are_not_who_they_should_be() {
    let World {
        dir: _dir,
        ca,
        other_ca,
        ..
    } = world();
    let expired = ca.issue(
        "expired",
        Wanted {
            expired: true,
            ..Wanted::default()
        },
    );
    let elsewhere = ca.issue(
        "elsewhere",
        Wanted {
            host: Some("db.example"),
            ..Wanted::default()
        },
    );
    let foreign = other_ca.issue("foreign", Wanted::default());
    for (pair, expected) in [
        (&expired, "certificate has expired"),
        (&elsewhere, "for another host"),
        (&foreign, "not from a CA that is trusted here"),
    ] {
        let (address, accepted) = server(ServerTls::load(server_files(pair, None)).unwrap()).await;
        let error = greeting(&address, client_files(&ca, None)).await.unwrap_err();
        assert!(error.starts_with("TLS: ") && error.contains(expected), "{error}");
        accepted.await.unwrap().unwrap_err();

        let (address, accepted) = server(ServerTls::load(server_files(pair, None)).unwrap()).await;
        let insecure = ClientFiles {
            insecure_skip_verify: true,
            ..client_files(&ca, None)
        };
        assert_eq!(greeting(&address, insecure).await.unwrap(), "hello");
        accepted.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn clients_that_are_not_who_they_should_be() {
    let World {
        dir: _dir,
        ca,
        other_ca,
        server: pair,
    } = world();
    let expired = ca.issue(
        "expired",
        Wanted {
            expired: true,
            ..Wanted::default()
        },
    );
    let foreign = other_ca.issue("foreign", Wanted::default());
    for (client, told, logged) in [
        (None, "wants a client certificate", "showed no certificate"),
        (
            Some(&expired),
            "our certificate has expired",
            "certificate has expired",
        ),
        (
            Some(&foreign),
            "does not trust the CA of our certificate",
            "not from a CA that is trusted here",
        ),
    ] {
        let tls = ServerTls::load(server_files(&pair, Some(ca.cert()))).unwrap();
        let (address, accepted) = server(tls).await;
        let error = greeting(&address, client_files(&ca, client)).await.unwrap_err();
        assert!(error.contains(told), "{error}");
        let error = accepted.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(logged), "{error}");
    }
}

#[tokio::test]
async fn plain_http_and_tls_do_not_mix() {
    let World {
        dir: _dir,
        ca,
        server: pair,
        ..
    } = world();
    let (address, accepted) = server(ServerTls::load(server_files(&pair, None)).unwrap()).await;
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"),
        "{answer}"
    );
    let error = accepted.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "the client does not speak TLS");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answered = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let error = greeting(&address, client_files(&ca, None)).await.unwrap_err();
    assert_eq!(error, "TLS: the other side does not speak TLS");
    answered.await.unwrap();
}

/// The new set is used once all of it is there; half of it does no harm.
#[tokio::test]
async fn renewed_files_are_read_again() {
    let World {
        dir,
        ca,
        server: pair,
        ..
    } = world();
    let client_tls = client_files(&ca, None);
    ca.issue(
        "server",
        Wanted {
            expired: true,
            ..Wanted::default()
        },
    );
    let tls = ServerTls::load(server_files(&pair, None)).unwrap();
    let renewed = ca.issue("renewed", Wanted::default());
    std::fs::copy(&renewed.cert, dir.path().join("server.pem")).unwrap();
    let refused = async |expected: &str| {
        let (address, accepted) = server(tls.clone()).await;
        let answer = greeting(&address, client_tls.clone()).await;
        let _ = accepted.await.unwrap();
        answer.err().is_some_and(|error| error.contains(expected))
    };
    assert!(refused("expired").await, "the key is still the old one");
    std::fs::copy(&renewed.key, dir.path().join("server-key.pem")).unwrap();
    let renewal = async {
        while refused("expired").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewal)
        .await
        .unwrap();
    let (address, _accepted) = server(tls.clone()).await;
    assert_eq!(greeting(&address, client_tls).await.unwrap(), "hello");
}

#[test]
fn mistakes_are_told_with_flag_and_file() {
    let World {
        dir,
        ca,
        server: pair,
        ..
    } = world();
    let other = ca.issue("other", Wanted::default());
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, "no certificate").unwrap();
    let missing = dir.path().join("missing");
    let told = |cert: &PathBuf, key: &PathBuf, ca: Option<&PathBuf>| {
        let files = ServerFiles::of_flags(SERVER, Some(cert), Some(key), ca, false)
            .unwrap()
            .unwrap();
        ServerTls::load(files).err().unwrap().to_string()
    };
    let shown = |path: &PathBuf| path.display().to_string();
    let Pair { cert, key } = &pair;
    assert_eq!(
        told(&missing, key, None),
        format!(
            "--cert-file {}: No such file or directory (os error 2)",
            shown(&missing)
        )
    );
    assert_eq!(
        told(&garbage, key, None),
        format!(
            "--cert-file {}: no certificate in PEM form in it",
            shown(&garbage)
        )
    );
    assert_eq!(
        told(cert, &garbage, None),
        format!("--key-file {}: no key in PEM form in it", shown(&garbage))
    );
    assert_eq!(
        told(cert, &other.key, None),
        format!(
            "--key-file {} is not the key of --cert-file {}",
            shown(&other.key),
            shown(cert)
        )
    );
    assert_eq!(
        told(cert, key, Some(&garbage)),
        format!(
            "--trusted-ca-file {}: no certificate in PEM form in it",
            shown(&garbage)
        )
    );
    let of_flags = |cert, key, ca, auth| {
        ServerFiles::of_flags(SERVER, cert, key, ca, auth)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        of_flags(Some(cert), None, None, false),
        "--cert-file needs --key-file beside it"
    );
    assert_eq!(
        of_flags(None, Some(key), None, false),
        "--key-file needs --cert-file beside it"
    );
    assert_eq!(
        of_flags(Some(cert), Some(key), None, true),
        "--client-cert-auth needs --trusted-ca-file, the CAs whose clients are let in"
    );
}
