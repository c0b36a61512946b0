//! The commands against etcd itself, beside etcdctl, where both are installed (`scripts/oracle`).

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::oracle::{Etcd, programs};
use crate::process::{kv_client, output};

/// The command of ours, with etcd as its only endpoint.
pub(crate) fn ours(etcd: &Etcd, args: &[&str]) -> Command {
    kv_client(etcd.endpoint.trim_start_matches("http://"), args)
}

/// Runs it to its end with some standard input.
async fn run_with(etcd: &Etcd, args: &[&str], input: &str) -> Output {
    output(&mut ours(etcd, args), input).await
}

/// Runs it and gives exit code and standard output.
async fn run(etcd: &Etcd, args: &[&str]) -> (i32, String) {
    let output = run_with(etcd, args, "").await;
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// Runs what must succeed and gives its standard output.
pub(crate) async fn ok(etcd: &Etcd, args: &[&str]) -> String {
    let output = run_with(etcd, args, "").await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs etcdctl and gives its standard output.
async fn theirs(etcd: &Etcd, args: &[&str]) -> String {
    let output = Command::new(programs().unwrap().join("etcdctl"))
        .args(args)
        .env_clear()
        .env("ETCDCTL_ENDPOINTS", etcd.endpoint.trim_start_matches("http://"))
        .output()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A command that runs on, and the lines it prints.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(etcd: &Etcd, args: &[&str]) -> Running {
        Running::start_with(etcd, args, Stdio::null())
    }

    fn start_with(etcd: &Etcd, args: &[&str], input: Stdio) -> Running {
        let mut child = ours(etcd, args)
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().expect("one more line")
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    async fn interrupt(mut self) -> i32 {
        self.signal("-INT").await;
        self.child.wait().await.unwrap().code().unwrap()
    }
}

#[tokio::test]
async fn answers_look_like_etcdctls() {
    let Some(etcd) = Etcd::start().await else { return };
    ok(&etcd, &["put", "a/1", "one"]).await;
    ok(&etcd, &["put", "a/2", "two"]).await;
    ok(&etcd, &["lease", "grant", "600", "--id", "1a2b"]).await;
    ok(&etcd, &["put", "a/2", "zwei", "--lease", "1a2b"]).await;
    ok(&etcd, &["user", "add", "u:pw"]).await;
    ok(&etcd, &["role", "add", "r"]).await;
    ok(&etcd, &["user", "grant-role", "u", "r"]).await;
    for permission in [
        &["readwrite", "a/", "--prefix"][..],
        &["read", "k"],
        &["write", "m", "n"],
        &["read", "z", "--from-key"],
    ] {
        ok(&etcd, &[&["role", "grant-permission", "r"], permission].concat()).await;
    }
    for args in [
        &["get", "a/", "--prefix"][..],
        &["get", "missing", "--prefix"],
        &["get", "a/", "--prefix", "--limit", "1"],
        &["member", "list"],
        &["endpoint", "hashkv"],
        &["lease", "list"],
        &["lease", "keep-alive", "--once", "1a2b"],
        &["user", "list"],
        &["user", "get", "u"],
        &["role", "list"],
        &["role", "get", "r"],
        &["auth", "status"],
        &["alarm", "list"],
    ] {
        for format in ["json", "simple"] {
            let args = [args, &["-w", format]].concat();
            assert_eq!(ok(&etcd, &args).await, theirs(&etcd, &args).await, "{args:?}");
        }
    }
    for args in [
        &["put", "a/1", "one", "--prev-kv", "-w", "json"][..],
        &["del", "a/1", "--prev-kv", "-w", "json"],
        &["user", "grant-role", "u", "r"],
        &["role", "revoke-permission", "r", "m", "n"],
        &["role", "revoke-permission", "r", "k"],
        &["user", "revoke-role", "u", "r"],
        &["role", "delete", "r"],
        &["user", "delete", "u"],
        &["lease", "revoke", "1a2b"],
        &["defrag"],
    ] {
        // What they print after us is about other revisions, so only the form is compared.
        let form = |text: String| text.replace(|c: char| c.is_ascii_digit(), "");
        let ours = form(ok(&etcd, args).await);
        for undo in [
            &["put", "a/1", "one"][..],
            &["role", "add", "r"],
            &["user", "add", "u:pw"],
            &["user", "grant-role", "u", "r"],
            &["role", "grant-permission", "r", "read", "m", "n"],
            &["role", "grant-permission", "r", "read", "k"],
            &["lease", "grant", "600", "--id", "1a2b"],
        ] {
            run(&etcd, undo).await;
        }
        assert_eq!(ours, form(theirs(&etcd, args).await), "{args:?}");
    }
}

#[tokio::test]
async fn watches_print_and_run_commands() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut printed = Running::start(&etcd, &["watch", "w/", "--prefix", "--rev", "1", "--prev-kv"]);
    let mut json = Running::start(&etcd, &["watch", "w/", "--prefix", "--rev", "1", "-w", "json"]);
    let script = "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; exit 3";
    let mut ran = Running::start(
        &etcd,
        &["watch", "w/", "--prefix", "--rev", "1", "--", "sh", "-c", script],
    );
    for args in [
        &["put", "w/k", "one"][..],
        &["put", "x", "-"],
        &["put", "w/k", "two"],
        &["del", "w/k"],
    ] {
        ok(&etcd, args).await;
    }
    for line in [
        "PUT", "w/k", "one", "PUT", "w/k", "one", "w/k", "two", "DELETE", "w/k", "two", "w/k", "",
    ] {
        assert_eq!(printed.line().await, line);
    }
    for line in [
        r#"2 "PUT" "w/k" "one""#,
        r#"4 "PUT" "w/k" "two""#,
        r#"5 "DELETE" "w/k" """#,
    ] {
        assert_eq!(ran.line().await, line);
    }
    let first = json.line().await;
    assert!(
        first.starts_with(r#"{"Header":{"cluster_id":"#)
            && first.contains(r#""Events":[{"kv":{"key":"dy9r","create_revision":2,"#)
            && first.ends_with(r#""CompactRevision":0,"Canceled":false,"Created":false}"#),
        "{first}"
    );
    let mut several = Running::start_with(&etcd, &["watch", "-i"], Stdio::piped());
    let mut stdin = several.child.stdin.take().unwrap();
    stdin.write_all(b"watch x --rev 1\nnonsense\n\n").await.unwrap();
    for line in ["PUT", "x", "-"] {
        assert_eq!(several.line().await, line);
    }
    stdin.write_all(b"watch w/k --rev 5\n").await.unwrap();
    assert_eq!(several.line().await, "DELETE");
    // Each of the two answers.
    stdin.write_all(b"progress\n").await.unwrap();
    for _ in 0..2 {
        while several.line().await != "progress notify: 5" {}
    }
    drop(stdin);

    ok(&etcd, &["compact", "4"]).await;
    let output = run_with(&etcd, &["watch", "w/k", "--rev", "2"], "").await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("required revision has been compacted (revision 4 "),
        "{stderr}"
    );
}

#[tokio::test]
async fn locks_and_elections_end_with_their_holder() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut holder = Running::start(&etcd, &["lock", "l"]);
    assert!(holder.line().await.starts_with("l/"));
    let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 5";
    let mut next = Running::start(&etcd, &["lock", "l", "--ttl", "20", "sh", "-c", script]);
    assert_eq!(holder.interrupt().await, 0);
    assert!(next.line().await.starts_with("l/"));
    assert_eq!(next.child.wait().await.unwrap().code(), Some(5));
    assert_eq!(
        run(&etcd, &["get", "l/", "--prefix", "--keys-only"]).await,
        (0, String::new())
    );

    let mut leader = Running::start(&etcd, &["elect", "e", "one"]);
    assert!(leader.line().await.starts_with("e/"));
    assert_eq!(leader.line().await, "one");
    let mut observer = Running::start(&etcd, &["elect", "-l", "e"]);
    observer.line().await;
    assert_eq!(observer.line().await, "one");
    let mut second = Running::start(&etcd, &["elect", "e", "two"]);
    assert_eq!(leader.interrupt().await, 0);
    second.line().await;
    assert_eq!(second.line().await, "two");
    observer.line().await;
    assert_eq!(observer.line().await, "two");
}

#[tokio::test]
async fn exit_codes_of_leases_and_users() {
    let Some(etcd) = Etcd::start().await else { return };
    for args in [
        &["lease", "timetolive", "77"][..],
        &["lease", "keep-alive", "77"],
        &["lease", "keep-alive", "--once", "77"],
    ] {
        assert_eq!(run(&etcd, args).await.0, 3, "{args:?}");
    }
    assert_eq!(run(&etcd, &["lease", "revoke", "77"]).await.0, 1);
    assert_eq!(run(&etcd, &["lease", "grant", "0"]).await.0, 2);
    assert_eq!(run(&etcd, &["move-leader", "77"]).await.0, 1);
    assert_eq!(run(&etcd, &["watch"]).await.0, 2);
    assert_eq!(run(&etcd, &[]).await.0, 2);

    ok(&etcd, &["user", "add", "root:secret"]).await;
    ok(&etcd, &["role", "add", "root"]).await;
    ok(&etcd, &["user", "grant-role", "root", "root"]).await;
    let changed = run_with(&etcd, &["user", "passwd", "root", "--interactive=false"], "new\n").await;
    assert!(changed.status.success(), "{changed:?}");
    ok(&etcd, &["auth", "enable"]).await;
    assert_eq!(run(&etcd, &["get", "k"]).await.0, 1);
    assert_eq!(run(&etcd, &["get", "k", "--user", "root:secret"]).await.0, 1);
    assert_eq!(run(&etcd, &["get", "k", "--user", "root:new"]).await.0, 3);
    assert_eq!(
        run(&etcd, &["get", "k", "--user", "root", "--password", "new"])
            .await
            .0,
        3
    );
    // There is no terminal to ask for the password.
    assert_eq!(run(&etcd, &["get", "k", "--user", "root"]).await.0, 2);
    let bench = [
        "bench", "put", "--total", "10", "--conns", "1", "--user", "root:new",
    ];
    ok(&etcd, &bench).await;
    ok(&etcd, &["auth", "disable", "--user", "root:new"]).await;
}

#[tokio::test]
async fn a_load_that_is_interrupted_shows_what_was_measured() {
    let Some(etcd) = Etcd::start().await else { return };
    let load = [
        "bench",
        "put",
        "--duration",
        "1h",
        "--clients",
        "2",
        "--conns",
        "1",
        "-w",
        "simple",
    ];
    let mut load = Running::start(&etcd, &load);
    let mut watch = Running::start(&etcd, &["watch", "quorate-bench/", "--prefix", "--rev", "1"]);
    watch.line().await;
    load.signal("-INT").await;
    let heading = load.line().await;
    assert!(heading.starts_with("put: 2 clients, 1 connections"), "{heading}");
    let row = load.line().await;
    assert!(
        row.starts_with("put: ") && !row.starts_with("put: 0 ops"),
        "{row}"
    );
    assert_eq!(load.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_prompt_reads_one_command_after_the_other() {
    let Some(etcd) = Etcd::start().await else { return };
    let script = "put 'two words' \"and\\\"more\"\n\nget 'two words'\nget missing\nput k v -w json\nfrobnicate\nget k --print-value-only\nexit\nput never x\n";
    let output = run_with(&etcd, &["repl"], script).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(&lines[..3], ["OK", "two words", "and\"more"], "{stdout}");
    assert!(lines[3].starts_with(r#"{"header":"#), "{stdout}");
    assert_eq!(&lines[4..], ["v"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("\"missing\" not found") && stderr.contains("frobnicate"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(2), "that of the last one that failed");
    assert_eq!(run(&etcd, &["get", "never"]).await.0, 3);
}

#[tokio::test]
async fn a_check_judges_and_cleans_up() {
    let Some(etcd) = Etcd::start().await else { return };
    let (code, out) = run(&etcd, &["check", "perf", "--duration", "1s", "--auto-compact"]).await;
    // A busy machine may well fail.
    assert!(
        out.contains("throughput ") && out.ends_with(if code == 0 { "\nPASS\n" } else { "\nFAIL\n" }),
        "{out}"
    );
    let prefix = ["get", "/etcdctl-check-perf/", "--prefix", "--count-only"];
    assert_eq!(run(&etcd, &prefix).await, (0, "0\n".to_owned()));
    ok(&etcd, &["put", "/etcdctl-check-perf/x", "mine"]).await;
    assert_eq!(run(&etcd, &["check", "perf"]).await.0, 2);
}
