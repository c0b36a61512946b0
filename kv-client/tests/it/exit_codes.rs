//! The exit code of every way in which a command can end, and its two lines on standard error.

use std::process::Output;

use tonic::Code;

use crate::process::{kv_client, output};
use crate::support::{Scripted, Step, refusing, web_server};

/// Runs the command against an endpoint with short limits; `input` is its standard input.
async fn run(endpoint: &str, args: &[&str], input: &str) -> Output {
    let mut command = kv_client(endpoint, args);
    command
        .env("ETCDCTL_DIAL_TIMEOUT", "200ms")
        .env("ETCDCTL_COMMAND_TIMEOUT", "10s");
    output(&mut command, input).await
}

/// Runs it and gives the exit code, after a look at standard error.
async fn exit_code(endpoint: &str, args: &[&str], input: &str) -> i32 {
    let output = run(endpoint, args, input).await;
    let code = output.status.code().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    match code {
        0 | 4 => assert_eq!(stderr, "", "{args:?}"),
        // What is wrong with the arguments themselves, clap says in its own way.
        2 if !stderr.contains("hint: ") => assert!(stderr.starts_with("error: "), "{args:?}: {stderr}"),
        _ => {
            let lines: Vec<&str> = stderr.lines().collect();
            assert_eq!(lines.len(), 2, "{args:?}: {stderr}");
            assert!(
                lines[0].starts_with("error: ") && lines[1].starts_with("hint: "),
                "{args:?}: {stderr}"
            );
        }
    }
    code
}

#[tokio::test]
async fn done_refused_not_found_compare_failed() {
    let server = Scripted::start([]).await;
    let endpoint = server.endpoint();
    assert_eq!(exit_code(&endpoint, &["put", "k", "v"], "").await, 0);
    assert_eq!(
        exit_code(&endpoint, &["put", "k"], "from standard input").await,
        0
    );
    assert_eq!(exit_code(&endpoint, &["del", "k"], "").await, 0);
    assert_eq!(exit_code(&endpoint, &["compact", "2"], "").await, 0);
    // The scripted server's answers are empty: no key, and a transaction that did not succeed.
    assert_eq!(exit_code(&endpoint, &["get", "k"], "").await, 3);
    assert_eq!(exit_code(&endpoint, &["get", "k", "--prefix"], "").await, 0);
    assert_eq!(exit_code(&endpoint, &["txn"], "mod(k) = 1\n\nput k v\n").await, 4);
    assert_eq!(server.calls(), 7);
    // It has no Cluster service.
    assert_eq!(exit_code(&endpoint, &["member", "list"], "").await, 1);
    let server = Scripted::start([Step::Fail(
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    )])
    .await;
    assert_eq!(
        exit_code(&server.endpoint(), &["get", "k", "--rev", "2"], "").await,
        1
    );
}

#[tokio::test]
async fn usage() {
    let server = Scripted::start([]).await;
    let endpoint = server.endpoint();
    for args in [
        &["get"][..],
        &["frobnicate"],
        &["get", "k", "--frobnicate"],
        &["get", "k", "--prefix", "--from-key"],
        &["get", "k", "--limit", "x"],
        &["get", "k", "-w", "yaml"],
        &["get", "k", "-w", "json", "--print-value-only"],
        &["get", "k", "--command-timeout", "soon"],
        &["get", "k", "--endpoints", "localhost"],
        &["get", "k", "--endpoints", "ftp://localhost:1"],
        &["put", "k", "v", "--lease", "xyz"],
        &["put", "k", "v", "--ignore-value"],
        &["compact", "0"],
        &["compact", "-1"],
        &["get", "k", "--rev", "-1"],
        &["get", "k", "--limit=-1"],
        &["bench", "put", "--key-size", "3"],
    ] {
        assert_eq!(exit_code(&endpoint, args, "").await, 2, "{args:?}");
    }
    assert_eq!(exit_code(&endpoint, &["txn"], "nonsense\n").await, 2);
    assert_eq!(server.calls(), 0, "nothing was sent");
}

/// As with etcdctl; a script or compose file passes on what may not be set.
#[tokio::test]
async fn an_empty_variable_is_like_none() {
    let server = Scripted::start([]).await;
    let mut command = kv_client("", &["put", "k", "v", "--endpoints", &server.endpoint()]);
    for name in [
        "DIAL_TIMEOUT",
        "COMMAND_TIMEOUT",
        "USER",
        "PASSWORD",
        "WRITE_OUT",
        "CACERT",
        "CERT",
        "KEY",
        "INSECURE_SKIP_TLS_VERIFY",
    ] {
        command.env(format!("ETCDCTL_{name}"), "");
    }
    let output = output(&mut command, "").await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn no_quorum_timeout_and_unknown_outcome() {
    let (_socket, down) = refusing();
    for args in [
        &["get", "k"][..],
        &["put", "k", "v"],
        &["status"],
        &["member", "list"],
        &["bench", "put"],
    ] {
        assert_eq!(exit_code(&down, args, "").await, 5, "{args:?}");
    }
    let short = "--command-timeout=500ms";
    let no_leader = Scripted::start([Step::Fail(Code::Unavailable, "etcdserver: no leader"); 100]).await;
    assert_eq!(
        exit_code(&no_leader.endpoint(), &["get", "k", short], "").await,
        5
    );
    assert_eq!(
        exit_code(&no_leader.endpoint(), &["put", "k", "v", short], "").await,
        5
    );
    const NO_NODE: &str = "no storage node could take the request: it was not executed";
    let balancer = Scripted::start([Step::Fail(Code::Unavailable, NO_NODE); 100]).await;
    for args in [&["get", "k", short][..], &["put", "k", "v", short]] {
        assert_eq!(exit_code(&balancer.endpoint(), args, "").await, 5, "{args:?}");
    }
    let silent = Scripted::start([Step::Hang; 3]).await;
    assert_eq!(exit_code(&silent.endpoint(), &["get", "k", short], "").await, 6);
    assert_eq!(
        exit_code(&silent.endpoint(), &["put", "k", "v", short], "").await,
        7
    );
    assert_eq!(
        exit_code(&silent.endpoint(), &["txn", short], "\nput k v\n").await,
        7
    );
}

#[tokio::test]
async fn a_negative_number_is_named() {
    for args in [
        &["get", "k", "--rev", "-1"][..],
        &["get", "k", "--limit", "-1"],
        &["compact", "-1"],
    ] {
        let output = run("127.0.0.1:1", args, "").await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("must not be negative"), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_port_that_is_no_stores_is_named() {
    for (http, put_code) in [(404, 1), (200, 7)] {
        let address = web_server(http).await;
        for (args, code) in [
            (&["get", "k"][..], 1),
            (&["put", "k", "v"], put_code),
            (&["status"], 1),
        ] {
            let output = run(&address, args, "").await;
            assert_eq!(output.status.code(), Some(code), "{args:?} {http}");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            let expected = format!("not a store's client port (HTTP status {http})");
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words(&said).contains(&expected), "{args:?}: {said}");
        }
    }
    // Where another endpoint is a store, it is asked.
    let (store, page) = (Scripted::start([]).await, web_server(404).await);
    let both = format!("{page},{}", store.endpoint());
    assert_eq!(exit_code(&both, &["put", "k", "v"], "").await, 0);
    assert_eq!(store.calls(), 1);
}

#[tokio::test]
async fn global_flags_stand_before_or_after_the_command() {
    let server = Scripted::start([]).await;
    let endpoint = server.endpoint();
    let endpoints = ["--endpoints", endpoint.as_str()];
    for args in [
        [&endpoints[..], &["-w", "json", "put", "k", "v"]].concat(),
        [&["put"], &endpoints[..], &["k", "v", "--write-out=json"]].concat(),
    ] {
        let output = run("127.0.0.1:1", &args, "").await;
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "{}\n", "{args:?}");
    }
}

#[tokio::test]
async fn a_bench_counts_what_fails() {
    let server =
        Scripted::start([Step::Fail(Code::ResourceExhausted, "etcdserver: too many requests"); 3]).await;
    let args = [
        "bench",
        "put",
        "--total",
        "50",
        "--clients",
        "4",
        "--conns",
        "2",
        "-w",
        "json",
    ];
    let output = run(&server.endpoint(), &args, "").await;
    assert!(output.status.success());
    assert_eq!(server.calls(), 50);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rows"][0]["ops"], 47);
    assert_eq!(report["errors"]["etcdserver: too many requests"], 3);
}

#[tokio::test]
async fn the_help_names_every_exit_code() {
    let output = run("127.0.0.1:1", &["--help"], "").await;
    let help = String::from_utf8(output.stdout).unwrap();
    for code in 0..=7 {
        assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
    }
}
